"""The life of an artefact: written aside, checked, described, moved into place with its entry."""

import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from deeplens.console.errors import InputError, MismatchError
from deeplens.console.files import MARK, TEMPORARY, file_sha256
from deeplens.runtimes import manifest
from deeplens.runtimes.publish import publish, published
from tests.conftest import ROOT
from tests.runtimes.test_manifest import make_entry

OWN = ("path", "sha256", "created")


def fields() -> dict[str, object]:
    """What an exporter says of an artefact."""
    entry = make_entry()
    return {name: getattr(entry, name) for name in asdict(entry) if name not in OWN}


def put(out: Path, text: str, path: str = "onnx/a.onnx") -> manifest.Entry:
    with publish(out, path) as artefact:
        artefact.file.write_text(text)
        return artefact.describe(**fields())


def test_file_and_entry_come_together(tmp_path: Path) -> None:
    with publish(tmp_path, "onnx/a.onnx") as artefact:
        artefact.file.write_text("graph")
        assert artefact.file.parent == tmp_path / "onnx"
        assert artefact.file.name.startswith(TEMPORARY)
        assert artefact.file.suffix == ".onnx"
        entry = artefact.describe(**fields())
        assert not (tmp_path / "onnx" / "a.onnx").exists()
        assert manifest.read(tmp_path) == []
    assert manifest.read(tmp_path) == [entry]
    assert entry.path == "onnx/a.onnx"
    assert entry.sha256 == file_sha256(tmp_path / "onnx" / "a.onnx")
    assert manifest.verify(tmp_path, entry).read_text() == "graph"
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["a.onnx"]


def test_what_is_made_from_another_keeps_its_fields(tmp_path: Path) -> None:
    source = replace(put(tmp_path, "graph"), created="2000-01-01T00:00:00+00:00")
    with publish(tmp_path, "onnx/b.onnx") as artefact:
        artefact.file.write_text("half")
        entry = artefact.describe(source, precision="fp16", more={"made_from": source.sha256})
    assert entry == replace(
        source,
        precision="fp16",
        path="onnx/b.onnx",
        sha256=file_sha256(tmp_path / "onnx" / "b.onnx"),
        created=entry.created,
        more={"made_from": source.sha256},
    )
    assert entry.created > source.created


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_failing_check_leaves_what_was_there(tmp_path: Path, kind: str, when: str) -> None:
    old = put(tmp_path, "old")
    with pytest.raises(MismatchError), publish(tmp_path, "onnx/a.onnx") as artefact:  # noqa: PT012
        if kind == "folder":
            (artefact.file / "inside").mkdir(parents=True)
        else:
            artefact.file.write_text("wrong")
        if when == "after":
            artefact.describe(**fields())
        raise MismatchError("graph and PyTorch differ")
    assert manifest.read(tmp_path) == [old]
    assert manifest.verify(tmp_path, old).read_text() == "old"
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["a.onnx"]


def test_what_is_not_described_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="without a description"), publish(tmp_path, "onnx/a.onnx") as artefact:
        artefact.file.write_text("graph")
    assert not list((tmp_path / "onnx").iterdir())


def test_a_file_that_is_no_manifest_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / manifest.FILE_NAME).write_text("[]")
    with pytest.raises(InputError, match="is not a manifest"), publish(tmp_path, "onnx/a.onnx"):
        raise AssertionError("the block must not begin")


PUBLISH = """
import os, sys
from pathlib import Path
from deeplens.runtimes.publish import publish
from tests.runtimes.test_publish import fields
out, path, who, die_at = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
steps = 0
def step():
    global steps
    if steps == die_at:
        os._exit(9)
    steps += 1
move = os.replace
def replace(source, target):
    step()
    move(source, target)
os.replace = replace
for turn in range(1 if die_at >= 0 else 10):
    with publish(out, path) as artefact:
        step()
        if path.endswith(".mlpackage"):
            artefact.file.mkdir()
            (artefact.file / "weights").write_text(f"{who} {turn}")
        else:
            artefact.file.write_text(f"{who} {turn}")
        step()
        artefact.describe(**fields())
"""


def started(out: Path, path: str, who: str, die_at: int = -1) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PUBLISH, str(out), path, who, str(die_at)]
    places = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join(places)})


@pytest.mark.parametrize("die_at", [0, 1, 2, 3])
def test_killed_at_any_step_nothing_wrong_is_accepted_and_the_next_heals(tmp_path: Path, die_at: int) -> None:
    """Steps: 0 the work begins, 1 it is written, 2 the file moves, 3 the manifest moves."""
    old = put(tmp_path, "old")
    assert started(tmp_path, old.path, "new", die_at).wait() == 9
    assert manifest.read(tmp_path) == [old]
    if die_at < 3:
        assert manifest.verify(tmp_path, old).read_text() == "old"
    else:
        with pytest.raises(MismatchError, match="deeplens export"):
            manifest.verify(tmp_path, old)
    own = {"a.onnx", "manifest.json", "harness.json", ".manifest.lock"}
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()} - own
    assert len([name for name in left if not name.endswith(MARK)]) == (0 if die_at == 0 else 1)
    assert all(name.startswith(TEMPORARY) for name in left)
    assert started(tmp_path, old.path, "newest").wait() == 0
    (entry,) = manifest.read(tmp_path)
    assert manifest.verify(tmp_path, entry).read_text() == "newest 9"
    assert not list(tmp_path.rglob(f"{TEMPORARY}*"))


@pytest.mark.parametrize("path", ["onnx/a.onnx", "coreml/a.mlpackage"])
def test_publishers_at_the_same_time_leave_one_whole_artefact(tmp_path: Path, path: str) -> None:
    running = [started(tmp_path, path, who) for who in ("left", "right", "middle")]
    assert [each.wait() for each in running] == [0, 0, 0]
    (entry,) = manifest.read(tmp_path)
    manifest.verify(tmp_path, entry)
    assert not list(tmp_path.rglob(f"{TEMPORARY}*"))


def test_published_finds_what_was_made_from_the_same(tmp_path: Path) -> None:
    assert published(tmp_path, "onnx/a.onnx") is None
    with publish(tmp_path, "onnx/a.onnx") as artefact:
        artefact.file.write_text("half")
        entry = artefact.describe(**{**fields(), "more": {"made_from": "1"}})
    assert published(tmp_path, Path("onnx/a.onnx"), made_from="1") == entry
    assert published(tmp_path, "onnx/a.onnx", made_from="2") is None
    (tmp_path / "onnx" / "a.onnx").write_text("other")
    with pytest.raises(MismatchError):
        published(tmp_path, "onnx/a.onnx", made_from="1")
