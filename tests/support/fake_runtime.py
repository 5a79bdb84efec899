"""Networks that can be reckoned by hand, as a runtime for the harness, and pictures and maps for it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypedDict
from unittest.mock import patch

import numpy as np

from deeplens.model.contract import (
    ALIGNMENT,
    CONTRACTS,
    DEPTH_SIZE,
    MIN_SIZE,
    R_MAX,
    VARIANTS,
    Contract,
)
from deeplens.runtimes.contract import Arrays, Runtime, Session
from deeplens.runtimes.pyramid import doubled

SOFT = VARIANTS["edge"].soft_radius or 0.0


def cross(values: np.ndarray, reach: int) -> np.ndarray:
    """The mean of each pixel and its four neighbours at a distance of exactly `reach`; reflected borders."""
    padded = np.pad(values, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="reflect")
    h, w = values.shape[2:]
    offsets = ((0, reach), (reach, 0), (reach, reach), (reach, 2 * reach), (2 * reach, reach))
    taps = [padded[:, :, y : y + h, x : x + w] for y, x in offsets]
    return ((taps[0] + taps[1]) + (taps[2] + taps[3]) + taps[4]) / 5


def double(values: np.ndarray) -> np.ndarray:
    return values.repeat(2, axis=2).repeat(2, axis=3)


class FakeSession(Session):
    """Networks of a known halo that give the photo back where the signed depth is zero; the step gives its blurred
    picture, bilinearly doubled, where the circle of confusion has `Variant.soft_radius` pixels."""

    def __init__(self, runtime: "FakeRuntime", contract: Contract) -> None:
        self.runtime = runtime
        self.contract = contract
        self.any_size = runtime.any_size

    def describe(self) -> Contract:
        return self.contract

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        assert list(inputs) == [tensor.name for tensor in self.contract.inputs]
        low = inputs["picture"].shape[2:]
        self.runtime.runs.append((self.contract.network, low))
        for tensor in self.contract.inputs:
            values = inputs[tensor.name]
            assert values.dtype == np.float32
            assert values.flags.c_contiguous
            assert values.shape == tensor.shape(*low)
            assert tensor.low is None or values.min() >= tensor.low
            assert tensor.high is None or values.max() <= tensor.high
        if self.contract.network != "depth":
            assert low == self.contract.fixed_size or all(side % ALIGNMENT == 0 and side >= MIN_SIZE for side in low)
        output = getattr(self, self.contract.network)(**inputs).astype(self.runtime.dtype)
        return {self.contract.outputs[0].name: self.runtime.spoil(output)}

    def depth(self, picture: np.ndarray) -> np.ndarray:
        return 7 - 3 * picture[:, :1]

    def lens_blur(self, picture: np.ndarray, signed_depth: np.ndarray) -> np.ndarray:
        reach = self.runtime.reach["lens_blur"]
        blurred = cross(picture, reach) + cross(signed_depth, reach) * self.runtime.gain
        return picture + (blurred - picture) * np.abs(signed_depth)

    def upsample(
        self, picture_high: np.ndarray, picture: np.ndarray, blurred: np.ndarray, signed_depth: np.ndarray
    ) -> np.ndarray:
        reach = self.runtime.reach["upsample"]
        low = cross(blurred - picture, reach) + cross(signed_depth, reach) * 0.1
        detailed = (
            picture_high + double(low) + (cross(picture_high, 2 * reach) - picture_high) * double(np.abs(signed_depth))
        )
        softness = double(np.abs(signed_depth) * R_MAX >= SOFT)
        return np.where(softness, doubled(blurred), detailed)

    def close(self) -> None: ...


class FakeRuntime(Runtime):
    name = "fake"
    variant = "edge"

    def __init__(
        self,
        *,
        reach: dict[str, int] | None = None,
        fixed_size: tuple[int, int] | None = None,
        dtype: type = np.float32,
        gain: float = 1.0,
        any_size: bool = False,
    ) -> None:
        self.reach = reach or dict(VARIANTS["edge"].halo)
        self.fixed_size = fixed_size
        self.dtype = dtype
        self.gain = gain
        self.any_size = any_size
        self.runs: list[tuple[str, tuple[int, int]]] = []

    def open(self, network: str) -> FakeSession:
        contract = CONTRACTS[network]
        if network != "depth":
            contract = replace(contract, fixed_size=self.fixed_size)
        return FakeSession(self, contract)

    def spoil(self, output: np.ndarray) -> np.ndarray:
        return output

    def close(self) -> None: ...


class SlowSession(FakeSession):
    """A network that takes 20 ms for each tile."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        time.sleep(0.02)
        return super().run(inputs)


class SlowRuntime(FakeRuntime):
    def open(self, network: str) -> FakeSession:
        return SlowSession(self, super().open(network).contract)


def patches(height: int, width: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of random patches a pixel lies in, and random pixels: so that there is something to see at each level."""
    rng = np.random.default_rng([height, width, size])
    coarse = rng.random((-(-height // size), -(-width // size), 3)).repeat(size, 0).repeat(size, 1)[:height, :width]
    return coarse, rng.random((height, width, 3))


def photo(height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    coarse, fine = patches(height, width, 40)
    return np.rint(np.where(coarse > fine, coarse, fine) * np.iinfo(dtype).max).astype(dtype)


def depth_map(height: int = DEPTH_SIZE, width: int = DEPTH_SIZE) -> np.ndarray:
    coarse, fine = patches(height, width, 20)
    return (0.8 * coarse + 0.2 * fine)[:, :, 0].astype(np.float32)


def with_edge(**changed: Any) -> Any:
    """The variant edge with other attributes of `model.contract.Variant`."""
    return patch.dict(VARIANTS, edge=replace(VARIANTS["edge"], **changed))


def from_the_base() -> Any:
    """The loop begins at the base, however little is blurred."""
    return with_edge(finer_base=False)


@contextmanager
def small_halos(lens_blur: int = 16, upsample: int = 8) -> Iterator[None]:
    """Halos for small tiles, and a loop that begins at the base."""
    with with_edge(halo={"lens_blur": lens_blur, "upsample": upsample}, finer_base=False):
        yield


class Focus(TypedDict):
    focal_disparity: float
    aperture: float


OPEN = Focus(focal_disparity=0.4, aperture=1.0)
