"""`make gpu` without a GPU: what it needs; and its parts with stand-ins for the commands that it runs."""

import json
import signal
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from deeplens.app import app
from deeplens.commands import gpu, gpu_probe
from deeplens.commands.gpu import CUT_OFF
from deeplens.commands.gpu_stages import PHOTO, Stage, stages
from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.guard import guarded
from tests.support.device import needs_torch

BENCH: dict[str, Any] = {
    "size": [2048, 1536], "valid": False, "remarks": ["the load average was 3"],
    "machine": {"state": {"after": {"gpu": {"sm_mhz": 1980}}}},
    "results": [{"name": "edge torch cuda fp16", "items": {"refocus": {"p50": 0.0123, "device": {"p50": 0.009}}}}],
}  # fmt: skip
PARITY = {"rows": [{"status": "passed"}, {"status": "passed"}, {"status": "not run"}]}


ALL = ["torch", "cuda", "tensorrt"]


def told(*engines: str) -> str:
    """What the probe prints where these engines can be used."""
    missing = {name: "not installed" for name in ALL if name not in engines}
    found = {"machine": {"GPU": "NVIDIA Test"}, "engines": engines, "missing": missing, "notes": ["a note"]}
    return f"a warning\n{json.dumps(found)}"


@pytest.fixture(autouse=True)
def _with_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "has_driver", lambda _name: True)


def test_without_a_driver_it_says_what_it_needs_and_does_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "has_driver", lambda _name: False)
    monkeypatch.setattr(gpu, "run_command", lambda *_: pytest.fail("something is run"))
    assert guarded(lambda: gpu.command(tmp_path / "out", 1.0)) == 4
    said = capsys.readouterr()
    assert said.err.startswith("error: there is no NVIDIA driver here: this needs a machine with an NVIDIA GPU")
    assert said.err.count("\n") == 1
    assert not said.out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("status", "said", "why"),
    [
        (0, told("cuda"), r"PyTorch can't use a GPU here \(not installed\): install a build of PyTorch with CUDA"),
        (CUT_OFF, "", r"it can't be used \(status -1: nothing was said\)"),
        (139, "Segmentation fault", r"it can't be used \(status 139: Segmentation fault\)"),
    ],
)
def test_a_gpu_that_pytorch_can_not_use_is_said(status: int, said: str, why: str) -> None:
    with pytest.raises(MissingError, match=why):
        gpu.found_here(lambda _command, _seconds: (status, said))


@needs_torch
@pytest.mark.slow
def test_the_probe_tells_what_is_here_and_why_the_rest_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, as the script runs it; on a machine without a GPU nothing can be used."""
    import torch

    monkeypatch.setenv("PYTHONPATH", "src")
    status, said = gpu.run_command(gpu.PROBE, 90)
    assert status == 0
    found = json.loads(said.splitlines()[-1])
    assert found["machine"]["torch"] == torch.__version__
    if not torch.cuda.is_available():
        assert "torch" in found["missing"]
        assert f"PyTorch {torch.__version__} sees no GPU" in found["missing"]["torch"]


def test_two_packages_in_one_place_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"onnxruntime": "1.2", "onnxruntime-gpu": "1.2"}
    monkeypatch.setattr(gpu_probe, "version", versions.get)
    with pytest.raises(RuntimeError, match="uninstall both, then install onnxruntime-gpu alone"):
        gpu_probe._onnxruntime()
    del versions["onnxruntime-gpu"]
    with pytest.raises(RuntimeError, match="has no CUDA: install onnxruntime-gpu in its place"):
        gpu_probe._onnxruntime()


def test_what_the_environment_changes_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpu_probe.TF32, "1")
    monkeypatch.setattr(gpu_probe, "has_library", lambda _name: False)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    notes = " / ".join(gpu_probe.notes())
    for part in ("FP32 is computed in FP32 all the same", "triton", "C compiler", "pip install nvidia-ml-py", "pytest"):
        assert part in notes


def test_every_stage_is_a_command_that_exists(tmp_path: Path) -> None:
    """Each line parses as the command line that it is for: nothing is run."""
    from typer.main import get_command

    todo = stages(ALL, tmp_path)
    root: Any = get_command(app)
    for stage in todo:
        if "pytest" in stage.command:
            assert Path(stage.command[-1]).is_file()
            continue
        assert stage.command[:2] == ("-m", "deeplens")
        command, arguments = root, list(stage.command[2:])
        while hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        command.make_context("test", arguments)
    assert PHOTO.is_file()


def test_what_tells_most_comes_first_and_every_mode_is_a_row(tmp_path: Path) -> None:
    names = [each.name for each in stages(ALL, tmp_path)]
    assert names[:3] == ["bench torch fp16, 2048×1536", "parity torch", "bench torch fp16 graph, 2048×1536"]
    assert names.index("bench torch fp16, 48 MP") < names.index("export ONNX") < names.index("build TensorRT engines")
    for last, needs in {
        "parity onnx cuda": "export ONNX, whole",
        "parity trt": "build TensorRT engines, whole",
    }.items():
        assert names.index(last) > names.index(needs), "what it reads is made before"
    modes = {each.name: each.command for each in stages(["torch"], tmp_path)}
    assert set(modes["bench torch fp32 bf16, 2048×1536"]) >= {"fp32", "bf16"}
    assert modes["bench torch fp16, 2048×1536"].count("--loop") == 2, "both loops, in turns"
    for name, options in {
        "graph": {"--cuda-graph"},
        "channels first": {"--channels-first"},
        "compiled": {"--compile"},
        "compiled graph": {"--compile", "--cuda-graph"},
    }.items():
        assert set(modes[f"bench torch fp16 {name}, 2048×1536"]) >= options
    assert not any("ONNX" in name or "trt" in name for name in modes)
    results = [each.result for each in stages(ALL, tmp_path) if each.result is not None]
    assert len(set(results)) == len(results), "none overwrites another's"
    assert [each.name for each in stages(ALL, tmp_path, only=["48 mp"])] == ["bench torch fp16, 48 MP"]


def test_what_was_done_is_kept_when_the_rest_is_cut_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    out = tmp_path / "out"
    out.mkdir()
    for name in ("bench_torch_fp16_8000x6000.json", "bench_torch_fp32_bf16_2048x1536.json"):
        (out / name).write_text(json.dumps(BENCH))  # of a run before

    def run(command: Sequence[str], _seconds: float) -> tuple[int, str]:
        if command == gpu.PROBE:
            return 0, told(*ALL)
        if "parity" in command:
            Path(command[-1]).write_text(json.dumps(PARITY))
            return 5, "a row has failed"
        if "bench" in command and "8000x6000" in command:
            raise Killed
        if "bench" in command and "bf16" in command:
            return CUT_OFF, "slow"
        if "bench" in command and "--cuda-graph" in command:
            return 4, "no graph here"
        if "bench" in command:
            Path(command[-1]).write_text(json.dumps(BENCH))
            return 0, ""
        return CUT_OFF, "last line"

    monkeypatch.setattr(gpu, "run_command", run)
    with pytest.raises(Killed):
        gpu.command(out, 1.0)
    found = json.loads((out / "gpu.json").read_text())
    states = {each["name"]: each for each in found["stages"]}
    assert states["tests on the GPU"]["state"] == "cut off"
    assert states["tests on the GPU"]["said"] == "last line"
    assert states["bench torch fp16 graph, 2048×1536"]["state"] == "missing"
    assert states["bench torch fp16, 12 MP"]["state"] == "passed"
    assert states["bench torch fp16, 48 MP"]["state"] == "running"
    for name in ("bench torch fp16, 48 MP", "bench torch fp32 bf16, 2048×1536"):
        assert states[name]["result"] is None, "what a run before has left is not this run's"
    assert states["export ONNX"]["state"] == "not run"
    text = (out / "gpu.md").read_text()
    assert "| 2048×1536 | edge torch cuda fp16 | refocus | 12.30 | 9.00 | 1980 | no |" in text
    assert "- a bench is not valid: the load average was 3" in text
    assert "| parity torch | 2 | 0 | 1 |" in text, "also of one that failed"
    assert "a row has failed" in text
    assert "- a note" in text
    assert text.startswith("# On a GPU: GPU NVIDIA Test")


def test_the_time_is_shared_and_never_passed() -> None:
    given: list[float] = []

    def run(_command: Sequence[str], seconds: float) -> tuple[int, str]:
        given.append(seconds)
        return 0, ""

    todo = [Stage("a", (), 90), Stage("b", (), 2)]
    done = gpu.run_all(todo, seconds=30, run=run, save=lambda _done: None)
    assert [each.state for each in done] == ["passed", "passed"]
    assert given[0] <= 30
    assert given[1] == 2
    assert [each.state for each in gpu.run_all(todo, seconds=0.5, run=run, save=lambda _done: None)] == 2 * ["not run"]


def test_a_stage_that_fails_makes_the_whole_fail_and_one_that_is_missing_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(command: Sequence[str], _seconds: float) -> tuple[int, str]:
        if command == gpu.PROBE:
            return 0, told("torch")
        return (status, "no") if "parity" in command else (4, "not here")

    monkeypatch.setattr(gpu, "run_command", run)
    status = 1
    with pytest.raises(MismatchError, match="1 stages failed"):
        gpu.command(tmp_path / "out", 1.0)
    status = 0
    gpu.command(tmp_path / "out", 1.0)
    with pytest.raises(InputError, match="no stage has tensorflow in its name"):
        gpu.command(tmp_path / "out", 1.0, ["tensorflow"])


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no such signal here")
@pytest.mark.parametrize("kept", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_terminal_that_is_closed_ends_what_runs(kept: signal.Handlers, tmp_path: Path) -> None:
    """The command's own child must not go on alone; under `nohup`, which has the signal ignored, it goes on."""
    code = "import os, signal, time; os.kill(os.getppid(), signal.SIGHUP); time.sleep(2); open('late', 'w')"
    ignored = kept == signal.SIG_IGN
    before = signal.signal(signal.SIGHUP, kept)
    try:
        with nullcontext() if ignored else pytest.raises(SystemExit), gpu._ended_by_hang_up():
            gpu.run_command(("-c", f"import os; os.chdir({str(tmp_path)!r}); {code}"), 30.0)
        assert signal.getsignal(signal.SIGHUP) == kept
    finally:
        signal.signal(signal.SIGHUP, before)
    time.sleep(0 if ignored else 3)
    assert (tmp_path / "late").exists() == ignored


def test_a_command_is_ended_with_what_it_started(tmp_path: Path) -> None:
    child = "import time; time.sleep(6); open('late', 'w')"
    code = f"import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    assert gpu.run_command(("-c", f"import os; os.chdir({str(tmp_path)!r}); {code}"), 2.0) == (CUT_OFF, "begun")
    assert gpu.run_command(("-c", "import sys; print('why'); sys.exit(3)"), 30) == (3, "why")
