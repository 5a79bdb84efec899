"""What the page reads of a photo's file, beside what the package reads of it: HEIC, depth of phones, metadata."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeplens.console.errors import MismatchError
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.photo import read_photo
from deeplens.runtimes.portrait import embedded_disparity
from deeplens.runtimes.web import WebRuntime
from tests.support.device import needs_torch
from tests.support.portrait_files import jpeg, write_dynamic_depth, write_gdepth, write_mpf
from tests.web.conftest import Opened, encoded, photo

pytestmark = pytest.mark.slow

PIXELS = np.ascontiguousarray(photo()[::2, ::2][:192, :256])
ROWS, COLUMNS = np.mgrid[:96, :128].astype(np.float32)
METRES = 1 + COLUMNS / 32 + ROWS / 200


def gdepth(path: Path) -> None:
    write_gdepth(path, PIXELS, METRES)


def gdepth_linear_extended(path: Path) -> None:
    write_gdepth(path, PIXELS, METRES, form="RangeLinear", extended=True)


def gdepth_turned(path: Path) -> None:
    write_gdepth(path, PIXELS, METRES, orientation=6)


def dynamic(path: Path) -> None:
    write_dynamic_depth(path, PIXELS, METRES)


def dynamic_newer_with_trailer(path: Path) -> None:
    write_dynamic_depth(path, PIXELS, METRES, newer=True, trailer=b"a trailer of the camera")


def dynamic_elements_linear(path: Path) -> None:
    write_dynamic_depth(path, PIXELS, METRES, elements=True, form="RangeLinear", between=b"left by a program")


def apple_disparity(path: Path) -> None:
    write_mpf(path, PIXELS, np.uint8(255 / METRES), says="disparity")


def apple_depth(path: Path) -> None:
    write_mpf(path, PIXELS, np.uint8(40 * METRES), says="depth")


@pytest.mark.parametrize(
    "write",
    [
        gdepth, gdepth_linear_extended, gdepth_turned, dynamic, dynamic_newer_with_trailer, dynamic_elements_linear,
        apple_disparity, apple_depth,
    ],
)  # fmt: skip
def test_the_depth_of_phones(page: WebRuntime, tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "portrait.jpg"
    write(path)
    opened = Opened(page, path.read_bytes(), path.name)
    due = embedded_disparity(path)
    assert opened.embedded
    assert opened.map.shape == due.shape
    np.testing.assert_allclose(opened.map, due, atol=2 / 255)
    assert np.abs(opened.map[:, ::-1] - due).max() > 0.3, "the control: another map is another map"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cut": 40}, "it is not where the file says"),
        ({"form": "RangeOdd"}, "its format rangeodd is not known"),
    ],
)
def test_depth_that_can_not_be_used_is_said(
    page: WebRuntime, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    path = tmp_path / "portrait.jpg"
    write_dynamic_depth(path, PIXELS, METRES, **options)
    opened = Opened(page, path.read_bytes(), path.name)
    assert any(note.startswith("The depth map in the photo is not used") and says in note for note in opened.notes)
    assert not opened.embedded
    assert opened.map.shape != METRES.shape, "it is predicted"


def test_depth_of_another_shape_is_said(page: WebRuntime, tmp_path: Path) -> None:
    path = tmp_path / "portrait.jpg"
    write_gdepth(path, PIXELS, METRES[:, :64])
    opened = Opened(page, path.read_bytes(), path.name)
    assert any("does not show the whole photo" in note for note in opened.notes)


def test_depth_that_is_the_same_everywhere_is_said(page: WebRuntime, tmp_path: Path) -> None:
    path = tmp_path / "portrait.jpg"
    write_gdepth(path, PIXELS, np.full_like(METRES, 2.0), ends=(1.0, 4.0))
    opened = Opened(page, path.read_bytes(), path.name)
    assert any("it is the same everywhere" in note for note in opened.notes)
    assert not opened.embedded


def heic(pixels: np.ndarray, **options: Any) -> bytes:
    library = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    stream = io.BytesIO()
    image = library.from_pillow(Image.fromarray(pixels))
    image.save(stream, quality=90, **options)
    return stream.getvalue()


def test_heic_is_read_and_keeps_what_it_says(page: WebRuntime, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a>kept</a></x:xmpmeta>'
    path = tmp_path / "photo.heic"
    path.write_bytes(heic(PIXELS, exif=exif.tobytes(), xmp=xmp))
    opened = Opened(page, path.read_bytes(), path.name)
    assert opened.size == PIXELS.shape[:2]
    assert opened.notes == []
    saved = opened.saved()
    assert saved.format == "JPEG"
    assert saved.getexif()[0x010F] == "A camera"
    assert b"kept" in saved.info["xmp"]
    due = read_photo(path).pixels.astype(float)
    assert np.abs(np.asarray(saved).astype(float) - due)[:, -40:].mean() < 20


def test_heic_in_another_colour_space_is_brought_to_srgb(page: WebRuntime, tmp_path: Path) -> None:
    from tests.support.photo_files import rgb_profile

    flat = np.full((128, 160, 3), (200, 60, 60), np.uint8)
    seen = []
    for name, options in {"plain": {}, "P3": {"icc_profile": rgb_profile("P3")}}.items():
        path = tmp_path / f"{name}.heic"
        path.write_bytes(heic(flat, **options))
        found = np.asarray(Opened(page, path.read_bytes(), path.name).saved()).reshape(-1, 3).mean(0)
        np.testing.assert_allclose(found, read_photo(path).pixels.reshape(-1, 3).mean(0), atol=3)
        seen.append(found)
    assert np.abs(seen[0] - seen[1]).max() > 8


def test_heic_with_the_depth_of_a_phone(page: WebRuntime) -> None:
    from tests.runtimes.test_portrait import PUG

    if not PUG.is_file():
        pytest.skip("the portrait photo of pillow-heif is not here")
    opened = Opened(page, PUG.read_bytes(), PUG.name)
    due = embedded_disparity(PUG)
    assert opened.embedded
    assert opened.map.shape == due.shape
    np.testing.assert_allclose(opened.map, due, atol=2 / 255)


def test_a_broken_heic_is_said(page: WebRuntime) -> None:
    with pytest.raises(MismatchError, match=r"broken\.heic is a HEIC photo that can't be read: it is damaged"):
        Opened(page, heic(PIXELS)[:900], "broken.heic")


def test_avif_keeps_what_it_says(page: WebRuntime) -> None:
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    try:
        data = encoded(PIXELS, "AVIF", exif=exif, xmp=b"<x:xmpmeta>kept</x:xmpmeta>")
    except (KeyError, OSError):
        pytest.skip("this Pillow writes no AVIF")
    opened = Opened(page, data, "photo.avif")
    assert opened.notes == []
    kept = opened.saved().getexif()
    assert kept[0x010F] == "A camera"
    assert kept.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"


def test_a_jpeg_without_its_end_is_read(page: WebRuntime) -> None:
    opened = Opened(page, jpeg(PIXELS)[:-2], "cut.jpg")
    assert opened.size == PIXELS.shape[:2]
    assert [note for note in opened.notes if "ends too early" in note]


def test_more_than_8_bits_are_told(page: WebRuntime) -> None:
    from tests.support.photo_files import chunk

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in PIXELS.astype(np.uint16) * 257)
    head = struct.pack(">IIBBBBB", PIXELS.shape[1], PIXELS.shape[0], 16, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    deep = b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    for data, name, bits in ((deep, "deep.png", 16), (jpeg(PIXELS), "plain.jpg", 8)):
        notes = Opened(page, data, name).notes
        assert [f"has {bits} bits a colour, and it is saved with 8" in note for note in notes] == [True] * (bits == 16)


@needs_torch
@pytest.mark.usefixtures("shipped")
def test_what_is_hidden_does_not_bleed_into_the_rim(page: WebRuntime, tmp_path: Path) -> None:
    """A cut-out of two colours whose transparent pixels are black in the file."""
    from deeplens.runtimes.pytorch import TorchRuntime

    seen = (ROWS - 47) ** 2 + (COLUMNS - 60) ** 2 < 35**2
    pixels = np.full((*seen.shape, 4), (240, 230, 220, 255), np.uint8)
    pixels[:, 60:, :3] = (60, 90, 120)
    pixels[~seen] = 0
    path = tmp_path / "cutout.png"
    path.write_bytes(encoded(pixels, "PNG"))
    opened = Opened(page, path.read_bytes(), path.name)
    saved = np.asarray(opened.saved(f_number=1.4, disparity=0))
    np.testing.assert_array_equal(saved[:, :, 3], pixels[:, :, 3])
    with TorchRuntime() as runtime:
        due = Harness(runtime).refocus(read_photo(path).pixels, opened.map, focal_disparity=0, aperture=1.0)
    assert np.abs(saved[seen, :3].astype(int) - due[seen]).max() <= 1
    assert saved[seen, :3].min() > 55, "no black in it"
