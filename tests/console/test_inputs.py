"""Reading what others made: regular files, whole, within limits."""

import os
import sys
from pathlib import Path

import pytest

from deeplens.console.errors import InputError
from deeplens.console.inputs import check_regular, parse_json, read_bytes, read_json, read_text


def test_a_file_and_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_bytes(path, most=5) == b"12345"
    with pytest.raises(InputError, match=r"a has 0 MB, but at most 0 MB"):
        read_bytes(path, most=4)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none")
    with pytest.raises(InputError, match="not a name"):
        read_bytes(Path("a\0b"))


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    """At once: opening a pipe that nobody writes to would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path, text in (
        (tmp_path / "pipe", "is a pipe"),
        (tmp_path, "is a folder"),
        (Path("/dev/zero"), "is a device"),
        (tmp_path / "link", "is a device"),
    ):
        with pytest.raises(InputError, match=text):
            read_bytes(path)
        with pytest.raises(InputError, match=text):
            check_regular(path)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc, whose files tell no size")
def test_a_file_that_is_longer_than_it_says() -> None:
    assert b"Name:" in read_bytes(Path("/proc/self/status"))
    with pytest.raises(InputError, match="no more than that"):
        read_bytes(Path("/proc/self/status"), most=10)


def test_text_and_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path) == {"a": 1}
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="utf-8"):
        read_text(path)
    for text in ("[" * 100_000, '{"a":' * 100_000):
        with pytest.raises(ValueError, match="nested too deep"):
            parse_json(text)
    assert sys.getrecursionlimit() >= 1000
