"""Scatter: every pixel spreads over its disc, Σ w·I / Σ w (the classical renderer of BokehMe, Peng et al. 2022).

w = (0.5 + 0.5·tanh(4(r − distance))) / (r² + 0.2). Nothing hides anything: a blurred background spreads over a sharp
foreground, with little weight. BokehMe raises I to a power g and takes the root at the end, as it does not know how
light was encoded; here it is known: sRGB, about g = 2.2.
"""

import numpy as np
from numpy.typing import NDArray

from deeplens.evaluation.baselines.canvas import Array, Canvas, Filter

SPACING = 0.25
"""Pixels between the radii that have a kernel of their own; a pixel between two spreads by both, by its distance."""


def blur(
    photo: NDArray[np.uint8], disparity: Array, *, focal: float, aperture: float, radius: float
) -> NDArray[np.uint8]:
    """See `evaluation.baselines.Blur`."""
    canvas = Canvas.of(photo, disparity, focal=focal, aperture=aperture, radius=radius)
    position = np.abs(canvas.signed) / np.float32(SPACING)
    pixels: Array = np.concatenate((canvas.light, np.ones_like(position)[None]))
    filters = Filter(position.shape)
    spectrum = np.zeros_like(filters.analysed(pixels))
    for index in range(int(np.ceil(position.max())) + 1):
        share: Array = np.maximum(1 - np.abs(position - index), np.float32(0))
        if share.any():
            spectrum += filters.analysed(pixels * share) * filters.kernel(scatter_kernel(index * SPACING))
    spread = filters.synthesised(spectrum)
    return canvas.photo(spread[:3] / spread[3:])


def scatter_kernel(radius: float) -> Array:
    """The weights of a pixel that spreads over `radius` pixels, (2n+1, 2n+1), n = ⌊radius⌋ + 1.

    At radius 0 a pixel stays where it is: the formula would give 0.3 % of it to its neighbours.
    """
    if radius == 0:
        return np.full((1, 1), 0.5 / 0.2, np.float32)
    reach = int(radius) + 1
    offsets = np.arange(-reach, reach + 1, dtype=np.float32)
    distance = np.hypot(offsets[:, None], offsets)
    weights = (0.5 + 0.5 * np.tanh(4 * (radius - distance))) / (radius**2 + 0.2)
    return weights.astype(np.float32)
