"""The depth in portrait photos: HEIC, GDepth and Dynamic Depth, against depths that were encoded as specified."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from deeplens.console.errors import InputError, MissingError
from deeplens.runtimes.heic import is_heic
from deeplens.runtimes.photo import read_photo
from deeplens.runtimes.portrait import embedded_disparity, embedded_map, holds_depth
from tests.conftest import ROOT, Command
from tests.support.portrait_files import (
    EXTENDED,
    GUID,
    META,
    STANDARD,
    jpeg,
    segment,
    write_dynamic_depth,
    write_gdepth,
    write_mpf,
)
from tests.support.tiny import textured

ROWS, COLUMNS = np.mgrid[0:36, 0:48]
METRES = (0.8 + 0.1 * COLUMNS + 0.02 * ROWS).astype(np.float32)
PHOTO = textured(72, 96, seed=2)
EXPECTED = (1 / METRES - 1 / METRES.max()) / (1 / METRES.min() - 1 / METRES.max())
PUG = ROOT / "data" / "rgbd" / "pug.heic"


class TestGDepth:
    @pytest.mark.parametrize("extended", [False, True])
    @pytest.mark.parametrize(("form", "bits"), [("RangeInverse", 8), ("RangeInverse", 16), ("RangeLinear", 16)])
    def test_the_depth_comes_back(self, tmp_path: Path, form: str, bits: int, extended: bool) -> None:
        path = tmp_path / "photo.jpg"
        write_gdepth(path, PHOTO, METRES, form=form, bits=bits, extended=extended)
        assert holds_depth(path)
        np.testing.assert_allclose(embedded_disparity(path), EXPECTED, atol=6e-3 if bits == 8 else 1e-3)
        assert read_photo(path).pixels.shape == PHOTO.shape

    def test_linear_depth_in_metres(self, tmp_path: Path) -> None:
        write_gdepth(tmp_path / "a.jpg", PHOTO, METRES, form="RangeLinear", bits=16)
        np.testing.assert_allclose(embedded_map(tmp_path / "a.jpg"), 1 / METRES, rtol=1e-3)

    def test_the_two_formats_are_not_the_same(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jpg"
        write_gdepth(path, PHOTO, METRES, form="RangeLinear", bits=16)
        path.write_bytes(path.read_bytes().replace(b"RangeLinear", b"RangeSquare"))
        with pytest.raises(InputError, match="only RangeInverse and RangeLinear can be read"):
            embedded_map(path)
        write_gdepth(path, PHOTO, METRES, form="RangeInverse", bits=16)
        wrong = path.with_name("b.jpg")
        write_gdepth(wrong, PHOTO, METRES, form="RangeLinear", bits=16)
        assert np.abs(embedded_map(path) - embedded_map(wrong)).max() > 0.1

    def test_it_lies_as_the_photo_lies(self, tmp_path: Path) -> None:
        """Both are stored on their side, as sensors read out, and EXIF of the photo says so."""
        write_gdepth(tmp_path / "a.jpg", PHOTO, METRES, orientation=6)
        found = embedded_disparity(tmp_path / "a.jpg")
        np.testing.assert_allclose(found, np.rot90(EXPECTED, -1), atol=6e-3)
        assert read_photo(tmp_path / "a.jpg").pixels.shape == (96, 72, 3)


class TestDynamicDepth:
    @pytest.mark.parametrize("form", ["RangeInverse", "RangeLinear"])
    @pytest.mark.parametrize(("elements", "newer"), [(False, False), (True, False), (False, True)])
    def test_the_depth_comes_back(self, tmp_path: Path, form: str, elements: bool, newer: bool) -> None:
        path = tmp_path / "photo.jpg"
        write_dynamic_depth(path, PHOTO, METRES, form=form, elements=elements, newer=newer)
        assert holds_depth(path)
        np.testing.assert_allclose(embedded_disparity(path), EXPECTED, atol=0.06)  # a JPEG of 8 bits
        assert np.abs(embedded_disparity(path) - EXPECTED).mean() < 0.01

    @pytest.mark.parametrize(
        "extra",
        [
            {"trailer": bytes(500) + b"SEFT"},
            {"trailer": b"\xff\xd8 a video \xff\xd9" * 40, "junk": b"\0\0 more <of> it"},
            {"junk": b"<?xpacket end='w'?> x"},
            {"between": bytes(64)},
        ],
    )
    def test_what_cameras_and_programs_add(self, tmp_path: Path, extra: dict[str, Any]) -> None:
        """Trailers, padding between the files, bytes behind the packet: the depth is found all the same."""
        path = tmp_path / "photo.jpg"
        write_dynamic_depth(path, PHOTO, METRES, **extra)
        assert holds_depth(path)
        assert np.abs(embedded_disparity(path) - EXPECTED).mean() < 0.01

    def test_files_that_are_not_where_the_container_says(self, tmp_path: Path) -> None:
        path = tmp_path / "photo.jpg"
        write_dynamic_depth(path, PHOTO, METRES, between=bytes(7), trailer=bytes(9))
        with pytest.raises(InputError, match="not where it says"):
            embedded_disparity(path)

    @pytest.mark.parametrize("length", ["\u00b2", "-3", "1e3", "9" * 40])
    def test_lengths_that_are_no_lengths(self, tmp_path: Path, length: str) -> None:
        path = tmp_path / "photo.jpg"
        write_dynamic_depth(path, PHOTO, METRES)
        data = path.read_bytes()
        at = data.index(b'Item:Length="', data.index(b"android/depthmap") - 80)
        end = data.index(b'"', at + 13)
        number = length.encode().ljust(end - at - 13)[: max(end - at - 13, 2)]
        path.write_bytes(data[: at + 13] + number + data[at + 13 + len(number) :])
        with pytest.raises(InputError, match=r"photo\.jpg"):
            embedded_disparity(path)

    def test_a_file_that_was_cut_off(self, tmp_path: Path) -> None:
        path = tmp_path / "photo.jpg"
        write_dynamic_depth(path, PHOTO, METRES, cut=11)
        with pytest.raises(InputError, match=r"photo\.jpg"):
            embedded_disparity(path)


class TestListed:
    """Depth in a picture that the multi-picture index lists."""

    GREY = np.rint(255 * (1 / METRES - 0.1) / 1.2).clip(0, 255).astype(np.uint8)

    def test_a_picture_that_says_disparity(self, tmp_path: Path) -> None:
        write_mpf(tmp_path / "a.jpg", PHOTO, self.GREY, says="disparity")
        assert holds_depth(tmp_path / "a.jpg")
        assert np.abs(embedded_disparity(tmp_path / "a.jpg") - EXPECTED).mean() < 0.02

    def test_a_picture_that_says_depth(self, tmp_path: Path) -> None:
        grey = np.rint(255 * (METRES - 0.5) / 6).astype(np.uint8)
        write_mpf(tmp_path / "a.jpg", PHOTO, grey, says="urn:com:apple:photo:2020:aux:depth")
        np.testing.assert_allclose(embedded_map(tmp_path / "a.jpg"), 1 / METRES, atol=0.06)

    def test_a_grey_picture_that_says_nothing(self, tmp_path: Path) -> None:
        """Not guessed, and not denied; read when a person says what it is."""
        path = tmp_path / "a.jpg"
        write_mpf(path, PHOTO, self.GREY)
        assert not holds_depth(path)
        with pytest.raises(InputError, match="1 grey picture in its MPF section"):
            embedded_disparity(path)
        assert np.abs(embedded_disparity(path, kind="disparity") - EXPECTED).mean() < 0.02
        assert embedded_disparity(path, kind="depth")[0, 0] == 0

    def test_pictures_that_are_no_depth(self, tmp_path: Path) -> None:
        write_mpf(tmp_path / "colour.jpg", PHOTO, PHOTO[::2, ::2])
        with pytest.raises(InputError, match="the 1 further pictures in it are no depth maps"):
            embedded_disparity(tmp_path / "colour.jpg", kind="disparity")
        data = bytearray((tmp_path / "colour.jpg").read_bytes())
        at = data.index(b"MPF\0")
        data[at + 4 : at + 20] = b"\xff" * 16
        (tmp_path / "broken.jpg").write_bytes(data)
        with pytest.raises(InputError, match="no further picture"):
            embedded_disparity(tmp_path / "broken.jpg")


class TestBounds:
    """XMP takes memory and time in proportion to its bytes, and no more."""

    @pytest.mark.parametrize("xmp", [b"<a>" + b"<b/>" * 25_000 + b"</a>", b"<a>" * 70 + b"</a>" * 70])
    def test_many_elements_and_deep_ones(self, tmp_path: Path, xmp: bytes) -> None:
        path, photo = tmp_path / "a.jpg", jpeg(PHOTO)
        head = EXTENDED + GUID + struct.pack(">I", len(xmp))
        parts = [xmp[at : at + 60_000] for at in range(0, len(xmp), 60_000)]
        packet = b"".join(segment(head + struct.pack(">I", 60_000 * i) + part) for i, part in enumerate(parts))
        path.write_bytes(photo[:2] + packet + photo[2:])
        with pytest.raises(InputError, match="more than 20000 elements, or nested deeper"):
            embedded_disparity(path)

    @pytest.mark.parametrize("coding", ["utf-8", "utf-16"])
    def test_entities_in_any_coding(self, tmp_path: Path, coding: str) -> None:
        path, photo = tmp_path / "a.jpg", jpeg(PHOTO)
        xmp = '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'.encode(coding)
        path.write_bytes(photo[:2] + segment(STANDARD + xmp) + photo[2:])
        with pytest.raises(InputError, match="entities"):
            embedded_disparity(path)

    def test_the_extended_packet_that_is_named(self, tmp_path: Path) -> None:
        """A part of another packet does not get into this one."""
        write_gdepth(tmp_path / "a.jpg", PHOTO, METRES, extended=True)
        data = (tmp_path / "a.jpg").read_bytes()
        other = segment(EXTENDED + b"0" * 32 + struct.pack(">II", 9, 3) + b"<another>")
        (tmp_path / "a.jpg").write_bytes(data[:2] + other + data[2:])
        np.testing.assert_allclose(embedded_disparity(tmp_path / "a.jpg"), EXPECTED, atol=6e-3)


class TestWithout:
    def test_a_photo_without_depth(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jpg"
        path.write_bytes(jpeg(PHOTO))
        assert not holds_depth(path)
        with pytest.raises(InputError, match="has no depth in it"):
            embedded_disparity(path)
        Image.fromarray(PHOTO).save(tmp_path / "a.png")
        with pytest.raises(InputError, match="has no depth in it"):
            embedded_disparity(tmp_path / "a.png")
        with pytest.raises(InputError, match="does not exist"):
            embedded_disparity(tmp_path / "none.jpg")

    @pytest.mark.parametrize(
        ("xmp", "text"),
        [
            ("<not xml", "not valid XML"),
            ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "entities"),
            (META.format('<rdf:li xmlns:g="http://ns.google.com/photos/1.0/depthmap/" g:Data="%%%"/>'), "base64"),
            (META.format('<rdf:li xmlns:g="http://ns.google.com/photos/1.0/depthmap/" g:Data="AAAA"/>'), "JPEG or PNG"),
        ],
    )
    def test_broken_metadata(self, tmp_path: Path, xmp: str, text: str) -> None:
        path, photo = tmp_path / "a.jpg", jpeg(PHOTO)
        path.write_bytes(photo[:2] + segment(STANDARD + xmp.encode()) + photo[2:])
        with pytest.raises(InputError, match=text):
            embedded_disparity(path)
        assert read_photo(path).pixels.shape == PHOTO.shape  # the photo itself is fine


class TestHeic:
    def test_told_by_its_bytes(self, tmp_path: Path) -> None:
        for head, expected in (
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", True),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", True),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", False),
            (b"\0\0\0\x14ftypmif1\0\0\0\0mif1heic", False),  # what lies past the box is none of its brands
            (b"\0\0\0\x18ftypavif\0\0\0\0mif1heic", False),
            (b"", False),
            (b"\xff\xd8\xff", False),
        ):
            (tmp_path / "a").write_bytes(head)
            assert is_heic(tmp_path / "a") is expected, head
        assert not is_heic(tmp_path / "none")

    def test_a_photo_with_a_profile_is_read_as_a_png_is(self, tmp_path: Path) -> None:
        heif = pytest.importorskip("pillow_heif")
        profile = _swapped_profile()
        path, again = tmp_path / "a.heic", tmp_path / "a.png"
        heif.from_pillow(Image.fromarray(PHOTO)).save(path, quality=-1, chroma=444, icc_profile=profile)
        Image.fromarray(PHOTO).save(again, icc_profile=profile)
        found, expected = read_photo(path).pixels.astype(int), read_photo(again).pixels.astype(int)
        assert np.abs(expected - PHOTO).mean() > 10  # the profile does something
        assert np.abs(found - expected).mean() < 2
        with pytest.raises(InputError, match="has no depth in it"):
            embedded_disparity(path)
        assert not holds_depth(path)

    def test_it_is_upright(self, tmp_path: Path) -> None:
        heif = pytest.importorskip("pillow_heif")
        exif = Image.Exif()
        exif[0x0112] = 6
        heif.from_pillow(Image.fromarray(PHOTO)).save(tmp_path / "a.heic", quality=-1, chroma=444, exif=exif.tobytes())
        found = read_photo(tmp_path / "a.heic").pixels.astype(int)
        assert found.shape == (96, 72, 3)
        assert np.abs(found - np.rot90(PHOTO, -1)).mean() < 3

    def test_a_broken_one_is_refused(self, tmp_path: Path) -> None:
        heif = pytest.importorskip("pillow_heif")
        path = tmp_path / "a.heic"
        heif.from_pillow(Image.fromarray(PHOTO)).save(path)
        path.write_bytes(path.read_bytes()[:200])
        for read in (read_photo, embedded_disparity):
            with pytest.raises(InputError, match=r"a\.heic"):
                read(path)

    def test_without_the_library(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
        (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
        for read in (read_photo, embedded_disparity):
            with pytest.raises(MissingError, match=r"deeplens-edge\[heic\]"):
                read(tmp_path / "a.heic")

    @pytest.mark.skipif(not PUG.is_file(), reason="data/rgbd/pug.heic is not there: `make data` brings it")
    def test_an_iphones_photo(self) -> None:
        heif = pytest.importorskip("pillow_heif")
        found = embedded_disparity(PUG)
        assert found.shape == (576, 768)
        assert holds_depth(PUG)
        stored = np.asarray(heif.open_heif(PUG).info["depth_images"][0].to_pillow(), np.float64)
        np.testing.assert_allclose(found, (stored - stored.min()) / np.ptp(stored), atol=1e-6)
        assert found[345, 476] > found[115, 460]  # the face before the wall


def _swapped_profile() -> bytes:
    """sRGB with red and blue exchanged: a profile that is easy to see."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack(">I", data[128:132])
    at = {bytes(data[132 + 12 * i : 136 + 12 * i]): 136 + 12 * i for i in range(count)}
    red, blue = at[b"rXYZ"], at[b"bXYZ"]
    data[red : red + 8], data[blue : blue + 8] = data[blue : blue + 8], data[red : red + 8]
    return bytes(data)


class TestCommand:
    def test_refocus_by_the_photos_own_depth(self, deeplens: Command, artifacts: Path, tmp_path: Path) -> None:
        photo, out, saved = tmp_path / "a.jpg", tmp_path / "out.png", tmp_path / "depth.npy"
        write_gdepth(photo, PHOTO, METRES)
        result = deeplens(
            "refocus", photo, "--focus", "0.1,0.5", "--depth", "embedded", "--save-depth", saved,
            "--runtime", "onnx", "--artifacts", artifacts, "-o", out, "--json", tmp_path / "report.json",
        )  # fmt: skip
        assert (result.status, result.err) == (0, "note: the depth map in the file is not carried over\n")
        np.testing.assert_allclose(np.load(saved), EXPECTED, atol=6e-3)
        assert '"depth": "embedded"' in (tmp_path / "report.json").read_text()

    def test_a_photo_without(self, deeplens: Command, photo: Path, artifacts: Path, folder: Path) -> None:
        result = deeplens(
            "refocus", photo, "--focus", "0.1,0.5", "--depth", "embedded",
            "--runtime", "onnx", "--artifacts", artifacts, "-o", folder / "out.png",
        )  # fmt: skip
        assert result.status == InputError.exit_code
        assert "has no depth in it" in result.error

    def test_heic_in_without_torch(self, deeplens_process: Command, artifacts: Path, tmp_path: Path) -> None:
        heif = pytest.importorskip("pillow_heif")
        heif.from_pillow(Image.fromarray(PHOTO)).save(tmp_path / "a.heic")
        result = deeplens_process(
            "refocus", "a.heic", "--focus", "0.5,0.5", "--runtime", "onnx", "--artifacts", artifacts, "-o", "out.png",
            without=("torch", "scipy", "skimage", "h5py"),
        )  # fmt: skip
        assert (result.status, result.err) == (0, "")
        assert Image.open(tmp_path / "out.png").size == (96, 72)
        missing = deeplens_process(
            "refocus", "a.heic", "--focus", "0.5,0.5", "--runtime", "onnx", "--artifacts", artifacts, "-o", "out.png",
            without=("pillow_heif",),
        )  # fmt: skip
        assert missing.status == MissingError.exit_code
        assert "deeplens-edge[heic]" in missing.error
