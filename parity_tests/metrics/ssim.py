"""Structural similarity of pictures of 8 bits."""

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.parity_tests.metrics.difference import check_shapes


def ssim_8_bit(result: np.ndarray, reference: np.ndarray) -> float:
    """Mean of (2 μx μy + c1)(2 σxy + c2) / ((μx² + μy² + c1)(σx² + σy² + c2)) over windows and colours (Wang 2004).

    μ, σ: of a Gaussian window of σ = 1.5 pixels, 11×11, that lies inside the picture; c1 = (0.01 · 255)²,
    c2 = (0.03 · 255)². It is that of `evaluation.metrics`. Needs SciPy (the `train` extra).

    Args:
        result, reference: H×W×3, uint8, at least 11×11 pixels.

    Raises:
        MismatchError: not such pictures of one size.
    """
    from deeplens.evaluation.metrics import ssim

    check_shapes(result, reference)
    if result.dtype != np.uint8 or reference.dtype != np.uint8:
        raise MismatchError(f"SSIM expects 8-bit pictures, not {result.dtype} and {reference.dtype}")
    try:
        return ssim(result / 255, reference / 255)
    except ValueError as error:
        raise MismatchError(str(error)) from error


def ssim_if_possible(result: np.ndarray, reference: np.ndarray) -> float | None:
    """`ssim_8_bit`; None of a picture that is too small for it, and where SciPy is not installed."""
    if min(reference.shape[:2]) < 11:
        return None
    try:
        return ssim_8_bit(result, reference)
    except ImportError:
        return None
