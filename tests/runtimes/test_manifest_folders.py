"""Artefacts that are folders: their hash, what is refused, and how one takes the place of another."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deeplens.console.errors import MismatchError, MissingError
from deeplens.console.files import file_sha256
from deeplens.runtimes import manifest
from deeplens.runtimes.manifest import Entry
from tests.conftest import ROOT
from tests.runtimes.test_manifest import make_entry


def make_folder(path: Path, **files: str) -> Path:
    for name, text in ({"Manifest.json": "{}", "Data/weights/weight.bin": "1234"} | files).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


def test_the_hash_of_a_folder_is_that_of_a_list_as_sha256sum_makes_it(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a.mlpackage", **{"Data/weights.txt": "x"})
    names = ["Data/weights.txt", "Data/weights/weight.bin", "Manifest.json"]
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    assert file_sha256(folder) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_verify_accepts_the_folder_and_no_other(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "coreml" / "a.mlpackage")
    entry = replace(make_entry(path="coreml/a.mlpackage"), runtime="coreml", sha256=file_sha256(folder))
    assert manifest.verify(tmp_path, entry) == folder
    weights = folder / "Data" / "weights" / "weight.bin"

    def refused() -> None:
        with pytest.raises(MismatchError, match=r"a\.mlpackage has SHA-256.*deeplens export coreml --variant edge"):
            manifest.verify(tmp_path, entry)

    weights.write_text("1235")
    refused()
    weights.unlink()
    refused()
    weights.parent.rmdir()
    (folder / "weight.bin").write_text("1234")  # the same bytes under another name
    refused()
    make_folder(folder)
    refused()  # one file too many
    (folder / "weight.bin").unlink()
    manifest.verify(tmp_path, entry)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(MissingError, match="does not exist"):
        manifest.verify(tmp_path, entry)


def staged_folder(root: Path, text: str) -> tuple[Path, Entry]:
    staged = make_folder(root / ".part-new.mlpackage", **{"Data/weights/weight.bin": text})
    return staged, replace(make_entry(path="a.mlpackage"), sha256=file_sha256(staged))


def test_a_staged_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    for text in ("old", "new"):
        staged, entry = staged_folder(tmp_path, text)
        manifest.add(tmp_path, entry, made=staged)
        assert manifest.verify(tmp_path, manifest.read(tmp_path)[0]) == tmp_path / "a.mlpackage"
    assert (tmp_path / "a.mlpackage" / "Data" / "weights" / "weight.bin").read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"a.mlpackage", manifest.FILE_NAME, manifest.LOCK_NAME}


@pytest.mark.parametrize("fault", ["replace", "write"])
def test_a_failed_replacement_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    staged, old = staged_folder(tmp_path, "old")
    manifest.add(tmp_path, old, made=staged)
    staged, new = staged_folder(tmp_path, "new")
    original = os.replace

    def failing(source: Path, target: Path) -> None:
        if (source == staged) if fault == "replace" else (target == tmp_path / manifest.FILE_NAME):
            raise OSError("disk full")
        original(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="disk full"):
        manifest.add(tmp_path, new, made=staged)
    assert manifest.read(tmp_path) == [old]
    assert manifest.verify(tmp_path, old) == tmp_path / "a.mlpackage"


REPLACE_AND_DIE = """
import os, sys
from pathlib import Path
from deeplens.runtimes import manifest
folder, die_at, original, count = Path(sys.argv[1]), int(sys.argv[2]), os.replace, 0
(entry,) = manifest.read(folder / "new")
def replace(source, target):
    global count
    if count == die_at:
        os._exit(9)
    count += 1
    original(source, target)
os.replace = replace
manifest.add(folder, entry, made=folder / ".part-new.mlpackage")
"""


@pytest.mark.parametrize("die_at", [0, 1, 2, 3])
def test_killed_at_any_step_nothing_wrong_is_accepted_and_the_next_export_heals(tmp_path: Path, die_at: int) -> None:
    staged, old = staged_folder(tmp_path, "old")
    manifest.add(tmp_path, old, made=staged)
    staged, new = staged_folder(tmp_path, "new")
    manifest.add(tmp_path / "new", new)
    command = [sys.executable, "-c", REPLACE_AND_DIE, str(tmp_path), str(die_at)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == (9 if die_at < 3 else 0)
    (entry,) = manifest.read(tmp_path)
    assert entry == (new if die_at == 3 else old)
    if die_at in (0, 3):
        manifest.verify(tmp_path, entry)
    else:
        with pytest.raises(MissingError if die_at == 1 else MismatchError, match="deeplens export"):
            manifest.verify(tmp_path, entry)
    staged, _ = staged_folder(tmp_path, "new")
    manifest.add(tmp_path, new, made=staged)
    manifest.verify(tmp_path, new)
    assert not list(tmp_path.glob(".part-*"))
