"""The largest difference as a share of what the output varies by."""

import math

import numpy as np

from deeplens.parity_tests.metrics.max_abs import max_abs


def relative_to_spread(result: np.ndarray, reference: np.ndarray) -> float:
    """max |result − reference| / (max reference − min reference).

    An output that hardly varies has small absolute errors whatever is wrong; its spread shows that, its offset doesn't.
    For a constant reference 0 where the two are equal, otherwise infinite.
    """
    largest = max_abs(result, reference)
    spread = float(reference.max()) - float(reference.min())
    if spread == 0.0:
        return largest if largest == 0.0 or math.isnan(largest) else math.inf
    return largest / spread
