"""Between light and the numbers of a picture. Works without torch."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def srgb_to_linear(encoded: Array) -> Array:
    """sRGB decoding (IEC 61966-2-1), element by element, [0, 1] → [0, 1]."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).astype(np.float32)


def linear_to_srgb(light: Array) -> Array:
    """sRGB encoding (IEC 61966-2-1), element by element; clips to [0, 1]."""
    light = np.clip(light, 0.0, 1.0)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)
