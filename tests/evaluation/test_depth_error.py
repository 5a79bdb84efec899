"""The depth error: against SciPy's least-squares spline, what it must not see, and what must score badly."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.interpolate import make_lsq_spline

from deeplens.console.errors import InputError
from deeplens.evaluation.depth_error import KNOTS, depth_mae


def smooth_map(seed: int, *, height: int = 40, width: int = 50) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    waves = sum(rng.normal() * np.sin(rng.uniform(2, 9) * rows + rng.uniform(2, 9) * columns) for _ in range(4))
    return np.asarray(waves, np.float32)


def normalised(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return (values - values.min()) / (values.max() - values.min())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_agrees_with_scipys_spline(seed: int) -> None:
    prediction, truth = smooth_map(seed), smooth_map(seed + 1)
    x, y = normalised(prediction).ravel(), normalised(truth).ravel()
    assume(np.histogram(x, KNOTS - 1)[0].min() >= 5)  # SciPy wants values between all knots
    order = np.argsort(x, kind="stable")
    inner = np.linspace(0, 1, KNOTS)[1:-1]
    spline = make_lsq_spline(x[order], y[order], t=np.concatenate(([0, 0], inner, [1, 1])), k=1)
    assert depth_mae(prediction, truth) == pytest.approx(np.abs(spline(x) - y).mean(), abs=1e-4)


@pytest.mark.parametrize(
    "curve",
    [lambda x: x, lambda x: 1 - x, lambda x: 3 * x + 7, lambda x: np.abs(x - 0.5)],
    ids=["same", "reversed", "stretched", "bent"],
)
def test_scale_offset_and_bends_at_the_knots_do_not_count(curve: object) -> None:
    prediction = normalised(smooth_map(0))
    assert callable(curve)
    assert depth_mae(prediction, curve(prediction)) < 1e-5


def test_quantile_knots_bend_where_the_pixels_are() -> None:
    """Nearly all pixels lie in a tenth of the range, where the curve bends: even knots have none there."""
    rng = np.random.default_rng(0)
    prediction = np.concatenate((rng.uniform(0, 0.1, 4950), rng.uniform(0.1, 1, 50))).reshape(50, 100)
    truth = np.sqrt(np.minimum(prediction, 0.1))
    assert depth_mae(prediction, truth, knots="quantile") < 0.6 * depth_mae(prediction, truth)


def test_what_says_nothing_scores_the_mean_deviation() -> None:
    truth = smooth_map(3)
    expected = np.abs(normalised(truth) - normalised(truth).mean()).mean()
    assert depth_mae(np.full_like(truth, 0.4), truth) == pytest.approx(expected, abs=1e-6)
    shuffled = np.random.default_rng(0).permutation(truth.ravel()).reshape(truth.shape)
    for knots in ("even", "quantile"):
        assert depth_mae(shuffled, truth, knots=knots) == pytest.approx(expected, rel=0.05)


def test_a_misplaced_object_counts() -> None:
    truth = np.zeros((40, 40), np.float32)
    truth[10:30, 10:30] = 1.0
    moved = np.roll(truth, 10, axis=1)
    assert depth_mae(truth, truth) < 1e-6
    assert depth_mae(moved, truth) > 0.15


def test_what_is_not_known_is_not_looked_at() -> None:
    """Within the mask the error is that of the pixels there alone, whatever stands elsewhere."""
    prediction, truth = smooth_map(4), smooth_map(5)
    known = np.random.default_rng(0).random(truth.shape) < 0.6
    expected = depth_mae(prediction[known][None], truth[known][None])
    for filler in (0.0, 1e6):
        found = depth_mae(np.where(known, prediction, 7), np.where(known, truth, filler), known=known)
        assert found == pytest.approx(expected, abs=1e-9)
    assert depth_mae(np.where(known, prediction, 7), np.where(known, truth, 1e6)) != pytest.approx(expected, rel=0.1)


def test_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="of one size"):
        depth_mae(np.zeros((4, 5)), np.zeros((5, 4)))
    with pytest.raises(InputError, match="not finite"):
        depth_mae(np.full((4, 4), np.nan), np.zeros((4, 4)))
    with pytest.raises(ValueError, match="of one size"):
        depth_mae(np.zeros((4, 5)), np.zeros((4, 5)), known=np.ones((5, 4), bool))
    with pytest.raises(InputError, match="height × width"):
        depth_mae(np.zeros((4, 5)), np.zeros((4, 5)), known=np.zeros((4, 5), bool))
