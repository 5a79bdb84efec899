"""The set-up: what installs what, what messages name, and what must not be in the files."""

import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import deeplens.app
from deeplens.console.package import DISTRIBUTION
from tests.conftest import ROOT
from tests.support.device import needs_torch
from tests.support.project_file import EXTRAS, PROJECT, PYPROJECT


def tracked(*suffixes: str) -> list[Path]:
    """The project's own files with one of the suffixes: what git tracks or would, or all where there is no git."""
    if shutil.which("git") and (ROOT / ".git").exists():
        listing = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        files = [ROOT / line for line in listing.splitlines()]
    else:
        hidden = {".venv", "data", "runs", "demo", "artifacts"}
        files = [path for path in ROOT.rglob("*") if path.relative_to(ROOT).parts[0] not in hidden]
    return [path for path in files if path.suffix in suffixes and path.is_file()]


def ci_extras() -> list[str]:
    """The extras that `make test` installs."""
    match = re.search(r"^EXTRAS := (\S+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert match is not None
    return match[1].split(",")


def closure(extras: list[str]) -> set[str]:
    """Names of all that an install with these extras brings here, direct and indirect."""
    found: set[str] = set()
    waiting = [(canonicalize_name(DISTRIBUTION), extra) for extra in ("", *extras)]
    seen = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        if name != DISTRIBUTION:
            found.add(name)
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(requirement.name), each) for each in ("", *requirement.extras)]
    return found


def constraints(name: str = "constraints.txt") -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="is about the environment of the device half on Python 3.10")
def test_constraints_of_python_310_are_what_is_installed() -> None:
    installed = {canonicalize_name(each.name): each.version for each in metadata.distributions()}
    del installed[canonicalize_name(DISTRIBUTION)], installed[canonicalize_name("pip")]
    pinned = constraints("constraints-py310.txt")
    assert installed == {name: pinned.get(name) for name in installed}


def test_python_310_is_said_everywhere() -> None:
    assert PROJECT["requires-python"] == ">=3.10"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py310"
    assert PYPROJECT["tool"]["mypy"]["python_version"] == "3.10"


@needs_torch
def test_constraints_cover_what_is_installed() -> None:
    pinned = constraints()
    needed = closure(ci_extras())
    assert len(needed) > 20  # the walk went beyond the first step
    # What a CUDA build of PyTorch brings depends on the machine; all else is exact.
    machine = {name for name in needed if name.startswith(("nvidia-", "cuda-", "triton"))}
    assert needed - machine - pinned.keys() == set()
    installed = {name: metadata.version(name).split("+")[0] for name in needed - machine}
    assert installed == {name: pinned[name] for name in installed}


@needs_torch
def test_constraints_hold_nothing_else() -> None:
    assert constraints().keys() - closure(ci_extras()) - {"setuptools"} == set()


def test_the_extras_that_are_promised() -> None:
    assert EXTRAS.keys() >= {"torch", "onnx", "coreml", "tensorrt", "train", "dev", "all"}
    (everything,) = (Requirement(each) for each in EXTRAS["all"])
    # tensorrt fails the whole call where it can't load; coreai is a beta of 190 MB for one test.
    assert everything.extras == EXTRAS.keys() - {"all", "coreai", "peers", "ray", "tensorrt"}
    assert not {"coreai", "peers", "ray", "tensorrt"} & set(ci_extras())


def test_a_device_installs_little() -> None:
    """ONNX Runtime alone: no torch, no exporter, no SciPy."""
    assert {Requirement(each).name for each in EXTRAS["onnx"]} == {"onnxruntime"}
    assert {Requirement(each).name for each in PROJECT["dependencies"]} == {
        "numpy",
        "pillow",
        "platformdirs",
        "rich",
        "typer",
    }


def test_messages_name_extras_that_exist() -> None:
    pattern = re.compile(r"deeplens-edge\[([\w,-]+)\]|pip_install\('([\w,-]+)'\)")
    named = [
        (path, extra)
        for path in tracked(".py", ".md")
        if path.name != "test_documents.py"  # it plants wrong ones
        for texts in pattern.findall(path.read_text(encoding="utf-8"))
        for text in texts
        if text
        for extra in text.split(",")
    ]
    assert {extra for _, extra in named} >= {"onnx", "torch"}
    assert [(str(path), extra) for path, extra in named if extra not in EXTRAS] == []


def test_the_command_resolves() -> None:
    (entry,) = metadata.entry_points(group="console_scripts", name="deeplens")
    assert entry.load() is deeplens.app.main


def test_one_version() -> None:
    assert PROJECT["name"] == DISTRIBUTION
    assert metadata.version(DISTRIBUTION) == deeplens.__version__


def test_every_sample_has_a_licence() -> None:
    """Each picture in samples/ stands in a line of its README that names a licence."""
    lines = (ROOT / "samples" / "README.md").read_text(encoding="utf-8").splitlines()
    pictures = tracked(".jpg", ".jpeg", ".png", ".webp", ".tif")
    samples = [path.name for path in pictures if path.parent.name == "samples"]
    assert samples
    for name in samples:
        assert any(name in line and re.search(r"CC0|CC-BY|MIT|Apache|BSD|GPL", line) for line in lines), name


def test_the_demo_has_its_photo() -> None:
    match = re.search(r"^DEMO_PHOTO := (\S+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert match is not None
    assert (ROOT / match[1]).is_file()


@pytest.mark.parametrize("suffixes", [(".py", ".toml", ".yml", ".tsv"), (".md", ".txt")])
def test_no_path_of_one_machine(suffixes: tuple[str, ...]) -> None:
    pattern = re.compile(r"(?<![\w.$}/-])/(?:home|root|Users|work|tmp|opt|mnt)/\w")
    assert pattern.search("see /home/someone/photo.jpg")
    assert not pattern.search("https://example.org/home/page")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked(*suffixes)
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert found == []


def test_modules_are_short() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked(".py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 350
    }
    assert long == {}
