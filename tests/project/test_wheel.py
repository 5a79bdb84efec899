"""What is installed: one package, nothing beside it, and a photo refocused by it without PyTorch from any folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplens.console.package import DISTRIBUTION, VERSION
from tests.conftest import ROOT

ROOMS = tuple(sorted(link.name for link in (ROOT / "src" / "deeplens").iterdir() if link.is_symlink()))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout stays as it is."""
    copy = tmp_path_factory.mktemp("checkout") / "deeplens"
    skip = shutil.ignore_patterns("__pycache__", "packaged", "web_page", "*.egg-info")
    for name in ("src", *ROOMS):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    (found,) = (copy / "dist").iterdir()
    return found


@pytest.mark.slow
def test_it_holds_one_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    info = f"{DISTRIBUTION.replace('-', '_')}-{VERSION}.dist-info"
    assert {name.split("/")[0] for name in names} == {"deeplens", info}
    inside = {name.split("/")[1] for name in names if name.startswith("deeplens/")}
    assert {*ROOMS, "commands", "py.typed", "api.py", "__main__.py"} - {"research"} <= inside
    assert "research" not in inside
    files = {"deeplens/model/weights/edge_depth.safetensors", "deeplens/export/plans/edge.json"}
    assert files | {"deeplens/scenes/sources.tsv", "deeplens/evaluation/focus_picks.tsv"} <= set(names)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked as it is installed, in a Python without PyTorch, ONNX and the checkout."""
    site = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(site)
    blocked = "torch", "onnx", "onnxscript", "safetensors", "scipy"
    (site / "sitecustomize.py").write_text(f"import sys\nfor name in {blocked}: sys.modules[name] = None\n")
    return site


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An engineer's own folder: a photo, and modules whose names are those of our rooms."""
    pixels = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    for name in ROOMS:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('our module is shadowed')")
    (tmp_path / "refocus.py").write_text("raise SystemExit('our module is shadowed')")
    return tmp_path


LIBRARY = "import deeplens; deeplens.refocus('photo.png', focus=(0.5, 0.5)).save('out.png')"
ARGUMENTS = ("refocus", "photo.png", "--focus", "0.5,0.5", "-o", "out.png")


@pytest.mark.parametrize(
    "command",
    [
        (str(Path(sys.executable).with_name("deeplens")), *ARGUMENTS),
        (sys.executable, "-m", "deeplens", *ARGUMENTS),
        (sys.executable, "-c", LIBRARY),
    ],
    ids=["script", "module", "library"],
)
def test_a_photo_without_pytorch_from_another_folder(
    command: tuple[str, ...], installed: Path, folder: Path, artifacts: Path
) -> None:
    shutil.copytree(artifacts, installed / "deeplens" / "packaged", dirs_exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DEEPLENS", "XDG_"))}
    environment |= {"PYTHONPATH": str(installed), "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Image.open(folder / "out.png").size == (80, 60)
    where = "import deeplens, sys; print(deeplens.__file__, sys.modules['torch'])"
    said = subprocess.run(
        [sys.executable, "-c", where], cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert said == f"{installed / 'deeplens' / '__init__.py'} None\n"
