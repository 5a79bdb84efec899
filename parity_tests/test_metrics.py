import math

import numpy as np
import pytest

from model.errors import MismatchError
from parity_tests.compare import PICTURE, Gate, measure
from parity_tests.metrics import Shares, max_abs, mean_abs, pixel_shares, psnr, relative_to_spread

A = np.array([[0.0, 0.5], [1.0, 2.0]])
B = np.array([[0.0, 0.25], [1.5, 2.0]])


def picture(*values: tuple[int, int, int]) -> np.ndarray:
    return np.array([values], np.uint8)


def test_by_hand() -> None:
    assert max_abs(A, B) == 0.5
    assert mean_abs(A, B) == (0.25 + 0.5) / 4
    assert psnr(A, B) == pytest.approx(10 * math.log10(4 / (0.25**2 + 0.5**2)))
    assert relative_to_spread(A, B) == 0.5 / 2.0


@pytest.mark.parametrize(("mean_square", "decibels"), [(1.0, 0.0), (0.01, 20.0), (1e-12, 120.0)])
def test_psnr_has_a_data_range_of_one_and_no_ceiling(mean_square: float, decibels: float) -> None:
    zero = np.zeros((1, 3, 4, 4))
    assert psnr(zero + math.sqrt(mean_square), zero) == pytest.approx(decibels)
    assert psnr(5 * zero + math.sqrt(mean_square), 5 * zero) == pytest.approx(decibels)  # not the picture's own peak


def test_equal_results() -> None:
    assert (max_abs(A, A), mean_abs(A, A), psnr(A, A), relative_to_spread(A, A)) == (0.0, 0.0, math.inf, 0.0)


def test_relative_to_spread_ignores_the_offset_and_follows_the_scale() -> None:
    wrong = A + np.array([[0.0, 0.0], [0.0, 1e-3]])
    assert relative_to_spread(wrong, A) == pytest.approx(5e-4)
    assert relative_to_spread(wrong + 1000, A + 1000) == pytest.approx(5e-4)
    assert relative_to_spread(1e-6 * wrong, 1e-6 * A) == pytest.approx(5e-4)  # where 2e-9 absolute looks like nothing
    constant = np.full((2, 2), 3.0)
    assert relative_to_spread(constant, constant) == 0.0
    assert relative_to_spread(A, constant) == math.inf


def test_integers_do_not_wrap_around() -> None:
    assert max_abs(np.array([0], np.uint8), np.array([255], np.uint8)) == 255.0
    assert max_abs(np.array([255], np.uint8), np.array([0], np.uint8)) == 255.0


def test_small_differences_of_float32_are_not_lost() -> None:
    one = np.ones(1, np.float32)
    assert max_abs(np.nextafter(one, np.float32(2)), one) == pytest.approx(2.0**-23)
    assert max_abs(one, one.astype(np.float64) + 1e-12) == pytest.approx(1e-12, rel=1e-3)


def test_pixel_shares_count_pixels_by_their_worst_channel() -> None:
    reference = picture((10, 10, 10), (10, 10, 10), (10, 10, 10), (0, 255, 10))
    found = picture((10, 10, 10), (9, 10, 11), (10, 12, 11), (255, 255, 10))
    assert pixel_shares(found, reference) == Shares(same=0.25, one=0.25, more=0.5)
    assert pixel_shares(reference, reference) == Shares(1.0, 0.0, 0.0)


@pytest.mark.parametrize("metric", [max_abs, mean_abs, psnr, relative_to_spread])
def test_other_shapes_are_not_broadcast(metric: object) -> None:
    assert callable(metric)
    for other in (A[:1], A[None], A[:, :1], np.zeros(())):
        with pytest.raises(MismatchError, match="can't be compared"):
            metric(A, other)
    with pytest.raises(MismatchError, match="empty"):
        metric(A[:0], A[:0])


def test_pixel_shares_take_8_bit_pictures_only() -> None:
    with pytest.raises(MismatchError, match="8 bits"):
        pixel_shares(np.zeros((1, 2, 3)), np.zeros((1, 2, 3)))


LOOSE = Gate(absolute=1e9, relative=1e9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("side", [0, 1, 2])
def test_values_that_are_not_finite_pass_no_gate(bad: float, side: int) -> None:
    sides = [A.copy(), A.copy(), A.copy()]
    assert measure(*sides).passes(LOOSE)
    sides[side][0, 1] = bad
    assert not measure(*sides).passes(LOOSE)
    both = [each.copy() for each in (A, A, A)]
    for each in both:
        each[0, 1] = bad
    assert not measure(*both).passes(LOOSE)


def test_each_number_closes_the_gate() -> None:
    wide = np.array([0.0, 100.0])
    gate = Gate(absolute=1e-3, relative=1e-4)
    assert measure(wide + 5e-4, wide, wide).passes(gate)
    assert not measure(wide + 2e-3, wide, wide + 2e-3).passes(gate)  # far from PyTorch in float32
    assert not measure(wide, wide, wide + 2e-3).passes(gate)  # far from float64
    assert not measure(wide / 1e3 + 5e-4, wide / 1e3, wide / 1e3).passes(gate)  # far for so little spread


def test_the_arguments_are_in_their_places() -> None:
    """The spread is the reference's, and each distance is between the right two."""
    reference, judge = np.array([0.0, 10.0]), np.array([0.0, 10.5])
    found = measure(np.array([0.0, 11.0]), reference, judge)
    assert (found.max_abs, found.judge, found.own, found.relative) == (1.0, 0.5, 0.5, 0.1)
    assert (found.psnr, found.shares) == (None, None)


def test_the_8_bit_picture() -> None:
    reference = picture((0, 0, 0), (255, 255, 255))
    found = measure(picture((1, 0, 0), (255, 255, 255)), reference, reference)
    assert (found.max_abs, found.own, found.shares) == (1.0, 0.0, Shares(0.5, 0.5, 0.0))
    assert found.psnr == pytest.approx(10 * math.log10(6 * 255**2))
    assert found.passes(PICTURE)
    assert not measure(picture((2, 0, 0), (255, 255, 255)), reference, reference).passes(PICTURE)
