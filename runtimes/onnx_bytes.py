"""What an ONNX file says before a library loads it: whether it asks for other files. Reads the wire format; no `onnx`.

A graph may keep its weights in files of their own, named by paths in the graph. Such a file is no part of what was
hashed, so a graph that has one is refused.
"""

from collections.abc import Iterator

from deeplens.console.errors import InputError

DEEPEST = 100
"""Graphs within nodes within graphs; protobuf's own limit."""

VARINT, WIDE, BYTES, NARROW = 0, 1, 2, 5
"""Wire types: a number of any length, 8 bytes, bytes with their length, 4 bytes."""

INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Message → number of a field that may hold a tensor → what the field is. From onnx.proto."""

EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""Fields of a tensor: where its data lies, and 1 if that is another file."""


def check_self_contained(data: bytes, name: str) -> None:
    """Refuse a graph that keeps data in other files.

    Args:
        data: the serialised model.
        name: of the file, for messages.

    Raises:
        InputError: it does, or the bytes are no ONNX model.
    """
    try:
        outside = _looks_outside(memoryview(data), "model", 0)
    except (ValueError, IndexError, KeyError) as error:
        raise InputError(f"{name} is not an ONNX model, or is incomplete: copy it again") from error
    if outside:
        raise InputError(
            f"{name} keeps weights in another file (external data), which no hash covers: save it again in one file, "
            "with onnx.save(onnx.load(FILE), FILE)"
        )


def _looks_outside(message: memoryview, kind: str, depth: int) -> bool:
    if depth > DEEPEST:
        raise ValueError("nested too deep")
    if kind == "tensor":
        return any(field == EXTERNAL_DATA or (field == DATA_LOCATION and value) for field, value in _fields(message))
    inside = INSIDE[kind]
    return any(
        isinstance(value, memoryview) and _looks_outside(value, inside[field], depth + 1)
        for field, value in _fields(message)
        if field in inside
    )


def _fields(message: memoryview) -> Iterator[tuple[int, "int | memoryview"]]:
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == BYTES:
            length, at = _varint(message, at)
        else:
            length = {WIDE: 8, NARROW: 4}[kind]
        if at + length > len(message):
            raise ValueError("incomplete")
        if kind == BYTES:
            yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a long number")
