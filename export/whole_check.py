"""Is a graph of the whole effect what the harness computes? One made photo, through both.

The reference is the harness with PyTorch's networks, beginning at the base and leaving nothing out, as for an observer.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.export.fp16_check import TOLERANCE as HALF
from deeplens.export.golden import agreement
from deeplens.model.contract import DEPTH_SIZE
from deeplens.model.whole_contract import WHOLE_WITH_DEPTH, contract_named
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.harness import Harness, focal_disparity_at, normalise_disparity

if TYPE_CHECKING:
    from deeplens.runtimes.contract import Runtime

TOLERANCE = 5e-5
"""Largest |graph − harness| in float32, as of a level of the loop."""

OWN_DEPTH = 50.0
"""dB that a graph with its own depth must reach against the harness in FP32. Depth sees a picture of 8 bits; where
a value lies on the edge between two, the harness and the graph may round it either way, and the depth map follows."""

FOCUS = (0.4 + 0.5 / DEPTH_SIZE, 0.6 + 0.5 / DEPTH_SIZE)
"""The point that is sharp, in the middle of a pixel of the disparity map, so that FP16 finds the same pixel."""

CELL = 16
"""Pixels of the made photo that share a colour, but for noise."""


def made_inputs(network: str, size: tuple[int, int], *, seed: int = 0) -> Arrays:
    """Inputs of `whole` or `whole_with_depth`: a picture of 8-bit values in noisy cells, a disparity map with edges.

    Args:
        size: height and width of the photo.
    """
    generator = np.random.default_rng(seed)
    cells = generator.integers(0, 256, (3, -(-size[0] // CELL), -(-size[1] // CELL)))
    picture = cells.repeat(CELL, 1).repeat(CELL, 2)[:, : size[0], : size[1]]
    picture = np.clip(picture + generator.integers(-20, 21, picture.shape), 0, 255)
    blocks = generator.uniform(0.0, 1.0, (8, 8)).repeat(DEPTH_SIZE // 8, 0).repeat(DEPTH_SIZE // 8, 1)
    disparity = normalise_disparity((blocks + np.linspace(0, 1, DEPTH_SIZE)[:, None]).astype(np.float32))
    made = {
        "picture": (picture[None] / 255).astype(np.float32),
        "disparity": disparity[None, None],
        "focal_disparity": np.full((1, 1, 1, 1), focal_disparity_at(disparity, *FOCUS), np.float32),
        "focus": np.array(FOCUS, np.float32).reshape(1, 2, 1, 1),
        "aperture": np.full((1, 1, 1, 1), 0.8, np.float32),
    }
    return {tensor.name: made[tensor.name] for tensor in contract_named(network).inputs}


def by_harness(runtime: "Runtime", network: str, inputs: Arrays) -> np.ndarray:
    """What the harness gives for the inputs of a graph of the whole effect: (1, 3, H, W) in [0, 1], not quantised.

    Args:
        runtime: of the networks; its `variant` is the graph's.
        inputs: `picture` holds multiples of 1/255.
    """
    pixels = np.rint(inputs["picture"][0].transpose(1, 2, 0) * 255).astype(np.uint8)
    harness = Harness(runtime, tile=None)
    if network == WHOLE_WITH_DEPTH:
        disparity = harness.disparity(pixels)
        focal_disparity = focal_disparity_at(disparity, *inputs["focus"].ravel().tolist())
    else:
        disparity, focal_disparity = inputs["disparity"][0, 0], float(inputs["focal_disparity"].item())
    last: Arrays = {}

    def observe(_level: int, name: str, arrays: Arrays) -> None:
        last["refocused"] = arrays["blurred" if name == "lens_blur" else "blurred_high"]

    harness.refocus(
        pixels, disparity, focal_disparity=focal_disparity, aperture=float(inputs["aperture"].item()), observe=observe
    )
    result: np.ndarray = np.clip(last["refocused"][:, :, : pixels.shape[0], : pixels.shape[1]], 0.0, 1.0)
    return result


def check(
    run: Callable[[Arrays], np.ndarray], network: str, inputs: Arrays, expected: np.ndarray, *, precision: str
) -> float:
    """Hold what `run` gives for `inputs` against `expected`, from `by_harness`.

    Args:
        precision: "fp32", "fp16", or one that follows a plan, of which the agreement is only told.

    Returns:
        the agreement in dB (`golden.agreement`).

    Raises:
        MismatchError: it is too far off.
    """
    found = run(inputs)
    decibels = agreement(found, expected)
    largest = float(np.abs(found - expected).max())
    spread = float(np.ptp(expected))
    if precision == "fp32" and network != WHOLE_WITH_DEPTH and not largest <= TOLERANCE:
        raise MismatchError(f"{network}: graph and harness differ by {largest:.2g} (at most {TOLERANCE:g})")
    if precision == "fp32" and not decibels >= OWN_DEPTH:
        raise MismatchError(f"{network}: graph and harness agree to only {decibels:.1f} dB ({OWN_DEPTH:g} needed)")
    share = 10 ** (-decibels / 20) if math.isfinite(decibels) else 0.0
    if precision == "fp16" and network != WHOLE_WITH_DEPTH and not share <= HALF:
        raise MismatchError(
            f"{network}: rounding to FP16 changes the picture by {share:.2g} of its spread {spread:.2g} (at most "
            f"{HALF:.2g}): export it with --precision fp32"
        )
    return decibels
