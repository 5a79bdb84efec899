"""Colour, depth, polarity and transparency of photos, against Little CMS, published constants and formulas."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms

from deeplens.console.errors import InputError
from deeplens.runtimes.colour import coded_space, grey_table, to_srgb
from deeplens.runtimes.photo import Photo, photo_of, read_photo
from tests.runtimes.test_photo import noise, png, smooth
from tests.support.photo_files import (
    SRGB_CURVE,
    chunk,
    gamma_curve,
    grey_profile,
    rgb_profile,
    table_curve,
    tiff_12_bits,
    with_chunks,
)

RAMP = np.linspace(0, 65535, 40 * 60).astype(np.uint16).reshape(40, 60)


def by_lcms(pixels: np.ndarray, source: bytes, mode: str = "RGB") -> np.ndarray:
    """Pixels in sRGB by Little CMS."""
    profiles = ImageCms.ImageCmsProfile(io.BytesIO(source)), ImageCms.createProfile("sRGB")
    flags = ImageCms.Flags.NOOPTIMIZE | ImageCms.Flags.BLACKPOINTCOMPENSATION
    transform = ImageCms.buildTransform(*profiles, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, flags)
    return np.asarray(ImageCms.applyTransform(Image.fromarray(pixels), transform)).astype(int)


def srgb(light: Any) -> Any:
    """IEC 61966-2-1."""
    return np.where(np.asarray(light) <= 0.0031308, 12.92 * light, 1.055 * np.asarray(light) ** (1 / 2.4) - 0.055)


def mean_grey(photo: Photo) -> np.ndarray:
    assert (photo.pixels == photo.pixels[:, :, :1]).all()
    return photo.pixels[:, :, 0].astype(int)


class TestDeepGrey:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_white_is_zero(self, tmp_path: Path, dtype: type) -> None:
        values = RAMP // 257 if dtype is np.uint8 else RAMP / 65535 if dtype is np.float32 else RAMP
        tifffile.imwrite(tmp_path / "a.tif", values.astype(dtype), photometric="miniswhite")
        top = 255 if dtype is np.uint8 else 65535
        expected = top - (RAMP // 257 if dtype is np.uint8 else RAMP).astype(int)
        assert np.abs(mean_grey(read_photo(tmp_path / "a.tif")) - expected).max() <= 1

    def test_12_bits(self, tmp_path: Path) -> None:
        values = (RAMP >> 4).astype(np.uint16)
        photo = read_photo(tiff_12_bits(tmp_path / "a.tif", values))
        expected = np.rint(values * (65535 / 4095))
        assert np.abs(mean_grey(photo) - expected).max() <= 1
        assert mean_grey(photo).max() == 65535
        with Image.open(tmp_path / "a.tif") as image:
            np.testing.assert_array_equal(photo_of(image).pixels, photo.pixels)

    def test_pgm_of_any_maximum(self, tmp_path: Path) -> None:
        (tmp_path / "a.pgm").write_bytes(b"P5 60 40 4095\n" + (RAMP >> 4).astype(">u2").tobytes())
        assert np.abs(mean_grey(read_photo(tmp_path / "a.pgm")) - np.rint((RAMP >> 4) * (65535 / 4095))).max() <= 1

    @pytest.mark.parametrize(
        "curve",
        [
            gamma_curve(1.0),
            gamma_curve(1.8),
            b"curv" + bytes(8),
            SRGB_CURVE,
            table_curve(np.linspace(0, 1, 1024) ** 2.4),
            b"para" + struct.pack(">IHHi", 0, 0, 0, round(1.5 * 65536)),
            b"para" + struct.pack(">IHH4i", 0, 2, 0, *(round(each * 65536) for each in (2.0, 0.9, 0.0, 0.1))),
            b"para" + struct.pack(">IHH7i", 0, 4, 0, *(round(n * 65536) for n in (2.2, 0.9, 0.05, 0.3, 0.1, 0.02, 0))),
        ],
    )
    @pytest.mark.parametrize("connection", [b"XYZ ", b"Lab "])
    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_a_grey_profile_holds_at_any_depth(
        self, tmp_path: Path, curve: bytes, connection: bytes, suffix: str
    ) -> None:
        """The judge works at 8 bits, on every 257th value."""
        source = grey_profile(curve, connection)
        deep, flat = tmp_path / f"a.{suffix}", np.arange(256, dtype=np.uint8).reshape(16, 16)
        Image.fromarray(flat.astype(np.uint16) * 257).save(deep, icc_profile=source)
        photo = read_photo(deep)
        assert photo.notes == ()
        expected = by_lcms(flat, source, "L")[:, :, 0]
        seen = flat > 0  # Little CMS takes 0 for black, whatever its curve says
        assert np.abs(mean_grey(photo) / 257 - expected)[seen].max() <= 1.1
        assert photo.pixels.dtype == np.uint16
        Image.fromarray(flat).save(tmp_path / f"b.{suffix}", icc_profile=source)
        assert np.abs(mean_grey(read_photo(tmp_path / f"b.{suffix}")) - expected)[seen].max() <= 1

    @pytest.mark.parametrize(
        "source", [b"nonsense", grey_profile(b"curv\0\0\0\0\0\0\xff\xff"), rgb_profile("P3")[:200]]
    )
    def test_a_broken_profile_is_noted(self, tmp_path: Path, source: bytes) -> None:
        Image.fromarray(RAMP).save(tmp_path / "a.png", icc_profile=source)
        photo = read_photo(tmp_path / "a.png")
        assert "the ICC profile can't be used" in photo.notes[0]
        np.testing.assert_array_equal(mean_grey(photo), RAMP)

    def test_an_rgb_profile_on_grey(self, tmp_path: Path) -> None:
        Image.fromarray(RAMP).save(tmp_path / "a.png", icc_profile=rgb_profile("P3", gamma_curve(1.0)))
        np.testing.assert_array_equal(mean_grey(read_photo(tmp_path / "a.png")), grey_table(lambda x: x)[RAMP])

    def test_a_gamma_chunk(self, tmp_path: Path) -> None:
        Image.fromarray(RAMP).save(tmp_path / "a.png")
        with_chunks(tmp_path / "a.png", chunk(b"gAMA", struct.pack(">I", 100_000)))
        np.testing.assert_array_equal(mean_grey(read_photo(tmp_path / "a.png")), grey_table(lambda x: x)[RAMP])

    def test_a_value_that_stands_for_transparency(self, tmp_path: Path) -> None:
        Image.fromarray(RAMP).save(tmp_path / "a.png", transparency=int(RAMP[3, 5]))
        alpha = read_photo(tmp_path / "a.png").alpha
        assert alpha is not None
        assert np.argwhere(alpha == 0).tolist() == [[3, 5]]


class TestBits:
    def tiff(self, path: Path, dtype: type = np.uint16, **options: Any) -> Path:
        tifffile.imwrite(path, noise(8, 8, 3, dtype=dtype), photometric="rgb", **options)
        return path

    def test_deep_colour_is_told_for_every_format(self, tmp_path: Path) -> None:
        told = [read_photo(self.tiff(tmp_path / "a.tif"))]
        told.append(read_photo(png(tmp_path / "b.png", noise(8, 8, 3, dtype=np.uint16), 2)))
        told.append(read_photo(png(tmp_path / "c.png", noise(8, 8, 2, dtype=np.uint16), 4)))
        (tmp_path / "d.ppm").write_bytes(b"P6\n# 12 bits\n8 8\n4095\n" + bytes(8 * 8 * 6))
        told.append(read_photo(tmp_path / "d.ppm"))
        assert ["bits per colour channel; it is read with 8" in " ".join(each.notes) for each in told] == [True] * 4
        assert read_photo(self.tiff(tmp_path / "e.tif", np.uint8)).notes == ()

    def test_jpeg_2000_of_12_bits(self) -> None:
        header = b"\xff\x4f\xff\x51" + struct.pack(">HHIIIIIIIIH", 47, 0, 8, 8, 0, 0, 8, 8, 0, 0, 3) + b"\x0b\1\1" * 3
        image = Image.new("RGB", (8, 8))
        image.format = "JPEG2000"
        from deeplens.runtimes.colour_said import bits_of

        assert bits_of(image, bytes(85) + header) == 12

    def test_heic_of_10_bits(self, tmp_path: Path) -> None:
        heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
        picture = heif.from_bytes(mode="RGB;16", size=(60, 40), data=(smooth().astype(np.uint16) * 257).tobytes())
        picture.save(tmp_path / "a.heic", quality=-1, chroma=444)
        photo = read_photo(tmp_path / "a.heic")
        assert "a.heic has 10 bits per colour channel; it is read with 8" in photo.notes
        assert np.abs(photo.pixels.astype(int) - smooth()).max() <= 3

    def test_planes_of_16_bits_are_refused(self, tmp_path: Path) -> None:
        """Pillow reads another picture."""
        planes = noise(3, 8, 8, dtype=np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
        with pytest.raises(InputError, match="a plane of 16 bits for each channel"):
            read_photo(tmp_path / "a.tif")
        tifffile.imwrite(tmp_path / "b.tif", planes.astype(np.uint8), photometric="rgb", planarconfig="separate")
        np.testing.assert_array_equal(read_photo(tmp_path / "b.tif").pixels, planes.astype(np.uint8).transpose(1, 2, 0))


P3_CHUNK = chunk(b"cICP", bytes((12, 13, 0, 1)))


class TestColour:
    @pytest.mark.parametrize(("name", "curve"), [("P3", SRGB_CURVE), ("Adobe", gamma_curve(563 / 256))])
    def test_our_conversion_is_that_of_little_cms(self, name: str, curve: bytes) -> None:
        from deeplens.runtimes.colour import ADOBE_RGB

        pixels = noise(64, 64, 3)
        space = coded_space(12, 13) if name == "P3" else ADOBE_RGB
        assert space is not None
        found, outside = to_srgb(pixels, space)
        error = np.abs(found.astype(int) - by_lcms(pixels, rgb_profile(name, curve)))
        assert np.percentile(error, 99.9) <= 2
        assert error.max() <= 5  # 8 bits are coarse where a channel is dark
        assert outside > 0.1
        deep, _ = to_srgb(pixels.astype(np.uint16) * 257, space)
        assert np.abs(deep / 257 - found).max() <= 0.75

    @pytest.mark.parametrize("kind", ["cICP", "gAMA", "R03", "ICC", "nclx"])
    def test_colour_is_what_the_file_says(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "a.png"
        picture, expected = Image.fromarray(smooth()), by_lcms(smooth(), rgb_profile("P3"))
        if kind == "ICC":
            picture.save(path, icc_profile=rgb_profile("P3"))
        elif kind == "R03":
            exif = Image.Exif()
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = 0xFFFF
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: "R03"}
            picture.save(path, exif=exif.tobytes())
            expected = by_lcms(smooth(), rgb_profile("Adobe", gamma_curve(563 / 256)))
        elif kind == "nclx":
            heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
            path = tmp_path / "a.heic"
            heif.from_pillow(picture).save(
                path, quality=-1, chroma=444, color_primaries=12, transfer_characteristics=13, full_range_flag=1
            )
        else:
            picture.save(path)
            corners = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
            gamma = chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"cHRM", struct.pack(">8I", *corners))
            with_chunks(path, *(gamma if kind == "gAMA" else (P3_CHUNK,)))
        photo = read_photo(path)
        error = np.abs(photo.pixels.astype(int) - expected)
        assert error.mean() < (1 if kind == "nclx" else 0.3)
        assert np.abs(expected - smooth()).max() > 8, "a test that nothing could fail"

    def test_what_srgb_cannot_hold_is_told(self, tmp_path: Path) -> None:
        loud = np.zeros((40, 60, 3), np.uint8)
        loud[:, :, 1] = 200
        Image.fromarray(loud).save(tmp_path / "a.png", icc_profile=rgb_profile("P3"))
        Image.fromarray(loud).save(tmp_path / "b.png")
        with_chunks(tmp_path / "b.png", P3_CHUNK)
        for name in "ab":
            (note,) = read_photo(tmp_path / f"{name}.png").notes
            assert note == "100 % of the pixels have colours outside sRGB; they are clipped"
        Image.fromarray(smooth() // 4 + 96).save(tmp_path / "c.png", icc_profile=rgb_profile("P3"))
        assert read_photo(tmp_path / "c.png").notes == (), "dull colours are in both"

    def test_a_profile_counts_before_a_code(self, tmp_path: Path) -> None:
        Image.fromarray(smooth()).save(tmp_path / "a.png", icc_profile=rgb_profile("sRGB"))
        with_chunks(tmp_path / "a.png", P3_CHUNK)
        np.testing.assert_array_equal(read_photo(tmp_path / "a.png").pixels, smooth())

    @pytest.mark.parametrize("codes", [(1, 13), (1, 1), (2, 2), (1, 6)])
    def test_codes_that_are_srgb(self, tmp_path: Path, codes: tuple[int, int]) -> None:
        Image.fromarray(smooth()).save(tmp_path / "a.png")
        with_chunks(tmp_path / "a.png", chunk(b"cICP", bytes((*codes, 0, 1))))
        assert np.abs(read_photo(tmp_path / "a.png").pixels.astype(int) - smooth()).max() == 0

    def test_a_code_that_is_not_known_is_noted(self, tmp_path: Path) -> None:
        Image.fromarray(smooth()).save(tmp_path / "a.png")
        with_chunks(tmp_path / "a.png", chunk(b"cICP", bytes((77, 13, 0, 1))))
        assert "code 77/13, which is not known" in read_photo(tmp_path / "a.png").notes[0]

    @pytest.mark.parametrize("top", [255, 65535])
    def test_pq_and_hlg(self, top: int) -> None:
        """BT.2408: a white of 203 cd/m² is 58.07 % in PQ and 75 % in HLG; a grey of 26 cd/m² 38 % in both."""
        dtype = np.uint8 if top == 255 else np.uint16
        for code, white, grey in ((16, 0.5807, 0.38), (18, 0.75, 0.38)):
            space = coded_space(9, code)
            assert space is not None
            stored = np.array([[[white] * 3, [grey] * 3, [1.0] * 3, [0.0] * 3]])
            found, outside = to_srgb(np.rint(stored * top).astype(dtype), space)
            assert found[0, 0, 0] / top == pytest.approx(1.0, abs=0.012)
            assert found[0, 1, 0] / top == pytest.approx(srgb(26 / 203), abs=0.01)
            assert (found[0, 2, 0], found[0, 3, 0]) == (top, 0)
            assert outside == pytest.approx(0.25)

    def test_a_heic_in_pq_keeps_its_depth(self, tmp_path: Path) -> None:
        heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
        light = np.linspace(0, 1, 60) ** 2 * 203 / 10_000  # ST 2084, forwards
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        stored = ((c1 + c2 * light**m1) / (1 + c3 * light**m1)) ** m2
        values = np.broadcast_to(np.rint(stored * 65535).astype(np.uint16)[None, :, None], (40, 60, 3))
        heif.from_bytes(mode="RGB;16", size=(60, 40), data=np.ascontiguousarray(values).tobytes()).save(
            tmp_path / "a.heic", quality=-1, chroma=444, color_primaries=9, transfer_characteristics=16,
            full_range_flag=1,
        )  # fmt: skip
        photo = read_photo(tmp_path / "a.heic")
        assert photo.pixels.dtype == np.uint16
        assert "HDR (PQ)" in photo.notes[0]
        assert np.abs(photo.pixels[5] / 65535 - srgb(np.linspace(0, 1, 60) ** 2)[:, None]).max() < 0.02


class TestTransparent:
    def test_what_is_hidden_does_not_bleed(self, tmp_path: Path) -> None:
        pixels = np.zeros((33, 47, 4), np.uint8)
        pixels[5:20, 10:30] = (240, 230, 220, 255)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        for photo in (read_photo(tmp_path / "a.png"), photo_of(pixels)):
            assert (photo.pixels == (240, 230, 220)).all()
            assert photo.alpha is not None
            np.testing.assert_array_equal(photo.alpha, pixels[:, :, 3])

    def test_a_hidden_pixel_has_the_colour_of_the_nearest_that_is_seen(self) -> None:
        pixels = np.zeros((16, 16, 4), np.uint8)
        pixels[:, :4], pixels[:, 12:] = (200, 0, 0, 255), (0, 0, 200, 255)
        pixels[:, 3, 3] = 1  # hardly seen, but seen
        photo = photo_of(pixels)
        np.testing.assert_array_equal(photo.pixels[:, :4], pixels[:, :4, :3])
        assert (photo.pixels[:, 4] == (200, 0, 0)).all()
        assert (photo.pixels[:, 11] == (0, 0, 200)).all()

    def test_all_hidden_or_all_seen_stays(self) -> None:
        for alpha in (0, 1, 255):
            pixels = noise(5, 6, 4)
            pixels[:, :, 3] = alpha
            np.testing.assert_array_equal(photo_of(pixels).pixels, pixels[:, :, :3])


class TestWithoutEnd:
    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True, "subsampling": 2}])
    def test_a_jpeg_that_lacks_only_its_end_is_read(self, tmp_path: Path, options: dict[str, Any]) -> None:
        path = tmp_path / "a.jpg"
        Image.fromarray(noise(45, 61, 3)).save(path, **options)
        whole, data = read_photo(path).pixels, path.read_bytes()
        for lost in (1, 2):
            path.write_bytes(data[:-lost])
            photo = read_photo(path)
            np.testing.assert_array_equal(photo.pixels, whole)
            assert photo.notes == ("a.jpg ends without its end marker; no part of the picture is missing",)
        for lost in (12, 40, len(data) // 2):
            path.write_bytes(data[:-lost])
            with pytest.raises(InputError, match="truncated or broken"):
                read_photo(path)
