"""Disparity of rectified stereo pairs by semi-global matching (Hirschmüller 2008), where it holds. Evaluation only.

$ python -m deeplens.evaluation.stereo [--data data]

writes data/rgbd/stereo/NAME.npz for the 12 indoor pairs of stereodemo.

Costs are distances of census transforms (7×7), summed along eight paths. A pixel's disparity is kept where the right
picture agrees, where the best cost is clearly the least, and where enough neighbours have nearly the same: what is
left is mostly right, and is no measurement.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label, median_filter

from deeplens.console.errors import MissingError
from deeplens.console.files import replacing
from deeplens.console.script import run_script
from deeplens.runtimes.disparity import read_map
from deeplens.runtimes.photo import read_photo, to_8_bit
from deeplens.scenes.renderer import Array

STRAY = 0.01
"""Share of the matched pixels at either end of the disparities that is not taken at its word."""

NAMES = (
    "bedroom_chair", "corridor", "cycles", "desk", "donkey_toy", "kid_bedroom",
    "living_room", "pov_controllers", "pov_hands", "selfie", "stairs", "toy",
)  # fmt: skip
"""Pairs in stereodemo, of an OAK-D camera (640×480, baseline 75 mm, 451 px of focal length)."""

DISPARITIES = 128
"""Disparities that are looked at, from 0: the nearest is 0.26 m away."""

SHOWN = slice(20, None), slice(None, 611)
"""Rows and columns of the left pictures that rectifying filled: what stereodemo's calibration says."""

CENSUS = 3
"""Radius of the census window, in pixels."""

SMALL, LARGE = 10, 60
"""Penalties of a change of disparity by one, and by more, of at most 48 of a census."""

UNIQUE = 0.97
"""The least cost must be below this share of every other that is not beside it."""

SPECKLE = 150
"""Pixels that a patch of one surface must have."""


def census(picture: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """For each pixel of (H, W) 48 bits: which neighbours in its window are darker than it."""
    size, bits = 2 * CENSUS + 1, np.zeros(picture.shape, np.uint64)
    around = np.pad(picture, CENSUS, "edge")
    for row in range(size):
        for column in range(size):
            if (row, column) != (CENSUS, CENSUS):
                window = around[row : row + picture.shape[0], column : column + picture.shape[1]]
                bits = (bits << np.uint64(1)) | (window < picture)
    return bits


def costs(left: NDArray[np.uint8], right: NDArray[np.uint8], disparities: int) -> NDArray[np.uint16]:
    """(H, W, disparities): bits in which a left pixel and the right one at its disparity differ; all, outside."""
    first, second = census(left), census(right)
    found = np.full((*left.shape, disparities), 48, np.uint16)
    for shift in range(min(disparities, left.shape[1])):
        found[:, shift:, shift] = np.bitwise_count(first[:, shift:] ^ second[:, : left.shape[1] - shift])
    return found


def aggregated(cost: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The sum over eight paths: down, across and along both diagonals, each both ways."""
    total = np.zeros_like(cost)
    for turn in (0, 1):
        for reverse in (False, True):
            view = cost.transpose(1, 0, 2) if turn else cost
            target = total.transpose(1, 0, 2) if turn else total
            steps = (0,) if turn else (0, 1, -1)
            order = range(view.shape[0] - 1, -1, -1) if reverse else range(view.shape[0])
            for step in steps:
                before: NDArray[np.uint16] | None = None
                for row in order:
                    if before is not None and step:
                        before = np.roll(before, step, 0)
                        before[0 if step > 0 else -1] = 0
                    before = _along(view[row], before)
                    target[row] += before
    return total


def _along(cost: NDArray[np.uint16], before: NDArray[np.uint16] | None) -> NDArray[np.uint16]:
    """One step of a path for a whole row (W, disparities): equation 13 of the paper."""
    if before is None:
        return cost
    least = before.min(1, keepdims=True)
    best = np.minimum(before, least + np.uint16(LARGE))
    best[:, 1:] = np.minimum(best[:, 1:], before[:, :-1] + np.uint16(SMALL))
    best[:, :-1] = np.minimum(best[:, :-1], before[:, 1:] + np.uint16(SMALL))
    return cost + best - least


def match(left: NDArray[np.uint8], right: NDArray[np.uint8], *, disparities: int = DISPARITIES) -> Array:
    """The disparity of the left picture in pixels, (H, W) float32, NaN where it does not hold.

    Args:
        left, right: (H, W) uint8, rectified: a point has the same row in both.
    """
    total = aggregated(costs(left, right, disparities)).astype(np.int32)
    best = total.argmin(2)
    rows, columns = np.indices(best.shape)
    least = total[rows, columns, best]
    # The same costs seen from the right: pixel (y, x) there at d is the left one at x + d.
    seen = np.full_like(total, np.iinfo(np.int32).max)
    for shift in range(min(disparities, left.shape[1])):
        seen[:, : left.shape[1] - shift, shift] = total[:, shift:, shift]
    agrees = np.abs(seen.argmin(2)[rows, np.maximum(columns - best, 0)] - best) <= 1
    beside = np.abs(np.arange(disparities) - best[..., None]) <= 1
    rivals = np.where(beside, np.iinfo(np.int32).max, total).min(2)
    inside = (best > 0) & (best < disparities - 1) & (columns >= best)
    middle = np.clip(best, 1, disparities - 2)
    low, high = (total[rows, columns, middle + step] for step in (-1, 1))
    curve = np.maximum(low + high - 2 * total[rows, columns, middle], 1)
    fine = median_filter((middle + (low - high) / (2.0 * curve)).astype(np.float32), 3)
    holds = agrees & inside & (least < UNIQUE * rivals)
    return np.where(holds & ~_speckles(best, holds), fine, np.float32(np.nan))


def _speckles(best: NDArray[np.integer], holds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of patches below `SPECKLE` pixels, in which neighbours differ by at most one disparity.

    Patches are found at twice the size: a pixel between two is there only if they belong together.
    """
    height, width = best.shape
    grid = np.zeros((2 * height - 1, 2 * width - 1), bool)
    grid[::2, ::2] = holds
    grid[1::2, ::2] = holds[1:] & holds[:-1] & (np.abs(np.diff(best, axis=0)) <= 1)
    grid[::2, 1::2] = holds[:, 1:] & holds[:, :-1] & (np.abs(np.diff(best, axis=1)) <= 1)
    patches = label(grid)[0][::2, ::2]
    return np.bincount(patches.ravel())[patches] < SPECKLE


def stereo_pairs(data: Path) -> Iterator[tuple[str, NDArray[np.uint8], Array]]:
    """Name, left photo and disparity of the pairs that the command matched. MissingError: it was not run.

    Disparities are clipped to the quantiles `STRAY` and 1 − `STRAY`: a wrong match must not set the range.
    """
    for name in NAMES:
        path = data / "rgbd" / "stereo" / f"{name}.npz"
        if not path.is_file():
            raise MissingError(f"{path} does not exist: run `make data`, then `python -m deeplens.evaluation.stereo`")
        with np.load(path) as stored:
            disparity = stored["disparity"][SHOWN]
        known = disparity[np.isfinite(disparity)]
        clipped = np.clip(disparity, *np.quantile(known, (STRAY, 1 - STRAY))).astype(np.float32)
        yield name, to_8_bit(read_photo(_file(data, name, "left")).pixels)[SHOWN], clipped


def _file(data: Path, name: str, side: str) -> Path:
    path = data / "rgbd" / f"stereo_{name}_{side}.png"
    if not path.is_file():
        raise MissingError(f"{path} does not exist: run `make data` (python -m deeplens.scenes.fetch --only rgbd)")
    return path


def check(data: Path) -> tuple[float, float]:
    """On Motorcycle, whose disparity is known: the share of pixels that hold, and of those that are off by > 1 px."""
    paths = [data / "rgbd" / f"motorcycle_{side}.png" for side in ("left", "right")]
    if not all(path.is_file() for path in paths):
        raise MissingError(f"{paths[1]} does not exist: run `make data` (python -m deeplens.scenes.fetch --only rgbd)")
    left, right = (np.asarray(Image.open(path).convert("L")) for path in paths)
    found, truth = match(left, right), read_map(data / "rgbd" / "motorcycle_disp.npz")
    both = np.isfinite(found) & np.isfinite(truth)
    return float(np.isfinite(found).mean()), float((np.abs(found - truth)[both] > 1).mean())


def main(
    data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data"),
    check_only: Annotated[
        bool, typer.Option("--check", help="Only match Motorcycle, whose disparity is known, and print the errors.")
    ] = False,
) -> None:
    """Match the stereo pairs, some seconds each; those that are there are kept."""
    if check_only:
        holds, wrong = check(data)
        typer.echo(
            f"motorcycle: {holds:.1%} of the pixels have a value; {wrong:.1%} of those are wrong by more than a pixel"
        )
        return
    folder = data / "rgbd" / "stereo"
    for name in NAMES:
        left, right = (to_8_bit(read_photo(_file(data, name, side)).pixels)[..., 1] for side in ("left", "right"))
        path = folder / f"{name}.npz"
        folder.mkdir(exist_ok=True)
        if not path.exists():
            disparity = match(left, right)
            with replacing(path) as file:
                np.savez_compressed(file, disparity=disparity)
            typer.echo(f"{name}: {np.isfinite(disparity).mean():.0%} of the pixels have a value")


if __name__ == "__main__":
    run_script(main)
