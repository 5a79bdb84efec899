"""What a depth network of others may be off: it gives numbers of any scale, so nothing is measured in whole units."""

import math

import numpy as np

from deeplens.export.foreign_depth import MARGIN
from deeplens.model.contract import VARIANTS, part_of


def ceilings(
    variant: str, what: str, *, absolute: float, relative: float, own: float, reference: np.ndarray
) -> dict[str, float]:
    """The ceilings of an output, by their names in `parity_tests.compare.Gate`.

    Those that are given hold for networks of ours, whose outputs lie about in [0, 1].

    Args:
        what: the network, or the stage of the loop.
        own: the network's own rounding, max |float32 − float64|.
        reference: the output in float32.
    """
    if what != "depth" or part_of(variant, "depth") in VARIANTS or not math.isfinite(absolute):
        return {"absolute": absolute, "relative": relative}
    spread = float(np.ptp(reference))
    return {
        "absolute": max(absolute * spread, MARGIN * own),
        "relative": max(relative, MARGIN * own / spread if spread else 0.0),
    }
