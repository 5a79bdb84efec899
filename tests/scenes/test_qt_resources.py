"""Qt's resource files, made here by their format."""

import struct
import zlib

import pytest

from deeplens.console.errors import MismatchError
from deeplens.scenes.qt_resources import COMPRESSED, FOLDER, ZSTD, read_resources

FILES = {"/a/one.webp": b"RIFF one", "/a/deep/two.txt": b"two" * 50}


def resources(
    files: dict[str, bytes], *, version: int = 3, compressed: tuple[str, ...] = (), zstd: bool = False
) -> bytes:
    """An .rcc file: header, data, names and tree, in this order."""
    nodes: list[tuple[str, dict | bytes, str]] = [("", _tree(files), "")]
    data, names, rows, at = b"", b"", [], 0
    while at < len(nodes):
        name, content, path = nodes[at]
        name_at = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        if isinstance(content, dict):
            rows.append(struct.pack(">IHII", name_at, FOLDER, len(content), len(nodes)))
            nodes += [(child, inner, f"{path}/{child}") for child, inner in content.items()]
        else:
            flags = COMPRESSED if path in compressed else ZSTD if zstd else 0
            stored = struct.pack(">I", len(content)) + zlib.compress(content) if flags == COMPRESSED else content
            rows.append(struct.pack(">IHHHI", name_at, flags, 0, 1, len(data)))
            data += struct.pack(">I", len(stored)) + stored
        at += 1
    stamp = b"" if version < 2 else bytes(8)
    start = 24
    header = struct.pack(">4sIIIII", b"qres", version, start + len(data) + len(names), start, start + len(data), 0)
    return header + data + names + b"".join(row + stamp for row in rows)


def _tree(files: dict[str, bytes]) -> dict:
    root: dict = {}
    for path, content in files.items():
        *folders, name = path.strip("/").split("/")
        here = root
        for folder in folders:
            here = here.setdefault(folder, {})
        here[name] = content
    return root


@pytest.mark.parametrize("version", [1, 3])
def test_wanted_files_are_read(version: int) -> None:
    content = resources(FILES, version=version, compressed=("/a/deep/two.txt",))
    assert read_resources(content, frozenset(FILES), source="x") == FILES
    assert read_resources(content, frozenset({"/a/one.webp", "/b"}), source="x") == {"/a/one.webp": b"RIFF one"}


@pytest.mark.parametrize(
    "content",
    [b"", b"no resources at all, but long enough", resources(FILES)[:-30], resources(FILES, zstd=True)],
    ids=["empty", "other", "cut", "zstd"],
)
def test_what_can_not_be_read(content: bytes) -> None:
    with pytest.raises(MismatchError, match=r"some\.rcc"):
        read_resources(content, frozenset(FILES), source="some.rcc")
