"""A runtime against PyTorch float32 on whole photos: each level of the loop, and the 8-bit picture.

    python -m deeplens.parity_tests.photos PHOTO… [--runtime R] [--precision P] [--variant V] [--size N] [--json FILE]

Each side works on its own depth map, or both on PyTorch's with --depth given. The gates are those of a precision below
FP32: more than `PSNR` dB after the last step, and at most `MORE` of the pixels off by more than one
step of 8 bits. Status 5 where a photo fails.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from deeplens.console.errors import InputError, MismatchError
from deeplens.console.options import JsonTarget
from deeplens.console.report import console_for, table, write_json
from deeplens.console.script import run_script
from deeplens.parity_tests.cases import Graph, resized
from deeplens.parity_tests.compare import MORE, PSNR
from deeplens.parity_tests.metrics import Shares, max_abs, pixel_shares, psnr
from deeplens.parity_tests.produce import artefact_opener, torch_opener
from deeplens.runtimes.contract import Arrays, Runtime
from deeplens.runtimes.harness import Harness, focal_disparity_at
from deeplens.runtimes.options import Artifacts, Weights, weights_from
from deeplens.runtimes.photo import read_photo, to_8_bit

POINT, APERTURE = (0.5, 0.5), 1.0

FIXED = (256, 256)


@dataclass(frozen=True)
class PhotoRow:
    """One photo.

    Attributes:
        depth: whose depth map the runtime worked on: "own", or "given" (PyTorch's).
        size: height and width.
        depth_error: max |difference| of the two depth maps.
        levels: PSNR in dB of each level, the lens blur first, clipped to [0, 1] as the next level sees it.
        shares: of the 8-bit picture's pixels.
    """

    photo: str
    depth: str
    size: tuple[int, int]
    depth_error: float
    levels: tuple[float, ...]
    shares: Shares

    @property
    def passes(self) -> bool:
        return self.levels[-1] > PSNR and self.shares.more <= MORE


@dataclass(frozen=True)
class _Result:
    disparity: np.ndarray
    levels: list[np.ndarray]
    picture: np.ndarray


def compared(reference: Runtime, candidate: Runtime, photo: str, pixels: np.ndarray, *, depth: str) -> PhotoRow:
    """Compare two runtimes on a photo, H×W×3, uint8; `depth` as in `PhotoRow`."""
    expected = _refocused(reference, pixels, None)
    found = _refocused(candidate, pixels, None if depth == "own" else expected.disparity)
    return PhotoRow(
        photo,
        depth,
        (pixels.shape[0], pixels.shape[1]),
        max_abs(found.disparity, expected.disparity),
        tuple(psnr(ours, theirs) for ours, theirs in zip(found.levels, expected.levels, strict=True)),
        pixel_shares(found.picture, expected.picture),
    )


def _refocused(runtime: Runtime, pixels: np.ndarray, disparity: np.ndarray | None) -> _Result:
    harness = Harness(runtime)
    if disparity is None:
        disparity = harness.disparity(pixels)
    levels: list[np.ndarray] = []

    def observe(_level: int, network: str, arrays: Arrays) -> None:
        levels.append(np.clip(arrays["blurred" if network == "lens_blur" else "blurred_high"], 0.0, 1.0))

    focal = focal_disparity_at(disparity, *POINT)
    picture = harness.refocus(pixels, disparity, focal_disparity=focal, aperture=APERTURE, observe=observe)
    return _Result(disparity, levels, picture)


def check(found: Sequence[PhotoRow]) -> None:
    """Raise MismatchError if a photo fails; the message names the first."""
    wrong = [row for row in found if not row.passes]
    if wrong:
        row = wrong[0]
        raise MismatchError(
            f"{len(wrong)} of {len(found)} comparisons fail, the first is {row.photo} with the depth map {row.depth}: "
            f"{row.levels[-1]:.1f} dB (more than {PSNR:g} needed), {100 * row.shares.more:.2g} % of pixels off by "
            f"more than 1 (at most {100 * MORE:g} %)"
        )


def command(
    photo: Annotated[list[Path], typer.Argument(metavar="PHOTO…", help="Photos to measure on.")],
    runtime: Annotated[str, typer.Option(help="Runtime to compare with PyTorch.")] = "onnx",
    precision: Annotated[str, typer.Option(help="Precision of the runtime's artefacts.")] = "fp16",
    variant: Annotated[str, typer.Option(help="Variant of the networks: edge or paper.")] = "edge",
    size: Annotated[int, typer.Option(min=64, help="Longest side in pixels; larger photos are made smaller.")] = 2048,
    depth: Annotated[str, typer.Option(help="Depth map to use: own (of each runtime) or given (PyTorch's).")] = "own",
    artifacts: Artifacts = None,
    weights: Weights = "shipped",
    json: JsonTarget = None,
) -> None:
    """Compare a runtime with PyTorch float32 on photos."""
    if depth not in ("own", "given"):
        raise InputError(f"unknown depth map '{depth}': choose own or given")
    console = console_for(json)
    opener = artefact_opener(runtime, variant, artifacts=artifacts, fixed_size=FIXED, precision=precision)
    graph: Graph = "fixed" if runtime == "coreml" else "dynamic"  # near a padded border a fixed shape sees other input
    found: list[PhotoRow] = []
    with (
        torch_opener(variant, weights=weights_from(weights), fixed_size=FIXED)(graph) as reference,
        opener(graph) as candidate,
    ):
        for path in photo:
            pixels = resized(to_8_bit(read_photo(path).pixels), size)
            found.append(compared(reference, candidate, path.name, pixels, depth=depth))
            typer.echo("  ".join(_cells(found[-1])), err=True)
    columns = (
        "photo",
        "size",
        "depth map",
        "depth max |d|",
        "PSNR dB, level 0 …",
        "8 bits: same",
        "off by more than 1",
        "",
    )
    console.print(table(f"{variant} {runtime} {precision} against PyTorch float32", columns, map(_cells, found)))
    write_json(
        json, {"variant": variant, "runtime": runtime, "precision": precision, "rows": [_plain(row) for row in found]}
    )
    check(found)


def _cells(row: PhotoRow) -> tuple[str, ...]:
    return (
        row.photo,
        f"{row.size[0]}×{row.size[1]}",
        row.depth,
        f"{row.depth_error:.2g}",
        " ".join(f"{each:.1f}" for each in row.levels),
        f"{100 * row.shares.same:.1f} %",
        f"{100 * row.shares.more:.2g} %",
        "passed" if row.passes else "failed",
    )


def _plain(row: PhotoRow) -> dict[str, object]:
    levels = [each if math.isfinite(each) else None for each in row.levels]  # None: equal
    return {**asdict(row), "levels": levels, "passes": row.passes}


if __name__ == "__main__":
    run_script(command)
