"""The benchmarks: what they count and how they reckon, with made-up clocks; the command on tiny photos."""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplens.benchmarks import energy, machine, report, roofline, state, worker
from deeplens.benchmarks import measure as measuring
from deeplens.benchmarks.candidate import Candidate, candidate_parts, weights_of
from deeplens.benchmarks.command import candidates_of
from deeplens.benchmarks.measure import Effort, Measured, Timing, measure, ratios, results
from deeplens.benchmarks.memory import exponent
from deeplens.benchmarks.metered import Level
from deeplens.benchmarks.state import State
from deeplens.benchmarks.worker import Run, Turn, Worker, synthetic_photo
from deeplens.console.errors import InputError, MissingError
from deeplens.runtimes import Accelerator
from tests.benchmarks.test_bench_machine import SPEED
from tests.conftest import Command
from tests.support.device import needs_torch
from tests.support.small_graphs import add_graphs, add_whole


def cost(variant: str, network: str, height: int, width: int) -> dict[str, Any]:
    from deeplens.model import cost  # needs PyTorch

    return cost.cost(variant, network, height, width)


@needs_torch
class TestRoofline:
    @pytest.mark.parametrize("network", ["lens_blur", "upsample"])
    def test_multiplications_are_those_of_the_cost_table(self, network: str) -> None:
        found = roofline.work("edge", network, 64, 96)
        assert found.multiplications == cost("edge", network, 64, 96)["multiplications"]

    def test_bytes_by_hand(self) -> None:
        found = roofline.work("edge", "upsample", 64, 96)
        pixels = 64 * 96
        weights = 4 * cost("edge", "upsample", 64, 96)["parameters"]
        assert found.compulsory == 4 * pixels * (4 * 3 + 3 + 3 + 1 + 4 * 3) + weights  # inputs, output, weights
        (stem,) = [each for each in found.operations if each.multiplications == pixels * 10 * 32 * 9]
        assert stem.bytes == 4 * (pixels * (10 + 32) + 32 * 10 * 9 + 32)
        assert found.by_layers > 10 * found.compulsory

    def test_limits_by_hand(self) -> None:
        work = roofline.Work(
            (roofline.Operation("conv", 500_000, 4000), roofline.Operation("add", 0, 10_000)), compulsory=2000
        )
        # 1 GFLOP/s and 1 GB/s: 1 ms for the products; the addition moves 10 µs' worth of bytes.
        assert work.limits(gflops=1.0, gbytes=1.0) == pytest.approx((1e-3, 1e-3 + 1e-5))
        assert work.limits(gflops=1e6, gbytes=1.0) == pytest.approx((2e-6, 1.4e-5))


def test_time_over_pixels_has_the_exponent_that_was_put_in() -> None:
    rows = [
        {"width": side, "height": side, "parts": {"refocus": 3e-7 * (side * side) ** 1.04}}
        for side in (1000, 2000, 7000)
    ]
    assert exponent(rows) == pytest.approx(1.04)


def timing(*rounds: list[float]) -> Timing:
    level = Level("upsample", 0.0, 0.5, 0.8, None, Counter({("upsample", 64, 64): 2}))
    return Timing(9.0, [[Run(each, None, (level,)) for each in seconds] for seconds in rounds])


class TestResults:
    def test_as_plain_data(self) -> None:
        each = Measured(Candidate("edge", "onnx"), {"depth": 0.1}, {}, {"refocus": timing([1.0, 3.0], [2.0])}, 7)
        each.joules = {"refocus": {}}
        (row,) = results([each], Effort(runs=4))
        item = row["items"]["refocus"]
        assert (item["p50"], item["min"], item["runs"], item["first"]) == (2.0, 1.0, 3, 9.0)
        assert (item["fewer_runs"], item["device"], item["energy_j"]) == (True, None, None)
        assert item["levels"][0]["host"]["p50"] == 0.5
        assert item["levels"][0]["tiles"] == [{"height": 64, "width": 64, "count": 2}]
        assert row["energy"] == energy.NOT_TOLD
        json.dumps(row)

    def test_pairs_are_of_the_same_round(self) -> None:
        slow = Measured(
            Candidate("edge", "torch"), timings={"refocus": timing([8.0], [24.0]), "again": timing([4.0], [12.0])}
        )
        fast = Measured(
            Candidate("edge", "onnx"), timings={"refocus": timing([1.0], [3.0]), "again": timing([1.0], [1.0])}
        )
        found = {(row["item"], row["of"], row["to"]): row["ratio"] for row in ratios([slow, fast])}
        assert found == {
            ("refocus", "edge onnx", "edge torch"): 8.0,
            ("again", "edge onnx", "edge torch"): 8.0,
            ("again", "edge torch", "edge torch, refocus"): 2.0,
            ("again", "edge onnx", "edge onnx, refocus"): 2.0,
        }

    def test_a_graph_of_the_whole_effect_stands_beside_the_tiled_loop(self) -> None:
        each = Measured(
            Candidate("edge", "onnx"), timings={"refocus": timing([4.0], [6.0]), "whole": timing([8.0], [12.0])}
        )
        assert [(row["item"], row["to"], row["ratio"]) for row in ratios([each])] == [
            ("whole", "edge onnx, refocus", 0.5)
        ]


def test_a_graph_of_the_whole_effect_is_run_at_the_size_of_the_photo(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    add_graphs(tmp_path)
    add_whole(tmp_path, (40, 72))
    found = Worker(Candidate("edge", "onnx", artifacts=tmp_path), 72, 40).turn("whole", seconds=0.0, runs=3)
    assert len(found.runs) == 3
    assert all(run.seconds > 0 and run.levels == () for run in found.runs)
    with pytest.raises(MissingError, match="--whole 80x40"):
        Worker(Candidate("edge", "onnx", artifacts=tmp_path), 80, 40).turn("whole", seconds=0.0)


class InlinePool:
    """Runs in this process what would run in one of its own, and notes the turns."""

    log: list[str]

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> "InlinePool":
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, function: Callable[..., object], candidate: Candidate, *arguments: Any) -> Future[object]:
        done: Future[object] = Future()
        done.set_result(self.answer(function, candidate, *arguments))
        return done

    def answer(self, function: Callable[..., object], candidate: Candidate, *arguments: Any) -> object:
        if function is worker.turn:
            self.log.append(candidate.variant + arguments[2][0])
            return Turn([Run(2.0)])
        return 5 if function is worker.memory else {}


class TestMeasure:
    @pytest.fixture
    def log(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        monkeypatch.setattr(InlinePool, "log", [], raising=False)
        monkeypatch.setattr(measuring, "ProcessPoolExecutor", InlinePool)
        monkeypatch.setattr(measuring, "PAUSE", 0.0)
        return InlinePool.log

    def test_takes_turns(self, log: list[str]) -> None:
        shares: list[float] = []
        warmed: list[int] = []
        found = measure(
            [Candidate("A", "onnx"), Candidate("B", "onnx")], ["refocus", "again", "depth"], width=8, height=8,
            effort=Effort(runs=2, seconds=0.0), progress=shares.append, warmed=lambda: warmed.append(len(log)),
        )  # fmt: skip
        # First run and warm-up of each, then rounds; the two loops take turns with each other too.
        assert "".join(log) == "ArArAaAaBrBrBaBa" + 2 * "ArAaBrBa" + "AdAdBdBd" + 2 * "AdBd"
        assert warmed == [8, 24], "after the warm-up of the first items, and after the last run"
        assert [len(each.timings["again"].rounds) for each in found] == [2, 2]
        assert [each.peak for each in found] == [5, 5]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0

    @pytest.mark.parametrize(
        ("effort", "expected"),
        [
            (Effort(runs=1, seconds=7.0), 4),
            (Effort(runs=5, seconds=7.0), 5),
            (Effort(runs=500, seconds=7.0, at_most=12.0), 6),
        ],
    )
    @pytest.mark.usefixtures("log")
    def test_goes_on_until_there_are_runs_and_seconds_enough(self, effort: Effort, expected: int) -> None:
        (found,) = measure([Candidate("A", "onnx")], ["depth"], width=8, height=8, effort=effort)
        assert len(found.timings["depth"].runs) == expected

    def test_the_default_is_what_the_documents_promise(self) -> None:
        assert (Effort().warm_up, Effort().runs, Effort().seconds) == (0.2, 100, 3.0)


def test_the_synthetic_photo_is_always_the_same() -> None:
    photo = synthetic_photo(37, 21)
    assert photo.shape == (21, 37, 3)
    assert photo.dtype == np.uint8
    np.testing.assert_array_equal(photo, synthetic_photo(37, 21))
    assert np.ptp(photo) > 100


class WorkingPool(InlinePool):
    def answer(self, function: Callable[..., object], candidate: Candidate, *arguments: Any) -> object:
        return function(candidate, *arguments)


class TestCommand:
    @pytest.fixture
    def _here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In this process, on a machine whose speed is made up."""
        worker.opened_worker.cache_clear()
        monkeypatch.setattr(measuring, "ProcessPoolExecutor", WorkingPool)
        monkeypatch.setattr(measuring, "PAUSE", 0.0)
        monkeypatch.setattr(machine, "speed", lambda **_: SPEED)
        monkeypatch.setattr(machine, "load_average", lambda: 3.0)
        monkeypatch.setattr(state, "read_state", lambda: State(cpu_mhz={"cpu0": 3000.0}))

    @pytest.mark.slow
    @needs_torch
    @pytest.mark.usefixtures("_here")
    def test_speed_and_compare(self, deeplens: Command, artifacts: Path, folder: Path) -> None:
        target, markdown, plot = (folder / name for name in ("bench.json", "bench.md", "bench.png"))
        result = deeplens(
            "bench", "--size", "64x48", "--artifacts", artifacts, "--threads", 1, "--runs", 2, "--seconds", 0,
            "--warm-up", 0, "--aperture", 0.5, "--json", target, "--markdown", markdown, "--plot", plot,
        )  # fmt: skip
        assert result.status == 0
        assert result.err.splitlines() == [
            "warning: the load average was 3.00 before the start: something else is running"
        ]
        answer = json.loads(target.read_text())
        assert (answer["size"], answer["valid"], answer["quick"]) == ([64, 48], False, False)
        assert answer["aperture"] == 0.5
        (row,) = answer["results"]
        assert set(row["items"]) == {"refocus", "again", "preview", "depth", "lens_blur", "upsample"}
        assert 0 < row["items"]["refocus"]["min"] <= row["items"]["refocus"]["p50"] <= row["items"]["refocus"]["p99"]
        assert row["peak_bytes"] > 20e6
        assert [level["network"] for level in row["items"]["refocus"]["levels"]] == ["lens_blur"]
        rooflines = {each["what"]: each for each in answer["roofline"]}
        assert rooflines["lens_blur"]["multiplications"] == cost("edge", "lens_blur", 48, 64)["multiplications"]
        assert answer["machine"]["state"]["before"]["cpu_mhz"] == {"cpu0": 3000.0}
        assert "INVALID" in markdown.read_text()
        assert "Times, photo of 64×48, aperture 0.5" in markdown.read_text()
        assert plot.read_bytes().startswith(b"\x89PNG")

        compared = deeplens("bench", "--compare", target, target)
        assert compared.status == 0
        assert "1.00" in compared.out
        assert "are invalid" in compared.out
        target.write_text('{"format": 1}')
        assert "measure again" in deeplens("bench", "--compare", target, target).error

    @pytest.mark.slow
    def test_a_device_measures_without_torch(self, deeplens_process: Command, artifacts: Path, tmp_path: Path) -> None:
        result = deeplens_process(
            "bench", "--size", "64x48", "--artifacts", artifacts, "--threads", 1, "--runs", 2, "--seconds", 0,
            "--warm-up", 0, "--json", "bench.json", without=["torch", "onnx", "scipy", "matplotlib"],
        )  # fmt: skip
        assert result.status == 0, result.err
        answer = json.loads((tmp_path / "bench.json").read_text())
        (row,) = answer["results"]
        assert set(row["items"]) == {"refocus", "again", "preview", "depth", "lens_blur", "upsample"}
        assert answer["roofline"] == [], "counting multiplications takes PyTorch"

    def test_memory(self, deeplens: Command, artifacts: Path) -> None:
        result = deeplens(
            "bench", "--memory", "--size", "300x200", "--artifacts", artifacts, "--threads", 1, "--json", "-"
        )
        assert result.status == 0
        (entry,) = json.loads(result.out)["results"]
        assert (entry["variant"], entry["runtime"], entry["width"], entry["height"]) == ("edge", "onnx", 300, 200)
        assert 20e6 < entry["peak_bytes"] < 20e9  # in bytes, not in the system's own unit
        assert 0 < entry["parts"]["refocus"] < entry["seconds"]

    @needs_torch
    def test_profile(self, deeplens: Command, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "sgemm", lambda **_: {"numpy": 100.0})
        result = deeplens("bench", "--profile", "--size", "64x48", "--artifacts", artifacts, "--json", "-")
        assert result.status == 0
        rows = {row["network"]: row for row in json.loads(result.out)["results"]}
        assert {each["kind"] for each in rows["upsample"]["kinds"]} == {"Abs", "Sub", "Resize", "Mul"}
        assert sum(each["share"] for each in rows["upsample"]["kinds"]) == pytest.approx(1.0)
        assert rows["upsample"]["conv_gflops"] == 0  # these stand-ins have no convolution

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--size", "big"], "is not WxH"),
            (["--size", "0x5"], "is not WxH"),
            (["--size", "64x48", "--size", "32x32"], "work with --memory only"),
            (["--item", "sleep"], "unknown item"),
            (["--candidate", "edge"], "is not VARIANT,RUNTIME"),
            (["--json", "missing/bench.json"], "does not exist"),
            (["--profile", "--runtime", "torch"], "--profile works with runtime 'onnx' only"),
            (["--memory", "--size", "64x48", "--runtime", "none"], "unknown runtime"),
        ],
    )
    def test_bad_options(self, deeplens: Command, arguments: list[str], message: str) -> None:
        result = deeplens("bench", *arguments)
        assert result.status == 3
        assert message in result.error

    def test_candidates_by_pairs_and_one_by_one(self) -> None:
        by_pairs = candidates_of([("edge", "torch", None), ("edge", "onnx", None)], ["fp32", "int8"], None, 1)
        assert [each.name for each in by_pairs] == ["edge torch", "edge onnx", "edge onnx int8"]
        places = {"onnx": [Accelerator(), Accelerator("openvino")], "torch": [Accelerator(device="cuda")]}
        placed = candidates_of([("edge", "torch", None), ("edge", "onnx", None)], ["fp16"], None, 1, places=places)
        assert [each.name for each in placed] == ["edge torch cuda fp16", "edge onnx fp16", "edge onnx openvino fp16"]
        (one,) = candidates_of([candidate_parts("paper,onnx,fp16")], None, None, 1)
        assert (one.name, one.weights) == ("paper onnx fp16", weights_of("paper"))

    @pytest.mark.slow
    @needs_torch
    def test_the_fewer_tiles_are_very_blurred_the_more_run_and_peers_without_tiles_run_each_level_once(self) -> None:
        def runs(runtime: str, aperture: float) -> list[int]:
            (run,) = Worker(Candidate("edge", runtime, aperture=aperture), 640, 2048).turn("refocus", seconds=0).runs
            return [sum(level.runs.values()) for level in run.levels]

        wide, narrow = runs("torch", 1.0), runs("torch", 0.05)
        assert wide[0] == narrow[0] == 1
        assert wide[-1] < narrow[-1]
        assert len(narrow) == len(wide) - 1, "little blur: the loop begins a level higher"
        assert runs("torch-whole", 1.0) == [1] * len(wide)

    def test_an_unknown_runtime(self) -> None:
        with pytest.raises(InputError, match=r"openvino, .*torch-compiled-whole"):
            Candidate("edge", "none").open()


def test_a_report_that_differs_says_in_what() -> None:
    speeds = {"after": SPEED.to_json()}
    machine = {"processor": "a", "threads": 1, "system": "s", "versions": {}, "speed": speeds}
    rows = [{"name": "edge onnx", "peak_bytes": 1e6, "items": {"depth": {"p50": 0.2, "min": 0.1}}}]
    before: dict[str, Any] = {
        "size": [64, 48],
        "quick": False,
        "valid": True,
        "remarks": [],
        "results": rows,
        "machine": machine,
    }
    faster = [{"name": "edge onnx", "peak_bytes": 2e6, "items": {"depth": {"p50": 0.1, "min": 0.1}, "again": {}}}]
    after = {**before, "results": faster, "machine": {**machine, "threads": 2}, "aperture": 0.2}
    table, doubts = report.compare(before, after)
    assert table == [("depth", "edge onnx", "200.0", "100.0", "2.00", "1.00", "1 → 2")]
    assert doubts == [
        "aperture differs: 1.0 and 0.2",
        "threads differs: 1 and 2",
        "sgemm rate: 100 and 100 GFLOP/s; two runs are not paired",
    ]
