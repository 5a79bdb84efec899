"""What stands in place of the guided step: against least squares window by window, sums by hand, and known limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens.evaluation.baselines import UPSAMPLERS, upsampled_photo
from deeplens.evaluation.baselines.upsampling import guided_filter, joint_bilateral
from deeplens.runtimes.pyramid import Geometry, doubled, halve, pad_to
from tests.support.tiny import textured

each = pytest.mark.parametrize("name", UPSAMPLERS)


def pyramid(height: int, width: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo (1, 3, 2h, 2w) in [0, 1], and at half its size."""
    high = (textured(2 * height, 2 * width, seed=seed).transpose(2, 0, 1)[None] / 255).astype(np.float32)
    return high, halve(high)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)


@each
@settings(max_examples=15)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 255))
def test_one_colour_stays(name: str, height: int, width: int, value: int) -> None:
    high, low = pyramid(height, width, seed=1)
    found = UPSAMPLERS[name](np.full_like(low, value / 255), high, low)
    assert found.shape == high.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, value / 255, atol=2e-5)


@each
def test_a_picture_of_one_step_keeps_it(name: str) -> None:
    """Where the photo has the same edge, those with a guide are sharper than the one without."""
    high = np.zeros((1, 3, 24, 24), np.float32)
    high[..., 11:] = 1  # between two pixels of a pair: the low photo has a column of its own there
    low = halve(high)
    error = np.abs(UPSAMPLERS[name](low, high, low) - high).mean()
    plain = np.abs(doubled(low) - high).mean()
    assert error == plain if name == "bilinear" else error < 0.5 * plain


class TestGuidedFilter:
    def test_a_flat_photo_gives_means_of_means(self) -> None:
        """No slope: each window's mean, and the mean of those, over what lies inside the picture."""
        low = noise(7, 9)
        guide = np.full((1, 3, 7, 9), 0.4, np.float32)
        found = guided_filter(low, np.full((1, 3, 14, 18), 0.4, np.float32), guide, radius=2, epsilon=1e-4)
        once = low.astype(np.float64)
        for _ in range(2):
            once = np.stack(
                [
                    [once[0, :, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].mean((1, 2)) for x in range(9)]
                    for y in range(7)
                ]
            ).transpose(2, 0, 1)[None]
        np.testing.assert_allclose(found, doubled(once), atol=1e-5)

    def test_guided_by_itself_it_is_the_photo(self) -> None:
        high, low = pyramid(12, 10, seed=2)
        np.testing.assert_allclose(guided_filter(low, high, low, radius=2, epsilon=1e-9), high, atol=1e-3)
        blurred = guided_filter(low, high, low, radius=2, epsilon=10.0)
        assert np.abs(blurred - high).max() > 0.1, "the control: a large epsilon smooths"

    def test_is_least_squares_in_each_window(self) -> None:
        """Ridge regression on colour, the intercept free, in float64 by the normal equations of stacked rows."""
        low, (high, guide), epsilon, radius = noise(8, 6), pyramid(8, 6, seed=3), 1e-2, 1
        height, width = low.shape[2:]
        windows = [
            [
                (slice(max(0, y - radius), y + radius + 1), slice(max(0, x - radius), x + radius + 1))
                for x in range(width)
            ]
            for y in range(height)
        ]
        fits = np.empty((height, width, 4, 3))
        for y, x in np.ndindex(height, width):
            rows, columns = windows[y][x]
            photo = guide[0][:, rows, columns].reshape(3, -1).T.astype(np.float64)
            picture = low[0][:, rows, columns].reshape(3, -1).T.astype(np.float64)
            samples = np.concatenate((photo, np.ones((len(photo), 1))), 1)
            ridge = np.diag(3 * [np.sqrt(epsilon * len(photo))] + [0.0])
            stacked = np.concatenate((picture, np.zeros((4, 3))))
            fits[y, x] = np.linalg.lstsq(np.concatenate((samples, ridge)), stacked, rcond=None)[0]
        means = np.array([[fits[windows[y][x]].mean((0, 1)) for x in range(width)] for y in range(height)])
        expected = np.empty(high.shape)
        for channel in range(3):
            coefficients = doubled(means[..., channel].transpose(2, 0, 1)[None])[0]
            expected[0, channel] = (coefficients[:3] * high[0]).sum(0) + coefficients[3]
        np.testing.assert_allclose(guided_filter(low, high, guide, radius=radius, epsilon=epsilon), expected, atol=2e-5)


class TestJointBilateral:
    def test_with_every_colour_alike_it_is_a_gaussian(self) -> None:
        """Each high pixel lies at a quarter or three quarters of a low one; borders repeat."""
        low, (high, guide) = noise(6, 5), pyramid(6, 5, seed=4)
        found = joint_bilateral(low, high, guide, sigma_space=0.8, sigma_range=1e4)
        expected = np.zeros(high.shape)
        for y, x in np.ndindex(12, 10):
            at_y, at_x = (y + 0.5) / 2 - 0.5, (x + 0.5) / 2 - 0.5
            rows, columns = y // 2 + np.arange(-2, 3), x // 2 + np.arange(-2, 3)
            weights = np.exp(-((rows[:, None] - at_y) ** 2 + (columns - at_x) ** 2) / (2 * 0.8**2))
            window = low[0][:, np.clip(rows, 0, 5)][..., np.clip(columns, 0, 4)]
            expected[0, :, y, x] = (window * weights).sum((1, 2)) / weights.sum()
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.abs(joint_bilateral(low, high, guide, sigma_space=0.8, sigma_range=0.1) - expected).max() > 0.05

    def test_unlike_pixels_count_for_nothing(self) -> None:
        """Beside an edge of the photo only the pixels of one's own side are taken, whatever the picture holds."""
        high = np.zeros((1, 3, 12, 12), np.float32)
        high[..., 6:] = 1
        low = noise(6, 6)
        found = joint_bilateral(low, high, halve(high))
        other = low.copy()
        other[..., 3:] = 0.5
        np.testing.assert_allclose(joint_bilateral(other, high, halve(high))[..., :6], found[..., :6], atol=1e-5)
        assert np.abs(joint_bilateral(other, high, halve(high))[..., 6:] - found[..., 6:]).max() > 0.1

    def test_a_photo_that_is_nowhere_alike(self) -> None:
        """Weights that underflow leave distance to decide."""
        low, high = noise(4, 4), np.ones((1, 3, 8, 8), np.float32)
        found = joint_bilateral(low, high, np.zeros_like(low))
        np.testing.assert_allclose(found, joint_bilateral(low, high, np.ones_like(low)), atol=1e-4)


class TestUpsampledPhoto:
    @each
    def test_two_steps_one_by_one(self, name: str) -> None:
        """Clipped between the steps, guided by the photo halved as the harness halves it, cropped and rounded."""
        levels = Geometry(height=70, width=90, steps=2, base=(24, 24))
        photo = textured(70, 90, seed=5)
        base = 1.2 * noise(24, 24)
        whole = pad_to((photo.transpose(2, 0, 1)[None] / 255).astype(np.float32), 96, 96)
        middle = halve(whole)
        step = UPSAMPLERS[name](np.clip(base, 0, 1), middle, halve(middle))
        expected = UPSAMPLERS[name](np.clip(step, 0, 1), whole, middle)
        found = upsampled_photo(base, levels, photo=photo, upsample=UPSAMPLERS[name])
        expected = np.clip(expected[0, :, :70, :90].transpose(1, 2, 0), 0, 1) * 255
        assert np.abs(found - expected).max() < 0.51

    def test_without_a_step_it_is_the_base(self) -> None:
        levels = Geometry(height=30, width=32, steps=0, base=(32, 32))
        base = noise(32, 32)
        found = upsampled_photo(base, levels, photo=np.zeros((30, 32, 3), np.uint8))
        np.testing.assert_array_equal(found, np.rint(base[0, :, :30].transpose(1, 2, 0) * 255))
