"""The filters of the depth map: steps made steep, and put where the picture has its edges."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter, uniform_filter, zoom
from scipy.special import expit

from deeplens.model.map_filters import (
    COLOUR,
    GUIDE_EVEN,
    GUIDE_HALVINGS,
    GUIDE_RANGE,
    GUIDE_REACH,
    STEEP_REACH,
    STEEP_SLOPES,
    STEEP_SPAN,
    aligned,
    sharpened,
    steepened,
)

Array = NDArray[np.float64]
FIRST = STEEP_SLOPES[0]


def steep_by_hand(disparity: Array, slope: float) -> Array:
    """`steepened` from its definition, in float64, with SciPy's filters."""
    window = 2 * STEEP_REACH + 1
    near, far = maximum_filter(disparity, window, mode="nearest"), minimum_filter(disparity, window, mode="nearest")
    share = expit(slope * (2 * (disparity - far) / np.maximum(near - far, STEEP_SPAN[0]) - 1))
    fade = np.interp(near - far, STEEP_SPAN, (0, 1))
    return disparity * (1 - fade) + fade * (far + (near - far) * share)


@pytest.mark.parametrize("slope", STEEP_SLOPES)
def test_steepened_is_the_shock_filter_of_its_definition(slope: float) -> None:
    disparity = gaussian_filter(np.random.default_rng(0).random((60, 70)), 2) * 4
    assert np.ptp(disparity) > 0.5
    steep = steepened(torch.from_numpy(disparity)[None, None], slope)[0, 0].numpy()
    np.testing.assert_allclose(steep, steep_by_hand(disparity, slope), atol=1e-12)
    assert np.abs(steep - disparity).max() > 0.05


@given(
    slope=st.floats(-0.02, 0.02), across=st.floats(-0.02, 0.02), noise=st.floats(0, 0.02), seed=st.integers(0, 2**16)
)
def test_an_even_slope_and_small_steps_keep_their_values(slope: float, across: float, noise: float, seed: int) -> None:
    rows, columns = np.mgrid[0:40, 0:40]
    plane = torch.from_numpy(0.5 + slope * (rows - 20) + across * (columns - 20))[None, None]
    inner = (..., slice(STEEP_REACH, -STEEP_REACH), slice(STEEP_REACH, -STEEP_REACH))
    torch.testing.assert_close(steepened(plane, FIRST)[inner], plane[inner], atol=1e-9, rtol=0)
    flat = torch.from_numpy(0.5 + noise * np.random.default_rng(seed).random((1, 1, 40, 40)))
    torch.testing.assert_close(steepened(flat, FIRST), flat, atol=0, rtol=0)


@pytest.mark.parametrize("wide", [2.0, 4.0, 7.0])
@pytest.mark.parametrize("middle", [29.5, 30.2])
def test_a_soft_step_becomes_narrow_and_stays_where_it_is(wide: float, middle: float) -> None:
    """10 to 90 % of the step within 62 % of its width, or what pixels allow; the middle within 0.2 pixels."""
    row = steepened(ramp(wide, middle), FIRST)[0, 0, 10].numpy()
    assert (np.diff(row) >= 0).all()
    low, crossing, high = crossings(row)
    assert high - low <= max(0.62 * 0.8 * wide, 1.65)
    assert crossing == pytest.approx(middle, abs=0.2)


def ramp(wide: float, middle: float, shape: tuple[int, int] = (64, 64)) -> torch.Tensor:
    """A map that rises from 0 to 1 along its rows, over `wide` pixels around `middle`."""
    row = np.clip(0.5 + (np.arange(shape[1]) - middle) / wide, 0, 1)
    return torch.from_numpy(np.tile(row, (shape[0], 1)))[None, None]


def crossings(row: Array) -> tuple[float, float, float]:
    """Where a rising row crosses 10, 50 and 90 % of its step."""
    scaled = (row - row.min()) / np.ptp(row)
    low, middle, high = (float(np.interp(level, scaled, np.arange(len(row)))) for level in (0.1, 0.5, 0.9))
    return low, middle, high


def aligned_by_hand(disparity: Array, picture: Array) -> Array:
    """`aligned` from the paper's equations, window by window at half the size, in float64.

    Equation 14 with the sum of the variances for the covariance, 15, and 16 with a and b of twice the size, between
    the nearest and the farthest disparity around.
    """
    red, green, blue = picture
    guide = np.stack(((red + blue) / 4 + green / 2, COLOUR * (red - green), COLOUR * (blue - green)))
    half, low = shrunk(guide, 2), shrunk(disparity[None], 2)[0]
    mean = shrunk(half, 2**GUIDE_HALVINGS)
    for _ in range(GUIDE_HALVINGS):
        mean = np.stack([zoom(each, 2, order=1, mode="nearest", grid_mode=True) for each in mean])
    half = half - mean
    height, width = low.shape
    a, b = np.zeros_like(half), np.zeros_like(low)
    for y in range(height):
        for x in range(width):
            rows = slice(max(0, y - GUIDE_REACH), y + GUIDE_REACH + 1)
            columns = slice(max(0, x - GUIDE_REACH), x + GUIDE_REACH + 1)
            own, values = half[:, rows, columns].reshape(3, -1), low[rows, columns].ravel()
            covariance = ((own - own.mean(1, keepdims=True)) * (values - values.mean())).mean(1)
            a[:, y, x] = covariance / (own.var(1).sum() + GUIDE_EVEN)
            b[y, x] = values.mean() - a[:, y, x] @ own.mean(1)
    a, b = np.stack([averaged(each) for each in a]), averaged(b)
    near, far = (extreme(low, 2 * GUIDE_RANGE + 1, mode="nearest") for extreme in (maximum_filter, minimum_filter))
    large = [zoom(each, 2, order=1, mode="nearest", grid_mode=True) for each in (*a, b, near, far, *mean)]
    return np.clip((np.stack(large[:3]) * (guide - np.stack(large[6:]))).sum(0) + large[3], large[5], large[4])


def averaged(values: Array) -> Array:
    window = 2 * GUIDE_REACH + 1
    inside = uniform_filter(np.ones_like(values), window, mode="constant")
    return uniform_filter(values, window, mode="constant") / inside


def shrunk(values: Array, by: int) -> Array:
    channels, height, width = values.shape
    return values.reshape(channels, height // by, by, width // by, by).mean((2, 4))


def test_aligned_is_the_guided_filter_of_its_definition() -> None:
    rng = np.random.default_rng(1)
    disparity = gaussian_filter(rng.random((64, 96)), 3) * 5
    picture = np.clip(gaussian_filter(rng.random((3, 64, 96)), (0, 1, 1)) * 2 - 0.5, 0, 1)
    found = aligned(torch.from_numpy(disparity)[None, None], torch.from_numpy(picture)[None])[0, 0].numpy()
    np.testing.assert_allclose(found, aligned_by_hand(disparity, picture), atol=1e-12)
    assert np.abs(found - disparity).max() > 0.05


SIDES = {
    "darker": ((0.2, 0.2, 0.2), (0.6, 0.6, 0.6)),
    "of another colour, as bright": ((0.6, 0.3, 0.4), (0.2, 0.5, 0.4)),
    "white before grey": ((1.0, 1.0, 1.0), (0.7, 0.7, 0.7)),
}


@pytest.mark.parametrize("colours", SIDES.values(), ids=SIDES)
@pytest.mark.parametrize(("beside", "left"), [(-2.5, 2.0), (-1.0, 0.15), (0.0, 0.05), (1.0, 0.15), (2.5, 2.0)])
def test_a_step_goes_to_the_picture_s_edge(
    colours: tuple[tuple[float, ...], tuple[float, ...]], beside: float, left: float
) -> None:
    """Of a pixel between a step and the edge of two colours 0.15 are left at most, of 2.5 pixels 2."""
    edge = 31.5
    picture = torch.zeros(1, 3, 64, 64, dtype=torch.float64)
    for columns, colour in ((slice(None, 32), colours[0]), (slice(32, None), colours[1])):
        picture[..., columns] = torch.tensor(colour, dtype=torch.float64).view(3, 1, 1)
    noise = 0.01 * np.random.default_rng(0).normal(size=picture.shape)
    after = sharpened(ramp(3.0, edge + beside), picture + torch.from_numpy(noise))[0, 0].numpy()
    for row in after[4:-4]:
        low, crossing, high = crossings(row)
        assert crossing == pytest.approx(edge, abs=left)
        assert high - low < (9 if beside else 1)


def test_nothing_lies_beyond_both_sides_of_a_step() -> None:
    """White before grey, and black beside it: a line through the first two would put black behind all."""
    picture = torch.full((1, 3, 64, 64), 0.5, dtype=torch.float64)
    picture[..., 32:], picture[..., 30:32] = 1.0, 0.0
    before = steepened(ramp(3.0, 31.5), FIRST) * 0.6 + 0.2
    after = aligned(before, picture)
    assert float(after.min()) >= 0.2 - 1e-9
    assert float(after.max()) <= 0.8 + 1e-9


def test_an_even_picture_moves_no_step() -> None:
    before, even = ramp(3.0, 30.2), torch.full((1, 3, 64, 64), 0.4, dtype=torch.float64)
    after = sharpened(before, even)[0, 0].numpy()
    assert crossings(after[20])[1] == pytest.approx(30.2, abs=0.25)


@given(st.floats(0, 1), st.floats(-0.3, 0.3), st.integers(0, 2**16))
def test_an_even_map_stays_even(level: float, offset: float, seed: int) -> None:
    """Texture of the picture does not get into a map that has none of it."""
    picture = torch.from_numpy(np.random.default_rng(seed).random((1, 3, 64, 64)))
    disparity = torch.full((1, 1, 64, 64), level + offset, dtype=torch.float64)
    torch.testing.assert_close(aligned(disparity, picture), disparity, atol=1e-9, rtol=0)


@pytest.mark.parametrize("colour", [(1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.02, 0.02, 0.03)])
def test_fp16_can_bear_it(colour: tuple[float, float, float]) -> None:
    """Each operation rounded to FP16, on an even, noisy ground of one colour with a darker thing on it: 60 dB."""
    rng = np.random.default_rng(3)
    picture = np.tile(np.array(colour).reshape(3, 1, 1), (1, 96, 96))
    picture[:, 30:60, 25:70] *= 0.6
    picture = np.clip(picture + 0.004 * rng.normal(size=picture.shape), 0, 1)
    disparity = np.zeros((96, 96))
    disparity[32:60, 26:72] = 0.8
    inputs = [torch.from_numpy(each).float() for each in (gaussian_filter(disparity, 1.5)[None, None], picture[None])]
    exact, rounded = aligned(*inputs), aligned(*(each.half() for each in inputs)).float()
    assert 10 * np.log10(1 / float(((exact - rounded) ** 2).mean())) > 60
