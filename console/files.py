"""Files that are written whole or not at all, their hashes, and what is refused before the work begins."""

import errno
import hashlib
import io
import os
import secrets
import shutil
import stat
import struct
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from deeplens.console.errors import InputError, one_line
from deeplens.console.inputs import check_regular

STDOUT = Path("-")
"""The file name that stands for standard output."""

TEMPORARY = ".part-"
"""How the name of everything begins that is being written, before it takes its place. What a process that was killed
left there is deleted by the next one that writes into the folder (`claimed`)."""

MARK = ".lock"
"""How the name of the file ends that marks a temporary name as in use."""


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
        try:
            place = target_of(path)
            if place.resolve() in taken:
                raise InputError(f"{path} is also an input, or is named twice as an output: choose another output file")
            taken.add(place.resolve())
            folder, through = place.is_dir(), is_device(path)
        except (OSError, ValueError, RuntimeError) as error:  # a name that no file can have, links in a circle
            raise InputError(f"{path} can't be written: {getattr(error, 'strerror', None) or error}") from error
        if folder:
            raise InputError(f"{path} is a folder: give a file name")
        if through:
            continue
        if not place.parent.is_dir():
            raise InputError(f"the folder {place.parent} does not exist: create it first")
        if not os.access(place.parent, os.W_OK):
            raise InputError(f"the folder {place.parent} is not writable: choose another folder")


def is_device(path: Path) -> bool:
    """Whether `path` is there and is neither a file nor a folder: a device, a pipe, a socket, or a link to one."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def is_stdout(path: Path) -> bool:
    """Whether `path` is - or another name of standard output, such as /dev/stdout."""
    try:
        return path == STDOUT or os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError, AttributeError):  # not there, or standard output is not a file
        return False


def target_of(path: Path) -> Path:
    """Where the link `path` leads, so that the link stays when a file is put there; `path` itself if it is none.

    Raises:
        OSError, RuntimeError: links that lead in a circle.
    """
    return path.resolve() if path.is_symlink() and not is_device(path) else path


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
def claimed(path: Path, *, suffix: str = "") -> Iterator[Path]:
    """A temporary name beside `path` that no other process touches; what is there at the end is deleted.

    A locked file marks it as in use: the system releases the lock when its holder dies, and the next process that
    writes into the folder deletes what was left.

    Args:
        suffix: as in `temporary_name`.

    Raises:
        OSError: the folder can't be written to.
    """
    _sweep(path.parent)
    temporary = temporary_name(path, suffix=suffix)
    mark = path.with_name(temporary.name[:_STEM] + MARK)
    try:
        with locked(mark):
            try:
                yield temporary
            finally:
                with suppress(OSError):
                    remove(temporary)
    finally:
        with suppress(OSError):
            mark.unlink(missing_ok=True)


@contextmanager
def staged(path: Path, *, locked: bool = False) -> Iterator[Path]:
    """A temporary name for a library that writes files by name; the file takes the place of `path` on success.

    A library of which it is not known that it says when a disk is full writes to memory, and `replacing` to the disk.
    On any error nothing is left and what was at `path` stays. Where `path` is a link, what it leads to is replaced.

    Args:
        locked: a lock keeps other writers away: use `locked_name`.

    Raises:
        OSError: the file was not written, or can't be moved.
    """
    place = target_of(path)
    if not locked:
        with claimed(place) as temporary:
            yield temporary
            move(temporary, place)
        return
    temporary = locked_name(place)
    try:
        yield temporary
        move(temporary, place)
    finally:
        with suppress(OSError):
            remove(temporary)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Memory to write a file to, which takes the place of `path` on success, whole or not at all.

    The bytes are written under a temporary name, counted, forced onto the disk and moved into place. Where `path` is
    a link, what it leads to is replaced; a device or a pipe is written to.

    Raises:
        InputError: the folder is missing or can't be written, `path` is a folder, or writing failed.
    """
    try:
        place = target_of(path)
        if place.is_dir():
            raise InputError(f"{path} is a folder: give a file name")
        if not place.parent.is_dir():
            raise InputError(f"the folder {place.parent} does not exist: create it first")
        buffer = io.BytesIO()
        yield buffer
        if is_device(path):
            write_whole(path, buffer.getbuffer())
            return
        with claimed(place) as temporary:
            write_whole(temporary, buffer.getbuffer())
            move(temporary, place)
    except (OSError, ValueError, struct.error, RuntimeError) as error:  # what encoders raise for what they can't hold
        raise InputError(f"{path} can't be written: {one_line(error)}") from error


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file, a device or a pipe, and look whether all of it is there.

    Raises:
        OSError: not all could be written.
    """
    with path.open("wb", buffering=0) as file:
        rest = memoryview(data)
        while rest:
            count = file.write(rest)
            if not count:
                raise OSError(errno.EIO, "the system wrote nothing")
            rest = rest[count:]
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode):
            os.fsync(file.fileno())
            if os.fstat(file.fileno()).st_size != len(data):
                raise OSError(errno.EIO, f"{os.fstat(file.fileno()).st_size} of {len(data)} bytes were written")


def move(temporary: Path, path: Path) -> None:
    """Force a finished file or folder onto the disk and give it its name: a crash leaves the old or the new one.

    Raises:
        OSError: it is not there, could not be written out, or can't be moved.
    """
    sync(temporary)
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync(path: Path) -> None:
    """Force a file, or all files of a folder, onto the disk. OSError: there is no room, or the disk failed."""
    for each in path.rglob("*") if path.is_dir() else (path,):
        if each.is_file():
            with each.open("rb") as file:
                os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Force the names in a folder onto the disk, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, made when missing; others wait. The system releases it when its holder dies.

    Where the system has no such locks (Windows, some network disks) nothing keeps others away.

    Raises:
        OSError: the file can't be made.
    """
    with path.open("a") as file:
        _try_lock(file, wait=True)
        yield


def _try_lock(file: IO[str], *, wait: bool) -> bool:
    """Lock an open file; False if another holds it, or the system has no locks."""
    try:
        import fcntl  # POSIX only
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


_STEM = len(TEMPORARY) + 16
_SWEPT: set[Path] = set()


def _sweep(folder: Path) -> None:
    """Delete what killed writers left in a folder, once in a process: all whose mark nobody holds any more."""
    if folder in _SWEPT:
        return
    _SWEPT.add(folder)
    for mark in folder.glob(f"{TEMPORARY}{'[0-9a-f]' * 16}{MARK}"):
        with suppress(OSError), mark.open("a") as file:
            if _try_lock(file, wait=False):
                for each in folder.glob(f"{mark.name[:_STEM]}*"):
                    if each != mark:
                        remove(each)
                mark.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Delete a file or a folder with all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits; reads in blocks, so that memory stays small.

    Of a folder: SHA-256 over a line `HASH  PATH` for each file below it, and `folder  PATH/` for each empty folder,
    where PATH is relative, with forward slashes, and the lines are sorted by PATH.

    Raises:
        InputError: a device or a pipe; of a folder, also a link in it, or a name of more than one line.
        OSError: it is not there or can't be read.
    """
    if path.is_dir():
        inside = {each.relative_to(path).as_posix(): each for each in path.rglob("*")}
        lines = [_line(inside[name], name) for name in sorted(inside)]
        return bytes_sha256("".join(lines).encode("utf-8", "surrogateescape"))
    check_regular(path)
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def _line(path: Path, name: str) -> str:
    """What stands for a file or an empty folder in the hash of the folder that it is in; nothing for another folder."""
    if path.is_symlink():
        raise InputError(f"{path} is a link, and what it leads to can change: put the file itself there")
    if "\n" in name:
        raise InputError(f"{name!r} is a name of more than one line: give the file another")
    if path.is_dir():
        return "" if any(path.iterdir()) else f"folder  {name}/\n"
    return f"{file_sha256(path)}  {name}\n"


def bytes_sha256(data: bytes) -> str:
    """SHA-256 of bytes, as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
