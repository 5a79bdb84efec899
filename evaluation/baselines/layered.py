"""Layers from back to front: each bin of disparity is blurred by its own disc and laid over what is behind it.

What a nearer bin hides is not known: the layers behind have holes there, and a channel of ones, blurred and laid over
like the colours, says at the end how much of each pixel was found.
"""

import numpy as np
from numpy.typing import NDArray

from deeplens.evaluation.baselines.canvas import Array, Canvas, Filter
from deeplens.scenes.renderer import disc

BINS = 32

LEAST = np.float32(1e-5)
"""What is found of a pixel must be more than this share of it, or counts as nothing: it may be rounding of the FFT."""


def blur(
    photo: NDArray[np.uint8], disparity: Array, *, focal: float, aperture: float, radius: float
) -> NDArray[np.uint8]:
    """See `evaluation.baselines.Blur`. The bins are equal parts of the picture's range of disparities; each has the
    mean disparity of its pixels."""
    canvas = Canvas.of(photo, disparity, focal=focal, aperture=aperture, radius=radius)
    if canvas.largest < 0.5:
        return photo.copy()
    low, high = float(canvas.signed.min()), float(canvas.signed.max())
    step = np.float32(max(high - low, 1e-6) / BINS)
    bins = np.minimum(((canvas.signed - low) / step).astype(int), BINS - 1)
    pixels = np.concatenate((canvas.light, np.ones_like(canvas.signed)[None]))
    filters = Filter(canvas.signed.shape)
    found = np.zeros_like(pixels)
    for index in np.unique(bins):
        own = bins == index
        layer = pixels * own
        spread = abs(float(canvas.signed[own].mean()))
        if spread >= 0.5:  # below, the disc is a single pixel
            layer = filters.synthesised(filters.analysed(layer) * filters.kernel(disc(spread)))
        found = layer + found * (1 - layer[3])
        found *= np.where(found[3] > LEAST, 1 / np.maximum(found[3], LEAST), np.float32(0))
    return canvas.photo(found[:3])
