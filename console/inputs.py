"""Reading files that somebody else may have made: regular ones only, whole, once, and no larger than a limit."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from deeplens.console.errors import InputError

MOST_BYTES = 4 << 30
"""Larger files are refused unless the caller says otherwise."""

MOST_TEXT = 64 << 20
"""Largest file of JSON, CSV or lines of text, in bytes: its objects take some twenty times as much memory."""

_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))


def read_bytes(path: Path, *, most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file, read through one open file: what is checked in them is what is used.

    Args:
        most: the largest file that is read, in bytes.

    Raises:
        InputError: a folder, a pipe, a device or a socket, a file of more than `most` bytes, or a name that no file
            can have.
        OSError: it is not there or can't be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a pipe must not wait
    except ValueError as error:
        raise InputError(f"{str(path)!r} is not a name that a file can have: check it") from error
    try:
        status = os.fstat(descriptor)
        check_regular(path, status)
    except BaseException:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size > most:
            raise InputError(f"{path} has {status.st_size / 1e6:.0f} MB, but at most {most / 1e6:.0f} MB are read")
        data = file.read(status.st_size + 1)  # a buffer of that size is made: so not `most`
        if len(data) <= status.st_size:
            return data
        parts = [data]  # it grew meanwhile, or its size is not told, as in /proc
        while (total := sum(map(len, parts))) <= most and (block := file.read(1 << 20)):
            parts.append(block)
    if total > most:
        raise InputError(f"{path} has more than {most / 1e6:.0f} MB, but no more than that are read")
    return b"".join(parts)


def check_regular(path: Path, status: os.stat_result | None = None) -> None:
    """Refuse what is there but is no regular file; opening a pipe would wait, and reading a device may never end.

    Args:
        status: of the open file; None: it is looked up.

    Raises:
        InputError: a folder, a pipe, a device or a socket.
        OSError: it is not there.
    """
    status = path.stat() if status is None else status
    if stat.S_ISREG(status.st_mode):
        return
    kind = next((name for test, name in _KINDS if test(status.st_mode)), "a device")
    raise InputError(f"{path} is {kind}: give the name of a file")


def read_text(path: Path, *, most: int = MOST_TEXT) -> str:
    """The text of a file in UTF-8, without a byte order mark.

    Raises:
        InputError: as `read_bytes`.
        OSError: it is not there or can't be read.
        ValueError: it is not UTF-8.
    """
    return read_bytes(path, most=most).decode("utf-8-sig")


def read_json(path: Path, *, most: int = MOST_TEXT) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: as `read_bytes`.
        OSError: it is not there or can't be read.
        ValueError: it is not JSON, or is nested too deep.
    """
    return parse_json(read_text(path, most=most))


def parse_json(text: str) -> Any:
    """What JSON text holds.

    Raises:
        ValueError: it is not JSON, or is nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
