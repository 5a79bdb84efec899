"""Peak signal-to-noise ratio."""

import math

import numpy as np

from deeplens.parity_tests.metrics.difference import difference


def psnr(result: np.ndarray, reference: np.ndarray) -> float:
    """10 · log10(1 / mean (result − reference)²) in dB, with a data range of 1.0 (not the picture's own peak).

    Infinite where the two are equal.
    """
    mean_square = float(np.square(difference(result, reference)).mean())
    return math.inf if mean_square == 0.0 else -10.0 * math.log10(mean_square)
