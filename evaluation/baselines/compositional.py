"""Compositional blur: one blurred photo for each disparity plane, mixed (Srinivasan et al. 2018, section 4.1).

Σ_i p_i · (k_i ∗ I): the weights p_i come after the blur, and no plane hides another, so that colours leak over depth
edges both ways.
"""

import numpy as np
from numpy.typing import NDArray

from deeplens.evaluation.baselines.canvas import Array, Canvas, Filter
from deeplens.scenes.renderer import disc

PLANES = 31
"""As many before the focal plane as behind it, and the focal plane itself."""


def blur(
    photo: NDArray[np.uint8], disparity: Array, *, focal: float, aperture: float, radius: float
) -> NDArray[np.uint8]:
    """See `evaluation.baselines.Blur`. The planes lie evenly between the largest radii of the picture, before and
    behind the focus; a pixel between two planes belongs to both by its distance."""
    canvas = Canvas.of(photo, disparity, focal=focal, aperture=aperture, radius=radius)
    if canvas.largest < 0.5:
        return photo.copy()
    # The planes at r and at −r have the same kernel, and are one here.
    spacing = canvas.largest / (PLANES // 2)
    position = np.abs(canvas.signed) / np.float32(spacing)
    filters = Filter(position.shape)
    spectrum = filters.analysed(canvas.light)
    blurred = np.zeros_like(canvas.light)
    for index in range(PLANES // 2 + 1):
        share = np.maximum(1 - np.abs(position - index), np.float32(0))
        if not share.any():
            continue
        kernel = disc(index * spacing)
        blurred += share * (filters.synthesised(spectrum * filters.kernel(kernel)) if index else canvas.light)
    return canvas.photo(blurred)
