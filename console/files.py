"""Files that are written whole or not at all, their hashes, and what is refused before the work begins."""

import hashlib
import os
import secrets
import shutil
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from deeplens.console.errors import InputError, one_line

STDOUT = Path("-")
"""The file name that stands for standard output."""

TEMPORARY = ".part-"
"""How the name of everything begins that is being written, before it takes its place. All that is left by a process
that was killed can be found by `.part-*`, and deleted when nothing is being written."""


def check_outputs(*outputs: tuple[Path | None, Collection[str] | None], inputs: Collection[Path | None]) -> None:
    """Refuse before the work begins what could not be written after it.

    Args:
        outputs: files to write, each with the suffixes that it may have (None: any). A file that is None, or - for
            standard output, is passed over.
        inputs: files that are read.

    Raises:
        InputError: another suffix, a folder that is missing or can't be written to, a folder in place of a file, a file
            named twice, or one that is an input.
    """
    taken = {path.resolve() for path in inputs if path is not None}
    for path, suffixes in outputs:
        if path is None or path == STDOUT:
            continue
        if suffixes is not None and path.suffix.lower() not in suffixes:
            raise InputError(f"{path}: this file type can't be written; use {', '.join(suffixes)}")
        if path.resolve() in taken:
            raise InputError(f"{path} is also an input, or is named twice as an output: choose another output file")
        taken.add(path.resolve())
        try:
            folder = path.is_dir()
        except OSError as error:  # a name that no file can have
            raise InputError(f"{path} can't be written: {error.strerror}") from error
        if folder:
            raise InputError(f"{path} is a folder: give a file name")
        if not path.parent.is_dir():
            raise InputError(f"the folder {path.parent} does not exist: create it first")
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"the folder {path.parent} is not writable: choose another folder")


def temporary_name(path: Path, *, suffix: str = "") -> Path:
    """A free name beside `path` to write under: `TEMPORARY`, 16 random hexadecimal digits and `suffix`.

    Args:
        suffix: for libraries that take no other. Without one, what looks for files by their suffix never finds it.
    """
    return path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}{suffix}")


def locked_name(path: Path) -> Path:
    """A temporary name beside `path` that is always the same: where a lock keeps others away, the next one to write
    finds what is left of one that was killed."""
    return path.with_name(f"{TEMPORARY}{path.name}.locked")


@contextmanager
def staged(path: Path, *, locked: bool = False) -> Iterator[Path]:
    """A temporary name to write a file under; the file takes the place of `path` on success.

    On any error nothing is left and what was at `path` stays.

    Args:
        locked: a lock keeps other writers away: use `locked_name`.

    Raises:
        OSError: the file was not written, or can't be moved.
    """
    temporary = locked_name(path) if locked else temporary_name(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            remove(temporary)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """An open file to write that takes the place of `path` on success: `staged`, with errors for people.

    Raises:
        InputError: the folder is missing or can't be written, `path` is a folder, or writing failed.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder: give a file name")
        if not path.parent.is_dir():
            raise InputError(f"the folder {path.parent} does not exist: create it first")
        with staged(path) as temporary, temporary.open("xb") as file:
            yield file
    except (OSError, ValueError, struct.error) as error:  # encoders raise all three for pictures they can't hold
        raise InputError(f"{path} can't be written: {one_line(error)}") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes out of the same block for as long as it runs; they wait.

    The system releases the lock when its holder dies.

    Args:
        path: the lock's file; made when missing, and it stays.
    """
    import fcntl  # POSIX only; reading works everywhere

    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove(path: Path) -> None:
    """Delete a file or a folder with all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits; reads in blocks, so that memory stays small.

    Of a folder: SHA-256 over a line `HASH  PATH` for each file below it, where PATH is relative, with forward slashes,
    and the lines are sorted by PATH.
    """
    if path.is_dir():
        files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if not file.is_dir()}
        lines = [f"{file_sha256(file)}  {name}\n" for name, file in sorted(files.items())]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()
