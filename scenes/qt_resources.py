"""Reads Qt's compiled resource files (.rcc), in which some Debian packages keep their pictures.

The file is a header, a tree of nodes, a table of names and the data, all big-endian. A node is 14 bytes, since version
2 22 (a time stamp follows): the offset of its name, flags, then for a folder the number of its children and the first
child's number, for a file its country and language and the offset of its data. A name is its length, a hash and UTF-16;
data is its length and the bytes, which zlib or zstd may have compressed.
"""

import struct
import zlib

from deeplens.console.errors import MismatchError

MAGIC = b"qres"
COMPRESSED, FOLDER, ZSTD = 1, 2, 4


def read_resources(content: bytes, wanted: frozenset[str], *, source: str) -> dict[str, bytes]:
    """The files named in `wanted`, as {path in the resources, from "/": bytes}; what is not there is left out.

    Args:
        content: a whole .rcc file.
        source: what to call it in a message.

    Raises:
        MismatchError: it is no .rcc file, cut short, or a wanted file is compressed by zstd.
    """
    try:
        magic, version, tree, data, names = struct.unpack_from(">4sIIII", content)
        if magic != MAGIC:
            raise MismatchError(f"{source} is no Qt resource file: remove it and fetch again")
        size, found = 14 if version < 2 else 22, {}
        folders = [(0, "")]
        while folders:
            node, path = folders.pop()
            count, first = struct.unpack_from(">II", content, tree + node * size + 6)
            for child in range(first, first + count):
                at = tree + child * size
                name, flags = struct.unpack_from(">IH", content, at)
                (length,) = struct.unpack_from(">H", content, names + name)
                start = names + name + 6
                here = f"{path}/{content[start : start + 2 * length].decode('utf-16-be')}"
                if flags & FOLDER:
                    folders.append((child, here))
                elif here in wanted:
                    (offset,) = struct.unpack_from(">I", content, at + 10)
                    found[here] = _data(content, data + offset, flags, source=f"{here} in {source}")
    except (struct.error, UnicodeDecodeError, zlib.error) as error:
        raise MismatchError(f"{source} is not a whole Qt resource file ({error}): remove it and fetch again") from error
    return found


def _data(content: bytes, at: int, flags: int, *, source: str) -> bytes:
    (length,) = struct.unpack_from(">I", content, at)
    stored = content[at + 4 : at + 4 + length]
    if len(stored) != length:
        raise MismatchError(f"{source} is cut short: remove it and fetch again")
    if flags & ZSTD:
        raise MismatchError(f"{source} is compressed by zstd, which is not read here")
    return zlib.decompress(stored[4:]) if flags & COMPRESSED else stored
