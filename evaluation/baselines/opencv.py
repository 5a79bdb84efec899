"""Layers from back to front with OpenCV's compiled filters, as a classical full-resolution renderer is written today.

The picture is that of `layered`: bins of disparity, each blurred by its disc and laid over what is behind it.
Needs the `peers` extra.
"""

import numpy as np
from numpy.typing import NDArray

from deeplens.console.errors import MissingError
from deeplens.console.package import pip_install
from deeplens.evaluation.baselines.canvas import Array
from deeplens.evaluation.baselines.layered import BINS, LEAST
from deeplens.scenes.renderer import disc, linear_to_srgb, srgb_to_linear

LIGHT = srgb_to_linear(np.arange(256, dtype=np.float32) / np.float32(255))
"""Linear light of each 8-bit value."""

FINE = 65535
"""Steps of linear light from which 8-bit values are looked up: finer than a step of 8 bits everywhere but in black."""

ENCODED = np.rint(linear_to_srgb(np.arange(FINE + 1, dtype=np.float32) / np.float32(FINE)) * 255).astype(np.uint8)
"""8-bit value of each."""


def blur(
    photo: NDArray[np.uint8], disparity: Array, *, focal: float, aperture: float, radius: float
) -> NDArray[np.uint8]:
    """See `evaluation.baselines.Blur`.

    Raises:
        MissingError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingError(f"OpenCV can't be imported ({error}): {pip_install('peers')}") from error
    signed = (radius * aperture * (disparity - focal)).astype(np.float32)
    if np.abs(signed).max() < 0.5:
        return photo.copy()
    low, high = float(signed.min()), float(signed.max())
    bins = np.minimum(((signed - low) * np.float32(BINS / max(high - low, 1e-6))).astype(np.uint8), BINS - 1)
    pixels = np.dstack((LIGHT[photo], np.ones(signed.shape, np.float32)))
    found = np.zeros(pixels.shape, np.float32)
    for index in np.flatnonzero(np.bincount(bins.ravel(), minlength=BINS)).tolist():
        own = (bins == index).astype(np.uint8)
        spread = abs(cv2.mean(signed, own)[0])
        reach = int(np.ceil(spread)) + 1
        left, top, width, height = cv2.boundingRect(own)
        part = np.s_[max(0, top - reach) : top + height + reach, max(0, left - reach) : left + width + reach]
        layer = pixels[part] * own[part][..., None]
        if spread >= 0.5:  # below, the disc is a single pixel
            layer = cv2.filter2D(layer, cv2.CV_32F, disc(spread), borderType=cv2.BORDER_REFLECT)
        below: Array = layer + found[part] * (1 - layer[..., 3:])
        share = below[..., 3:]
        found[part] = below * np.where(share > LEAST, 1 / np.maximum(share, LEAST), np.float32(0))
    steps = np.clip(found[..., :3] * np.float32(FINE) + np.float32(0.5), 0, FINE).astype(np.uint16)
    return np.take(ENCODED, steps)


def use_threads(count: int) -> None:
    """Let OpenCV use so many threads; does nothing where it is not installed, which `blur` says."""
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(count)
