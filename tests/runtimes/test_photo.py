"""Photos read: formats, modes, orientation, profiles, and what is refused."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.version import Version
from PIL import ExifTags, Image, ImageCms

from deeplens.console.errors import InputError
from deeplens.runtimes.photo import read_disparity, read_photo, write_photo


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def smooth(height: int = 40, width: int = 60) -> np.ndarray:
    """A picture that lossy formats keep well."""
    y, x = np.mgrid[:height, :width]
    return np.stack((x * 3 + 40, y * 4 + 60, 200 - x - y), axis=-1).astype(np.uint8)


def png(path: Path, samples: np.ndarray, colour_type: int) -> Path:
    """A PNG of 16-bit samples, H×W×C, written by hand from the format's specification."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = samples.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def refuse(path: Path, words: str, **options: Any) -> None:
    for read in (read_photo, read_disparity):
        with pytest.raises(InputError, match=words) as caught:
            read(path, **options)
        assert "\n" not in str(caught.value)
        assert path.name in str(caught.value)


# Files that can't be read


def test_a_missing_file_a_folder_and_an_empty_file_are_named(tmp_path: Path) -> None:
    refuse(tmp_path / "none.jpg", "does not exist")
    refuse(tmp_path, "is a folder")
    (tmp_path / "empty.jpg").touch()
    refuse(tmp_path / "empty.jpg", "is empty")
    (tmp_path / "empty.npy").touch()
    refuse(tmp_path / "empty.npy", "is empty")
    refuse(tmp_path / ("n" * 300), "can't be read|does not exist")


@pytest.mark.parametrize("name", ["text.jpg", "text.png", "text.npy"])
def test_what_is_not_an_image_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("not an image\n" * 9)
    with pytest.raises(InputError, match="is not a"):
        (read_disparity if path.suffix == ".npy" else read_photo)(path)


def test_a_format_that_runs_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    refuse(path, "is not an image")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "gif", "bmp"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(noise(60, 80, 3)).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refuse(path, "truncated or broken|is not an image|can't be opened")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_damage_gives_a_photo_or_one_line(tmp_path: Path, form: str, damage: list[tuple[int, int]]) -> None:
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(noise(9, 12, 3)).save(stream, form, exif=exif, icc_profile=profile)
    data = bytearray(stream.getvalue())
    for place, value in damage:
        data[place % len(data)] = value
    path = tmp_path / "damaged"
    path.write_bytes(data)
    try:
        photo = read_photo(path, max_pixels=1_000_000)
    except InputError as error:
        said = str(error)
    else:
        said = " ".join(photo.notes)
        assert photo.pixels.ndim == 3
    assert "\n" not in said


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    path = png(tmp_path / "bomb.png", noise(2, 2, 3, dtype=np.uint16), 2)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    refuse(path, "60000×60000 pixels .3600 megapixels., but at most 200 megapixels are read")


def test_the_limit_is_an_argument_and_replaces_that_of_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(noise(20, 30, 3)).save(path)
    refuse(path, "30×20", max_pixels=599)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_photo(path, max_pixels=600).pixels.shape == (20, 30, 3)
    assert Image.MAX_IMAGE_PIXELS == 10
    np.save(tmp_path / "map.npy", np.zeros((20, 30)))
    with pytest.raises(InputError, match="30×20"):
        read_disparity(tmp_path / "map.npy", max_pixels=599)


# Colour modes


YCBCR = pytest.param(
    "YCbCr",
    marks=pytest.mark.skipif(
        Version(PIL.__version__) < Version("13"), reason="Pillow before 13 can't read the YCbCr TIFF that it writes"
    ),
)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", YCBCR, "LAB"])
def test_every_colour_mode_is_read_as_rgb(tmp_path: Path, mode: str) -> None:
    source = Image.fromarray(smooth())
    if mode == "LAB":
        transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        image = ImageCms.applyTransform(source, transform)
        assert image is not None
    else:
        image = source.convert(mode)
    path = tmp_path / "photo.tif"
    image.save(path)
    photo = read_photo(path)
    assert photo.pixels.shape == (40, 60, 3)
    assert photo.pixels.dtype == np.uint8
    assert photo.alpha is None
    assert photo.notes == ()
    expected = {"1": image.convert("RGB"), "L": image.convert("RGB"), "P": image.convert("RGB")}.get(mode, source)
    error = np.abs(photo.pixels.astype(int) - np.asarray(expected))
    assert error.mean() <= 2
    assert error.max() <= (24 if mode == "LAB" else 4)  # 8 bits of LAB are coarse where a channel is dark


def test_a_cmyk_jpeg_is_read(tmp_path: Path) -> None:
    Image.fromarray(smooth()).convert("CMYK").save(tmp_path / "print.jpg", quality=100)
    assert np.abs(read_photo(tmp_path / "print.jpg").pixels.astype(int) - smooth()).max() <= 6


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_of_16_bits_is_kept(tmp_path: Path, suffix: str) -> None:
    grey = noise(20, 30, dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / f"grey.{suffix}")
    photo = read_photo(tmp_path / f"grey.{suffix}")
    assert photo.pixels.dtype == np.uint16
    np.testing.assert_array_equal(photo.pixels, np.repeat(grey[:, :, None], 3, axis=2))
    Image.fromarray(grey.astype(np.int32)).save(tmp_path / "long.tif")
    np.testing.assert_array_equal(read_photo(tmp_path / "long.tif").pixels, photo.pixels)
    Image.fromarray(grey.astype(np.float32) / 65535).save(tmp_path / "float.tif")
    np.testing.assert_array_equal(read_photo(tmp_path / "float.tif").pixels, photo.pixels)


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0, np.nan]], np.float32),
        np.array([[0, 255]], np.float32),
        np.array([[0, 70000]], np.int32),
        np.array([[-1, 0]], np.int32),
    ],
)
def test_numbers_without_a_meaning_as_grey_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(tmp_path / "grey.tif")
    with pytest.raises(InputError, match=r"values outside 0 to 1|more than 16 bits"):
        read_photo(tmp_path / "grey.tif")


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (6, 4)])
def test_colour_of_16_bits_is_read_at_8_with_a_note(tmp_path: Path, colour_type: int, channels: int) -> None:
    samples = noise(5, 6, channels, dtype=np.uint16)
    photo = read_photo(png(tmp_path / "deep.png", samples, colour_type))
    assert photo.pixels.dtype == np.uint8
    assert np.abs(photo.pixels - samples[:, :, :3] / 257).max() <= 1
    assert "16 bits" in photo.notes[0]
    assert (photo.alpha is not None) == (channels == 4)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_kept_aside(tmp_path: Path, mode: str) -> None:
    alpha = noise(40, 60)
    image = Image.fromarray(smooth()).convert("L" if mode == "LA" else "RGB")
    image.putalpha(Image.fromarray(alpha))
    if mode == "PA":
        image = image.quantize(32)  # a palette with transparent entries
    image.save(tmp_path / "cut.png")
    photo = read_photo(tmp_path / "cut.png")
    assert photo.alpha is not None
    expected = np.asarray(image.convert("RGBA"))
    np.testing.assert_array_equal(photo.alpha, expected[:, :, 3])
    np.testing.assert_array_equal(photo.pixels[photo.alpha > 0], expected[photo.alpha > 0][:, :3])


def test_an_opaque_alpha_is_none(tmp_path: Path) -> None:
    Image.fromarray(smooth()).convert("RGBA").save(tmp_path / "opaque.png")
    assert read_photo(tmp_path / "opaque.png").alpha is None


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_the_first_of_several_frames_is_read_with_a_note(tmp_path: Path, suffix: str) -> None:
    first, second = Image.fromarray(np.full((20, 30, 3), 200, np.uint8)), Image.fromarray(smooth(20, 30))
    path = tmp_path / f"film.{suffix}"
    first.save(path, save_all=True, append_images=[second, first])
    photo = read_photo(path)
    assert np.abs(photo.pixels.astype(int) - 200).max() <= 4
    assert photo.notes == (f"film.{suffix} has 3 frames or pages; only the first is used",)


# EXIF and colour profiles

TURNS = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}
"""Orientation tag → how an upright picture is stored: the tag's number says where row 0 and column 0 lie."""


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_photos_are_turned_upright_once(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = np.ascontiguousarray(TURNS[orientation](smooth()))
    Image.fromarray(stored).save(tmp_path / f"turned.{suffix}", exif=exif, quality=100, subsampling=0)
    photo = read_photo(tmp_path / f"turned.{suffix}")
    assert photo.pixels.shape == (40, 60, 3)
    assert np.abs(photo.pixels.astype(int) - smooth()).max() <= (6 if suffix == "jpg" else 0)
    write_photo(tmp_path / "again.png", photo)
    np.testing.assert_array_equal(read_photo(tmp_path / "again.png").pixels, photo.pixels)


def camera_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] = 8.0
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return exif


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_exif_goes_from_photo_to_photo_without_its_orientation(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(smooth()).save(tmp_path / "camera.jpg", exif=camera_exif())
    write_photo(tmp_path / f"out.{suffix}", read_photo(tmp_path / "camera.jpg"))
    with Image.open(tmp_path / f"out.{suffix}") as image:
        exif = image.getexif()
        assert exif[ExifTags.Base.Make] == "Maker"
        assert exif.get(ExifTags.Base.Orientation, 1) == 1
        assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] == 8.0
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
        assert image.size == (40, 60)


def test_the_layout_of_a_tiff_is_not_taken_for_exif(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "scan.tif", tiffinfo={270: "a scan"})
    write_photo(tmp_path / "out.jpg", read_photo(tmp_path / "scan.tif"))
    with Image.open(tmp_path / "out.jpg") as image:
        assert dict(image.getexif()) == {270: "a scan"}


@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0"])
def test_broken_exif_does_not_lose_the_photo(tmp_path: Path, exif: bytes) -> None:
    Image.fromarray(smooth()).save(tmp_path / "odd.jpg", exif=exif, quality=100)
    assert np.abs(read_photo(tmp_path / "odd.jpg").pixels.astype(int) - smooth()).max() <= 6


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """An RGB profile whose red primary is sRGB's blue and the other way round."""
    return srgb_profile().replace(b"rXYZ", b"tmp ").replace(b"bXYZ", b"rXYZ").replace(b"tmp ", b"bXYZ")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_a_colour_profile_is_applied(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(smooth()).convert(mode)
    image.save(tmp_path / "profile.png", icc_profile=swapped_profile())
    photo = read_photo(tmp_path / "profile.png")
    expected = np.asarray(image.convert("RGB"))[:, :, ::-1]
    assert np.abs(photo.pixels.astype(int) - expected).max() <= 2
    assert photo.notes == ()


def test_an_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    pixels = noise(40, 60, 3)
    Image.fromarray(pixels).save(tmp_path / "srgb.png", icc_profile=srgb_profile())
    np.testing.assert_array_equal(read_photo(tmp_path / "srgb.png").pixels, pixels)


@pytest.mark.parametrize("profile", [b"nonsense", srgb_profile()[:200]])
def test_a_broken_profile_is_noted(tmp_path: Path, profile: bytes) -> None:
    Image.fromarray(smooth()).save(tmp_path / "odd.png", icc_profile=profile)
    photo = read_photo(tmp_path / "odd.png")
    np.testing.assert_array_equal(photo.pixels, smooth())
    assert "profile" in photo.notes[0]


def test_a_profile_of_another_colour_space_is_noted(tmp_path: Path) -> None:
    Image.fromarray(smooth()).convert("CMYK").save(tmp_path / "odd.tif", icc_profile=srgb_profile())
    assert "profile" in read_photo(tmp_path / "odd.tif").notes[0]


# Writing
