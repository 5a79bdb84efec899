"""Writing a photo's pixels and metadata in a format; what it can't hold is told before the work begins."""

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image, PngImagePlugin

from deeplens.console.errors import InputError
from deeplens.runtimes.exif import IPTC, MAKER_NOTE, PREFIX, XMP, block_bytes, fitted, in_tiff, with_size
from deeplens.runtimes.kept import IPTC_RESOURCE, Kept, xmp_with_size

JPEG: dict[str, object] = {"quality": 95, "subsampling": 0}
TIFF: dict[str, object] = {"compression": "tiff_adobe_deflate"}

WRITERS: dict[str, tuple[str, dict[str, object]]] = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), ("JPEG", JPEG)),
    ".png": ("PNG", {"compress_level": 4}),
    ".webp": ("WEBP", {"quality": 95, "method": 4}),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF", TIFF)),
}
"""Suffix → Pillow's format and options."""

LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}
"""Format → most pixels of a side that it, or its encoder, can hold."""

MOST_IN_SEGMENT = 65533
"""Bytes in a segment of a JPEG, beside its length."""


def form_of(path: Path) -> tuple[str, dict[str, object]]:
    """Pillow's format and options for a file name. InputError: a suffix that can't be written."""
    if path.suffix.lower() not in WRITERS:
        raise InputError(f"{path}: this file type can't be written: use {', '.join(WRITERS)}")
    return WRITERS[path.suffix.lower()]


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse a size that the format of the suffix can't hold. InputError: see there."""
    form = form_of(path)[0]
    longest = LONGEST_SIDE.get(form)
    if longest is not None and max(width, height) > longest:
        raise InputError(
            f"{path} can't be written: {form} holds at most {longest} pixels a side, and the photo has "
            f"{width}×{height}: use .png or .tif"
        )


def fitting(path: Path, kept: Kept, *, width: int, height: int) -> tuple[Kept, list[str]]:
    """What of the metadata the format of the suffix holds, for a picture of this size, and a line for each loss."""
    form, name = form_of(path)[0], path.name
    notes: list[str] = []
    exif = None if kept.exif is None else with_size(kept.exif, width, height)
    xmp = None if kept.xmp is None else xmp_with_size(kept.xmp, width, height)
    iptc, texts = kept.iptc, kept.texts
    if form == "JPEG":
        if exif is not None:
            exif, left_out = fitted(replace(exif, exif=dict(exif.exif), main=dict(exif.main)), _most(PREFIX))
            if left_out:
                notes.append(f"{name}: the EXIF is too long for a JPEG; left out of it: {_names(left_out)}")
        if xmp is not None and len(xmp) > _most(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = None
            notes.append(f"{name} loses its XMP, which is too long for a JPEG")
        if iptc is not None and len(iptc) > _most(_iptc_segment(b"")):
            iptc = None
            notes.append(f"{name} loses its IPTC, which is too long for a JPEG")
        comments = tuple(each for each in texts if each[0] == "Comment" and len(each[1].encode()) < MOST_IN_SEGMENT)
        texts, lost = comments[:1], [key for key, _ in texts if (key, dict(texts)[key]) not in comments[:1]]
    else:
        lost = [] if form == "PNG" else [key for key, _ in texts]
        texts = texts if form == "PNG" else ()
    if lost:
        notes.append(f"{name} loses the texts {', '.join(lost)}, which only PNG holds")
    if iptc is not None and form in ("PNG", "WEBP"):
        iptc = None
        notes.append(f"{name} loses its IPTC, which {form} has no place for: use .jpg or .tif to keep it")
    return Kept(exif, xmp, iptc, texts), notes


def _most(prefix: bytes) -> int:
    return MOST_IN_SEGMENT - len(prefix)


def _names(tags: Sequence[int]) -> str:
    return ", ".join("the maker's note" if tag == MAKER_NOTE else f"tag 0x{tag:04X}" for tag in tags)


def _iptc_segment(iptc: bytes) -> bytes:
    """IPTC as Photoshop's resource in a JPEG."""
    resource = b"8BIM" + struct.pack(">HHI", IPTC_RESOURCE, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    return b"Photoshop 3.0\0" + resource


def encoded(image: Image.Image, path: Path, kept: Kept) -> bytes:
    """A picture in the format of the suffix with the metadata that `fitting` gave.

    Raises:
        OSError, ValueError, struct.error: what the encoder says.
    """
    form, options = form_of(path)
    options = dict(options)
    block = b"" if kept.exif is None else block_bytes(kept.exif)
    stream = io.BytesIO()
    if form == "TIFF":
        image.save(stream, format=form, **options)
        further = {tag: each for tag, each in ((XMP, kept.xmp), (IPTC, kept.iptc)) if each}
        data = stream.getvalue()
        return in_tiff(data, kept.exif, further) if kept.exif or further else data
    if block:
        options["exif"] = PREFIX + block
    if form == "PNG":
        texts = PngImagePlugin.PngInfo()
        for key, text in kept.texts:
            texts.add_itxt(key, text) if not _is_latin(text) else texts.add_text(key, text)
        if kept.xmp:
            texts.add_itxt("XML:com.adobe.xmp", kept.xmp.decode("utf-8"))
        options["pnginfo"] = texts
    elif kept.xmp:
        options["xmp"] = kept.xmp
    if form == "JPEG":
        options["comment"] = kept.texts[0][1] if kept.texts else None
        if kept.iptc:
            content = _iptc_segment(kept.iptc)
            options["extra"] = b"\xff\xed" + struct.pack(">H", len(content) + 2) + content
    image.save(stream, format=form, **options)
    return stream.getvalue()


def _is_latin(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True
