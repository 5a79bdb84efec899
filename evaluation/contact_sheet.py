"""Pictures side by side on one sheet, with captions; depth as grey, points marked. NumPy and Pillow only."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deeplens.runtimes.photo import to_8_bit

CELL = 640
"""Long side of a picture on the sheet, in pixels."""


CAPTION = 28
"""Height of the line of text above a picture on the sheet, in pixels."""


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
