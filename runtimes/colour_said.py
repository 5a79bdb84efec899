"""What a photo's file says about its colours and the depth of its samples, where Pillow does not tell. Standard library
only, beside the image that Pillow opened."""

import re
import struct
from collections.abc import Iterator

from PIL import Image

from deeplens.runtimes.boxes import coded_colour, jpeg_2000_profile, primary_properties
from deeplens.runtimes.colour import ADOBE_RGB, BT_709, SRGB, TRANSFERS, Space, coded_space, power
from deeplens.runtimes.exif import COLOUR_SPACE, INDEX, read_block

SRGB_GAMMA = 0.45455
"""What the gAMA chunk holds in pictures that are sRGB, whose curve is no power."""

UNCALIBRATED = 0xFFFF
"""EXIF's ColorSpace of what is not sRGB; with the interoperability index R03 it is Adobe RGB (DCF 2.0)."""


def profile_of(image: Image.Image, data: bytes) -> bytes | None:
    """The ICC profile of an opened image."""
    profile = image.info.get("icc_profile")
    if not profile and image.format == "JPEG2000":
        profile = jpeg_2000_profile(data)
    return profile or None


def space_of(image: Image.Image, data: bytes, notes: list[str]) -> Space | None:
    """The colour space that a file without an ICC profile names: nclx or cICP, else gAMA and cHRM, else EXIF's R03.

    Args:
        image: opened, not yet turned.
        data: the bytes of its file.
        notes: gets a line where what it says is not known.

    Returns:
        the space; None: it says nothing, or sRGB.
    """
    codes = _codes(image, data)
    if codes is not None:
        space = coded_space(*codes)
        if space is None:
            notes.append(f"the colours have the code {codes[0]}/{codes[1]}, which is not known; sRGB is assumed")
    elif image.format == "PNG" and "srgb" not in image.info:
        space = _by_gamma(image)
    else:
        space = None
    if space is None and codes is None and _is_adobe(image):
        space = ADOBE_RGB
    return None if space is None or space.is_srgb else space


def _codes(image: Image.Image, data: bytes) -> tuple[int, int] | None:
    if image.format in ("AVIF", "HEIF"):
        return coded_colour(data)
    if image.format == "PNG":
        content = next((content for name, content in png_chunks(data) if name == b"cICP"), b"")
        return (content[0], content[1]) if len(content) == 4 else None
    return None


def _by_gamma(image: Image.Image) -> Space | None:
    gamma, corners = image.info.get("gamma"), image.info.get("chromaticity")
    if not gamma and not corners:
        return None
    primaries = BT_709
    if corners and len(corners) == 8 and all(each > 0 for each in corners[1::2]):
        white, red, green, blue = (tuple(corners[at : at + 2]) for at in (0, 2, 4, 6))
        primaries = (red, green, blue, white)
    decode = TRANSFERS[SRGB] if not gamma or abs(gamma - SRGB_GAMMA) < 1e-4 else power(1 / gamma)
    return Space(primaries, decode, "the gAMA and cHRM chunks")


def _is_adobe(image: Image.Image) -> bool:
    try:
        block = read_block(image.info.get("exif") or b"")
    except ValueError:  # none, or broken
        return False
    space = block.exif.get(COLOUR_SPACE)
    number = None if space is None else int.from_bytes(space.value[:2], "little" if block.order == "<" else "big")
    index = block.interop.get(INDEX)
    return number == 2 or (number == UNCALIBRATED and index is not None and index.value.strip(b"\0 ") == b"R03")


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of the chunks before the first with pixels."""
    at = 8
    while at + 12 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if name == b"IDAT":
            return
        yield name, data[at + 8 : at + 8 + size]
        at += 12 + size


def bits_of(image: Image.Image, data: bytes) -> int:
    """Bits of a sample in the file, which may be more than Pillow decodes; 8 where it is not told."""
    if image.format == "TIFF":
        return int(max(getattr(image, "tag_v2", {}).get(258, (8,))))
    if image.format == "PNG":
        return data[24] if len(data) > 24 else 8
    if image.format == "HEIF":
        return int(image.info.get("bit_depth") or 8)
    if image.format == "AVIF":
        coding = next((content for kind, content in primary_properties(data) if kind == b"av1C"), b"")
        return 8 if len(coding) < 3 or not coding[2] & 0x40 else 12 if coding[2] & 0x20 else 10
    if image.format == "JPEG2000":
        at = data.find(b"\xff\x4f\xff\x51")  # start of the codestream and its sizes
        return (data[at + 42] & 0x7F) + 1 if 0 <= at < len(data) - 42 else 8
    if image.format == "PPM":
        header = re.match(rb"P[56](?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)", data[:1024])
        return int(header[3]).bit_length() if header else 8
    return 8
