"""How modules start that are commands too: all alike, `-h` and one-line errors."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PLACES = [path for path in ROOT.iterdir() if (path / "__init__.py").is_file() and path.name != "tests"]
MODULES = [path for place in (*PLACES, ROOT / "src" / "deeplens" / "commands") for path in place.rglob("*.py")]
SCRIPTS = [path for path in MODULES if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")]

WITHOUT = {ROOT / "scenes" / "fetch.py"}
"""Runs before any extra is installed, with argparse."""


def run(*command: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "120"}
    return subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_start_in_one_way(path: Path) -> None:
    ending = path.read_text(encoding="utf-8").split('if __name__ == "__main__":\n')[1]
    if path not in WITHOUT:
        assert re.fullmatch(r"    run_script\(\w+\)\n", ending), ending


def test_there_are_as_many_as_there_were() -> None:
    assert len(SCRIPTS) >= 28


@pytest.mark.parametrize("name", ["export/trt.py", "export/onnx_graph.py", "export/coreml.py"])
def test_exporters_start_as_typed_from_the_root(name: str, tmp_path: Path) -> None:
    found = run(name, "-h")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.lstrip().startswith(f"Usage: {Path(name).name}")
    wrong = run(str(ROOT / name), "--no-such-option", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert re.fullmatch(r"error: No such option.*\n", wrong.stderr)


@pytest.mark.slow
def test_a_module_says_how_it_was_started() -> None:
    found = run("-m", "deeplens.parity_tests.faults", "--help")
    assert found.stdout.lstrip().startswith("Usage: python -m deeplens.parity_tests.faults")


def test_the_status_is_the_error_s_own(tmp_path: Path) -> None:
    """A command's own error, a fault of the program, and all right."""
    (tmp_path / "say.py").write_text(
        "from deeplens.console.script import run_script\n"
        "from deeplens.console.errors import MissingError\n"
        "def main(what: str) -> None:\n"
        "    print('begun')\n"
        "    if what == 'missing': raise MissingError('not there: fetch it')\n"
        "    if what == 'fault': raise KeyError('x')\n"
        "run_script(main)\n"
    )
    for what, status, said in (("missing", 4, "error: not there"), ("fault", 70, "error: KeyError"), ("fine", 0, "")):
        found = run("say.py", what, cwd=tmp_path)
        assert (found.returncode, found.stdout) == (status, "begun\n")
        assert found.stderr.startswith(said)
        assert found.stderr.count("\n") == (1 if status else 0)
