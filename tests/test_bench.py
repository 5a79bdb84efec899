"""The benchmarks: what they count and how they reckon, with made-up clocks; and the command on tiny photos."""

import json
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

import benchmarks.machine
import benchmarks.metered
import benchmarks.refocus
from benchmarks.machine import Sgemm, remarks, sgemm
from benchmarks.metered import MeteredRuntime, multiplications, whole
from benchmarks.refocus import Candidate, Run, Timing, measure, ramp, results, synthetic_photo
from model.cost import cost
from model.errors import InputError
from runtimes import open_runtime
from runtimes.harness import Harness
from runtimes.pyramid import geometry
from tests.conftest import Command


class Clock:
    """A clock that goes on by a second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class TestMachine:
    def test_sgemm_counts_two_operations_a_multiplication(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(benchmarks.machine, "perf_counter", Clock())
        found = sgemm(threads=1, size=100, repeats=2)
        assert found.rates == {"numpy": pytest.approx(2e6 / 1e9), "torch": pytest.approx(2e6 / 1e9)}

    def test_sgemm_measures(self) -> None:
        found = sgemm(threads=1, size=64, repeats=1)
        assert found.best == max(found.rates.values()) > 0

    def test_what_makes_times_doubtful(self) -> None:
        steady = Sgemm({"numpy": 100.0, "torch": 90.0})
        assert remarks(load=0.2, before=steady, after=Sgemm({"numpy": 80.0, "torch": 98.0})) == []
        assert remarks(load=None, before=steady, after=steady) == []
        (busy,) = remarks(load=1.5, before=steady, after=steady)
        assert "1.50" in busy
        (drift,) = remarks(load=0.0, before=steady, after=Sgemm({"numpy": 80.0}))
        assert "-20 %" in drift


class TestMetered:
    def test_counts_what_runs(self, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(benchmarks.metered, "perf_counter", Clock())
        photo = synthetic_photo(640, 320)
        with MeteredRuntime(open_runtime("onnx", artifacts=artifacts, threads=1)) as runtime:
            Harness(runtime, tile=None).refocus(photo, ramp(), focal_disparity=0.5, aperture=1.0)
            assert runtime.runs == Counter({("lens_blur", 160, 320): 1, ("upsample", 160, 320): 1})
            assert runtime.runs == whole(geometry(320, 640))
            assert runtime.seconds == 2.0  # the made-up clock takes one a run
            runtime.reset()
            assert (runtime.seconds, runtime.runs) == (0.0, Counter())
            Harness(runtime).refocus(photo, ramp(), focal_disparity=0.5, aperture=1.0)
            assert {
                run[0]: sum(n for each, n in runtime.runs.items() if each[0] == run[0]) for run in runtime.runs
            } == {
                "lens_blur": 2,
                "upsample": 2,
            }
            assert multiplications("edge", runtime.runs) > multiplications("edge", whole(geometry(320, 640)))

    def test_changes_nothing(self, artifacts: Path) -> None:
        photo = synthetic_photo(333, 222)
        with open_runtime("onnx", artifacts=artifacts, threads=1) as runtime:
            plain, metered = (
                Harness(each).refocus(photo, ramp(), focal_disparity=0.2, aperture=0.7)
                for each in (runtime, MeteredRuntime(runtime))
            )
        np.testing.assert_array_equal(plain, metered)

    def test_whole_levels(self) -> None:
        expected = {("lens_blur", 192, 256): 1} | {("upsample", 192 << k, 256 << k): 1 for k in range(3)}
        assert whole(geometry(1536, 2048)) == Counter(expected)

    def test_multiplications_are_those_of_each_run(self) -> None:
        blur, step = (cost("edge", name, 64, 32)["multiplications"] for name in ("lens_blur", "upsample"))
        runs = Counter({("lens_blur", 64, 32): 2, ("upsample", 64, 32): 3})
        assert multiplications("edge", runs) == 2 * blur + 3 * step > 0


def timing(name: str, *, seconds: list[float], runs: Counter[tuple[str, int, int]] | None = None) -> Timing:
    counted = whole(geometry(48, 64)) if runs is None else runs
    return Timing(Candidate(name, "onnx"), 0.1, 9.0, [Run(each, each / 2, counted) for each in seconds])


class TestResults:
    def test_ratios_are_taken_within_each_round(self) -> None:
        """The machine slows down threefold: the ratio of the medians would say 4, the rounds say 8 throughout."""
        slow, fast = timing("edge", seconds=[8.0, 24.0]), timing("edge", seconds=[1.0, 3.0])
        found = results([slow, fast], width=64, height=48, gflops=1.0)
        assert [entry["ratio"] for entry in found] == [1.0, 8.0]
        drifting = timing("edge", seconds=[8.0, 6.0])
        assert results([slow, drifting], width=64, height=48, gflops=1.0)[1]["ratio"] == pytest.approx((1 + 4) / 2)
        assert (found[0]["median"], found[0]["min"], found[0]["max"], found[0]["in_networks"]) == (16.0, 8.0, 24.0, 8.0)
        assert (found[0]["first"], found[0]["runs"]) == (9.0, 2)

    def test_share_of_sgemm_by_hand(self) -> None:
        levels = whole(geometry(48, 64))
        work = multiplications("edge", levels)
        (entry,) = results([timing("edge", seconds=[0.5])], width=64, height=48, gflops=3.0)
        assert (entry["multiplications"], entry["halo"]) == (work, 0)
        assert entry["share"] == pytest.approx(2 * work / 0.5 / 3e9)
        twice = Counter({run: 2 * count for run, count in levels.items()})
        (entry,) = results([timing("edge", seconds=[0.5], runs=twice)], width=64, height=48, gflops=3.0)
        assert (entry["multiplications"], entry["halo"]) == (work, work)
        assert entry["share"] == pytest.approx(4 * work / 0.5 / 3e9)

    def test_without_pytorch_nothing_is_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(_variant: str, _runs: object) -> int:
            raise ImportError

        monkeypatch.setattr(benchmarks.refocus, "multiplications", missing)
        (entry,) = results([timing("edge", seconds=[0.5])], width=64, height=48, gflops=3.0)
        assert (entry["multiplications"], entry["halo"], entry["share"]) == (None, None, None)
        assert entry["median"] == 0.5


class FakePool:
    """Runs nothing; answers `_open` with 0.5 s and each refocus with 2 s, and notes the order."""

    log: list[str]

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> "FakePool":
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, function: object, candidate: Candidate, *_: int) -> Future[object]:
        done: Future[object] = Future()
        if function is benchmarks.refocus._open:
            done.set_result(0.5)
        else:
            self.log.append(candidate.variant)
            done.set_result(Run(2.0, 1.0, Counter()))
        return done


class TestMeasure:
    @pytest.fixture
    def log(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        monkeypatch.setattr(FakePool, "log", [], raising=False)
        monkeypatch.setattr(benchmarks.refocus, "ProcessPoolExecutor", FakePool)
        monkeypatch.setattr(benchmarks.refocus, "PAUSE", 0.0)
        return FakePool.log

    def test_takes_turns(self, log: list[str]) -> None:
        shares: list[float] = []
        found = measure(
            [Candidate("A", "onnx"), Candidate("B", "onnx")], width=8, height=8, warm_up=1, runs=2, seconds=0.0,
            progress=shares.append,
        )  # fmt: skip
        assert "".join(log) == "ABABAB"
        assert [len(each.runs) for each in found] == [2, 2]
        assert [each.first for each in found] == [2.0, 2.0]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0

    @pytest.mark.parametrize(("runs", "seconds", "expected"), [(1, 7.0, 4), (5, 7.0, 5)])
    def test_goes_on_until_there_are_runs_and_seconds_enough(
        self, log: list[str], runs: int, seconds: float, expected: int
    ) -> None:
        (found,) = measure([Candidate("A", "onnx")], width=8, height=8, warm_up=2, runs=runs, seconds=seconds)
        assert len(found.runs) == expected
        assert len(log) == expected + 2

    def test_what_is_missing_shows_at_once(self) -> None:
        with pytest.raises(InputError, match="unknown variant"):
            measure([Candidate("none", "onnx")], width=8, height=8)


def test_the_synthetic_photo_is_always_the_same() -> None:
    photo = synthetic_photo(37, 21)
    assert photo.shape == (21, 37, 3)
    assert photo.dtype == np.uint8
    np.testing.assert_array_equal(photo, synthetic_photo(37, 21))
    assert np.ptp(photo) > 100


class TestCommand:
    def test_speed(self, deeplens: Command, artifacts: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(benchmarks.machine, "sgemm", lambda *, threads: Sgemm({"numpy": 100.0 * threads}))
        monkeypatch.setattr(benchmarks.machine, "load_average", lambda: 3.0)
        target = folder / "bench.json"
        result = deeplens(
            "bench", "--size", "64x48", "--variant", "edge", "--runtime", "onnx", "--artifacts", artifacts,
            "--threads", 1, "--runs", 2, "--seconds", 0, "--json", target,
        )  # fmt: skip
        assert result.status == 0
        assert "Refocus of 64×48" in result.out
        assert result.err.splitlines() == [
            "warning: the load average was 3.00 before the start: something else is running"
        ]
        answer = json.loads(target.read_text())
        assert (answer["width"], answer["height"], answer["baseline"]) == (64, 48, "edge onnx")
        (entry,) = answer["results"]
        assert (entry["runs"], entry["ratio"], entry["weights"]) == (2, 1.0, "artefact")
        assert 0 < entry["in_networks"] <= entry["median"]
        assert entry["multiplications"] == multiplications("edge", whole(geometry(48, 64)))
        assert answer["machine"]["threads"] == 1
        assert answer["machine"]["load_average"] == {"before": 3.0, "after": 3.0}
        assert answer["machine"]["processor"]
        assert answer["machine"]["versions"]["onnxruntime"]

    def test_memory(self, deeplens: Command, artifacts: Path) -> None:
        result = deeplens(
            "bench", "--memory", "--size", "300x200", "--artifacts", artifacts, "--threads", 1, "--json", "-"
        )
        assert result.status == 0
        (entry,) = json.loads(result.out)["results"]
        assert (entry["variant"], entry["runtime"], entry["width"], entry["height"]) == ("edge", "onnx", 300, 200)
        assert 20e6 < entry["peak_bytes"] < 20e9  # in bytes, not in the system's own unit
        assert 0 < entry["parts"]["refocus"] < entry["seconds"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--size", "big"], "is not WxH"),
            (["--size", "0x5"], "is not WxH"),
            (["--json", "missing/bench.json"], "does not exist"),
            (["--memory", "--size", "64x48", "--runtime", "none"], "unknown runtime"),
        ],
    )
    def test_bad_options(self, deeplens: Command, arguments: list[str], message: str) -> None:
        result = deeplens("bench", *arguments)
        assert result.status == 3
        assert message in result.error
