"""INT8 beside FP32 on photos that nothing was calibrated on: the picture, the files, the time.

    python -m deeplens.calibration.held_out PHOTO… [--precision P] [--size N] [--sheet FILE] [--json FILE]

Both run on ONNX Runtime, each on its own depth map, focused on the middle with the aperture fully open. A photo passes
with more than `FLOOR` dB after the last step. Status 5 where one fails.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFont

from deeplens.calibration.photos import photo as calibration_photo
from deeplens.calibration.quality import CEILING, refocused
from deeplens.console.errors import MismatchError
from deeplens.console.options import JsonTarget, Threads
from deeplens.console.report import console_for, table, write_json
from deeplens.console.script import run_script
from deeplens.model.contract import NETWORKS
from deeplens.runtimes import manifest
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.options import Artifacts, Variant
from deeplens.runtimes.ort import OnnxRuntime

FLOOR = 40.0
"""dB after the last step that every photo has to pass."""

BLOCK = 32
"""Side, in pixels, of the blocks whose mean colours are compared: an edge of a band moves such a mean."""

CELL = 400
"""Width of a picture on the sheet, in pixels."""

AMPLIFIED = 32
"""How many times larger differences are on the sheet."""


@dataclass(frozen=True)
class Row:
    """One photo.

    Attributes:
        size: height and width.
        decibels: PSNR after the last step, as numbers before 8 bits.
        off: share of the 8-bit pixels that are off by more than one step in a channel.
        cast: the largest |mean difference| of a colour over the whole picture, in steps of 8 bits.
        block: the largest |mean difference| of a colour over a block, in steps of 8 bits.
        seconds: FP32 and the other, from pixels to pixels.
    """

    photo: str
    size: tuple[int, int]
    decibels: float
    off: float
    cast: float
    block: float
    seconds: tuple[float, float]

    @property
    def passes(self) -> bool:
        return self.decibels > FLOOR


def compared(name: str, pixels: np.ndarray, whole: OnnxRuntime, other: OnnxRuntime) -> tuple[Row, list[np.ndarray]]:
    """One photo, H×W×3, uint8, on both: the row, and both pictures, H×W×3, float32 in [0, 1]."""
    pictures, seconds = [], []
    for runtime in (whole, other):
        start = perf_counter()
        disparity = Harness(runtime).disparity(pixels)
        picture = refocused(runtime, pixels, disparity)
        seconds.append(perf_counter() - start)
        pictures.append(np.moveaxis(picture[0], 0, 2))
    difference = 255 * (pictures[1].astype(np.float64) - pictures[0])
    error = float(np.square(difference / 255).mean())
    steps = [np.rint(255 * picture).astype(int) for picture in pictures]
    rows, columns = (max(BLOCK, side // BLOCK * BLOCK) for side in difference.shape[:2])
    whole_blocks = difference[:rows, :columns]
    if min(whole_blocks.shape[:2]) >= BLOCK:
        shape = (rows // BLOCK, BLOCK, columns // BLOCK, BLOCK, 3)
        block = float(np.abs(whole_blocks.reshape(shape).mean((1, 3))).max())
    else:
        block = float(np.abs(difference.mean((0, 1))).max())
    row = Row(
        name,
        (pixels.shape[0], pixels.shape[1]),
        CEILING if error <= 10 ** (-CEILING / 10) else float(-10 * np.log10(error)),
        float((np.abs(steps[1] - steps[0]).max(2) > 1).mean()),
        float(np.abs(difference.mean((0, 1))).max()),
        block,
        (seconds[0], seconds[1]),
    )
    return row, pictures


def strip(row: Row, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """FP32, the other, and their difference about grey, side by side with a caption: h×w×3, uint8."""
    grey = np.clip(0.5 + AMPLIFIED * (pictures[1] - pictures[0]), 0, 1)
    cells = []
    for picture in (*pictures, grey):
        image = Image.fromarray(np.rint(255 * picture).astype(np.uint8))
        cells.append(image.resize((CELL, max(1, round(image.height * CELL / image.width))), Image.Resampling.BOX))
    result = Image.new("RGB", (3 * CELL, cells[0].height + 20), "white")
    for place, cell in enumerate(cells):
        result.paste(cell, (place * CELL, 20))
    caption = f"{row.photo}: FP32, INT8, difference x{AMPLIFIED} about grey; {row.decibels:.1f} dB"
    ImageDraw.Draw(result).text((4, 2), caption, fill="black", font=ImageFont.load_default(size=14))
    return np.asarray(result)


def megabytes(folder: Path, variant: str, precision: str) -> float:
    """Of the three files with free sizes."""
    entries = (
        manifest.find(folder, network=network, variant=variant, runtime="onnx", precision=precision)
        for network in NETWORKS
    )
    return sum((folder / entry.path).stat().st_size for entry in entries) / 1e6


def command(
    photo: Annotated[list[Path], typer.Argument(metavar="PHOTO…", help="Photos to measure on.")],
    precision: Annotated[str, typer.Option(help="Precision to compare with fp32.")] = "int8",
    variant: Variant = "edge",
    size: Annotated[int, typer.Option(min=64, help="Longest side in pixels; larger photos are made smaller.")] = 2048,
    sheet: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a contact sheet to FILE.")] = None,
    artifacts: Artifacts = None,
    threads: Threads = None,
    json: JsonTarget = None,
) -> None:
    """Compare INT8 with FP32 on photos that calibration did not see."""
    rows, strips = [], []
    with (
        OnnxRuntime(variant=variant, artifacts=artifacts, threads=threads) as whole,
        OnnxRuntime(variant=variant, artifacts=artifacts, threads=threads, precision=precision) as other,
    ):
        for runtime in (whole, other):  # loading is not timed
            refocused(
                runtime, np.zeros((64, 64, 3), np.uint8), Harness(runtime).disparity(np.zeros((64, 64, 3), np.uint8))
            )
        for path in photo:
            pixels = calibration_photo(path).pixels(size)
            row, pictures = compared(path.name, pixels, whole, other)
            rows.append(row)
            strips.append(strip(row, pictures))
            typer.echo(f"{row.photo}  {row.decibels:.1f} dB", err=True)
    files = megabytes(whole.artifacts, variant, "fp32"), megabytes(other.artifacts, variant, precision)
    speed = median(row.seconds[0] / row.seconds[1] for row in rows)
    console = console_for(json)
    columns = (
        "photo",
        "size",
        "PSNR dB",
        "off by more than 1",
        "cast, steps",
        "block, steps",
        "s fp32",
        f"s {precision}",
    )
    console.print(table(f"{variant} {precision} against fp32 on ONNX Runtime", columns, map(_cells, rows)))
    console.print(
        f"least {min(row.decibels for row in rows):.1f} dB on {len(rows)} photos; "
        f"files {files[0]:.2f} → {files[1]:.2f} MB ({files[0] / files[1]:.2f}× smaller); {speed:.2f}× as fast (median)"
    )
    if sheet is not None:
        _write(sheet, strips)
    write_json(
        json,
        {
            "variant": variant,
            "precision": precision,
            "megabytes": files,
            "speed": speed,
            "rows": [asdict(row) for row in rows],
        },
    )
    failed = [row for row in rows if not row.passes]
    if failed:
        raise MismatchError(
            f"{len(failed)} of {len(rows)} photos fail, the first: {failed[0].photo} with {failed[0].decibels:.1f} dB "
            f"(more than {FLOOR:g} needed)"
        )


def _cells(row: Row) -> tuple[object, ...]:
    return (
        row.photo,
        f"{row.size[0]}×{row.size[1]}",
        row.decibels,
        f"{100 * row.off:.2g} %",
        f"{row.cast:.3f}",
        f"{row.block:.2f}",
        f"{row.seconds[0]:.2f}",
        f"{row.seconds[1]:.2f}",
    )


def _write(path: Path, strips: Sequence[np.ndarray]) -> None:
    """Strips in two columns."""
    from deeplens.console.files import replacing

    columns = [strips[0::2], strips[1::2]]
    height = max(sum(each.shape[0] for each in column) for column in columns)
    result = Image.new("RGB", (3 * CELL * sum(bool(column) for column in columns), height), "white")
    for place, column in enumerate(columns):
        top = 0
        for each in column:
            result.paste(Image.fromarray(each), (place * 3 * CELL, top))
            top += each.shape[0]
    with replacing(path) as file:
        result.save(file, "PNG" if path.suffix.lower() == ".png" else "JPEG", quality=90)


if __name__ == "__main__":
    run_script(command)
