"""Depth that is wrong as a depth network is wrong: outlines that wander, thin parts that are missing, soft edges.

`scenes.planes.corrupt` makes each foreground as a whole too large or too small; a network's map errs in other ways too.
"""

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, grey_opening, map_coordinates

from deeplens.scenes.renderer import Array

WANDER = 2.0
"""How far an outline strays, in pixels of the base, at most one time in three (standard deviation of the largest)."""

BENDS = (3, 12)
"""Knots along a side of the field that moves outlines: fewer bend them slowly, more make them ragged."""

THIN = 5
"""Parts up to so many pixels of the base across may be lost."""

SOFT = 6.0
"""Largest standard deviation of a soft edge, in pixels of the base; small ones are likelier."""


def like_predicted(disparity: Array, rng: np.random.Generator, *, pixel: int) -> Array:
    """A disparity map (H, W) in [0, 1] with errors of the kinds that a network makes, each present half of the time.

    Args:
        pixel: pixels of the map to one of the base.
    """
    if rng.random() < 0.5:
        size = pixel * int(rng.integers(2, THIN + 1)) + 1
        disparity = grey_opening(disparity, size=(size, size))
    if rng.random() < 0.5:
        disparity = _moved(disparity, rng, reach=float(rng.uniform(0, WANDER)) * pixel)
    if rng.random() < 0.5:
        disparity = gaussian_filter(disparity, SOFT * float(rng.random()) ** 2 * pixel, mode="nearest")
    return np.asarray(disparity, np.float32)


def _moved(disparity: Array, rng: np.random.Generator, *, reach: float) -> Array:
    """Each value taken from up to about `reach` pixels away, in a direction that changes smoothly over the map."""
    height, width = disparity.shape
    knots = int(rng.integers(*BENDS))
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    shifts = []
    for _ in range(2):
        field = Image.fromarray(rng.standard_normal((knots, knots)).astype(np.float32))
        shifts.append(reach * np.asarray(field.resize((width, height), Image.Resampling.BICUBIC)))
    return map_coordinates(disparity, [rows + shifts[0], columns + shifts[1]], order=1, mode="nearest")
