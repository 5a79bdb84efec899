"""Precision and recall of depth steps, against maps whose answer is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from deeplens.evaluation.boundary import APART, THRESHOLDS, Boundary, aligned, boundary, matte_recall
from deeplens.scenes.renderer import Array

SIZE = 160


def scene() -> Array:
    """Two rectangles before a background: steps of 1 and of 0.6."""
    values = np.zeros((SIZE, SIZE), np.float32)
    values[30:90, 20:80] = 1.0
    values[60:140, 90:150] = 0.6
    return values


def scores(disparity: Array, truth: Array) -> Boundary:
    found = boundary(disparity, truth)
    assert found is not None
    return found


def test_the_truth_and_what_differs_by_scale_alone_have_all() -> None:
    for same in (scene(), 5 * scene() - 3):
        found = scores(same, scene())
        assert (found.precision, found.recall, found.f1) == pytest.approx((1, 1, 1))


def test_a_step_that_is_missing_costs_recall_and_one_too_many_precision() -> None:
    one = scene()
    one[60:140, 90:150] = 0
    less = scores(one, scene())
    # 2 of 4 sides of each rectangle a direction: lengths 60 + 60 twice, and 80 + 60 twice.
    assert less.precision == pytest.approx(1)
    assert less.recall == pytest.approx(240 / 520, abs=0.01)
    more = scores(scene(), one)
    assert more.recall == pytest.approx(1)
    assert more.precision == pytest.approx(240 / 520, abs=0.01)


def test_a_step_the_wrong_way_round_counts_for_nothing() -> None:
    wrong = scene()
    wrong[60:140, 90:150] = -0.6
    found = scores(wrong, scene())
    assert found.precision < 0.85
    assert found.recall < 0.55
    assert scores(-scene(), scene()) == Boundary(0, 0, 0)


def test_blur_and_shifts_cost() -> None:
    assert round(APART * SIZE) == 1
    blurred = [scores(gaussian_filter(scene(), sigma), scene()).f1 for sigma in (0, 1, 2, 4, 8)]
    assert blurred == sorted(blurred, reverse=True)
    assert blurred[-1] < 0.2
    far = scores(np.roll(scene(), (3, 3), (0, 1)), scene())
    assert far.f1 < 0.05


def test_unknown_pixels_have_no_steps() -> None:
    known = np.ones((SIZE, SIZE), bool)
    known[:, 85:] = False
    truth = np.where(known, scene(), 99).astype(np.float32)
    found = boundary(scene(), truth, known=known)
    assert found is not None
    assert (found.precision, found.recall) == pytest.approx((1, 1))
    assert boundary(scene(), truth, known=np.zeros_like(known)) is None
    assert boundary(scene(), np.zeros_like(truth)) is None


def test_alignment_is_least_squares_and_never_turns_a_map_round() -> None:
    truth, known = scene(), np.ones((SIZE, SIZE), bool)
    np.testing.assert_allclose(aligned(3 * truth + 2, truth, known), truth, atol=1e-6)
    assert np.ptp(aligned(-truth, truth, known)) == 0


def test_recall_at_a_matte() -> None:
    matte = np.zeros((SIZE, SIZE), np.float32)
    matte[40:120, 40:120] = 1
    assert matte_recall(matte, matte) == 1
    assert matte_recall(1 - matte, matte) == 0
    assert matte_recall(np.zeros_like(matte), matte) == 0
    assert matte_recall(matte, np.ones_like(matte)) is None
    left = matte * (np.indices(matte.shape)[1] < 80)
    expected = 1 - (80 + 40 + 40) / 320  # of four sides one and two halves are missing
    found = matte_recall(left.astype(np.float32), matte)
    assert found == pytest.approx(expected, abs=0.01)
    faint = 0.12 * matte
    faint[0, 0] = 1  # a range of 1, steps of 0.12: above 0.05 and 0.1 alone
    assert matte_recall(faint, matte) == pytest.approx(0.15 / sum(THRESHOLDS))
