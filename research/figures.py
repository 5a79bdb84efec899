"""Where the two renderers differ: one scene rendered by both, with two blurred edges that overlap.

$ python -m deeplens.research.figures [--out docs/images/renderers.jpg]

Made from the photos in samples/ and drawn outlines, so that it needs no data.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw

from deeplens.console.script import run_script
from deeplens.runtimes.photo import write_photo
from deeplens.scenes.renderer import Array, Plane, linear_to_srgb, render_exact, render_layered, srgb_to_linear
from deeplens.scenes.sources import load_background

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
SIZE, MARGIN, RADIUS, FOCAL = 320, 26, 24.0, 0.05
GAIN = 8
"""How much the differences are stretched."""


def scene() -> list[Plane]:
    """A photo in focus, and before it, out of focus, a bright disc whose edge a dark slanted bar overlaps."""
    size = SIZE + 2 * MARGIN
    back = _light("bridge.jpg", size)
    outlines = []
    for draw_outline in (_round, _bar):
        canvas = Image.new("L", (4 * size, 4 * size))
        draw_outline(ImageDraw.Draw(canvas), 4 * size)
        outlines.append(np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float32) / np.float32(255))
    middle, front = outlines
    return [
        Plane(back, np.ones((size, size), np.float32), (FOCAL, 0.0, 0.0)),
        Plane(_light("sundial.jpg", size) * middle[..., None], middle, (0.75, 0.0, 0.0)),
        Plane(np.float32(0.15) * _light("stream.jpg", size) * front[..., None], front, (0.95, 0.0, 0.0)),
    ]


def figure() -> np.ndarray:
    """Layered, exact and |difference| × `GAIN` side by side, (SIZE + caption, 3 · SIZE, 3) uint8."""
    planes, inner = scene(), slice(MARGIN, MARGIN + SIZE)
    layered, exact = (
        linear_to_srgb(render(planes, focal=FOCAL, radius=RADIUS))[inner, inner]
        for render in (render_layered, render_exact)
    )
    difference = np.clip(GAIN * np.abs(layered - exact), 0, 1)
    panels = np.rint(np.concatenate((layered, exact, difference), 1) * 255).astype(np.uint8)
    caption = Image.new("RGB", (panels.shape[1], 24), "white")
    draw = ImageDraw.Draw(caption)
    for index, text in enumerate(("plane by plane", "exact (1024 aperture points)", f"difference x {GAIN}")):
        draw.text((index * SIZE + 8, 6), text, fill="black")
    return np.concatenate((np.asarray(caption), panels))


def _light(name: str, size: int) -> Array:
    """The middle square of a sample in linear light, (size, size, 3)."""
    photo = Image.fromarray(load_background(SAMPLES / name))
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    square = photo.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    return srgb_to_linear(np.asarray(square, np.float32) / np.float32(255))


def _round(draw: ImageDraw.ImageDraw, size: int) -> None:
    draw.ellipse((0.16 * size, 0.2 * size, 0.66 * size, 0.7 * size), fill=255)


def _bar(draw: ImageDraw.ImageDraw, size: int) -> None:
    draw.line((0.5 * size, -0.1 * size, 0.7 * size, 1.1 * size), fill=255, width=round(0.12 * size))


def main(
    out: Annotated[Path, typer.Option(help="Picture to write (.jpg or .png).")] = Path("docs/images/renderers.jpg"),
) -> None:
    """Draw where the layered and the exact renderer differ."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_photo(out, figure())
    typer.echo(out)


if __name__ == "__main__":
    run_script(main)
