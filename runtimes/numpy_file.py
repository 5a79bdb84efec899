"""NumPy's .npy and .npz, as depth maps: what the header declares is checked before anything is unpacked."""

import ast
import io
import math
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from deeplens.console.errors import InputError, one_line
from deeplens.console.inputs import read_bytes
from deeplens.runtimes.bounds import check_pixels

LONGEST_HEADER = 10_000
"""Bytes of an array's header that are read; of a plain array it has some 100."""

MOST_UNPACKED = 4 << 30
"""Bytes that all arrays of a file may take, for files that are not depth maps."""

Choice = Callable[[list[str]], str | None]
"""Of the names of several arrays, the one that is meant; None: it can't be told."""


def read_array(path: Path, *, max_pixels: int | None, choose: Choice = lambda _names: None) -> tuple[np.ndarray, str]:
    """The array in a .npy file, or one in a .npz file, and its name in there ("" in a .npy).

    Args:
        max_pixels: as in `runtimes.bounds.check_pixels`.
        choose: which of several arrays is read.

    Raises:
        InputError: not such a file, objects instead of numbers, several arrays of which none is chosen, or too large.
    """
    with _said(path):
        data = read_bytes(path)
        if not data.startswith(b"PK"):
            return _array(io.BytesIO(data), len(data), path, max_pixels, len(data)), ""
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {each.filename.removesuffix(".npy"): each for each in archive.infolist()}
            names = list(members)
            name = names[0] if len(names) == 1 else choose(names)
            if name is None:
                listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
                raise InputError(f"{path} holds {listed or 'nothing'}, but a depth file must be a single array")
            with archive.open(members[name]) as stored:
                values = _array(stored, members[name].file_size, path, max_pixels, len(data))
                if stored.read(1):  # at the end the checksum is compared
                    raise ValueError("more than one array")
                return values, name


def read_arrays(data: bytes, name: str, *, most: int = MOST_UNPACKED) -> dict[str, np.ndarray]:
    """All arrays of an .npz, of any shape.

    Args:
        data: the file's bytes.
        name: of the file, for messages.
        most: the largest number of bytes that its arrays may take in all.

    Raises:
        ValueError: it is no such file, holds objects, or unpacks to more.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(each.file_size for each in archive.infolist())
        if size > most:
            raise ValueError(f"{name} unpacks to {size / 1e6:.0f} MB, but at most {most / 1e6:.0f} MB are read")
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except ValueError:
        raise
    except Exception as error:  # as below
        raise ValueError(f"{name} is no whole .npz file: {one_line(error)}") from error


@contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory: make it smaller") from error
    except Exception as error:  # zipfile, zlib, struct, ast…: a broken file has many
        raise InputError(
            f"{path} is not a NumPy file with an array of numbers, or is incomplete: write it again"
        ) from error


def _array(file: IO[bytes], size: int, path: Path, limit: int | None, stored: int) -> np.ndarray:
    """Read one array of a stream of `size` bytes; `stored` is the size of the file that it is packed in."""
    head = file.read(8)
    if head[:6] != b"\x93NUMPY" or head[6:7] not in (b"\1", b"\2", b"\3"):
        raise ValueError("no array")
    width, form = (2, "<H") if head[6] == 1 else (4, "<I")
    (length,) = struct.unpack(form, file.read(width))
    if length > LONGEST_HEADER:
        raise ValueError("a long header")
    header = ast.literal_eval(file.read(length).decode("utf-8" if head[6] == 3 else "latin-1"))
    shape, dtype = tuple(header["shape"]), np.dtype(header["descr"])
    if not all(type(side) is int and side >= 0 for side in shape) or type(header["fortran_order"]) is not bool:
        raise ValueError("no shape")
    if dtype.kind not in "biuf":
        if dtype.hasobject:
            raise ValueError("objects")
        raise InputError(f"{path}: a depth map must hold real numbers, but this one holds {dtype}")
    if len(shape) != 2:
        raise InputError(f"{path}: a depth map must have height × width values, but this one has the shape {shape}")
    check_pixels(path, shape[1], shape[0], limit, stored=stored)
    due = math.prod(shape) * dtype.itemsize
    if size - 8 - width - length < due:
        raise ValueError("incomplete")
    values = np.frombuffer(file.read(due), dtype)  # a short read fails in reshape
    return values.reshape(shape, order="F" if header["fortran_order"] else "C")
