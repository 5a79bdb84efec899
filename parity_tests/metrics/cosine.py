"""The angle between two results, taken as vectors."""

import math

import numpy as np

from deeplens.parity_tests.metrics.difference import check_shapes


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Σ a·b / √(Σ a² · Σ b²), in [-1, 1]: 1 for the same direction, whatever the lengths.

    It is blind to a factor and, beside a large offset, to almost all: it stands beside the other metrics, for none.
    1 where both are all zeros, 0 where only one is.
    """
    check_shapes(a, b)
    x, y = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
    lengths = math.sqrt(float(x @ x)) * math.sqrt(float(y @ y))
    if lengths == 0.0:
        return float(not x.any() and not y.any())
    return float(x @ y) / lengths
