"""The order of the rooms is held: an import upwards or in a circle, planted on purpose, fails `make lint`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytest.importorskip("importlinter", reason="import-linter is not installed: pip install 'deeplens-edge[dev]'")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package alone, links and all."""
    folder = tmp_path_factory.mktemp("checkout")
    rooms = [link.name for link in (ROOT / "src" / "deeplens").iterdir() if link.is_symlink()]
    for name in ("src", *rooms):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("packaged", "weights"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint(folder: Path) -> tuple[int, str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("console/parsing.py", "", "2 kept, 0 broken"),
        ("console/parsing.py", "import deeplens.model.contract", "deeplens.console is not allowed to import"),
        ("runtimes/pyramid.py", "import deeplens.export.golden", "deeplens.runtimes is not allowed to import"),
        ("training/losses.py", "import deeplens.evaluation.metrics", "deeplens.training is not allowed to import"),
        ("evaluation/metrics.py", "import deeplens.research.arms", "deeplens.evaluation is not allowed to import"),
        ("runtimes/tiling.py", "import deeplens.runtimes.harness", "No cycles are allowed in deeplens.runtimes"),
    ],
    ids=["as it is", "ground", "device", "training", "research", "circle"],
)
def test_a_planted_import_is_refused(copy: Path, file: str, line: str, said: str) -> None:
    path = copy / file
    before = path.read_text(encoding="utf-8")
    path.write_text(f"{before}\n{line}\n", encoding="utf-8")
    try:
        status, out = lint(copy)
    finally:
        path.write_text(before, encoding="utf-8")
    assert said in out
    assert status == (1 if line else 0)
