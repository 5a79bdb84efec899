"""How many pixels of a picture of 8 bits are off by nothing, by one step, by more."""

from dataclasses import dataclass

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.parity_tests.metrics.difference import difference


@dataclass(frozen=True)
class Shares:
    """Shares of an 8-bit picture's pixels, in [0, 1], by the difference of their most different channel.

    Attributes:
        same, one, more: off by 0, by 1, by more than 1.
    """

    same: float
    one: float
    more: float


def pixel_shares(result: np.ndarray, reference: np.ndarray) -> Shares:
    """With d = max over the channels |result − reference|: the shares of the pixels with d = 0, d = 1, d > 1.

    Args:
        result, reference: H×W×3, uint8.

    Raises:
        MismatchError: not 8-bit pictures of one size.
    """
    if result.dtype != np.uint8 or reference.dtype != np.uint8 or result.ndim != 3:
        raise MismatchError(f"expected 8-bit pictures of H×W×3, not {result.shape} of {result.dtype}")
    most = difference(result, reference).max(axis=2)
    return Shares(float((most == 0).mean()), float((most == 1).mean()), float((most > 1).mean()))
