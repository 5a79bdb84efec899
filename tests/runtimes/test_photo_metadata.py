"""Metadata from photo to photo: bytes that stay, sizes and tags that are corrected, and losses that are told.

The judges are Pillow, tifffile and the bytes themselves.
"""

import contextlib
import io
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from deeplens.console.errors import InputError
from deeplens.runtimes import exif as ex
from deeplens.runtimes.photo import Photo, read_photo, write_photo, writing_notes
from tests.conftest import Command
from tests.runtimes.test_photo import smooth
from tests.support.photo_files import rgb_profile

ARTIST, COPYRIGHT = "Zoë Müller 山田".encode(), "© São".encode() + b"\0" + b"Editor\0"
MAKER = b"MAKER\0" + bytes(range(200))


def exif_block(order: str = "<", *, pad: int = 0, maker: bytes = MAKER, gps: bool = True) -> bytes:
    """An EXIF block with texts in UTF-8, sizes, Adobe RGB, GPS, a maker's note at an odd place, and a preview."""
    block = ex.Block(order)

    def numbers(code: str, *values: int) -> bytes:
        return struct.pack(f"{order}{len(values)}{code}", *values)

    block.main = {
        0x010F: ex.Entry(2, 6, b"Maker\0"),
        0x0112: ex.Entry(3, 1, numbers("H", 6)),
        0x013B: ex.Entry(2, len(ARTIST) + 1, ARTIST + b"\0"),
        0x8298: ex.Entry(2, len(COPYRIGHT), COPYRIGHT),
        0x011A: ex.Entry(5, 1, numbers("I", 300, 1)),
    }
    block.exif = {
        0x829D: ex.Entry(5, 1, numbers("I", 28, 10)),
        0xA001: ex.Entry(3, 1, numbers("H", 0xFFFF)),
        0xA002: ex.Entry(3, 1, numbers("H", 40)),
        0xA003: ex.Entry(3, 1, numbers("H", 60)),
        0xA500: ex.Entry(5, 1, numbers("I", 22, 10)),
        0x927C: ex.Entry(7, len(maker), maker),
        0x9286: ex.Entry(7, 8 + pad, b"UNICODE\0" + bytes(pad)),
    }
    block.interop = {1: ex.Entry(2, 4, b"R03\0")}
    if gps:
        block.gps = {
            1: ex.Entry(2, 2, b"N\0"),
            2: ex.Entry(5, 3, numbers("I", 52, 1, 31, 1, 12, 1)),
        }
    return ex.PREFIX + ex.block_bytes(block)


XMP = (
    '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:ps="http://ns.adobe.com/photoshop/1.0/" {more}'
    'tiff:Orientation="6" tiff:ImageWidth="40" exif:PixelYDimension="60" ps:ICCProfile="Adobe RGB">'
    "<dc:creator><rdf:Seq><rdf:li>Zoë 山田</rdf:li></rdf:Seq></dc:creator><tiff:ImageLength>60</tiff:ImageLength>"
    "<exif:ColorSpace>65535</exif:ColorSpace>{elements}</rdf:Description></rdf:RDF></x:xmpmeta>"
)
IPTC = b"\x1c\x01\x5a\x00\x03\x1b%G\x1c\x02\x50\x00\x05Zo\xc3\xabe\x1c\x02\x19\x00\x05press"


def xmp(more: str = "", elements: str = "") -> bytes:
    return XMP.format(more=more, elements=elements).encode()


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 255, marker, len(content) + 2) + content


def jpeg(path: Path, *segments: bytes, **options: Any) -> Path:
    """A JPEG stored on its side, with segments behind its beginning."""
    stream = io.BytesIO()
    Image.fromarray(np.rot90(smooth())).save(stream, "JPEG", quality=95, **options)
    path.write_bytes(stream.getvalue()[:2] + b"".join(segments) + stream.getvalue()[2:])
    return path


def full_jpeg(path: Path, order: str = "<", **options: Any) -> Path:
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + b"\0" * (len(IPTC) % 2)
    return jpeg(
        path,
        segment(0xE1, exif_block(order)),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp()),
        segment(0xED, b"Photoshop 3.0\0" + resource),
        segment(0xFE, "Grüße".encode()),
        **options,
    )


def packet(image: Image.Image) -> str:
    value = image.info["xmp"]
    return value if isinstance(value, str) else value.decode()


class TestKept:
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
    def test_exif_in_every_format(self, tmp_path: Path, suffix: str, order: str) -> None:
        photo = read_photo(full_jpeg(tmp_path / "a.jpg", order))
        assert photo.pixels.shape == smooth().shape, "it was stored on its side"
        height, width = photo.pixels.shape[:2]
        out = tmp_path / f"b.{suffix}"
        write_photo(out, photo)
        data = out.read_bytes()
        assert ARTIST in data, "the names are bytes, not question marks"
        assert COPYRIGHT in data
        with Image.open(out) as image:
            image.load()
            assert image.size == (width, height)
            found = image.getexif()
            settings_ = found.get_ifd(ExifTags.IFD.Exif)
            assert found.get(ExifTags.Base.Orientation, 1) == 1
            assert found[ExifTags.Base.Make] == "Maker"
            assert float(settings_[ExifTags.Base.FNumber]) == 2.8
            assert (settings_[0xA002], settings_[0xA003]) == (width, height)
            assert settings_[0xA001] == 1
            assert 0xA500 not in settings_
            assert settings_[ExifTags.Base.MakerNote] == MAKER
            assert found.get_ifd(ExifTags.IFD.GPSInfo)[2] == (52.0, 31.0, 12.0)
        assert b"R98\0" in data
        assert b"R03" not in data

    def test_a_tiff_by_another_reader(self, tmp_path: Path) -> None:
        photo = read_photo(full_jpeg(tmp_path / "a.jpg", ">"))
        write_photo(tmp_path / "b.tif", photo)
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            (page,) = file.pages
            tags = page.tags
            np.testing.assert_array_equal(page.asarray(), photo.pixels)
            assert tags["ExifTag"].value["FNumber"] == (28, 10)
            assert tags["ExifTag"].value["PixelXDimension"] == photo.pixels.shape[1]
            assert tags["GPSTag"].value["GPSLatitude"] == (52, 1, 31, 1, 12, 1)
            assert tags["Artist"].value in (ARTIST.decode(), ARTIST)
            assert bytes(tags["IPTCNAA"].value) == IPTC
            assert "Zoë 山田" in bytes(tags["XMP"].value).decode()

    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
    def test_xmp_and_iptc(self, tmp_path: Path, suffix: str) -> None:
        photo = read_photo(full_jpeg(tmp_path / "a.jpg"))
        out = tmp_path / f"b.{suffix}"
        notes = write_photo(out, photo)
        height, width = photo.pixels.shape[:2]
        with Image.open(out) as image:
            text = packet(image)
            assert "Zoë 山田" in text
            assert 'tiff:Orientation="1"' in text
            assert f'tiff:ImageWidth="{width}"' in text
            assert f"<tiff:ImageLength>{height}<" in text
            assert f'exif:PixelYDimension="{height}"' in text
            assert "<exif:ColorSpace>1<" in text
            assert "Adobe RGB" not in text
            if suffix == "jpg":
                assert image.info["photoshop"][0x0404] == IPTC
                assert image.info["comment"] == "Grüße".encode()
            if suffix == "png":
                assert image.text["Comment"] == "Grüße"
        lost = {"jpg": 0, "png": 1, "webp": 2, "tif": 1}[suffix]  # IPTC; the comment
        assert len(notes) == lost, notes
        again = read_photo(out)
        assert again.kept.xmp == out_xmp(photo, width, height)
        if suffix in ("jpg", "tif"):
            assert again.kept.iptc == IPTC

    def test_texts_of_a_png(self, tmp_path: Path) -> None:
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Author", "Zoë")
        texts.add_itxt("Title", "山")
        Image.fromarray(smooth()).save(tmp_path / "a.png", pnginfo=texts)
        photo = read_photo(tmp_path / "a.png")
        assert write_photo(tmp_path / "b.png", photo) == ()
        with Image.open(tmp_path / "b.png") as image:
            assert image.text == {"Author": "Zoë", "Title": "山"}
        assert "loses the texts Author, Title" in write_photo(tmp_path / "b.jpg", photo)[0]

    def test_a_description_of_a_tiff_goes_on_and_its_private_tags_are_told(self, tmp_path: Path) -> None:
        tifffile.imwrite(
            tmp_path / "a.tif", smooth(), description="a scan", software="x", metadata=None,
            extratags=[(65000, 2, 5, "hello", True), (33723, 1, len(IPTC), IPTC, True)],
        )  # fmt: skip
        photo = read_photo(tmp_path / "a.tif")
        assert photo.notes == ("1 private tags of the TIFF are left out",)
        assert photo.kept.iptc == IPTC
        write_photo(tmp_path / "b.tif", photo)
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            assert file.pages[0].tags["ImageDescription"].value == "a scan"

    def test_a_makers_note_stays_at_its_place(self, tmp_path: Path) -> None:
        """It may hold offsets that count from the beginning of the block."""
        raw = exif_block()
        before = raw.index(MAKER)
        jpeg(tmp_path / "a.jpg", segment(0xE1, raw))
        write_photo(tmp_path / "b.jpg", read_photo(tmp_path / "a.jpg"))
        with Image.open(tmp_path / "b.jpg") as image:
            assert image.info["exif"].index(MAKER) == before

    def test_the_old_preview_is_left_out(self, tmp_path: Path) -> None:
        raw = bytearray(exif_block())
        first = struct.unpack_from("<I", raw, 10)[0] + 6
        count = struct.unpack_from("<H", raw, first)[0]
        preview = struct.pack("<HHHII", 2, 0x0201, 4, 1, 0)[:2] + struct.pack("<H", 0)
        struct.pack_into("<I", raw, first + 2 + 12 * count, len(raw) - 6)
        raw += preview + b"PREVIEW OF THE OLD PHOTO"
        jpeg(tmp_path / "a.jpg", segment(0xE1, bytes(raw)))
        write_photo(tmp_path / "b.jpg", read_photo(tmp_path / "a.jpg"))
        assert b"PREVIEW" not in (tmp_path / "b.jpg").read_bytes()


def out_xmp(photo: Photo, width: int, height: int) -> bytes:
    from deeplens.runtimes.kept import xmp_with_size

    assert photo.kept.xmp is not None
    return xmp_with_size(photo.kept.xmp, width, height)


class TestTooLong:
    def test_exif_of_70_kb_is_trimmed_and_told(self, tmp_path: Path) -> None:
        Image.fromarray(smooth()).save(tmp_path / "a.png", exif=exif_block(maker=b"M" * 60_000, pad=10_000))
        photo = read_photo(tmp_path / "a.png")
        (note,) = writing_notes(tmp_path / "b.jpg", photo)
        assert note == "b.jpg: the EXIF is too long for a JPEG; left out of it: the maker's note"
        assert write_photo(tmp_path / "b.jpg", photo) == (note,)
        with Image.open(tmp_path / "b.jpg") as image:
            assert image.getexif()[ExifTags.Base.Make] == "Maker"
        assert ARTIST in (tmp_path / "b.jpg").read_bytes()
        assert write_photo(tmp_path / "b.png", photo) == ()
        Image.fromarray(smooth()).save(tmp_path / "a.png", exif=exif_block(maker=b"M" * 9, pad=70_000))
        notes = write_photo(tmp_path / "b.jpg", read_photo(tmp_path / "a.png"))
        assert "the maker's note, tag 0x9286" in notes[0]

    def test_xmp_that_is_too_long(self, tmp_path: Path) -> None:
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp(elements=f"<dc:title>{'x' * 70_000}</dc:title>").decode())
        Image.fromarray(smooth()).save(tmp_path / "a.png", pnginfo=text)
        assert write_photo(tmp_path / "b.jpg", read_photo(tmp_path / "a.png")) == (
            "b.jpg loses its XMP, which is too long for a JPEG",
        )

    @pytest.mark.parametrize(("name", "side"), [("a.jpg", 65_501), ("a.webp", 16_384)])
    def test_a_size_that_the_format_cannot_hold_is_refused_before_the_work(self, name: str, side: int) -> None:
        with pytest.raises(InputError, match="pixels a side, and the photo has"):
            writing_notes(Path(name), Photo(np.zeros((1, side, 3), np.uint8)))
        assert writing_notes(Path(name), Photo(np.zeros((1, side - 1, 3), np.uint8))) == ()

    def test_it_is_told_and_refused_before_the_networks_are_opened(
        self, deeplens: Command, tmp_path: Path, artifacts: Path, flat_depth: Path
    ) -> None:
        Image.fromarray(np.zeros((2, 16_500, 3), np.uint8)).save(tmp_path / "a.png")
        arguments = ["--focus", "0.5,0.5", "--runtime", "onnx", "--artifacts", artifacts, "--depth", flat_depth]
        result = deeplens("refocus", tmp_path / "a.png", "-o", tmp_path / "b.webp", *arguments)
        assert (result.status, "at most 16383 pixels" in result.error) == (3, True)


class TestLeftOut:
    HDR = 'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" '
    CAMERA = 'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1" '
    DEPTH = 'xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" GDepth:Format="RangeInverse" GDepth:Data="AAAA" '

    @pytest.mark.parametrize(
        ("more", "word", "gone"),
        [
            (HDR, "gain map", "hdrgm:Version"),
            (CAMERA, "moving part", "GCamera:MotionPhoto"),
            (DEPTH, "depth map", "GDepth:Data"),
        ],
    )
    def test_what_xmp_tells_of_is_told_and_gone(self, tmp_path: Path, more: str, word: str, gone: str) -> None:
        jpeg(tmp_path / "a.jpg", segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(more)))
        photo = read_photo(tmp_path / "a.jpg")
        (note,) = photo.notes
        assert word in note
        write_photo(tmp_path / "b.jpg", photo)
        with Image.open(tmp_path / "b.jpg") as image:
            assert gone not in packet(image)
            assert "Zoë" in packet(image)

    def test_a_container_with_its_items_is_gone(self, tmp_path: Path) -> None:
        more = 'xmlns:C="http://ns.google.com/photos/1.0/container/" '
        more += 'xmlns:I="http://ns.google.com/photos/1.0/container/item/" '
        items = (
            '<C:Directory><rdf:Seq><rdf:li><C:Item I:Semantic="GainMap" I:Length="9"/></rdf:li></rdf:Seq></C:Directory>'
        )
        jpeg(tmp_path / "a.jpg", segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(more, items)))
        photo = read_photo(tmp_path / "a.jpg")
        assert "gain map" in photo.notes[0]
        assert photo.kept.xmp is not None
        assert not re.search(rb"Directory|GainMap", photo.kept.xmp)

    def test_a_video_pictures_and_credentials_behind_the_photo(self, tmp_path: Path) -> None:
        path = jpeg(tmp_path / "a.jpg", segment(0xEB, b"JP\0\1\0\0\0\1....jumbc2pa"))
        path.write_bytes(path.read_bytes() + b"\0\0\0\x18ftypmp42" + bytes(40))
        notes = " ".join(read_photo(path).notes)
        assert "moving part" in notes
        assert "content credentials" in notes
        first, second = Image.fromarray(smooth()), Image.fromarray(smooth() // 2)
        first.save(tmp_path / "b.jpg", "MPO", save_all=True, append_images=[second])
        assert "further pictures" in " ".join(read_photo(tmp_path / "b.jpg").notes)

    def test_an_extended_packet(self, tmp_path: Path) -> None:
        path = jpeg(tmp_path / "a.jpg", segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(50)))
        assert "extended part of its XMP" in read_photo(path).notes[0]

    def test_an_ordinary_photo_has_no_notes(self, tmp_path: Path) -> None:
        (note,) = read_photo(full_jpeg(tmp_path / "a.jpg")).notes
        assert "colours outside sRGB" in note, "it says that it is Adobe RGB, and no more is to be told"
        assert read_photo(full_jpeg(tmp_path / "a.jpg", icc_profile=rgb_profile("sRGB"))).notes == ()


class TestBlock:
    VALUES = st.tuples(st.sampled_from(sorted(ex.SIZES)), st.binary(min_size=0, max_size=3)).map(
        lambda each: ex.Entry(each[0], max(1, len(each[1])), (each[1] or b"x") * ex.SIZES[each[0]])
    )
    TAGS = st.dictionaries(st.integers(0x9000, 0x91FF), VALUES, max_size=6)

    @settings(max_examples=150, deadline=None)
    @given(TAGS, TAGS, TAGS, TAGS, st.sampled_from("<>"), st.sampled_from("<>"))
    def test_what_is_written_is_read(
        self, main: Any, exif: Any, gps: Any, interop: Any, order: str, other: str
    ) -> None:
        block = ex.Block(order, main, exif, gps, interop)
        again = ex.read_block(ex.block_bytes(block) or b"II*\0\x08\0\0\0\0\0")
        if main or exif or gps:
            assert (again.main, again.exif, again.gps, again.interop) == (main, exif, gps, interop)
        data, _ = ex.laid_out(block, {}, start=8, order=other)
        turned = ex.read_block({"<": b"II*\0", ">": b"MM\0*"}[other] + struct.pack(f"{other}I", 8) + data)
        back = ex.read_block(ex.block_bytes(turned) or b"II*\0\x08\0\0\0\0\0")
        assert back.main == turned.main
        twice, _ = ex.laid_out(turned, {}, start=8, order=order)
        assert twice == ex.laid_out(block, {}, start=8, order=order)[0] or turned.pinned is not None

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=400), st.integers(0, 300), st.binary(min_size=1, max_size=6))
    def test_damage_gives_a_block_or_a_value_error(self, junk: bytes, place: int, damage: bytes) -> None:
        good = bytearray(exif_block(maker=b"note"))
        good[place : place + len(damage)] = damage
        for data in (junk, b"II*\0\x08\0\0\0" + junk, bytes(good)):
            with contextlib.suppress(ValueError):
                ex.block_bytes(ex.described(ex.read_block(data)))
