"""Metrics against scikit-image, against hand-computed cases, and against the mistakes that public code makes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from deeplens.evaluation.metrics import (
    DEPTH_STEP,
    PSNR_LIMIT,
    WINDOW_RADIUS,
    depth_edge_band,
    psnr,
    scores,
    ssim,
    ssim_map,
)

Pair = tuple[np.ndarray, np.ndarray]


def pair(height: int = 40, width: int = 56, *, noise: float = 0.1, low: float = 0.0, high: float = 1.0) -> Pair:
    """A prediction and a truth in [low, high], float64."""
    rng = np.random.default_rng(height * 1000 + width)
    truth = rng.uniform(low, high, (height, width, 3))
    return np.clip(truth + noise * rng.standard_normal(truth.shape), 0.0, 1.0), truth


def reference_ssim(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """scikit-image's, with the window of Wang 2004: the mean and the map."""
    mean, full = structural_similarity(
        truth, prediction, data_range=1.0, channel_axis=-1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    return float(mean), full


class TestPsnr:
    @pytest.mark.parametrize(("height", "width"), [(11, 11), (40, 56), (1, 7)])
    def test_equals_scikit_image(self, height: int, width: int) -> None:
        prediction, truth = pair(height, width)
        assert psnr(prediction, truth) == pytest.approx(peak_signal_noise_ratio(truth, prediction, data_range=1.0))

    def test_by_hand(self) -> None:
        truth = np.full((4, 5, 3), 0.5)
        assert psnr(truth + 0.1, truth) == pytest.approx(20.0)  # mean squared error 0.01
        one = truth.copy()
        one[2, 3, 1] += 0.5  # 0.25 / 60
        assert psnr(one, truth) == pytest.approx(10 * np.log10(60 / 0.25))

    def test_equal_pictures_score_the_limit(self) -> None:
        truth = pair()[1]
        assert psnr(truth, truth) == PSNR_LIMIT
        assert psnr(np.clip(truth + 1e-4, 0, 1), truth) < PSNR_LIMIT

    def test_the_peak_is_not_the_pictures(self) -> None:
        prediction, truth = pair(noise=0.01, low=0.05, high=0.2)
        wrong = peak_signal_noise_ratio(truth, prediction, data_range=truth.max())
        assert psnr(prediction, truth) - wrong == pytest.approx(-20 * np.log10(truth.max()))
        assert psnr(prediction, truth) - wrong > 10

    def test_the_mean_is_over_the_masks_pixels_and_all_channels(self) -> None:
        truth = np.full((6, 8, 3), 0.5)
        prediction = truth.copy()
        prediction[:3, :4] += 0.1
        mask = np.zeros((6, 8), bool)
        mask[:3, :4] = True
        assert psnr(prediction, truth, mask=mask) == pytest.approx(20.0)
        assert psnr(prediction, truth, mask=~mask) == PSNR_LIMIT
        # Over all pixels, or counting pixels but not channels, it would be another number.
        error = np.square(prediction - truth)
        for wrong in (error.mean(), error[mask].sum() / mask.sum()):
            assert abs(-10 * np.log10(wrong) - 20.0) > 1

    def test_a_prediction_beyond_the_range_is_clipped(self) -> None:
        truth = np.ones((4, 4, 3))
        assert psnr(truth + 0.5, truth) == PSNR_LIMIT
        assert psnr(-truth, truth) == pytest.approx(0.0)

    def test_what_does_not_fit_is_refused(self) -> None:
        prediction, truth = pair()
        with pytest.raises(ValueError, match="floating point"):
            psnr((prediction * 255).astype(np.uint8), truth)
        with pytest.raises(ValueError, match="floating point"):
            psnr(prediction, (truth * 255).astype(np.uint8))
        with pytest.raises(ValueError, match="of one size"):
            psnr(prediction[:-1], truth)
        with pytest.raises(ValueError, match="of one size"):
            psnr(prediction[..., 0], truth[..., 0])
        with pytest.raises(ValueError, match="mask"):
            psnr(prediction, truth, mask=np.zeros((40, 56), bool))
        with pytest.raises(ValueError, match="mask"):
            psnr(prediction, truth, mask=np.ones((40, 55), bool))


class TestSsim:
    @pytest.mark.parametrize(("height", "width"), [(11, 11), (40, 56), (57, 12)])
    def test_equals_scikit_image(self, height: int, width: int) -> None:
        prediction, truth = pair(height, width)
        mean, full = reference_ssim(prediction, truth)
        assert ssim(prediction, truth) == pytest.approx(mean, abs=1e-12)
        inside = slice(WINDOW_RADIUS, -WINDOW_RADIUS)
        np.testing.assert_allclose(ssim_map(prediction, truth), full.mean(2)[inside, inside], atol=1e-12)

    def test_another_window_is_another_number(self) -> None:
        prediction, truth = pair()
        uniform = structural_similarity(truth, prediction, data_range=1.0, channel_axis=-1)
        double = structural_similarity(
            truth, prediction, data_range=2.0, channel_axis=-1, gaussian_weights=True, use_sample_covariance=False
        )
        for wrong in (uniform, double):
            assert abs(ssim(prediction, truth) - wrong) > 1e-4

    def test_of_constants_by_hand(self) -> None:
        a, b = np.full((16, 16, 3), 0.2), np.full((16, 16, 3), 0.6)
        expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
        assert ssim(a, b) == pytest.approx(expected)
        assert ssim(a, a) == pytest.approx(1.0)

    def test_what_looks_wrong_scores_badly(self) -> None:
        prediction, truth = pair(noise=0.02)
        assert ssim(prediction, truth) > 0.95
        assert ssim(1 - truth, truth) < 0
        assert abs(ssim(np.roll(truth, 5, axis=1), truth)) < 0.2
        assert ssim(np.full_like(truth, truth.mean()), truth) < 0.2

    def test_inside_a_mask(self) -> None:
        prediction, truth = pair(noise=0.0)
        prediction[:, :20] = 0.5
        left = np.zeros(truth.shape[:2], bool)
        left[:, :15] = True
        right = np.zeros_like(left)
        right[:, 25:] = True
        assert ssim(prediction, truth, mask=right) == pytest.approx(1.0)
        full = reference_ssim(prediction, truth)[1].mean(2)
        inner = np.zeros_like(left)
        inner[WINDOW_RADIUS:-WINDOW_RADIUS, WINDOW_RADIUS:-WINDOW_RADIUS] = True
        assert ssim(prediction, truth, mask=left) == pytest.approx(full[left & inner].mean())
        assert ssim(prediction, truth, mask=left) < 0.3

    def test_a_picture_smaller_than_the_window_is_refused(self) -> None:
        prediction, truth = pair(10, 30)
        with pytest.raises(ValueError, match="window"):
            ssim(prediction, truth)

    def test_a_mask_without_a_whole_window_is_refused(self) -> None:
        prediction, truth = pair()
        border = np.zeros(truth.shape[:2], bool)
        border[0] = True
        with pytest.raises(ValueError, match="mask"):
            ssim(prediction, truth, mask=border)


class TestScores:
    def test_are_the_four_numbers(self) -> None:
        prediction, truth = pair()
        band = np.zeros(truth.shape[:2], bool)
        band[10:20] = True
        assert scores(prediction, truth, band=band) == {
            "psnr": psnr(prediction, truth),
            "ssim": pytest.approx(ssim(prediction, truth)),
            "psnr_band": psnr(prediction, truth, mask=band),
            "ssim_band": pytest.approx(ssim(prediction, truth, mask=band)),
        }

    def test_no_edge_no_score(self) -> None:
        prediction, truth = pair()
        found = scores(prediction, truth, band=np.zeros(truth.shape[:2], bool))
        assert (found["psnr_band"], found["ssim_band"]) == (None, None)
        assert found["psnr"] == psnr(prediction, truth)


class TestDepthEdgeBand:
    def test_of_a_step(self) -> None:
        disparity = np.repeat(np.where(np.arange(30) < 10, 0.2, 0.8)[None], 5, axis=0)
        for width, columns in ((0, range(9, 11)), (3, range(6, 14)), (3.9, range(6, 14))):
            assert np.flatnonzero(depth_edge_band(disparity, width).all(axis=0)).tolist() == list(columns)
            assert depth_edge_band(disparity, width).any(axis=0).sum() == len(columns)
            np.testing.assert_array_equal(depth_edge_band(disparity.T, width).T, depth_edge_band(disparity, width))

    def test_a_ramp_has_no_edge(self) -> None:
        ramp = np.repeat(np.linspace(0, 1, 64)[None], 64, axis=0)
        assert not depth_edge_band(ramp, 10).any()
        assert not depth_edge_band(np.zeros((8, 8)), 10).any()

    def test_the_threshold(self) -> None:
        for height, expected in ((0.9 * DEPTH_STEP, False), (1.1 * DEPTH_STEP, True)):
            assert depth_edge_band(np.array([[0.0, height]]), 0).any() == expected

    @settings(max_examples=30, deadline=None)
    @given(
        arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0.0, 0.3, 0.31])),
        st.floats(0, 4),
    )
    def test_by_brute_force(self, disparity: np.ndarray, width: float) -> None:
        height, across = disparity.shape
        edges = [
            (y, x)
            for y in range(height)
            for x in range(across)
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
            if 0 <= v < height and 0 <= u < across and abs(disparity[y, x] - disparity[v, u]) > DEPTH_STEP
        ]
        expected = [
            [any((y - v) ** 2 + (x - u) ** 2 <= width**2 + 1e-9 for v, u in edges) for x in range(across)]
            for y in range(height)
        ]
        np.testing.assert_array_equal(depth_edge_band(disparity, width + 1e-9), expected)
