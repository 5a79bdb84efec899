"""Rays through points of the aperture, in the picture's own space; stands for the renderer of Yang et al. 2016.

Seen from the point s of the aperture, the pixel p with signed radius r appears at p + r·s. The picture from s is what
appears in each place, the nearest where several do; the result is the mean over all s. Places that only show what the
photo hides are left out of the mean.
"""

import numpy as np
from numpy.typing import NDArray

from deeplens.evaluation.baselines.canvas import Array, Canvas
from deeplens.scenes.renderer import disc_points

POINTS = 192
"""Points of the aperture: a disc of 16 pixels in radius covers four times as many pixels."""

PRECISION = 64
"""Steps a pixel in which radii are counted."""


def blur(
    photo: NDArray[np.uint8], disparity: Array, *, focal: float, aperture: float, radius: float
) -> NDArray[np.uint8]:
    """See `evaluation.baselines.Blur`. Places are rounded to pixels."""
    canvas = Canvas.of(photo, disparity, focal=focal, aperture=aperture, radius=radius)
    if canvas.largest < 0.5:
        return photo.copy()
    height, width = canvas.signed.shape
    border = canvas.margin  # what leaves the canvas lands here
    wide = width + 2 * border

    steps = np.rint(canvas.signed * PRECISION).astype(np.int32).ravel()
    order = np.argsort(steps, kind="stable")  # from far to near
    distinct, which = np.unique(steps[order], return_inverse=True)
    radii = distinct / PRECISION
    rows, columns = np.divmod(order, width)
    place = (rows + border) * wide + columns + border
    pixels = np.dstack((*canvas.light, np.ones_like(canvas.signed)))
    total = pixels[canvas.inner] * np.float32(1e-6)  # straight through the middle, so that no place is without any
    nothing_seen = np.zeros((1, 4), np.float32)
    pixels = np.concatenate((pixels.reshape(-1, 4)[order], nothing_seen))

    seen = np.empty((height + 2 * border, wide), np.int32)
    inner = tuple(slice(border + part.start, border + part.stop) for part in canvas.inner)
    nearest_last = np.arange(order.size, dtype=np.int32)
    for y, x in disc_points(POINTS):
        shift = np.rint(radii * y).astype(np.intp) * wide + np.rint(radii * x).astype(np.intp)
        seen.fill(order.size)
        seen.reshape(-1)[place + shift[which]] = nearest_last  # of equal places the last one stays
        total += pixels.take(seen[inner], axis=0)
    light = np.zeros_like(canvas.light)
    inner_rows, inner_columns = canvas.inner
    light[:, inner_rows, inner_columns] = (total[..., :3] / total[..., 3:]).transpose(2, 0, 1)
    return canvas.photo(light)
