"""Whatever a terminal can print and a file can be called: a line comes out, and no fault of the program."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deeplens.console.errors import InputError
from deeplens.console.guard import guarded
from deeplens.console.report import write_json
from tests.conftest import ROOT, Command


def printed(encoding: str, text: str, *, out: bool = True) -> tuple[int, bytes]:
    """Exit status and output of a command that prints `text` where the terminal has this encoding."""
    code = f"""
import sys
from deeplens.console.guard import guarded
sys.exit(guarded(lambda: print({text!r}, file=sys.{"stdout" if out else "stderr"})))
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    return result.returncode, result.stdout if out else result.stderr


def test_signs_that_a_terminal_lacks() -> None:
    assert printed("ascii", "320×240 ± 0.1 … − 3 €") == (0, b"320x240 +- 0.1 ... - 3 \\u20ac\n")
    assert printed("ascii", "320×240", out=False) == (0, b"320x240\n")
    assert printed("cp437", "a × b") == (0, b"a x b\n")
    assert printed("utf-8", "a × b \udcff") == (0, "a × b \\udcff\n".encode())


def test_names_that_are_not_utf8(tmp_path: Path, deeplens: Command, photo: Path, artifacts: Path) -> None:
    """The photo is made, and the report names it in valid JSON."""
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    try:
        Path(name).write_bytes(photo.read_bytes())
    except OSError:
        pytest.skip("this disk takes names in UTF-8 only")
    result = deeplens(
        "refocus", name, "--focus", "0.5,0.5", "--runtime", "onnx", "--artifacts", artifacts,
        "-o", tmp_path / "out.png", "--json", tmp_path / "report.json",
    )  # fmt: skip
    assert result.status == 0, result.err
    assert json.loads((tmp_path / "report.json").read_bytes())["photo"] == name


def test_json_on_a_terminal_of_few_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    write_json(Path("-"), {"size": "3×4", "name": "\udcff"})
    sys.stdout.flush()
    assert json.loads(raw.getvalue()) == {"size": "3×4", "name": "\udcff"}


def test_what_is_nested_too_deep(capsys: pytest.CaptureFixture[str]) -> None:
    def deeper() -> None:
        deeper()

    assert guarded(deeper) == InputError.exit_code
    assert "nested too deep" in capsys.readouterr().err


def test_messages_are_one_line() -> None:
    """Also where they quote what a person or a file says."""
    assert str(InputError("focus 'a\nb\r\n' is  not X,Y")) == "focus 'a b ' is  not X,Y"
