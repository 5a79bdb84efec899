"""Histograms, calibrators and the bias correction: against NumPy, and against ONNX Runtime's own."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from deeplens.calibration.calibrators import CALIBRATORS, PERCENTILE, threshold
from deeplens.calibration.correction import shift
from deeplens.calibration.histogram import Histogram
from deeplens.console.errors import InputError
from deeplens.export.fake_quant import fake_quantised
from deeplens.export.int8 import LEVELS, quantised_weight, weight_scales

ARRAYS = npst.arrays(
    np.float32,
    npst.array_shapes(min_dims=4, max_dims=4, max_side=6),
    elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
)


def held(*arrays: np.ndarray) -> Histogram:
    histogram = Histogram()
    for array in arrays:
        histogram.add(array)
    return histogram


class TestHistogram:
    @settings(deadline=None, max_examples=60)
    @given(ARRAYS)
    def test_against_numpy(self, array: np.ndarray) -> None:
        found = held(array)
        size = np.abs(array)
        assert (found.low, found.high, found.values) == (array.min(), array.max(), array.size)
        assert found.zeros == (array == 0).sum()
        assert found.above == (size > 65504).sum()
        tiny, gone = (size > 0) & (size < 2.0**-14), (size > 0) & (size < 2.0**-25)
        assert found.subnormal == pytest.approx(tiny.mean())
        assert found.zeroed == pytest.approx(gone.mean())
        np.testing.assert_array_equal(found.channels, size.max((0, 2, 3)))
        np.testing.assert_allclose(found.means, array.mean((0, 2, 3), dtype=np.float64), rtol=1e-6, atol=1e-6)
        for share in (50.0, 90.0, 99.99):
            exact = float(np.percentile(size, share, method="inverted_cdf"))
            assert found.percentile(share) == pytest.approx(exact, rel=0.008, abs=1e-30)

    @settings(deadline=None, max_examples=30)
    @given(ARRAYS, ARRAYS)
    def test_two_merged_are_as_one(self, one: np.ndarray, other: np.ndarray) -> None:
        if one.shape[1] != other.shape[1]:
            return
        merged, whole = held(one).merged(held(other)), held(one, other)
        assert (merged.low, merged.high, merged.zeros, merged.above) == (
            whole.low, whole.high, whole.zeros, whole.above,
        )  # fmt: skip
        np.testing.assert_array_equal(merged.counts, whole.counts)
        np.testing.assert_array_equal(merged.channels, whole.channels)
        np.testing.assert_allclose(merged.means, whole.means)

    def test_the_spread_of_channels(self) -> None:
        array = np.ones((1, 3, 4, 4), np.float32) * np.array([1, 2, 40], np.float32).reshape(1, 3, 1, 1)
        assert held(array).spread == 20.0

    def test_linear_bins_hold_the_same_values(self) -> None:
        values = np.random.default_rng(0).exponential(1, (1, 1, 400, 500)).astype(np.float32)
        found = held(values)
        expected, _ = np.histogram(values, 256, (0, found.largest))
        assert found.linear(256).sum() == pytest.approx(values.size)
        np.testing.assert_allclose(found.linear(256)[:100], expected[:100], rtol=0.15, atol=30)

    def test_what_is_not_finite_is_counted(self) -> None:
        array = np.array([1.0, np.nan, np.inf, -np.inf], np.float32).reshape(1, 1, 2, 2)
        found = held(array)
        assert found.broken == 3
        with pytest.raises(InputError, match="3 values that are not finite"):
            threshold(found, "minmax")


def heavy_tailed() -> np.ndarray:
    rng = np.random.default_rng(1)
    values = np.maximum(rng.normal(0, 1, (1, 4, 300, 300)), 0).astype(np.float32)
    values[0, 0, 0, :20] = 40.0
    return values


class TestCalibrators:
    def test_minmax_and_percentile_against_onnx_runtime(self) -> None:
        from onnxruntime.quantization.calibrate import HistogramCollector

        values = heavy_tailed()
        collector = HistogramCollector(
            method="percentile", symmetric=True, num_bins=20000, num_quantized_bins=128, percentile=PERCENTILE,
            scenario="same",
        )  # fmt: skip
        collector.collect({"x": [values]})
        high = float(collector.compute_collection_result()["x"][1])
        found = held(values)
        assert threshold(found, "percentile") == pytest.approx(high, rel=0.02)
        assert threshold(found, "minmax") == 40.0

    @pytest.mark.slow
    def test_entropy_against_onnx_runtime(self) -> None:
        from onnxruntime.quantization.calibrate import HistogramCollector

        values = heavy_tailed()
        collector = HistogramCollector(
            method="entropy", symmetric=True, num_bins=4001, num_quantized_bins=255, percentile=99.99, scenario="same"
        )
        collector.collect({"x": [values]})
        high = float(collector.compute_collection_result()["x"][1])
        # Both cut the tail, far below 40; their histograms differ.
        assert 2.5 < high < 10
        assert 2.5 < threshold(held(values), "entropy") < 10

    @pytest.mark.slow
    def test_mse_against_a_search_over_the_values_themselves(self) -> None:
        values = heavy_tailed()

        def error(limit: float) -> float:
            scale = limit / LEVELS
            back = fake_quantised(torch.from_numpy(values), scale).numpy()
            return float(np.square(back - values, dtype=np.float64).mean())

        found = threshold(held(values), "mse")
        best = min(error(limit) for limit in np.linspace(1, 40, 100))
        assert error(found) <= 1.1 * best
        assert error(found) < 0.5 * error(threshold(held(values), "percentile")) or found > 4

    @pytest.mark.parametrize("method", CALIBRATORS)
    def test_of_a_tensor_that_is_flat(self, method: str) -> None:
        with pytest.raises(InputError, match="0 in all photos"):
            threshold(held(np.zeros((1, 1, 2, 2), np.float32)), method)
        assert 0 < threshold(held(np.full((1, 1, 8, 8), 3.0, np.float32)), method) <= 3.0

    def test_an_unknown_one(self) -> None:
        with pytest.raises(InputError, match="minmax, percentile, entropy, mse"):
            threshold(held(heavy_tailed()), "best")


@pytest.mark.parametrize("groups", [1, 4])
def test_a_corrected_bias_takes_the_mean_shift_away(groups: int) -> None:
    rng = np.random.default_rng(2)
    weight = rng.normal(0, 0.3, (8, 4 // groups, 3, 3)).astype(np.float32)
    x = (rng.random((2, 4, 40, 40)) + np.arange(4).reshape(1, 4, 1, 1)).astype(np.float32)
    steps = weight_scales(weight)
    rounded = quantised_weight(weight, steps) * steps.reshape(-1, 1, 1, 1)

    def means(numbers: np.ndarray) -> np.ndarray:
        result = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(numbers), groups=groups)
        averaged: np.ndarray = result.mean((0, 2, 3)).numpy()
        return averaged

    off = means(rounded) - means(weight)
    corrected = off + shift(weight, x.mean((0, 2, 3), dtype=np.float64))
    assert np.abs(off).max() > 1e-3
    assert np.abs(corrected).max() < 0.1 * np.abs(off).max()
