"""The Jetson scripts: every command in them exists, and their parts run in order, here with stand-ins for the tools."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.project.test_documents import check_deeplens, commands
from tests.support.examples import FOLDER

SCRIPTS = sorted((FOLDER / "jetson").glob("*.sh"))
PARTS = ("install", "build", "refocus", "check", "measure")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with programs that write down how they were called, and nothing else."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("sudo", "python3", "pip", "python", "deeplens", "make"):
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> "$CALLS"\n')
        program.chmod(0o755)
    return folder


def called(script: Path, tools: Path, *arguments: object) -> tuple[int, str, list[str]]:
    """Exit status, standard error, and the calls of tools."""
    calls = tools.parent / "calls"
    calls.unlink(missing_ok=True)
    environment = {"PATH": f"{tools}{os.pathsep}/usr/bin{os.pathsep}/bin", "CALLS": str(calls)}
    command = ["sh", str(script), *map(str, arguments)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return result.returncode, result.stderr, calls.read_text().splitlines() if calls.exists() else []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_command_of_ours_exists(script: Path) -> None:
    found = [words for _, words in commands(f"```\n{script.read_text()}```") if words[0] == "deeplens"]
    assert len(found) >= 3
    for words in found:
        check_deeplens(words[1:])


@pytest.fixture
def packed(tmp_path: Path, tools: Path) -> Path:
    """What on_pc.sh packs, with a wheel that is there already."""
    repository, folder, photo = tmp_path / "repository", tmp_path / "packed", tmp_path / "photo.jpg"
    shutil.copytree(FOLDER / "jetson", repository / "examples" / "jetson")
    (repository / "dist").mkdir()
    (repository / "dist" / "deeplens_edge-1-py3-none-any.whl").touch()
    photo.touch()
    status, error, calls = called(repository / "examples" / "jetson" / "on_pc.sh", tools, photo, folder)
    assert status == 0, error
    assert [each.split()[:2] for each in calls] == [
        ["deeplens", "export"], ["deeplens", "export"], ["deeplens", "export"], ["deeplens", "parity"], ["make", "-C"]
    ]  # fmt: skip
    return folder


def test_the_folder_for_the_jetson_holds_what_its_script_needs(packed: Path) -> None:
    assert {"photo.jpg", "on_jetson.sh", "deeplens_edge-1-py3-none-any.whl"} == {each.name for each in packed.iterdir()}


def test_the_parts_run_in_order_and_alone(packed: Path, tools: Path) -> None:
    (packed / "deeplens-env" / "bin").mkdir(parents=True)
    (packed / "deeplens-env" / "bin" / "activate").touch()
    for name in ("loops.md", "latency.md"):
        (packed / name).touch()
    status, error, calls = called(packed / "on_jetson.sh", tools)
    assert status == 0, error
    ours = [each.split()[1] for each in calls if each.startswith("deeplens")]
    assert ours == ["export", "export", "export", "refocus", "parity", "bench", "bench"]
    assert any("deeplens_edge-1-py3-none-any.whl[onnx]" in each for each in calls)
    status, error, calls = called(packed / "on_jetson.sh", tools, "refocus")
    assert (status, len(calls)) == (0, 1)
    assert calls[0].startswith("deeplens refocus photo.jpg")


def test_wrong_arguments_are_refused(packed: Path, tools: Path) -> None:
    status, error, calls = called(packed / "on_jetson.sh", tools, "build", "bild")
    assert (status, calls) == (2, [])
    assert "unknown part bild" in error
    for arguments in ((), ("none.jpg", packed)):
        status, _, calls = called(FOLDER / "jetson" / "on_pc.sh", tools, *arguments)
        assert (status, calls) == (2, [])


def test_the_page_names_every_part() -> None:
    page = (FOLDER.parent / "docs" / "jetson.md").read_text(encoding="utf-8")
    assert all(f". {part}\n" in page for part in PARTS)
    assert "apt-get" not in page, "commands stand in the scripts alone"
