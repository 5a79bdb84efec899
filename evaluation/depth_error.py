"""How far a predicted disparity map is from the true one, up to what a photographer does not see."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deeplens.runtimes.disparity import normalise_disparity

KNOTS = 5


def depth_mae(
    prediction: NDArray[np.floating],
    truth: NDArray[np.floating],
    *,
    knots: Literal["even", "quantile"] = "even",
    known: NDArray[np.bool_] | None = None,
) -> float:
    """Mean absolute error after a linear spline with `KNOTS` knots, by least squares, not forced to be monotone.

    Both maps are normalised to [0, 1] first. The spline is fitted to this one picture, from prediction to truth, so
    that unknown scale, offset and curvature do not count; what is left are errors of order and of outline.

    Args:
        prediction, truth: H×W, disparities in any unit, near = large.
        knots: evenly spaced over the prediction's range, or at its quantiles.
        known: H×W, where the truth is known; nothing else is looked at. None: everywhere.

    Returns:
        in [0, 1]; a constant prediction scores the truth's mean absolute deviation from its mean.

    Raises:
        ValueError: maps of different shapes.
        InputError: maps that are empty or, where the truth is known, not finite.
    """
    shapes = {each.shape for each in (prediction, truth, known) if each is not None}
    if len(shapes) > 1:
        raise ValueError(f"expected two maps of one size, got {' and '.join(map(str, sorted(shapes)))}")
    where = np.ones(truth.shape, bool) if known is None else known
    x, y = (normalise_disparity(each[where][None])[0].astype(np.float64) for each in (prediction, truth))
    shares = np.linspace(0, 1, KNOTS)
    places = np.unique(np.quantile(x, shares) if knots == "quantile" else shares)
    if len(places) < 2:
        return float(np.abs(y - y.mean()).mean())
    # Hat functions between neighbouring knots; each pixel touches two.
    left = np.clip(np.searchsorted(places, x, side="right") - 1, 0, len(places) - 2)
    share = (x - places[left]) / (places[left + 1] - places[left])
    count = len(places)
    normal, right_side = np.zeros(count * count), np.zeros(count)
    for offset, weight in ((0, 1 - share), (1, share)):
        right_side += np.bincount(left + offset, weight * y, count)
        for other, other_weight in ((0, 1 - share), (1, share)):
            cell = (left + offset) * count + left + other
            normal += np.bincount(cell, weight * other_weight, count * count)
    heights = np.linalg.lstsq(normal.reshape(count, count), right_side, rcond=None)[
        0
    ]  # a knot that no pixel is near is left at 0
    fitted = (1 - share) * heights[left] + share * heights[left + 1]
    return float(np.abs(fitted - y).mean())
