"""The runtime that counts what the harness asks of another."""

from collections import Counter
from pathlib import Path
from threading import Lock

import numpy as np
import pytest

from deeplens.benchmarks import metered
from deeplens.benchmarks.metered import Level, MeteredRuntime, MeteredSession, multiplications, whole
from deeplens.benchmarks.worker import ramp, synthetic_photo
from deeplens.model.contract import CONTRACTS
from deeplens.runtimes import open_runtime
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.pyramid import geometry
from tests.benchmarks.test_bench_machine import Clock
from tests.support.device import needs_torch
from tests.support.fake_runtime import FakeRuntime, FakeSession


class TestMetered:
    @needs_torch
    def test_counts_levels_and_sizes(self, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(metered, "perf_counter", Clock())
        photo = synthetic_photo(640, 320)
        with MeteredRuntime(open_runtime("onnx", artifacts=artifacts, threads=1)) as runtime:
            Harness(runtime, tile=None).refocus(photo, ramp(), focal_disparity=0.35, aperture=1.0)
            assert runtime.runs == whole(geometry(320, 640))
            assert [(level.network, level.seconds, level.busy, level.device) for level in runtime.levels] == [
                ("lens_blur", 1.0, 1.0, None),
                ("upsample", 1.0, 1.0, None),
            ]
            runtime.reset()
            assert runtime.runs == Counter()
            Harness(runtime, tile=192).refocus(photo, ramp(), focal_disparity=0.35, aperture=1.0)
            assert [sum(level.runs.values()) for level in runtime.levels] == [3, 2]
            assert runtime.levels[1].seconds == 3.0  # from the start of the first to the end of the last
            assert runtime.levels[1].busy == 2.0
            assert multiplications("edge", runtime.runs) > multiplications("edge", whole(geometry(320, 640)))

    def test_changes_nothing_and_keeps_lanes(self, artifacts: Path) -> None:
        photo = synthetic_photo(333, 222)
        with open_runtime("onnx", artifacts=artifacts, threads=2) as runtime:
            metered = MeteredRuntime(runtime)
            assert metered.open("upsample").lanes == 2
            pictures = [
                Harness(each).refocus(photo, ramp(), focal_disparity=0.2, aperture=0.7) for each in (runtime, metered)
            ]
        np.testing.assert_array_equal(pictures[0], pictures[1])

    def test_says_what_its_session_takes(self) -> None:
        class Picky(FakeSession):
            def takes(self, size: tuple[int, int]) -> bool:
                return size == (64, 96)

        runtime = FakeRuntime()
        picky = MeteredSession(Picky(runtime, CONTRACTS["lens_blur"]), Level("lens_blur"), Lock())
        assert [picky.takes(size) for size in ((64, 96), (96, 64))] == [True, False]
        assert MeteredSession(FakeSession(runtime, CONTRACTS["lens_blur"]), Level("lens_blur"), Lock()).takes((8, 8))

    def test_whole_levels(self) -> None:
        expected = {("lens_blur", 192, 256): 1} | {("upsample", 192 << k, 256 << k): 1 for k in range(3)}
        assert whole(geometry(1536, 2048)) == Counter(expected)
