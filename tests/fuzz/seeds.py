"""Good files, small, of every kind that is read: what the fuzzing starts from."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.support import portrait_files
from tests.support.tiny import textured

PIXELS = textured(24, 32, seed=1)
METRES = np.linspace(0.5, 5, 24 * 32, dtype=np.float32).reshape(24, 32)
GREY = (METRES * 13000).astype(np.uint16)
ICC = b"icc"


def picture(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def written(folder: Path, name: str, write: Callable[[Path], object]) -> bytes:
    """What `write` puts into a file of that name."""
    path = folder / name
    write(path)
    data = path.read_bytes()
    path.unlink()
    return data


def photos() -> list[bytes]:
    from PIL import ImageCms

    image, exif = Image.fromarray(PIXELS), Image.Exif()
    exif.update({0x0112: 6, 0x010E: "a text", 0x8298: "© a name"})
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    clear = image.copy()
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    found = [
        picture(image, "JPEG", exif=exif, icc_profile=icc, quality=60),
        picture(image, "JPEG", progressive=True, comment=b"a comment"),
        picture(image.convert("CMYK"), "JPEG"),
        picture(clear, "PNG", exif=exif, icc_profile=icc),
        picture(image.quantize(8), "PNG", transparency=1),
        picture(Image.fromarray(GREY), "PNG"),
        picture(clear, "WEBP", lossless=True, exif=exif),
        picture(image, "WEBP"),
        picture(image, "TIFF", compression="tiff_lzw", exif=exif, icc_profile=icc),
        picture(Image.fromarray(METRES / 5), "TIFF"),
        picture(Image.fromarray(GREY), "TIFF", compression="tiff_adobe_deflate"),
        picture(image.quantize(16), "GIF", save_all=True, append_images=[image.quantize(4)]),
        picture(image, "BMP"),
        picture(image, "PPM"),
        picture(clear, "TGA", compression="tga_rle"),
    ]
    for form in ("AVIF", "JPEG2000"):
        if form in Image.SAVE or (Image.init() and form in Image.SAVE):
            found.append(picture(image, form))
    return found


def heic() -> list[bytes]:
    from deeplens.runtimes.heic import register

    register()
    return [picture(Image.fromarray(PIXELS), "HEIF", quality=50)]


def depth_pictures() -> list[bytes]:
    return [
        picture(Image.fromarray(GREY), "PNG"),
        picture(Image.fromarray(METRES), "TIFF", description="depth in metres"),
        picture(Image.fromarray(METRES), "PPM"),
        picture(Image.fromarray(PIXELS[..., 0]), "PNG"),
    ]


def arrays() -> list[bytes]:
    found = []
    for save, options in (
        (np.save, {"arr": METRES}), (np.savez, {"depth": METRES}), (np.savez_compressed, {"disparity": METRES}),
        (np.savez_compressed, {"depth": METRES.astype(np.float16), "other": GREY}),
    ):  # fmt: skip
        stream = io.BytesIO()
        save(stream, **options)
        found.append(stream.getvalue())
    return found


def inputs() -> list[bytes]:
    stream = io.BytesIO()
    arrays: dict[str, Any] = {"0/depth/picture": np.zeros((1, 3, 8, 8), np.uint8)}
    np.savez_compressed(stream, **arrays)
    return [stream.getvalue()]


def portraits(folder: Path) -> list[bytes]:
    write = portrait_files
    return [
        written(folder, "a", lambda path: write.write_gdepth(path, PIXELS, METRES)),
        written(folder, "a", lambda path: write.write_gdepth(path, PIXELS, METRES, extended=True, form="RangeLinear")),
        written(folder, "a", lambda path: write.write_dynamic_depth(path, PIXELS, METRES, trailer=bytes(40))),
        written(folder, "a", lambda path: write.write_dynamic_depth(path, PIXELS, METRES, elements=True, newer=True)),
        written(folder, "a", lambda path: write.write_mpf(path, PIXELS, PIXELS[..., 0], says="disparity")),
        written(folder, "a", lambda path: write.write_mpf(path, PIXELS, PIXELS[..., 0])),
    ]


def text(value: object) -> list[bytes]:
    return [json.dumps(value, indent=1).encode()]
