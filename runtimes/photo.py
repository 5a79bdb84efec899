"""Photo files ↔ upright sRGB pixels. NumPy and Pillow only.

What is kept apart from the pixels and put back when writing: alpha and EXIF. What is settled on reading: orientation,
colour space, colour mode. Photos have 8 bits a channel, but for grey ones of 16 bits or of floating point
numbers, which are kept at 16 bits. Pillow 13 decodes 16-bit *colour* to 8 bits and writes none; such a photo is read at
8 bits with a note.
"""

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from deeplens.console.errors import InputError
from deeplens.console.files import replacing
from deeplens.runtimes.disparity import read_disparity, write_disparity
from deeplens.runtimes.image_file import frame_count, opened_image

__all__ = [
    "Photo",
    "photo_of",
    "read_disparity",
    "read_photo",
    "side_by_side",
    "to_8_bit",
    "write_disparity",
    "write_photo",
]

WRITERS: dict[str, tuple[str, dict[str, object]]] = {
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpe": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jfif": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".png": ("PNG", {"compress_level": 4}),
    ".webp": ("WEBP", {"quality": 95, "method": 4}),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
}
"""Suffix → Pillow's format and options."""

_TIFF_DESCRIPTIONS = frozenset(
    {
        *(ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software),
        *(ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright),
        *(ExifTags.Base.XResolution, ExifTags.Base.YResolution, ExifTags.Base.ResolutionUnit),
        *(ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo),
    }
)
"""Tags of a TIFF that describe the photo; the others describe the layout of the file."""


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo, upright and in sRGB.

    Attributes:
        pixels: H×W×3, uint8 or uint16; may be read-only.
        alpha: H×W, uint8, or None if every pixel is opaque.
        exif: EXIF block for writing, orientation reset, or None.
        notes: what was not read as it stands in the file, one line each.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    exif: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def image(self) -> Image.Image:
        """The picture as a Pillow image of 8 bits a channel, with its alpha."""
        image = Image.fromarray(to_8_bit(self.pixels))
        if self.alpha is not None:
            image.putalpha(Image.fromarray(self.alpha))
        return image

    def with_pixels(self, pixels: np.ndarray) -> "Photo":
        """The same photo with other pixels of the same height and width."""
        return replace(self, pixels=pixels)

    def save(self, path: Path | str) -> tuple[str, ...]:
        """Write it: see `write_photo`."""
        return write_photo(Path(path), self)


def to_8_bit(pixels: np.ndarray) -> np.ndarray:
    """round(value / 257) of uint16 pixels of any shape, as uint8; uint8 pixels as they are."""
    if pixels.dtype == np.uint8:
        return pixels
    result = np.empty(pixels.shape, np.uint8)
    for source, target in zip(pixels, result, strict=True):  # row by row: the 32-bit numbers stay small
        target[...] = (source.astype(np.uint32) + 128) // 257
    return result


def read_photo(path: Path, *, max_pixels: int | None = None) -> Photo:
    """Read a photo.

    The first frame or page; turned as EXIF says; converted to sRGB by its ICC profile, if it has one that works. Every
    colour mode of Pillow is read. Grey 16-bit pictures give uint16; floating point ones must hold values in [0, 1] and
    give uint16; all others give uint8.

    Args:
        path: JPEG, PNG, WebP, TIFF, BMP, GIF, PPM, AVIF, JPEG 2000 or TGA; HEIC where pillow-heif is installed.
        max_pixels: larger photos are refused by their header, before they are decoded; None: as in
            `runtimes.bounds.check_pixels`.

    Raises:
        InputError: no such file, a folder, empty, not an image, truncated or broken, too large, or numbers that have
            no meaning as grey values.
        MissingError: a HEIC photo, and pillow-heif is not installed.
    """
    path = Path(path)
    with opened_image(path, max_pixels=max_pixels) as image:
        notes: list[str] = []
        frames = frame_count(path)
        if frames > 1:
            notes.append(f"{path.name} has {frames} frames or pages; only the first is used")
        if image.mode in ("RGB", "RGBA") and image.format != "TIFF" and _sixteen_bit(path):
            notes.append(f"{path.name} has 16 bits per colour channel; it is read with 8")
        return _upright(image, str(path), notes)


def photo_of(source: Image.Image | np.ndarray) -> Photo:
    """A photo that is in memory, upright and in sRGB as `read_photo` gives it.

    Args:
        source: a Pillow image of any mode, whose EXIF orientation and ICC profile are obeyed; or pixels in sRGB as
            H×W (grey), H×W×3 or H×W×4 (the last is alpha), uint8 or uint16. An array is not copied where it need not.

    Raises:
        InputError: an array of another shape or dtype, an empty one, or an image whose numbers are no grey values.
    """
    if isinstance(source, Image.Image):
        try:
            turned = ImageOps.exif_transpose(source)  # a new image: the caller's stays as it is
        except Exception:  # `_upright` meets it again and says so
            turned = source.copy()
        return _upright(turned, "the image", [])
    shape, dtype = source.shape, source.dtype
    if source.ndim not in (2, 3) or source.size == 0 or (source.ndim == 3 and shape[2] not in (3, 4)):
        raise InputError(f"a photo is an array of H×W, H×W×3 or H×W×4, not of {'×'.join(map(str, shape))}")
    if dtype not in (np.uint8, np.uint16):
        raise InputError(f"a photo holds uint8 or uint16, not {dtype}: scale 0 to 1 by 255 and round")
    if source.ndim == 2:
        return Photo(np.repeat(source[:, :, None], 3, axis=2))
    alpha = to_8_bit(source[:, :, 3]) if shape[2] == 4 else None
    return Photo(source[:, :, :3], None if alpha is None or alpha.min() == 255 else alpha)


def _upright(image: Image.Image, name: str, notes: list[str]) -> Photo:
    """An opened image, turned as its EXIF says and in sRGB. `name` is for messages; the image is changed."""
    profile = image.info.get("icc_profile")
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:  # a camera's EXIF can be broken in any way; none is a reason to refuse the photo
        notes.append(f"the orientation can't be read; the photo is not turned ({type(error).__name__})")
    exif = _exif(image, notes)
    if image.mode.startswith("I") or image.mode == "F":
        return Photo(_grey_16_bit(name, image), None, exif, tuple(notes))
    alpha = _alpha(image)
    return Photo(np.asarray(_srgb(image, profile, notes)), alpha, exif, tuple(notes))


def _sixteen_bit(path: Path) -> bool:
    """Whether a PNG says that it has 16 bits a channel (byte 24, in its header chunk)."""
    with path.open("rb") as file:
        header = file.read(25)
    return header.startswith(b"\x89PNG") and header[24] == 16


def _exif(image: Image.Image, notes: list[str]) -> bytes | None:
    """The EXIF block of an image that has been turned upright; None if there is none or it is broken."""
    try:
        exif = image.getexif()
        if image.format == "TIFF":
            for tag in [tag for tag in exif if tag not in _TIFF_DESCRIPTIONS]:
                del exif[tag]
        exif.pop(ExifTags.Base.Orientation, None)
        return exif.tobytes() if exif else None
    except Exception as error:  # as above
        notes.append(f"the EXIF data is broken and left out ({type(error).__name__})")
        return None


def _grey_16_bit(name: str, image: Image.Image) -> np.ndarray:
    """Pixels of a picture of 16- or 32-bit integers or of floating point numbers, H×W×3, uint16."""
    values = np.asarray(image)
    if image.mode == "F":
        if not (values.min() >= 0.0 and values.max() <= 1.0):
            raise InputError(
                f"{name} holds floating point values outside 0 to 1: scale them, or save the photo with 16 bits"
            )
        values = np.rint(values * np.float32(65535.0))
    elif values.min() < 0 or values.max() > 65535:
        raise InputError(f"{name} holds integers of more than 16 bits: save the photo with 8 or 16 bits a channel")
    return np.repeat(values.astype(np.uint16)[:, :, None], 3, axis=2)


def _alpha(image: Image.Image) -> np.ndarray | None:
    if not image.has_transparency_data:
        return None
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return None if alpha.min() == 255 else alpha


def _srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """The picture as RGB, through its ICC profile where it has one for its colour space."""
    plain = image if image.mode in ("L", "CMYK", "LAB") else image.convert("RGB")
    if image.mode in ("1", "LA", "La"):
        plain = image.convert("L") if image.mode != "La" else image.convert("LA").convert("L")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = source.profile.xcolor_space.strip()
            if space == "RGB" and plain.mode == "L":
                plain = plain.convert("RGB")
            transform = ImageCms.buildTransform(
                source,
                ImageCms.createProfile("sRGB"),
                plain.mode,
                "RGB",
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
            if plain.mode == "RGB" and _keeps_colours(transform):
                return plain
            converted = ImageCms.applyTransform(plain, transform)
            assert converted is not None  # only None in place
            return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
            notes.append(f"the ICC profile is broken or does not fit; sRGB is assumed ({type(error).__name__})")
    return plain.convert("RGB")


def _keeps_colours(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a transform moves no colour of a 16×16×16 grid by more than rounding: an sRGB profile by any name."""
    axis = np.linspace(0, 255, 16).astype(np.uint8)
    grid = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(64, 64, 3)
    moved = ImageCms.applyTransform(Image.fromarray(grid), transform)
    return int(np.abs(np.asarray(moved).astype(int) - grid).max()) <= 1


def write_photo(path: Path, photo: Photo | np.ndarray) -> tuple[str, ...]:
    """Write a photo in the format of the suffix: .jpg, .jpeg, .png, .webp, .tif or .tiff.

    At 8 bits a channel, sRGB. JPEG and WebP at quality 95. EXIF goes into JPEG, PNG and WebP; alpha into PNG, WebP and
    TIFF. The file appears whole or not at all.

    Args:
        photo: a Photo, or pixels H×W×3 of uint8 or uint16.

    Returns:
        What could not be kept, one line each.

    Raises:
        InputError: another suffix, a folder that is missing or can't be written, or a size that the format can't hold.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise InputError(f"{path}: this file type can't be written: use {', '.join(WRITERS)}")
    form, options = WRITERS[path.suffix.lower()]
    if isinstance(photo, np.ndarray):
        photo = Photo(photo)
    notes = []
    if photo.pixels.dtype == np.uint16:
        notes.append(f"{path.name} is written with 8 bits per channel; the photo has 16")
    image = photo.image
    if photo.alpha is not None and form == "JPEG":
        notes.append(f"{path.name} loses its transparency, because JPEG has none: use .png or .webp to keep it")
        image = image.convert("RGB")
    if photo.exif is not None and form != "TIFF":
        options = {**options, "exif": photo.exif}
    with replacing(path) as file:
        image.save(file, format=form, **options)
    return tuple(notes)


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two pictures of one size and dtype beside each other, with a white gap of 2 % of their width: H×(2W + gap)×3."""
    height, width, channels = left.shape
    gap = np.full((height, max(1, round(0.02 * width)), channels), np.iinfo(left.dtype).max, left.dtype)
    return np.concatenate((left, gap, right), axis=1)
