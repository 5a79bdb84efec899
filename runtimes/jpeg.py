"""The outside of a JPEG file: its segments, where its picture ends, and the pictures behind it. Pure Python."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

APP1, APP2 = 0xE1, 0xE2
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
BARE = frozenset((0x01, *range(0xD0, 0xD8)))
"""Markers without a length: TEM and the restarts."""

MOST_PICTURES = 64
"""Entries of a multi-picture index that are looked at."""


@dataclass(frozen=True)
class Listed:
    """A picture that the multi-picture index (MPF) lists behind the first one: where it begins, and its bytes."""

    offset: int
    content: bytes


def segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Marker, offset of the content, and content of each segment before the first scan."""
    at = 2 if data.startswith(b"\xff\xd8") else len(data)
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != START_OF_SCAN:
        if data[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        yield data[at + 1], at + 4, data[at + 4 : at + 2 + length]
        at += 2 + max(2, length)


def end_of_picture(data: bytes) -> int | None:
    """The offset behind the first picture's end marker; None where it can't be found."""
    at = 2 if data.startswith(b"\xff\xd8") else len(data)
    while at + 1 < len(data):
        marker = data[at + 1]
        if data[at] != 0xFF:
            return None
        if marker == 0xFF:
            at += 1
        elif marker == END_OF_IMAGE:
            return at + 2
        elif marker in BARE:
            at += 2
        elif at + 4 > len(data):
            return None
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
            if marker == START_OF_SCAN:
                at = _end_of_scan(data, at)
    return None


def _end_of_scan(data: bytes, at: int) -> int:
    """The offset of the first marker in entropy-coded data that is no restart and no stuffed 0."""
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        if data[at + 1] == 0x00 or data[at + 1] in BARE:
            at += 2
        else:
            return at
    return len(data)


def listed_pictures(data: bytes) -> list[Listed]:
    """The pictures behind the first one that the MPF segment lists and that are in the file."""
    for marker, offset, content in segments(data):
        if marker == APP2 and content.startswith(b"MPF\0"):
            try:
                return list(_listed(data, offset + 4, content[4:]))
            except struct.error:
                return []
    return []


def _listed(data: bytes, start: int, index: bytes) -> Iterator[Listed]:
    """Of the index, a TIFF directory; offsets count from `start`. CIPA DC-007: tag 0xB002, 16 bytes a picture."""
    order = "<" if index[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", index, 4)
    (count,) = struct.unpack_from(f"{order}H", index, at)
    for number in range(min(count, MOST_PICTURES)):
        tag, _, length, place = struct.unpack_from(f"{order}HHII", index, at + 2 + 12 * number)
        if tag != 0xB002:
            continue
        for entry in range(1, min(length // 16, MOST_PICTURES)):  # the first is the photo itself
            _, size, offset = struct.unpack_from(f"{order}III", index, place + 16 * entry)
            begin = start + offset
            if size > 0 and offset and begin + size <= len(data):
                yield Listed(begin, data[begin : begin + size])
