"""Is a file of a depth network whole? Looked at without the libraries that run it, before it is kept."""

import struct
import zipfile
from pathlib import Path

from deeplens.console.errors import InputError, MissingError, one_line
from deeplens.console.inputs import parse_json, read_bytes, read_json
from deeplens.runtimes.onnx_bytes import check_self_contained

HEADER = 100_000_000
"""Largest header of a safetensors file, in bytes, as the format says."""


def check_whole(path: Path) -> None:
    """Raise InputError where a file is not what its suffix says, or is cut short.

    JSON is read, of safetensors the header and the length, of PyTorch's files the archive. ONNX files are loaded where
    ONNX Runtime is installed.

    Raises:
        InputError: as said.
    """
    checks = {".json": _json, ".safetensors": _safetensors, ".onnx": _onnx, ".pt": _archive, ".pth": _archive}
    check = checks.get(path.suffix.lower())
    if check is None:
        known = ", ".join(checks)
        raise InputError(f"{path.name}: files of depth networks end in {known}, not in '{path.suffix}'")
    try:
        if path.stat().st_size == 0:
            raise ValueError("it is empty")
        check(path)
    except (ValueError, KeyError, TypeError, struct.error, OSError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({one_line(error)}): bring the file again") from error


def _json(path: Path) -> None:
    if not isinstance(read_json(path), dict):
        raise TypeError("it holds no object")


def _safetensors(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(size - 8, HEADER):
            raise ValueError("its header is cut short")
        tensors = parse_json(file.read(length).decode())
    ends = [each["data_offsets"][1] for name, each in tensors.items() if name != "__metadata__"]
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise ValueError(f"it has {size} bytes, its header says {expected}")


def _archive(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no archive of PyTorch")
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
    if broken is not None:
        raise ValueError(f"{broken} in it is broken")


def _onnx(path: Path) -> None:
    from deeplens.runtimes.ort import import_onnxruntime

    try:
        ort = import_onnxruntime()
    except MissingError:
        return
    data = read_bytes(path)
    check_self_contained(data, path.name)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise ValueError(one_line(error)) from error
