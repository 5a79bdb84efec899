"""XMP of a JPEG file: its packets, their properties, and the files that its container lists. Standard library only."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from deeplens.console.errors import InputError

STANDARD = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED = b"http://ns.adobe.com/xmp/extension/\0"

ITEM = ("http://ns.google.com/photos/dd/1.0/item/", "http://ns.google.com/photos/1.0/container/item/")
"""Namespaces of an item of the container: Dynamic Depth 1.0, and what Google's cameras write since."""


@dataclass(frozen=True)
class Item:
    """A file behind the photo: what it is called in either namespace ("android/depthmap" or "Depth"), and its bytes."""

    name: str
    content: bytes


class Xmp:
    """The packets of a JPEG file."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            InputError: a file that can't be read, or XMP that is not XML.
        """
        try:
            self._data = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} can't be read: {error.strerror}") from error
        self._path = path
        self._trees = [self._parsed(packet) for packet in _packets(self._data)]

    def value(self, namespace: str, name: str) -> str | None:
        """The first property of that name in any packet, written as an attribute or as an element."""
        tag = f"{{{namespace}}}{name}"
        for tree in self._trees:
            for element in tree.iter():
                found = element.get(tag)
                if found is None and element.tag == tag:
                    found = element.text
                if found is not None and found.strip():
                    return found.strip()
        return None

    def items(self) -> list[Item]:
        """The files that follow the photo, in their order: they end where the file ends.

        Raises:
            InputError: the lengths do not fit the file.
        """
        listed = [found for tree in self._trees for element in tree.iter() if (found := _item(element))]
        items, end = [], len(self._data)
        for name, length in reversed(listed[1:]):  # the first is the photo itself
            if not 0 <= length <= end:
                raise InputError(
                    f"{self._path} lists a file of {length} bytes that is not in it: it is incomplete, copy it again"
                )
            items.append(Item(name, self._data[end - length : end]))
            end -= length
        return items[::-1]

    def _parsed(self, packet: bytes) -> ElementTree.Element:
        if b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
            raise InputError(f"{self._path} has XMP that defines its own entities, which is not supported")
        try:
            return ElementTree.fromstring(packet.strip(b"\0 \r\n\t"))
        except ElementTree.ParseError as error:
            raise InputError(f"{self._path} has XMP that is not valid XML: {error}") from error


def _item(element: ElementTree.Element) -> tuple[str, int] | None:
    """Name and length of an item of the container; None for any other element."""
    for namespace in ITEM:
        properties = {name: element.get(f"{{{namespace}}}{name}") for name in ("Mime", "Length", "DataURI", "Semantic")}
        for child in element:
            if child.tag.startswith(f"{{{namespace}}}"):
                properties[child.tag.removeprefix(f"{{{namespace}}}")] = child.text
        if properties["Mime"] is not None:
            length = properties["Length"] or "0"
            return properties["DataURI"] or properties["Semantic"] or "", int(length) if length.isdigit() else -1
    return None


def _packets(data: bytes) -> Iterator[bytes]:
    """The standard packet, and the extended one put together from its parts; those that are there."""
    parts: dict[int, bytes] = {}
    for content in _app1(data):
        if content.startswith(STANDARD):
            yield content[len(STANDARD) :]
        elif content.startswith(EXTENDED):
            body = content[len(EXTENDED) :]  # GUID (32), full length (4), offset (4), the part
            if len(body) > 40:
                parts[struct.unpack(">I", body[36:40])[0]] = body[40:]
    if parts:
        yield b"".join(parts[offset] for offset in sorted(parts))


def _app1(data: bytes) -> Iterator[bytes]:
    """What the APP1 segments before the first scan hold."""
    at = 2 if data.startswith(b"\xff\xd8") else len(data)
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        if data[at + 1] == 0xE1:
            yield data[at + 4 : at + 2 + length]
        at += 2 + max(2, length)
