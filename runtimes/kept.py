"""What a photo's file holds beside its pixels: what is kept, corrected, for the file that is written; what is not."""

import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from PIL import Image

from deeplens.runtimes.boxes import boxes
from deeplens.runtimes.exif import IPTC as IPTC_TAG
from deeplens.runtimes.exif import PHOTOSHOP, Block, described, read_block
from deeplens.runtimes.jpeg import end_of_picture, segments

IPTC_RESOURCE = 0x0404
"""Photoshop's number of the resource that holds IPTC."""

EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
APP1, APP11 = 0xE1, 0xEB

GONE = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": "gain map",
    "http://ns.apple.com/HDRGainMap/1.0/": "gain map",
    "http://ns.google.com/photos/1.0/camera/": "",
    "http://ns.google.com/photos/1.0/container/": "",
    "http://ns.google.com/photos/1.0/depthmap/": "depth",
    "http://ns.google.com/photos/1.0/image/": "",
    "http://ns.google.com/photos/dd/1.0/depthmap/": "depth",
    "http://ns.google.com/photos/dd/1.0/device/": "",
    "http://ns.google.com/photos/dd/1.0/container/": "",
    "http://ns.adobe.com/xmp/note/": "",
}
"""Namespaces of XMP that tell of parts of the file that are not kept → which part."""

TOLD = {
    "gain map": "the gain map, which makes it brighter on HDR screens, is left out",
    "motion": "the moving part (a video) is left out",
    "depth": "the depth map in the file is not carried over",
    "pictures": "further pictures behind the first one are left out",
    "extended XMP": "the extended part of its XMP is left out",
    "credentials": "its content credentials (C2PA) are left out: they hold for the unchanged file only",
}


@dataclass(frozen=True)
class Kept:
    """Metadata of a photo, corrected for pixels that are upright and in sRGB.

    Attributes:
        exif: what its EXIF says, without layout, orientation and previews; None: nothing.
        xmp: an XMP packet, UTF-8.
        iptc: IPTC-IIM records.
        texts: keyword and text, as PNG has them; a JPEG's comment has the keyword Comment.
    """

    exif: Block | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    texts: tuple[tuple[str, str], ...] = ()


NOTHING = Kept()


def kept_of(image: Image.Image, data: bytes, notes: list[str]) -> Kept:
    """What is kept of an opened image.

    Args:
        image: as Pillow opened it, not yet turned.
        data: the bytes of its file; none for an image in memory.
        notes: gets a line for each part that is not kept.
    """
    xmp = _xmp(image, notes)
    gone = _parts_gone(image, data)
    if xmp is not None:
        xmp, told = without_old(xmp)
        gone |= told
    notes.extend(line for part, line in TOLD.items() if part in gone)
    return Kept(_exif(image, data, notes), xmp, _iptc(image), tuple(_texts(image)))


def _exif(image: Image.Image, data: bytes, notes: list[str]) -> Block | None:
    raw = image.info.get("exif") or _raw_profile(image, "exif")
    if image.format == "TIFF":
        raw = data or None
    if not raw or raw == b"Exif\0\0":
        return None
    try:
        block = described(read_block(raw))
    except ValueError as error:
        if image.format != "TIFF":  # a BigTIFF, whose tags are laid out in another way
            notes.append(f"the EXIF data is broken and left out ({error})")
        else:
            notes.append("the descriptions in a BigTIFF can't be read and are left out")
        return None
    if image.format == "TIFF":
        private = [tag for tag in block.main if tag >= 0x8000]
        if private:
            notes.append(f"{len(private)} private tags of the TIFF are left out")
        block = replace(block, main={tag: each for tag, each in block.main.items() if tag < 0x8000}, pinned=None)
    return block if block.main or block.exif or block.gps else None


def _raw_profile(image: Image.Image, name: str) -> bytes | None:
    """A block that ImageMagick put into a PNG's text as hexadecimal digits."""
    text = image.info.get(f"Raw profile type {name}")
    if not isinstance(text, str | bytes):
        return None
    lines = (text.decode("latin-1") if isinstance(text, bytes) else text).strip("\n").split("\n")
    try:
        return binascii.unhexlify("".join(lines[2:]).replace(" ", ""))
    except (ValueError, IndexError):
        return None


def _iptc(image: Image.Image) -> bytes | None:
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        value = tags.get(IPTC_TAG)
        if isinstance(value, tuple):  # four bytes each, as some write it
            value = b"".join(int(each).to_bytes(4, "little") for each in value)
        return bytes(value) if isinstance(value, bytes) else _resource(tags.get(PHOTOSHOP))
    resources = image.info.get("photoshop")
    value = resources.get(IPTC_RESOURCE) if isinstance(resources, dict) else None
    return value if isinstance(value, bytes) and value else None


def _resource(block: object) -> bytes | None:
    """IPTC in a block of Photoshop's resources."""
    if not isinstance(block, bytes):
        return None
    at = block.find(b"8BIM\x04\x04\0\0")
    if at < 0:
        return None
    size = int.from_bytes(block[at + 8 : at + 12], "big")
    return block[at + 12 : at + 12 + size] or None


def _texts(image: Image.Image) -> Iterable[tuple[str, str]]:
    if image.format == "PNG":
        for key, value in getattr(image, "text", {}).items():
            if not key.startswith(("XML:", "Raw profile")):
                yield key, str(value)
    comment = image.info.get("comment")
    if image.format in ("JPEG", "MPO", "GIF") and comment:
        yield "Comment", comment.decode("utf-8", "replace") if isinstance(comment, bytes) else str(comment)


def _xmp(image: Image.Image, notes: list[str]) -> bytes | None:
    packet = image.info.get("xmp")
    if not packet:
        return None
    packet = packet.encode() if isinstance(packet, str) else bytes(packet)
    packet = packet.rstrip(b"\0")
    try:
        packet.decode("utf-8")
    except UnicodeDecodeError:
        notes.append("its XMP is not UTF-8 and is left out")
        return None
    return packet


def _parts_gone(image: Image.Image, data: bytes) -> set[str]:
    gone: set[str] = set()
    if image.format in ("JPEG", "MPO"):
        for marker, _, content in segments(data):
            if marker == APP11 and b"c2pa" in content[:4096]:
                gone.add("credentials")
            if marker == APP1 and content.startswith(EXTENDED_XMP):
                gone.add("extended XMP")
        end = end_of_picture(data)
        if end is not None and b"ftyp" in data[end:]:
            gone.add("motion")
        listed = (getattr(image, "mpinfo", None) or {}).get(0xB002, ())
        if any("Thumbnail" not in str(each.get("Attribute", {}).get("MPType", "")) for each in listed[1:]):
            gone.add("pictures")
    elif image.format in ("HEIF", "AVIF"):
        kinds = {kind for kind, _, _ in boxes(data)}
        auxiliary = image.info.get("aux") or {}
        if "mpvd" in {kind.decode("latin-1") for kind in kinds}:
            gone.add("motion")
        if any("hdrgainmap" in str(name) for name in auxiliary) or b"tmap" in data[:65536]:
            gone.add("gain map")
        if image.info.get("depth_images"):
            gone.add("depth")
        if b"c2pa" in data[:65536]:
            gone.add("credentials")
    return gone


def without_old(packet: bytes) -> tuple[bytes, set[str]]:
    """An XMP packet without what does not hold for the new file, and which parts of the old file it told of."""
    text = packet.decode("utf-8")
    gone: set[str] = set()
    prefixes = dict(re.findall(r"""xmlns:([\w.-]+)\s*=\s*["']([^"']*)["']""", text))
    for prefix, namespace in prefixes.items():
        if namespace not in GONE:
            continue
        changed = _without(text, prefix, r"[\w.-]+")
        if changed != text and GONE[namespace]:
            gone.add(GONE[namespace])
        if namespace.endswith("/camera/") and re.search(rf"""\b{prefix}:(?:MotionPhoto|MicroVideo)\b[^\w]*1""", text):
            gone.add("motion")
        if 'GainMap"' in text and namespace.endswith("/container/"):
            gone.add("gain map")
        text = changed
    for prefix, namespace in prefixes.items():
        if namespace == "http://ns.adobe.com/xap/1.0/":
            text = _without(text, prefix, "Thumbnails")
        elif namespace == "http://ns.adobe.com/photoshop/1.0/":
            text = _without(text, prefix, "ICCProfile")
        elif namespace == "http://ns.adobe.com/tiff/1.0/":
            text = _with(text, prefix, "Orientation", "1")
        elif namespace == "http://ns.adobe.com/exif/1.0/":
            text = _with(text, prefix, "ColorSpace", "1")
    return text.encode(), gone


def xmp_with_size(packet: bytes, width: int, height: int) -> bytes:
    """An XMP packet with the size of the picture, where it tells one."""
    text = packet.decode("utf-8")
    for prefix, namespace in re.findall(r"""xmlns:([\w.-]+)\s*=\s*["']([^"']*)["']""", text):
        if namespace == "http://ns.adobe.com/tiff/1.0/":
            text = _with(_with(text, prefix, "ImageWidth", str(width)), prefix, "ImageLength", str(height))
        elif namespace == "http://ns.adobe.com/exif/1.0/":
            text = _with(text, prefix, "PixelXDimension", str(width))
            text = _with(text, prefix, "PixelYDimension", str(height))
    return text.encode()


def _without(text: str, prefix: str, name: str) -> str:
    """XMP without a property, as attribute or as element."""
    text = re.sub(rf"""\s+{prefix}:{name}\s*=\s*("[^"]*"|'[^']*')""", "", text)
    text = re.sub(rf"""<{prefix}:({name})(?:\s[^<>]*)?/>""", "", text)
    return re.sub(rf"""<{prefix}:({name})(?:\s[^<>]*)?>.*?</{prefix}:\1\s*>""", "", text, flags=re.DOTALL)


def _with(text: str, prefix: str, name: str, value: str) -> str:
    """XMP with another value of a property that it has, as attribute or as element."""
    text = re.sub(rf"""(\s{prefix}:{name}\s*=\s*)("[^"]*"|'[^']*')""", rf'\g<1>"{value}"', text)
    return re.sub(rf"""(<{prefix}:{name}(?:\s[^<>]*)?>)[^<]*(</{prefix}:{name}\s*>)""", rf"\g<1>{value}\g<2>", text)
