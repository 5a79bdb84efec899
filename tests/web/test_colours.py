"""The page brings a photo's colours to sRGB as the package does: profiles, codes of HEIC, AVIF and PNG, HDR, EXIF."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from deeplens.runtimes.photo import read_photo, to_8_bit
from deeplens.runtimes.web import WebRuntime
from tests.support.photo_files import chunk, gamma_curve, rgb_profile, with_chunks
from tests.web.conftest import Opened

pytestmark = pytest.mark.slow

GRID = np.random.default_rng(21).integers(0, 65536, (6, 8, 3)).astype(np.uint16)
DEEP = GRID.repeat(16, 0).repeat(16, 1)
"""Patches as large as a block of a codec: what is compared is colour."""
PIXELS = to_8_bit(DEEP)

ADOBE_CORNERS = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)


def png(path: Path, *chunks: bytes, **options: object) -> None:
    Image.fromarray(PIXELS).save(path, "PNG", **options)
    with_chunks(path, *chunks)


def cicp(primaries: int, transfer: int) -> Callable[[Path], None]:
    return lambda path: png(path, chunk(b"cICP", bytes((primaries, transfer, 0, 1))))


def gamma_and_corners(path: Path) -> None:
    png(path, chunk(b"gAMA", struct.pack(">I", 45471)), chunk(b"cHRM", struct.pack(">8I", *ADOBE_CORNERS)))


def profile(name: str, form: str) -> Callable[[Path], None]:
    curve = {"Adobe": {"curve": gamma_curve(563 / 256)}}.get(name, {})
    exact = {"JPEG": {"quality": 98, "subsampling": 0}}.get(form, {})
    return lambda path: Image.fromarray(PIXELS).save(path, form, icc_profile=rgb_profile(name, **curve), **exact)


def r03(path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = 0xFFFF
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: "R03"}
    Image.fromarray(PIXELS).save(path, "JPEG", quality=98, subsampling=0, exif=exif.tobytes())


def heic(primaries: int, transfer: int, *, deep: bool = False) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        library = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
        size = (DEEP.shape[1], DEEP.shape[0])
        image = (
            library.from_bytes(mode="RGB;16", size=size, data=DEEP.tobytes())
            if deep
            else library.from_pillow(Image.fromarray(PIXELS))
        )
        codes = {"color_primaries": primaries, "transfer_characteristics": transfer, "full_range_flag": 1}
        image.save(path, quality=-1, chroma=444, **codes)

    return write


def avif(primaries: int, transfer: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        stream = io.BytesIO()
        try:
            Image.fromarray(PIXELS).save(stream, "AVIF", quality=100, subsampling="4:4:4")
        except (KeyError, OSError):
            pytest.skip("this Pillow writes no AVIF")
        head, found, rest = stream.getvalue().partition(b"colrnclx")
        assert found, "Pillow says the colours by codes"
        path.write_bytes(head + found + struct.pack(">HH", primaries, transfer) + rest[4:])

    return write


FILES = {
    "P3 by cICP": cicp(12, 13),
    "BT.709 by cICP": cicp(1, 1),
    "BT.2020 by cICP": cicp(9, 1),
    "PQ by cICP": cicp(9, 16),
    "HLG by cICP": cicp(9, 18),
    "DCI-P3 by cICP": cicp(11, 17),
    "Adobe RGB by gAMA and cHRM": gamma_and_corners,
    "P3 by profile, PNG": profile("P3", "PNG"),
    "Adobe RGB by profile, JPEG": profile("Adobe", "JPEG"),
    "Adobe RGB by EXIF": r03,
    "P3, HEIC": heic(12, 13),
    "BT.2020, HEIC": heic(9, 1),
    "PQ, HEIC of 8 bits": heic(9, 16),
    "PQ, HEIC of 10 bits": heic(9, 16, deep=True),
    "HLG, HEIC of 10 bits": heic(9, 18, deep=True),
    "P3, AVIF": avif(12, 13),
    "PQ, AVIF": avif(9, 16),
    "HLG, AVIF": avif(9, 18),
}


@pytest.mark.parametrize("name", FILES)
def test_colours_are_those_of_refocus(page: WebRuntime, tmp_path: Path, name: str) -> None:
    """Within 1 of 255."""
    path = tmp_path / "photo"
    FILES[name](path)
    opened = Opened(page, path.read_bytes(), "photo")
    due = to_8_bit(read_photo(path).pixels).astype(int)
    assert np.abs(opened.shown.astype(int) - due).max() <= 1
    if name != "BT.709 by cICP":  # which is taken for sRGB
        assert np.abs(due - PIXELS).max() > 8, "the control: the colours are converted"
    hdr = [note for note in opened.notes if "HDR" in note]
    assert len(hdr) == (name[:2] in ("PQ", "HL"))
    assert [note for note in opened.notes if "10 bits" in note] == opened.notes[:1] * ("10 bits" in name)


def test_a_saved_photo_says_what_its_colours_are(page: WebRuntime, tmp_path: Path) -> None:
    r03(tmp_path / "photo.jpg")
    kept = Opened(page, (tmp_path / "photo.jpg").read_bytes(), "photo.jpg").saved().getexif()
    about = kept.get_ifd(ExifTags.IFD.Exif)
    assert about[ExifTags.Base.ColorSpace] == 1
    assert kept.get_ifd(ExifTags.IFD.Interop)[1] == "R98"
