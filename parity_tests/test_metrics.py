import math
from dataclasses import replace

import numpy as np
import pytest
import skimage.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from scipy.spatial import distance

from deeplens.console.errors import MismatchError
from deeplens.parity_tests.cases import NetworkCase
from deeplens.parity_tests.compare import FACTORS, GATES, NETWORK, PICTURE, Gate, Row, compare, measure, narrowed
from deeplens.parity_tests.metrics import (
    Shares,
    cosine,
    max_abs,
    mean_abs,
    pixel_shares,
    psnr,
    relative_to_spread,
    ssim_8_bit,
    ulps,
)
from deeplens.parity_tests.outputs import Outputs

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


@pytest.mark.parametrize("metric", [max_abs, mean_abs, psnr, relative_to_spread, cosine, ulps])
def test_other_shapes_are_not_broadcast(metric: object) -> None:
    assert callable(metric)
    for other in (A[:1], A[None], A[:, :1], np.zeros(())):
        with pytest.raises(MismatchError, match="can't be compared"):
            metric(A, other)
    with pytest.raises(MismatchError, match="empty"):
        metric(A[:0], A[:0])


def test_pixel_shares_take_8_bit_pictures_only() -> None:
    with pytest.raises(MismatchError, match="8-bit"):
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


FLOATS = arrays_of.arrays(np.float32, (3, 5), elements=st.floats(-1e3, 1e3, width=32))


@given(a=FLOATS, b=FLOATS)
@settings(deadline=None)
def test_against_other_libraries(a: np.ndarray, b: np.ndarray) -> None:
    """NumPy's norms, scikit-image's PSNR, SciPy's cosine."""
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    flat = (wide_a - wide_b).reshape(-1)
    assert max_abs(a, b) == np.linalg.norm(flat, np.inf)
    assert mean_abs(a, b) == pytest.approx(np.linalg.norm(flat, 1) / a.size)
    if np.square(flat).mean() > 0:
        assert psnr(a, b) == pytest.approx(skimage.metrics.peak_signal_noise_ratio(wide_b, wide_a, data_range=1.0))
    if np.abs(a).max() > 1e-6 and np.abs(b).max() > 1e-6:
        assert cosine(a, b) == pytest.approx(1 - distance.cosine(wide_a.reshape(-1), wide_b.reshape(-1)), abs=1e-9)


def test_ssim_is_that_of_scikit_image() -> None:
    generator = np.random.default_rng(0)
    a = generator.integers(0, 256, (40, 48, 3)).astype(np.uint8)
    b = np.clip(a.astype(int) + generator.integers(-20, 20, a.shape), 0, 255).astype(np.uint8)
    expected = skimage.metrics.structural_similarity(
        a, b, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, win_size=11
    )
    assert ssim_8_bit(a, b) == pytest.approx(expected, abs=1e-6)
    assert ssim_8_bit(a, a) == pytest.approx(1.0)
    assert ssim_8_bit(a, a[::-1]) < 0.5  # another picture with the same histogram
    for wrong in (a / 255, a[:10]):
        with pytest.raises(MismatchError):
            ssim_8_bit(wrong, wrong)
    with pytest.raises(MismatchError, match="can't be compared"):
        ssim_8_bit(a, a[1:])


def test_cosine_sees_direction_and_not_length() -> None:
    assert cosine(A, 3 * A) == pytest.approx(1.0)
    assert cosine(A, -A) == pytest.approx(-1.0)
    assert cosine(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 0.0
    assert (cosine(0 * A, 0 * A), cosine(0 * A, A)) == (1.0, 0.0)
    assert math.isnan(cosine(A * np.nan, A))


@settings(deadline=None)
@given(value=st.floats(width=32, allow_nan=False, allow_infinity=False), steps=st.integers(0, 40))
def test_ulps_are_steps_of_nextafter(value: float, steps: int) -> None:
    """Across zero too: −0 and 0 are one number."""
    start = other = np.float32(value)
    for _ in range(steps):
        other = np.nextafter(other, np.float32(np.inf))
    if not np.isfinite(other):
        return
    found = ulps(np.array([other]), np.array([start]))
    assert found is not None
    assert (found.largest, found.median) == (steps, steps)
    assert found.histogram[steps.bit_length()] == sum(found.histogram) == 1


def test_ulp_histogram_by_hand() -> None:
    one = np.float32(1)
    apart = one + np.float32(2.0**-23) * np.array([0, 0, 1, 2, 3, 4, 100], np.float32)
    found = ulps(apart, np.full(7, one))
    assert found is not None
    assert found.histogram[:8] == (2, 1, 2, 1, 0, 0, 0, 1)
    assert (found.largest, found.median) == (100, 2)
    extremes = ulps(np.array([np.finfo(np.float32).max]), np.array([np.finfo(np.float32).min]))
    assert extremes is not None
    assert sum(extremes.histogram) == 1
    assert ulps(np.array([np.nan]), np.array([1.0])) is None
    assert ulps(np.array([1e300]), np.array([1.0])) is None  # no float32


def test_limits_follow_the_models_own_rounding_and_never_exceed_the_ceiling() -> None:
    due = np.linspace(0, 1, 300).reshape(1, 3, 10, 10)
    judge = due + 5e-7
    found = measure(due + 1e-6, due, judge)
    gate = narrowed(NETWORK, found, "fp32")
    assert gate.absolute == pytest.approx(FACTORS["fp32"].worst * 5e-7, rel=1e-3)
    assert gate.mean == pytest.approx(FACTORS["fp32"].mean * 5e-7, rel=1e-3)
    assert narrowed(NETWORK, measure(due, due, due + 1), "fp32").absolute == NETWORK.absolute
    exact = narrowed(NETWORK, measure(due, due, due), "fp32")  # PyTorch exact by luck: a few units in the last place
    assert 0 < exact.absolute < 1e-6

    half = measure(due + 1e-3, due, judge, due + 4e-4)
    gate = narrowed(GATES["fp16"][0], half, "fp16")
    assert gate.absolute == pytest.approx(FACTORS["fp16"].worst * 4e-4, rel=1e-3)
    assert not half.passes(gate)  # the mean is 2.5 times PyTorch's own
    assert measure(due + 7e-4, due, judge, due + 4e-4).passes(gate)
    assert narrowed(GATES["fp16"][0], replace(half, half=None), "fp16") == GATES["fp16"][0]
    overflown = narrowed(GATES["fp16"][0], replace(half, half=math.nan, half_mean=math.inf), "fp16")
    assert overflown.decibels == GATES["fp16"][0].decibels  # the ceilings stay where PyTorch itself overflows


@pytest.mark.parametrize(("off", "own", "noted"), [(9e-6, 2e-5, True), (3e-5, 1e-6, False), (1e-6, 2e-7, False)])
def test_a_photo_on_which_pytorch_itself_is_beyond_the_ceiling_is_named(off: float, own: float, noted: bool) -> None:
    """The row fails as before; it says that PyTorch is far from float64 itself, and no other row does."""
    case = NetworkCase("depth", "photo", "fixed", (8, 8), {})
    due = np.linspace(0, 1, 64, dtype=np.float64).reshape(1, 1, 8, 8)

    def given(values: np.ndarray) -> Outputs:
        return Outputs(arrays={case.name: values}, weights={case.name: {"depth": "0" * 64}})

    rows: list[Row] = compare(
        "edge", "onnx", [case], candidate=given(due + own + off), reference=given(due + own), judge=given(due)
    )
    (row,) = rows
    assert row.status == ("passed" if off < 5e-6 else "failed")
    assert ("PyTorch float32 itself is" in row.note) is noted
    assert ("2.0e-05 from float64" in row.note) is noted
