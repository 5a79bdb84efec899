"""Writing: links, pipes and devices as target, what killed writers leave, and disks that are full or lie."""

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplens.console import files
from deeplens.console.errors import InputError
from deeplens.console.files import TEMPORARY, check_outputs, claimed, replacing, staged
from deeplens.console.report import write_json
from deeplens.runtimes.photo import write_disparity, write_photo
from tests.conftest import ROOT

FULL = Path("/dev/full")
PIXELS = np.zeros((8, 8, 3), np.uint8)

full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full, the disk that is always full")


def python(code: str, *arguments: object, **options: Any) -> "subprocess.Popen[str]":
    places = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], env=environment, text=True, **options)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


class TestTargets:
    @pytest.mark.parametrize("there", [True, False])
    def test_a_link_stays_and_what_it_leads_to_is_replaced(self, tmp_path: Path, there: bool) -> None:
        (tmp_path / "real").mkdir()
        real, link = tmp_path / "real" / "a.txt", tmp_path / "link.txt"
        if there:
            real.write_text("old")
        link.symlink_to(real)
        with replacing(link) as file:
            file.write(b"new")
        assert link.is_symlink()
        assert real.read_text() == "new"
        with staged(link) as temporary:
            assert temporary.parent == real.parent, "a move from one disk to another is no single step"
            temporary.write_text("newer")
        assert (link.is_symlink(), real.read_text(), names(real.parent)) == (True, "newer", ["a.txt"])

    def test_links_in_a_circle_are_refused_before_the_work(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
        (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
        with pytest.raises(InputError, match=r"a\.png can't be written"):
            check_outputs((tmp_path / "a.png", None), inputs=())
        with pytest.raises(InputError, match=r"a\.png can't be written"):
            write_photo(tmp_path / "a.png", PIXELS)

    def test_an_output_that_is_the_input_by_another_name_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").touch()
        (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
        with pytest.raises(InputError, match="is also an input"):
            check_outputs((tmp_path / "b.png", None), inputs=(tmp_path / "a.png",))

    def test_a_pipe_gets_the_bytes_and_stays(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe.json"
        os.mkfifo(pipe)
        check_outputs((pipe, None), inputs=())
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
        reader.start()
        write_json(pipe, {"a": 1})
        reader.join(10)
        assert [json.loads(each) for each in got] == [{"a": 1}], "it was replaced"
        assert pipe.is_fifo()
        assert names(tmp_path) == ["pipe.json"]

    @pytest.mark.parametrize("name", ["-", "/dev/stdout", "/proc/self/fd/1"])
    @pytest.mark.parametrize("into", ["pipe", "file"])
    def test_standard_output_by_any_name_gets_json_alone(self, tmp_path: Path, name: str, into: str) -> None:
        if name != "-" and not Path(name).exists():
            pytest.skip(f"this system has no {name}")
        code = (
            "import sys; from pathlib import Path; from deeplens.console.report import console_for, write_json\n"
            "target = Path(sys.argv[1]); console_for(target).print('for people'); write_json(target, {'a': 1})"
        )
        if into == "pipe":
            text = python(code, name, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).communicate()[0]
        else:
            with (tmp_path / "out.json").open("w") as file:
                python(code, name, stdout=file, stderr=subprocess.DEVNULL).wait()
            text = (tmp_path / "out.json").read_text()
        assert json.loads(text) == {"a": 1}


class TestFullDisk:
    """`make test-full-disk` does the same on real small disks."""

    @full
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
    def test_a_picture(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"a.{suffix}"
        path.symlink_to(FULL)
        check_outputs((path, None), inputs=())
        with pytest.raises(InputError, match="No space left"):
            write_photo(path, PIXELS)

    @full
    def test_a_map_and_a_report(self, tmp_path: Path) -> None:
        for suffix in ("png", "npy", "pfm"):
            (tmp_path / f"a.{suffix}").symlink_to(FULL)
            with pytest.raises(InputError, match="No space left"):
                write_disparity(tmp_path / f"a.{suffix}", np.zeros((3, 4)))
        with pytest.raises(InputError, match="No space left"):
            write_json(FULL, {"a": 1})

    def test_a_disk_that_says_all_was_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Liar(io.FileIO):
            def write(self, data: Any) -> int:
                super().write(bytes(data)[: len(data) // 2])
                return len(data)

        path = tmp_path / "a.txt"
        path.write_text("old")
        monkeypatch.setattr(Path, "open", lambda self, mode, **_: Liar(self, "w" if "w" in mode else "a"))
        with pytest.raises(InputError, match="5 of 10 bytes were written"), replacing(path) as file:
            file.write(bytes(10))
        monkeypatch.undo()
        assert (path.read_text(), names(tmp_path)) == ("old", ["a.txt"])

    def test_the_bytes_are_on_the_disk_before_the_name_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps: list[str] = []
        fsync, replace = os.fsync, os.replace

        def told(name: str, do: Callable[..., None]) -> Callable[..., None]:
            def call(*arguments: Any) -> None:
                steps.append(name)
                do(*arguments)

            return call

        monkeypatch.setattr(os, "fsync", told("fsync", fsync))
        monkeypatch.setattr(os, "replace", told("replace", replace))
        with staged(tmp_path / "a") as temporary:
            temporary.write_text("x")
        assert steps == ["fsync", "replace", "fsync"]
        steps.clear()
        with replacing(tmp_path / "b") as file:
            file.write(b"x")
        assert steps.index("fsync") < steps.index("replace")


class TestKilled:
    HOLD = (
        "import os, sys, time; from pathlib import Path; from deeplens.console.files import claimed\n"
        "with claimed(Path(sys.argv[1]), suffix='.onnx') as temporary:\n"
        "    temporary.mkdir() if sys.argv[2] == 'folder' else temporary.touch()\n"
        "    (temporary / 'inside').touch() if sys.argv[2] == 'folder' else None\n"
        "    print('held', flush=True); time.sleep(60)"
    )

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_the_next_writer_deletes_what_a_killed_one_left_and_nothing_of_one_that_lives(
        self, tmp_path: Path, kind: str
    ) -> None:
        with python(self.HOLD, tmp_path / "a.onnx", kind, stdout=subprocess.PIPE) as living:
            assert living.stdout is not None
            assert living.stdout.readline() == "held\n"
            of_living = set(names(tmp_path))
            with python(self.HOLD, tmp_path / "a.onnx", kind, stdout=subprocess.PIPE) as dying:
                assert dying.stdout is not None
                dying.stdout.readline()
                dying.kill()
            (tmp_path / f"{TEMPORARY}of-somebody-else").touch()
            assert len(names(tmp_path)) == 5  # a file and a mark each
            with replacing(tmp_path / "b.txt") as file:
                file.write(b"x")
            assert set(names(tmp_path)) == of_living | {"b.txt", f"{TEMPORARY}of-somebody-else"}
            living.kill()

    def test_a_folder_is_looked_through_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        looked: list[str] = []
        glob = Path.glob

        def look(self: Path, pattern: str) -> Iterator[Path]:
            looked.append(pattern)
            return glob(self, pattern)

        monkeypatch.setattr(Path, "glob", look)
        for _ in range(3):
            with claimed(tmp_path / "a"):
                pass
        assert len(looked) == 1

    def test_without_locks_files_are_written_all_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
        (tmp_path / f"{TEMPORARY}{'0' * 16}{files.MARK}").touch()
        with replacing(tmp_path / "a") as file:
            file.write(b"x")
        assert (tmp_path / "a").read_bytes() == b"x"
        assert len(names(tmp_path)) == 2, "nobody can tell whether its writer lives"
