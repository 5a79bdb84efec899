"""`make gpu` without a GPU: what it needs; and its parts with stand-ins for the commands that it runs."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deeplens.app import app
from deeplens.commands import gpu
from deeplens.commands.gpu import CUT_OFF, Stage
from deeplens.console.errors import MismatchError, MissingError
from deeplens.console.guard import guarded

BENCH: dict[str, Any] = {
    "size": [2048, 1536], "valid": True, "machine": {"state": {"after": {"gpu": {"sm_mhz": 1980}}}},
    "results": [{"name": "edge torch cuda fp16", "items": {"refocus": {"p50": 0.0123, "device": {"p50": 0.009}}}}],
}  # fmt: skip
PARITY = {"rows": [{"status": "passed"}, {"status": "passed"}, {"status": "not run"}]}


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "has_driver", lambda _name: True)
    cuda = SimpleNamespace(is_available=lambda: True, get_device_name=lambda _index: "NVIDIA Test")
    torch = SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda="13.0"))
    ort = SimpleNamespace(get_available_providers=lambda: ["CUDAExecutionProvider"])
    for name, module in (("torch", torch), ("onnxruntime", ort)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(gpu, "has_library", lambda _name: True)


def test_without_a_driver_it_says_what_it_needs_and_does_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "has_driver", lambda _name: False)
    assert guarded(lambda: gpu.command(tmp_path / "out", 1.0)) == 4
    told = capsys.readouterr()
    assert told.err.startswith("error: there is no NVIDIA driver here: this needs a machine with an NVIDIA GPU")
    assert told.err.count("\n") == 1
    assert not told.out
    assert not (tmp_path / "out").exists()


def test_a_build_of_pytorch_without_cuda_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "has_driver", lambda _name: True)
    monkeypatch.setattr(gpu, "has_library", lambda _name: False)
    with pytest.raises(MissingError, match=r"PyTorch .* can't use a GPU here: install a build of PyTorch with CUDA"):
        gpu.engines()


@pytest.mark.usefixtures("with_gpu")
def test_every_stage_is_a_command_that_exists(tmp_path: Path) -> None:
    """Each line parses as the command line that it is for: nothing is run."""
    from typer.main import get_command

    todo = gpu.stages(gpu.engines(), tmp_path)
    assert sum(each.name.startswith("bench") for each in todo) == 6
    assert todo[1].name == "export ONNX", "what parity and the bench of ONNX Runtime read"
    assert todo[2].name == "export the whole effect", "what its loop on the device reads"
    small = [each.command for each in todo if each.name.startswith("bench") and "2048x1536" in each.command]
    assert [command.count("--loop") for command in small] == [2, 2], "both loops, in turns"
    root: Any = get_command(app)
    for stage in todo[1:]:
        assert stage.command[:2] == ("-m", "deeplens")
        command, arguments = root, list(stage.command[2:])
        while hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        command.make_context("test", arguments)
    assert gpu.PHOTO.is_file()
    assert Path(todo[0].command[-1]).is_file()


@pytest.mark.usefixtures("with_gpu")
def test_what_was_done_is_kept_when_the_rest_is_cut_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def run(command: Sequence[str], _seconds: float) -> tuple[int, str]:
        if "parity" in command:
            Path(command[-1]).write_text(json.dumps(PARITY))
            return 0, ""
        if "bench" in command and "8000x6000" in command:
            raise Killed
        if "bench" in command:
            Path(command[-1]).write_text(json.dumps(BENCH))
            return 0, ""
        return (0, "") if "export" in command else (CUT_OFF, "last line")

    monkeypatch.setattr(gpu, "run_command", run)
    with pytest.raises(Killed):
        gpu.command(tmp_path / "out", 1.0)
    found = json.loads((tmp_path / "out/gpu.json").read_text())
    states = {each["name"]: each["state"] for each in found["stages"]}
    assert states["tests on the GPU"] == "cut off"
    assert found["stages"][0]["said"] == "last line"
    assert states["bench torch_cuda, 12 MP"] == "passed"
    assert states["bench torch_cuda, 48 MP"] == "not run"
    text = (tmp_path / "out/gpu.md").read_text()
    assert "| 2048×1536 | edge torch cuda fp16 | refocus | 12.30 | 9.00 | 1980 | yes |" in text
    assert "| parity torch_cuda | 2 | 0 | 1 |" in text
    assert "NVIDIA Test" in text


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


@pytest.mark.usefixtures("with_gpu")
def test_a_stage_that_fails_makes_the_whole_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "run_command", lambda command, _seconds: (int("parity" in command), "no"))
    with pytest.raises(MismatchError, match="2 stages failed"):
        gpu.command(tmp_path / "out", 1.0)


def test_a_command_is_ended_with_what_it_started(tmp_path: Path) -> None:
    child = "import time; time.sleep(6); open('late', 'w')"
    code = f"import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    assert gpu.run_command(("-c", f"import os; os.chdir({str(tmp_path)!r}); {code}"), 2.0) == (CUT_OFF, "begun")
    assert gpu.run_command(("-c", "import sys; print('why'); sys.exit(3)"), 30) == (3, "why")
