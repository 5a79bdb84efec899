"""A sheet of crops at 100 % along outlines: the photo beside the matte and the maps there."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from deeplens.evaluation.contact_sheet import as_grey, sheet
from deeplens.evaluation.depth_sources import shown
from deeplens.evaluation.outline_sets import Outlined
from deeplens.runtimes.disparity import normalise_disparity
from deeplens.scenes.renderer import Array

SIDE = 240
"""Side of a crop in pixels of the photo; less where the photo is smaller."""


def places(matte: Array) -> list[tuple[float, float]]:
    """Two places of a matte's contour (x, y, in 0..1): its highest, and the one farthest from there."""
    inside = matte > 0.5
    rows, columns = np.nonzero(inside & ~binary_erosion(inside, border_value=1))
    if not rows.size:
        return []
    top = int((rows == rows[0]).sum()) // 2
    far = int(np.hypot(rows - rows[top], columns - columns[top]).argmax())
    height, width = matte.shape
    return [((columns[at] + 0.5) / width, (rows[at] + 0.5) / height) for at in (top, far)]


def crop(pixels: NDArray, x: float, y: float) -> NDArray:
    """The square of `SIDE` pixels of a picture (H, W, …) around a point, moved to lie inside; less where it is less."""
    height, width = pixels.shape[:2]
    side = min(SIDE, height, width)
    top = int(np.clip(round(y * height) - side // 2, 0, height - side))
    left = int(np.clip(round(x * width) - side // 2, 0, width - side))
    return pixels[top : top + side, left : left + side]


def sheet_of(pictures: Sequence[Outlined], maps: Sequence[Mapping[str, Array]]) -> NDArray[np.uint8]:
    """Two rows a photo: a crop of it, of its matte and of each source's map; H×W×3, uint8."""
    rows = []
    for picture, found in zip(pictures, maps, strict=True):
        if picture.matte is None:
            continue
        size = picture.picture.shape[:2]
        grey = {"matte": picture.matte, **{name: normalise_disparity(each) for name, each in found.items()}}
        large = {name: as_grey(np.clip(shown(each, size), 0, 1)) for name, each in grey.items()}
        for x, y in places(picture.matte):
            row = [(picture.name[:28], crop(picture.picture, x, y))]
            rows.append(row + [(name, crop(each, x, y)) for name, each in large.items()])
    return sheet(rows)
