"""From many timings to a few numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplens.benchmarks.statistics import Summary, median_interval, paired_ratio


class TestStatistics:
    def test_percentiles(self) -> None:
        found = Summary.of([float(each) for each in range(101)])
        assert (found.p50, found.p90, found.p99, found.min, found.max, found.mean) == (50, 90, 99, 0, 100, 50)

    def test_ratios_are_taken_within_each_round(self) -> None:
        """The machine slows down threefold: the ratio of the medians would say 4, the rounds say 8 throughout."""
        found = paired_ratio([8.0, 24.0, 8.0], [1.0, 3.0, 1.0])
        assert (found.ratio, found.low, found.high, found.rounds) == (8.0, 8.0, 8.0, 3)

    @pytest.mark.parametrize(("n", "k", "coverage"), [(6, 1, 0.96875), (10, 2, 0.978515625), (20, 6, 0.958610535)])
    def test_the_interval_is_that_of_the_tables(self, n: int, k: int, coverage: float) -> None:
        """Conover, Practical Nonparametric Statistics: for n = 20 the sixth and the fifteenth, 95.86 %."""
        low, high, found = median_interval([float(each) for each in range(1, n + 1)], coverage=0.95)
        assert (low, high) == (k, n + 1 - k)
        assert found == pytest.approx(coverage, abs=1e-6)

    def test_few_rounds_say_what_they_cover(self) -> None:
        assert median_interval([1.0, 2.0, 3.0], coverage=0.95) == (1.0, 3.0, 0.75)
        assert median_interval([7.0], coverage=0.95) == (7.0, 7.0, 0.0)

    @given(st.integers(6, 60), st.integers(0, 2**32 - 1))
    def test_the_interval_holds_the_median_as_often_as_it_says(self, n: int, seed: int) -> None:
        samples = np.sort(np.random.default_rng(seed).random((400, n)), axis=1)
        low, high, coverage = median_interval([float(each) for each in range(n)], coverage=0.9)
        held = ((samples[:, int(low)] <= 0.5) & (samples[:, int(high)] >= 0.5)).mean()
        assert coverage >= 0.9
        assert held == pytest.approx(coverage, abs=5 * (coverage * (1 - coverage) / 400) ** 0.5 + 1e-3)
