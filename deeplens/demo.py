"""Refocuses one photo at several points and f-numbers, and lays the pictures out on one sheet.

python -m deeplens.demo PHOTO --focus X,Y … --f-number N … -o FOLDER
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFont

from deeplens.guard import guarded
from deeplens.options import Artifacts, Runtime, Threads, Variant, Weights, weights_from
from deeplens.refocus import Stopwatch, parse_point, progress_bar
from model.errors import InputError
from runtimes import open_runtime
from runtimes.disparity import focal_disparity_at, write_disparity
from runtimes.harness import Harness, aperture_from_f_number
from runtimes.photo import read_photo, side_by_side, to_8_bit, write_photo

CELL = 640
"""Long side of a picture on the sheet, in pixels."""

CAPTION = 28
"""Height of the line of text above a picture on the sheet, in pixels."""


def demo(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", show_default=False, help="A photo that is sharp all over.")],
    focus: Annotated[list[str], typer.Option(metavar="X,Y", show_default=False, help="May be repeated.")],
    f_number: Annotated[list[float], typer.Option(metavar="N", show_default=False, help="May be repeated.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the pictures go; made when missing.")
    ] = Path("demo"),
    runtime: Runtime = "onnx",
    variant: Variant = "edge",
    artifacts: Artifacts = None,
    weights: Weights = "shipped",
    threads: Threads = None,
) -> None:
    """Refocus PHOTO at each point and f-number: the depth map, the pictures, before and after, and all on one sheet."""
    points = [parse_point(each) for each in focus]
    apertures = {number: aperture_from_f_number(number) for number in f_number}
    before = read_photo(photo)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't make the folder {output}: {error.strerror or error}") from error

    watch = Stopwatch()
    with open_runtime(
        runtime, variant=variant, artifacts=artifacts, weights=weights_from(weights), threads=threads
    ) as opened:
        harness = Harness(opened)
        with watch.part("depth"):
            disparity = harness.disparity(before.pixels)
        write_disparity(output / "depth.png", disparity)
        rows = [[("the photo", marked(before.pixels, points)), ("its depth, near is bright", as_grey(disparity))]]
        for index, point in enumerate(points, start=1):
            rows.append([])
            for number, aperture in apertures.items():
                with watch.part("refocus"), progress_bar(f"focus {index}, f/{number:g}") as progress:
                    pixels = harness.refocus(
                        before.pixels,
                        disparity,
                        focal_disparity=focal_disparity_at(disparity, *point),
                        aperture=aperture,
                        progress=progress,
                    )
                name = f"focus{index}_f{number:g}"
                write_photo(output / f"{name}.jpg", before.with_pixels(pixels))
                write_photo(output / f"{name}_before_after.jpg", side_by_side(before.pixels, pixels))
                rows[-1].append((f"focus {index}, f/{number:g}", pixels))
    write_photo(output / "sheet.jpg", sheet(rows))
    count = len(points) * len(apertures)
    print(
        f"{count} pictures, their depth map and sheet.jpg are in {output}/: {variant} on {runtime}, depth "
        f"{watch.seconds['depth']:.1f} s, a picture {watch.seconds['refocus'] / count:.1f} s with its networks' loading"
    )


def as_grey(disparity: np.ndarray) -> np.ndarray:
    """A disparity map, h×w in [0, 1], as a picture, h×w×3, uint8."""
    return np.repeat(np.rint(disparity * 255.0).astype(np.uint8)[:, :, None], 3, axis=2)


def marked(pixels: np.ndarray, points: Sequence[tuple[float, float]]) -> np.ndarray:
    """The picture, H×W×3, at 8 bits with a numbered ring at each point x, y (0 to 1 from the top left)."""
    image = Image.fromarray(to_8_bit(pixels))
    radius = 0.015 * max(image.size)
    line = max(1, round(0.3 * radius))
    font = ImageFont.load_default(size=2 * radius)
    draw = ImageDraw.Draw(image)
    for number, (across, down) in enumerate(points, start=1):
        x, y = across * image.width, down * image.height
        for grown, colour in ((line, "black"), (0, "white")):
            size = radius + grown
            draw.ellipse((x - size, y - size, x + size, y + size), outline=colour, width=line)
        draw.text(
            (x + 2 * radius, y),
            str(number),
            fill="white",
            stroke_fill="black",
            stroke_width=line,
            font=font,
            anchor="lm",
        )
    return np.asarray(image)


def sheet(rows: list[list[tuple[str, np.ndarray]]]) -> np.ndarray:
    """Pictures in rows, with a caption above each: H×W×3, uint8.

    Args:
        rows: caption and picture (H×W×3, uint8 or uint16). All are shown at the size of the first, made smaller; rows
            may differ in length.
    """
    height, width = rows[0][0][1].shape[:2]
    scale = min(1.0, CELL / max(height, width))
    cell = max(1, round(width * scale)), max(1, round(height * scale))
    gap = 8
    across = max(len(row) for row in rows)
    canvas = Image.new(
        "RGB", (across * (cell[0] + gap) + gap, len(rows) * (cell[1] + CAPTION + gap) + gap), color="white"
    )
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=0.7 * CAPTION)
    for y, row in enumerate(rows):
        for x, (caption, pixels) in enumerate(row):
            left, top = gap + x * (cell[0] + gap), gap + y * (cell[1] + CAPTION + gap)
            draw.text((left, top), caption, fill="black", font=font)
            canvas.paste(
                Image.fromarray(to_8_bit(pixels)).resize(cell, Image.Resampling.LANCZOS), (left, top + CAPTION)
            )
    return np.asarray(canvas)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(demo)
    sys.exit(guarded(lambda: app(standalone_mode=False)))
