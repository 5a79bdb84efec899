"""XMP of a JPEG file: its packets, their properties, and the files that its container lists. Standard library only."""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from deeplens.console.errors import InputError
from deeplens.runtimes.jpeg import APP1, end_of_picture, segments

STANDARD = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED = b"http://ns.adobe.com/xmp/extension/\0"
EXTENSION = ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP")
"""Property of the standard packet that names the extended one that belongs to it."""

ITEM = ("http://ns.google.com/photos/dd/1.0/item/", "http://ns.google.com/photos/1.0/container/item/")
"""Namespaces of an item of the container: Dynamic Depth 1.0, and what Google's cameras write since."""

SIGNATURES = {"image/jpeg": b"\xff\xd8", "image/png": b"\x89PNG"}
"""Mime type → how a file of that type begins."""

MOST_ELEMENTS = 20_000
"""A packet with more elements is refused: one of a camera has some hundred."""

DEEPEST = 64
"""Elements within each other; those of a camera are some ten deep."""


@dataclass(frozen=True)
class Item:
    """A file behind the photo: what it is called in either namespace ("android/depthmap" or "Depth"), and its bytes."""

    name: str
    content: bytes


@dataclass
class Listed:
    """What the container says about a file: its properties by the names without their namespace."""

    properties: dict[str, str]

    @property
    def name(self) -> str:
        return self.properties.get("DataURI") or self.properties.get("Semantic") or ""

    def number(self, name: str) -> int:
        """A property that is a count of bytes: 0 where it is missing, −1 where it is none."""
        text = self.properties.get(name, "0").strip() or "0"
        return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else -1


@dataclass
class Packet:
    """The properties of one packet by namespace and name, the first of each, and what its container lists."""

    values: dict[tuple[str, str], str] = field(default_factory=dict)
    listed: list[Listed] = field(default_factory=list)


class Xmp:
    """The packets of a JPEG file."""

    def __init__(self, path: Path, data: bytes) -> None:
        """
        Args:
            path: of the file, for messages.
            data: its bytes.

        Raises:
            InputError: XMP that is not XML, defines entities of its own, or has too many elements.
        """
        self._data = data
        self._path = path
        contents = [content for marker, _, content in segments(data) if marker == APP1]
        standard = next((each[len(STANDARD) :] for each in contents if each.startswith(STANDARD)), None)
        self._packets = [] if standard is None else [self._parsed(standard)]
        extended = _extended(contents, self.value(*EXTENSION))
        if extended:
            self._packets.append(self._parsed(extended))

    def value(self, namespace: str, name: str) -> str | None:
        """The first property of that name in any packet, written as an attribute or as an element."""
        return next((each.values[namespace, name] for each in self._packets if (namespace, name) in each.values), None)

    def items(self) -> list[Item]:
        """The files that follow the photo, in their order.

        They begin where the photo's picture ends, or end where the file ends: cameras append trailers of their own,
        and other programs leave bytes between.

        Raises:
            InputError: the lengths do not fit the file.
        """
        listed = [each for packet in self._packets for each in packet.listed]
        lengths = [each.number("Length") for each in listed[1:]]
        wrong = next((each for each in lengths if not 0 <= each <= len(self._data)), None)
        if wrong is not None:
            raise InputError(
                f"{self._path} lists a file of {wrong} bytes that is not in it: it is incomplete, copy it again"
                if wrong >= 0
                else f"{self._path} lists a file whose length is no number: it is broken, copy it again"
            )
        if not lengths:
            return []
        end = end_of_picture(self._data)
        starts = [] if end is None else [end + max(0, listed[0].number("Padding")), end]
        starts.append(len(self._data) - sum(lengths))
        for start in starts:
            found = self._cut(start, listed[1:], lengths)
            if found is not None:
                return found
        raise InputError(
            f"{self._path} lists {len(lengths)} files of {sum(lengths)} bytes behind its photo, but they are not where "
            "it says: it is incomplete or was changed by a program, copy the original again"
        )

    def _cut(self, start: int, listed: list[Listed], lengths: list[int]) -> list[Item] | None:
        """The files from `start` on; None if one of them does not begin as files of its type do."""
        items, at = [], start
        for each, length in zip(listed, lengths, strict=True):
            content = self._data[at : at + length] if at >= 0 else b""
            signature = SIGNATURES.get(each.properties.get("Mime", "").strip().lower(), b"")
            if len(content) < length or (length and not content.startswith(signature)):
                return None
            items.append(Item(each.name, content))
            at += length + max(0, each.number("Padding"))
        return items

    def _parsed(self, packet: bytes) -> Packet:
        try:
            return _Reader().read(packet)
        except expat.ExpatError as error:
            raise InputError(f"{self._path} has XMP that is not valid XML: {error}") from error
        except (ValueError, LookupError) as error:  # an encoding that Python does not know
            raise InputError(f"{self._path} has XMP that can't be read: {error}") from error
        except InputError as error:
            raise InputError(f"{self._path} {error}") from error


class _Reader:
    """Reads one packet in one pass; what stands behind its outermost element is passed over."""

    def __init__(self) -> None:
        self._packet = Packet()
        self._open: list[tuple[str, list[str]]] = []
        self._items: list[tuple[int, Listed]] = []
        self._count = 0
        self._ended = False

    def read(self, packet: bytes) -> Packet:
        parser = expat.ParserCreate(namespace_separator="\n")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        try:
            parser.Parse(packet.lstrip(b"\0 \r\n\t"), True)
        except expat.ExpatError:
            if not self._ended:
                raise
        return self._packet

    def _refuse(self, *_details: object) -> None:
        raise InputError("has XMP that defines its own entities, which is not supported")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MOST_ELEMENTS or len(self._open) >= DEEPEST:
            raise InputError(f"has XMP of more than {MOST_ELEMENTS} elements, or nested deeper than {DEEPEST}")
        self._open.append((tag, []))
        for name, text in attributes.items():
            self._note(name, text)
        for namespace in ITEM:
            own = {
                name.removeprefix(f"{namespace}\n"): text
                for name, text in attributes.items()
                if name.startswith(f"{namespace}\n")
            }
            if "Mime" in own:
                self._list(len(self._open), own)

    def _list(self, depth: int, properties: dict[str, str]) -> None:
        item = Listed(properties)
        self._items.append((depth, item))
        self._packet.listed.append(item)

    def _text(self, text: str) -> None:
        if self._open:
            self._open[-1][1].append(text)

    def _end(self, tag: str) -> None:
        _, parts = self._open.pop()
        text = "".join(parts)
        self._note(tag, text)
        depth = len(self._open)  # of the parent
        namespace, _, name = tag.rpartition("\n")
        if namespace in ITEM and text.strip():
            if not (self._items and self._items[-1][0] == depth):
                self._list(depth, {})
            self._items[-1][1].properties.setdefault(name, text.strip())
        while self._items and self._items[-1][0] > depth:
            self._items.pop()
        if not self._open:
            self._ended = True

    def _note(self, name: str, text: str) -> None:
        if text and (text := text.strip()):
            namespace, _, local = name.rpartition("\n")
            self._packet.values.setdefault((namespace, local), text)


def _extended(contents: list[bytes], wanted: str | None) -> bytes:
    """The extended packet, put together from its parts: that of the GUID `wanted`, or else of the first one there is.

    A part is GUID (32), full length (4), offset (4), and its bytes.
    """
    packets: dict[bytes, dict[int, bytes]] = {}
    for content in contents:
        body = content.removeprefix(EXTENDED)
        if len(body) < len(content) and len(body) > 40:
            packets.setdefault(body[:32], {})[struct.unpack(">I", body[36:40])[0]] = body[40:]
    parts = packets.get((wanted or "").encode("ascii", "replace")) or next(iter(packets.values()), {})
    return b"".join(parts[offset] for offset in sorted(parts))
