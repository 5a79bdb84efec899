"""EXIF as bytes: read, corrected for a picture that was turned and converted, written again. Standard library only.

Texts are kept as they are, in whatever encoding; Pillow would put question marks where they are not ASCII. A maker's
note stays at its place where it can, because it may hold offsets into the block. Previews are left out: they show the
photo as it was.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

PREFIX = b"Exif\0\0"
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
"""Type of a value → bytes of one."""

SHORT, LONG, ASCII, BYTE, UNDEFINED = 3, 4, 2, 1, 7
EXIF, GPS, INTEROP, MAKER_NOTE = 0x8769, 0x8825, 0xA005, 0x927C
ORIENTATION, WIDTH, HEIGHT, COLOUR_SPACE, INDEX = 0x0112, 0xA002, 0xA003, 0xA001, 0x0001
IPTC, XMP, PHOTOSHOP = 0x83BB, 0x02BC, 0x8649

LAYOUT = frozenset(
    (
        *(0x00FE, 0x00FF, 0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x010A, 0x0111, 0x0112, 0x0115, 0x0116, 0x0117),
        *(0x0118, 0x0119, 0x011C, 0x0120, 0x0121, 0x0122, 0x0123, 0x0124, 0x0125, 0x012D, 0x013D, 0x013E, 0x013F),
        *(0x0140, 0x0142, 0x0143, 0x0144, 0x0145, 0x014A, 0x0152, 0x0153, 0x0154, 0x0155, 0x015B, 0x0200, 0x0201),
        *(0x0202, 0x0207, 0x0208, 0x0209, 0x0211, 0x0212, 0x0213, 0x0214, 0x8773, 0xA480, 0xA481, 0xC4A5),
        *(IPTC, XMP, PHOTOSHOP, 0xA500),
    )
)
"""Tags of how pixels are stored and what their colours are, of previews, and of what is carried beside EXIF."""

MOST_ENTRIES = 2_000


@dataclass(frozen=True)
class Entry:
    """A value of a directory: its type (`SIZES`), how many there are, and their bytes in the block's order."""

    kind: int
    count: int
    value: bytes


Directory = dict[int, Entry]


@dataclass
class Block:
    """What is kept of an EXIF block.

    Attributes:
        order: "<" or ">".
        main, exif, gps, interop: the directories, without pointers to each other.
        pinned: offset of the maker's note in the block; None: it may stand anywhere.
    """

    order: str
    main: Directory = field(default_factory=dict)
    exif: Directory = field(default_factory=dict)
    gps: Directory = field(default_factory=dict)
    interop: Directory = field(default_factory=dict)
    pinned: int | None = None


def read_block(data: bytes) -> Block:
    """Read an EXIF block, with or without its prefix, or the first directory of a TIFF file.

    Raises:
        ValueError: it is none.
    """
    data = data[len(PREFIX) :] if data.startswith(PREFIX) else data
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[:4]))
    if order is None:
        raise ValueError("it does not begin as TIFF does")
    try:
        (first,) = struct.unpack_from(f"{order}I", data, 4)
        main, _ = _directory(data, order, first)
        block = Block(order, main)
        block.exif, places = _sub(data, order, main, EXIF)
        block.gps, _ = _sub(data, order, main, GPS)
        block.interop, _ = _sub(data, order, block.exif, INTEROP)
        block.pinned = places.get(MAKER_NOTE)
    except struct.error as error:
        raise ValueError("it ends too early") from error
    return block


def _sub(data: bytes, order: str, parent: Directory, tag: int) -> tuple[Directory, dict[int, int]]:
    entry = parent.pop(tag, None)
    if entry is None or entry.kind not in (LONG, 13) or len(entry.value) < 4:
        return {}, {}
    try:
        return _directory(data, order, struct.unpack(f"{order}I", entry.value[:4])[0])
    except struct.error:
        return {}, {}


def _directory(data: bytes, order: str, at: int) -> tuple[Directory, dict[int, int]]:
    """The entries of a directory, and where the longer values stand; a value outside the data is passed over."""
    (count,) = struct.unpack_from(f"{order}H", data, at)
    entries: Directory = {}
    places: dict[int, int] = {}
    for index in range(min(count, MOST_ENTRIES)):
        where = at + 2 + 12 * index
        tag, kind, number = struct.unpack_from(f"{order}HHI", data, where)
        length = SIZES.get(kind, 0) * number
        place = where + 8 if length <= 4 else struct.unpack_from(f"{order}I", data, where + 8)[0]
        if length and place + length <= len(data):
            entries[tag] = Entry(kind, number, bytes(data[place : place + length]))
            if length > 4:
                places[tag] = place
    return entries, places


def described(block: Block) -> Block:
    """The block without what tells of the layout, the orientation and the colours of the old pixels."""
    main = {tag: entry for tag, entry in block.main.items() if tag not in LAYOUT}
    exif = {tag: entry for tag, entry in block.exif.items() if tag not in LAYOUT}
    interop = dict(block.interop)
    if COLOUR_SPACE in exif:
        exif[COLOUR_SPACE] = Entry(SHORT, 1, struct.pack(f"{block.order}H", 1))
    if INDEX in interop:
        interop[INDEX] = Entry(ASCII, 4, b"R98\0")
    return replace(block, main=main, exif=exif, interop=interop)


def with_size(block: Block, width: int, height: int) -> Block:
    """The block with the size of the picture, where it tells one."""
    exif = dict(block.exif)
    for tag, side in ((WIDTH, width), (HEIGHT, height)):
        if tag in exif:
            exif[tag] = Entry(LONG, 1, struct.pack(f"{block.order}I", side))
    return replace(block, exif=exif)


def block_bytes(block: Block) -> bytes:
    """The block as it stands in a file, without prefix; empty where it says nothing."""
    if not (block.main or block.exif or block.gps):
        return b""
    head = {"<": b"II*\0", ">": b"MM\0*"}[block.order] + struct.pack(f"{block.order}I", 8)
    return head + laid_out(block, {}, start=8, order=block.order)[0]


def laid_out(block: Block, others: Mapping[int, Entry], *, start: int, order: str) -> tuple[bytes, int]:
    """The directories of a block as bytes that stand at an offset, and where the main one begins (it is first).

    Args:
        others: further entries of the main directory, in `order`.
        start: the offset of the bytes.
        order: "<" or ">": values are turned where the block's is another.
    """
    turn = order != block.order
    main, exif, gps, interop = (
        {tag: _turned(entry) if turn else entry for tag, entry in each.items()}
        for each in (block.main, block.exif, block.gps, block.interop)
    )
    main = {**main, **others}
    note = exif.get(MAKER_NOTE)
    keep = None
    if note is not None and block.pinned is not None and not turn and start == 8 and len(note.value) > 4:
        keep = block.pinned, block.pinned + len(note.value)
    out = bytearray()

    def place(size: int) -> int:
        """The next free offset for `size` bytes, even, clear of the maker's note."""
        at = start + len(out) + (start + len(out)) % 2
        if keep is not None and at < keep[1] and at + size > keep[0]:
            at = keep[1] + keep[1] % 2
        return at

    def put(data: bytes, at: int) -> None:
        missing = at - start + len(data) - len(out)
        out.extend(bytes(max(0, missing)))
        out[at - start : at - start + len(data)] = data

    def reserve(size: int) -> int:
        at = place(size)
        put(bytes(size), at)
        return at

    pointers = {EXIF: exif or interop, GPS: gps}
    directories = [(main, [tag for tag, each in pointers.items() if each])]
    directories += [(exif, [INTEROP] if interop else [])] if exif or interop else []
    directories += [(each, []) for each in (gps, interop) if each]
    places = [reserve(2 + 12 * (len(each) + len(extra)) + 4) for each, extra in directories]
    where = dict(zip([id(each) for each, _ in directories], places, strict=True))
    targets = {EXIF: where.get(id(exif)), GPS: where.get(id(gps)), INTEROP: where.get(id(interop))}
    for (entries, extra), at in zip(directories, places, strict=True):
        every = {**entries, **{tag: Entry(LONG, 1, struct.pack(f"{order}I", targets[tag])) for tag in extra}}
        lines = b""
        for tag in sorted(every):
            entry = every[tag]
            if len(entry.value) <= 4:
                value = entry.value.ljust(4, b"\0")
            else:
                spot = (
                    keep[0] if keep is not None and entries is exif and tag == MAKER_NOTE else place(len(entry.value))
                )
                put(entry.value, spot)
                value = struct.pack(f"{order}I", spot)
            lines += struct.pack(f"{order}HHI", tag, entry.kind, entry.count) + value
        put(struct.pack(f"{order}H", len(every)) + lines + bytes(4), at)
    return bytes(out), places[0]


def _turned(entry: Entry) -> Entry:
    """An entry in the other byte order."""
    step = {5: 4, 10: 4}.get(entry.kind, SIZES.get(entry.kind, 1))
    value = b"".join(entry.value[at : at + step][::-1] for at in range(0, len(entry.value), step))
    return replace(entry, value=value)


def fitted(block: Block, most: int) -> tuple[Block, list[int]]:
    """A block of at most `most` bytes, and the tags of what was left out for that: the maker's note, then the longest.

    The maker's note gives up its place before it is left out.
    """
    left_out: list[int] = []
    if len(block_bytes(block)) > most:
        block = replace(block, pinned=None)
    while len(block_bytes(block)) > most:
        parts = (block.exif, block.main, block.gps, block.interop)
        longest = max(
            ((tag == MAKER_NOTE, len(entry.value), tag, part) for part in parts for tag, entry in part.items()),
            key=lambda each: each[:3],
        )
        longest[3].pop(longest[2])
        left_out.append(longest[2])
    return block, left_out


def in_tiff(encoded: bytes, block: Block | None, further: Mapping[int, bytes]) -> bytes:
    """A TIFF file with the block in it: its first directory is written anew at the end.

    Args:
        encoded: a TIFF file that begins with its offset, not a BigTIFF.
        further: tag → bytes, such as XMP and IPTC.
    """
    order = "<" if encoded[:2] == b"II" else ">"
    (first,) = struct.unpack_from(f"{order}I", encoded, 4)
    own, _ = _directory(encoded, order, first)
    extra = {tag: Entry(UNDEFINED if tag == IPTC else BYTE, len(value), value) for tag, value in further.items()}
    padded = encoded + b"\0" * (len(encoded) % 2)
    described, at = laid_out(block or Block(order), {**extra, **own}, start=len(padded), order=order)
    return padded[:4] + struct.pack(f"{order}I", at) + padded[8:] + described
