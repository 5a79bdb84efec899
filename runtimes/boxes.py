"""The boxes of ISO base media files (HEIC, AVIF) and JPEG 2000: what they say about colour. Standard library only."""

import struct
from collections.abc import Iterator

MOST = 4_000
"""Boxes that are looked at in one place."""


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Type, and begin and end of the content, of each box in a range."""
    end = len(data) if end is None else end
    for _ in range(MOST):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1 and start + 16 <= end:
            (size,), head = struct.unpack_from(">Q", data, start + 8), 16
        if size == 0:
            size = end - start
        if size < head or start + size > end:
            return
        yield kind, start + head, start + size
        start += size


def inside(data: bytes, *path: bytes) -> tuple[int, int] | None:
    """Begin and end of the content of the first box at a path such as meta, iprp, ipco."""
    place = 0, len(data)
    for name in path:
        found = next((each for each in boxes(data, *place) if each[0] == name), None)
        if found is None:
            return None
        place = found[1] + (4 if name == b"meta" else 0), found[2]  # a full box: version and flags come first
    return place


def primary_properties(data: bytes) -> list[tuple[bytes, bytes]]:
    """Type and content of the properties of a HEIC's or AVIF's first picture; none where they can't be read."""
    try:
        return _primary_properties(data)
    except (struct.error, IndexError):
        return []


def _primary_properties(data: bytes) -> list[tuple[bytes, bytes]]:
    item, known, links = inside(data, b"meta", b"pitm"), inside(data, b"meta", b"iprp", b"ipco"), None
    links = inside(data, b"meta", b"iprp", b"ipma")
    if item is None or known is None or links is None:
        return []
    (primary,) = struct.unpack_from(">I" if data[item[0]] else ">H", data, item[0] + 4)
    properties = [(kind, data[begin:end]) for kind, begin, end in boxes(data, *known)]
    at = links[0]
    version, wide = data[at], data[at + 3] & 1
    (count,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(min(count, MOST)):
        (number,) = struct.unpack_from(">I" if version else ">H", data, at)
        at += 4 if version else 2
        amount, at = data[at], at + 1
        step, mask = (2, 0x7FFF) if wide else (1, 0x7F)
        indices = [int.from_bytes(data[at + step * i : at + step * (i + 1)], "big") & mask for i in range(amount)]
        if number == primary:
            return [properties[index - 1] for index in indices if 0 < index <= len(properties)]
        at += step * amount
    return []


def coded_colour(data: bytes) -> tuple[int, int] | None:
    """Primaries and transfer function, as codes of H.273, of a HEIC's or AVIF's first picture; None: not said."""
    for kind, content in primary_properties(data):
        if kind == b"colr" and content[:4] == b"nclx" and len(content) >= 8:
            primaries, transfer = struct.unpack_from(">HH", content, 4)
            return primaries, transfer
    return None


def jpeg_2000_profile(data: bytes) -> bytes | None:
    """The ICC profile in a JPEG 2000 file; None: it has none."""
    place = inside(data, b"jp2h", b"colr")
    return data[place[0] + 3 : place[1]] if place is not None and data[place[0]] in (2, 3) else None
