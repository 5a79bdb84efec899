"""What is compared: each network on random and real inputs, and the whole loop on a photo, by graph and size.

All runtimes get the same inputs: random ones from a seed, real ones from a run of the reference over the photo.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from PIL import Image

from deeplens.export.onnx_check import random_inputs
from deeplens.export.onnx_graph import FIXED_SHAPES
from deeplens.model.contract import CONTRACTS, DEPTH_SIZE, NETWORKS, Contract
from deeplens.runtimes.contract import Arrays, Runtime
from deeplens.runtimes.harness import Harness, focal_disparity_at
from deeplens.runtimes.pyramid import pad_to
from deeplens.runtimes.wrapped import recording

Graph = Literal["dynamic", "fixed"]
Size = tuple[int, int]


@dataclass(frozen=True)
class Coverage:
    """Which cases are made.

    Attributes:
        dynamic_sizes: low-resolution (height, width) at which graphs with free sizes run.
        fixed_size: low-resolution (height, width) of the graphs with a fixed shape.
        loops: graph, and long side in pixels that the photo is made smaller to (None: as it is). By default whole, and
            at a size that isn't divisible, so that it is padded and cropped.
        seed: of the random inputs.
        point: x, y of the focus, from the top left, in [0, 1].
        aperture: α in [0, 1].
        contracts: network → its contract: a depth network of others has a size of its own.
    """

    dynamic_sizes: tuple[Size, ...] = ((96, 160), (152, 104))
    fixed_size: Size = FIXED_SHAPES[0]
    loops: tuple[tuple[Graph, int | None], ...] = (
        ("dynamic", None),
        ("fixed", None),
        ("dynamic", 701),
        ("fixed", 701),
        ("fixed", 330),
    )
    seed: int = 0
    point: tuple[float, float] = (0.5, 0.5)
    aperture: float = 1.0
    contracts: Mapping[str, Contract] = field(default_factory=lambda: CONTRACTS)


COVERAGE: Mapping[str, Coverage] = {
    "edge": Coverage(),
    # Few steps: float64 takes minutes for a whole photo. Into the fixed shape each level that a network sees of a photo
    # of 330 pixels fits whole, upright or not; larger than twice both halos, it can cover any other in windows.
    "paper": Coverage(fixed_size=(168, 168), loops=(("dynamic", 701), ("fixed", 330))),
}
"""Variant → what is run unless told otherwise."""


@dataclass(frozen=True, eq=False)
class NetworkCase:
    """One network alone.

    Attributes:
        input: "random" or "photo".
        graph: "fixed" for a network that has one size only.
        size: low-resolution (height, width).
        inputs: as the contract says.
    """

    network: str
    input: str
    graph: Graph
    size: Size
    inputs: Arrays

    @property
    def name(self) -> str:
        """Of its output among a runtime's results."""
        return f"{self.network}/{self.input}/{self.graph}/{self.size[0]}x{self.size[1]}"

    @property
    def networks(self) -> tuple[str, ...]:
        return (self.network,)


@dataclass(frozen=True, eq=False)
class LoopCase:
    """The whole way of a photo: depth map, lens blur, each step, 8-bit picture; each runtime with its own depth map.

    Attributes:
        pixels: H×W×3, uint8.
        point, aperture: as in `Coverage`.
        given: a depth map as `Harness.disparity` gives it, for all runtimes: the way begins behind the depth network,
            whose weights are not there. None: each runtime's own.
    """

    pixels: np.ndarray
    graph: Graph
    point: tuple[float, float]
    aperture: float
    given: np.ndarray | None = None

    @property
    def size(self) -> Size:
        """Height and width of the photo."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def name(self) -> str:
        """What the names of its outputs begin with: `name`/depth map, /level 0, /level 1, …, /8-bit picture."""
        return f"loop/{self.graph}/{self.size[0]}x{self.size[1]}"

    @property
    def networks(self) -> tuple[str, ...]:
        return NETWORKS if self.given is None else NETWORKS[1:]

    def arrays(self) -> Arrays:
        """All that it gives to a runtime, by name."""
        return {"pixels": self.pixels} if self.given is None else {"pixels": self.pixels, "disparity": self.given}

    def disparity(self, harness: Harness) -> np.ndarray:
        """The depth map that a runtime's harness works on."""
        return harness.disparity(self.pixels) if self.given is None else self.given


Case = NetworkCase | LoopCase


def case_sha256(case: Case) -> str:
    """SHA-256 over all that a case gives to a runtime: names, shapes, types, values, focus, aperture."""
    arrays = case.inputs if isinstance(case, NetworkCase) else case.arrays()
    digest = hashlib.sha256(case.name.encode())
    if isinstance(case, LoopCase):
        digest.update(f" {case.point} {case.aperture}".encode())
    for name, array in arrays.items():
        digest.update(f" {name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def random_cases(coverage: Coverage) -> list[Case]:
    """Each network on random inputs."""
    generator = np.random.default_rng(coverage.seed)
    return [
        NetworkCase(network, "random", graph, size, plausible_inputs(coverage.contracts[network], size, generator))
        for network in NETWORKS
        for graph, size in graphs(coverage.contracts[network], coverage)
    ]


def plausible_inputs(contract: Contract, size: Size, generator: np.random.Generator) -> Arrays:
    """Random inputs in the contract's ranges, with a blurred picture that is the low one, blurred by |signed depth|.

    The step sets the two in relation. To a blurred picture of something else it answers with noise: its own rounding
    in float32 is thirty times that on a photo.
    """
    inputs = random_inputs(contract, size, generator)
    if "blurred" in inputs:
        picture = inputs["picture"]
        height, width = size
        padded = np.pad(picture, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
        shifted = [padded[:, :, y : y + height, x : x + width] for y in range(5) for x in range(5)]
        mean = np.mean(shifted, axis=0, dtype=np.float32)
        inputs["blurred"] = picture + np.abs(inputs["signed_depth"]) * (mean - picture)
    return inputs


def photo_cases(
    coverage: Coverage, reference: Runtime, pixels: np.ndarray, *, given: np.ndarray | None = None
) -> list[Case]:
    """Each network on what it gets from a photo, and the loop.

    Args:
        reference: makes the networks' inputs: those of the depth map, the lens blur and the last step of the loop over
            the photo at the smallest size of `coverage.loops`, from their middle.
        pixels: H×W×3, uint8.
        given: as in `LoopCase`; with it the depth network gets nothing.

    Raises:
        MissingError: the reference lacks a network's weights.
    """
    smallest = min((long for _, long in coverage.loops if long is not None), default=None)
    seen = seen_inputs(
        reference, LoopCase(resized(pixels, smallest), "dynamic", coverage.point, coverage.aperture, given)
    )
    cases: list[Case] = [
        NetworkCase(network, "photo", graph, size, window(coverage.contracts[network], seen[network], size))
        for network in seen
        for graph, size in graphs(coverage.contracts[network], coverage)
    ]
    return cases + whole_photos(coverage, pixels, given=given)


def whole_photos(coverage: Coverage, pixels: np.ndarray, *, given: np.ndarray | None = None) -> list[Case]:
    """The loop over a photo, H×W×3, uint8: graph by graph, size by size; `given` as in `LoopCase`."""
    cases = [
        LoopCase(resized(pixels, long), graph, coverage.point, coverage.aperture, given)
        for graph, long in coverage.loops
    ]
    return list({case.name: case for case in cases}.values())  # a small photo is the same at several sizes


def made_depth() -> np.ndarray:
    """A depth map where there is no depth network: ground that comes nearer downwards, and before it a square.

    Returns:
        (DEPTH_SIZE, DEPTH_SIZE), float32, in [0, 1], near = large: a ramp up to 0.5, the square at 1, with hard edges.
    """
    ground = np.linspace(0.0, 0.5, DEPTH_SIZE, dtype=np.float32)
    depth = np.repeat(ground[:, None], DEPTH_SIZE, axis=1)
    depth[DEPTH_SIZE // 2 : DEPTH_SIZE * 7 // 8, DEPTH_SIZE // 8 : DEPTH_SIZE * 7 // 16] = 1.0
    return depth


def graphs(contract: Contract, coverage: Coverage) -> list[tuple[Graph, Size]]:
    """Each graph of a network with the low-resolution sizes at which it runs."""
    if contract.fixed_size is not None:
        return [("fixed", contract.fixed_size)]
    return [*(("dynamic", size) for size in coverage.dynamic_sizes), ("fixed", coverage.fixed_size)]


def resized(pixels: np.ndarray, long_side: int | None) -> np.ndarray:
    """A photo made smaller so that its long side is `long_side` pixels; as it is for None or where it is smaller."""
    have = pixels.shape[0], pixels.shape[1]
    height, width = reduced(*have, long_side)
    if (height, width) == have:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def reduced(height: int, width: int, long_side: int | None) -> Size:
    """The size of a photo whose long side is brought down to `long_side` pixels: see `resized`."""
    if long_side is None or max(height, width) <= long_side:
        return height, width
    scale = long_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def window(contract: Contract, inputs: Mapping[str, np.ndarray], size: Size) -> Arrays:
    """The middle of a level's inputs at another low-resolution size; continued by reflection where they are smaller."""
    low = next(inputs[tensor.name] for tensor in contract.inputs if tensor.scale == 1)
    top, left = (max(0, (have - wanted) // 2) for have, wanted in zip(low.shape[2:], size, strict=True))
    result = {}
    for tensor in contract.inputs:
        height, width = tensor.scale * size[0], tensor.scale * size[1]
        y, x = tensor.scale * top, tensor.scale * left
        result[tensor.name] = pad_to(inputs[tensor.name][:, :, y : y + height, x : x + width], height, width)
    return result


def seen_inputs(runtime: Runtime, case: LoopCase) -> dict[str, Arrays]:
    """network → its inputs, whole, in the loop over a photo: of the step at the last level."""
    seen: dict[str, Arrays] = {}
    harness = Harness(recording(runtime, seen), tile=None)
    disparity = case.disparity(harness)
    focal = focal_disparity_at(disparity, *case.point)
    # For an observer every level is run, from the base up.
    harness.refocus(case.pixels, disparity, focal_disparity=focal, aperture=case.aperture, observe=lambda *_: None)
    return seen
