"""Photo files ↔ upright sRGB pixels. NumPy and Pillow only.

What is kept apart from the pixels and put back when writing: alpha and metadata. What is settled on reading:
orientation, colour space, colour mode, bit depth, polarity.

Photos have 8 bits a channel, but for grey ones of more bits or of floating point numbers, and HEIC of high dynamic
range, which have 16. Pillow 13 decodes other deep *colour* to 8 bits and writes none; such a photo is read at 8 bits
with a note.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from deeplens.console.errors import DeepLensError, InputError, one_line
from deeplens.console.files import replacing
from deeplens.console.inputs import read_bytes
from deeplens.runtimes.colour_said import bits_of, profile_of, space_of
from deeplens.runtimes.disparity import read_disparity, write_disparity
from deeplens.runtimes.exif import PREFIX, block_bytes
from deeplens.runtimes.image_file import NO_END, frame_count, opened_image
from deeplens.runtimes.kept import NOTHING, Kept, kept_of
from deeplens.runtimes.photo_pixels import check_readable, colours, hdr_colours, is_deep, without_hidden
from deeplens.runtimes.photo_write import WRITERS, check_size, encoded, fitting, form_of

__all__ = [
    "WRITERS",
    "Photo",
    "photo_of",
    "read_disparity",
    "read_photo",
    "side_by_side",
    "to_8_bit",
    "write_disparity",
    "write_photo",
    "writing_notes",
]


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo, upright and in sRGB.

    Attributes:
        pixels: H×W×3, uint8 or uint16; may be read-only.
        alpha: H×W, uint8, or None if every pixel is opaque.
        notes: what was not read as it stands in the file, one line each.
        kept: metadata for writing: EXIF, XMP, IPTC and texts.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    kept: Kept = NOTHING

    @property
    def image(self) -> Image.Image:
        """The picture as a Pillow image of 8 bits a channel, with its alpha."""
        image = Image.fromarray(to_8_bit(self.pixels))
        if self.alpha is not None:
            image.putalpha(Image.fromarray(self.alpha))
        return image

    @property
    def exif(self) -> bytes | None:
        """The EXIF block for writing, without an orientation; None: there is none."""
        return None if self.kept.exif is None else PREFIX + block_bytes(self.kept.exif)

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

    The first frame or page; turned as EXIF says; converted to sRGB by its ICC profile, else by what it says about its
    colours (nclx, cICP, gAMA and cHRM, EXIF). Every colour mode of Pillow is read. Grey of more than 8 bits, whatever
    its bits and polarity, gives uint16; floating point grey must hold values in [0, 1] and gives uint16; HEIC in PQ or
    HLG gives uint16; all others give uint8. What is transparent gets the colour of what is beside it.

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
        if NO_END in image.info:
            notes.append(f"{path.name} ends without its end marker; no part of the picture is missing")
        try:
            return _upright(image, str(path), read_bytes(path), notes, path=path)
        except (DeepLensError, MemoryError):
            raise
        except Exception as error:  # Pillow raises anything for what a file says about itself
            raise InputError(f"{path} can't be read as a photo: {type(error).__name__}: {one_line(error)}") from error


def photo_of(source: Image.Image | np.ndarray) -> Photo:
    """A photo that is in memory, upright and in sRGB as `read_photo` gives it.

    Args:
        source: a Pillow image of any mode, whose EXIF orientation and ICC profile are obeyed; or pixels in sRGB as
            H×W (grey), H×W×3 or H×W×4 (the last is alpha), uint8 or uint16. An array is not copied where it need not.

    Raises:
        InputError: an array of another shape or dtype, an empty one, or an image whose numbers are no grey values.
    """
    if isinstance(source, Image.Image):
        turned = source.copy()  # the caller's stays as it is
        turned.format = source.format
        with suppress(Exception):  # EXIF that is broken is met again, and told
            exif = source.getexif()
            if exif and source.format != "TIFF":  # what was set in memory is in no block yet
                turned.info["exif"] = source.info.get("exif") or exif.tobytes()
                turned.getexif()[ExifTags.Base.Orientation] = exif.get(ExifTags.Base.Orientation, 1)
        if source.format == "TIFF" and hasattr(source, "tag_v2"):
            turned.tag_v2 = source.tag_v2  # type: ignore[attr-defined]  # bits and polarity
        return _upright(turned, "the image", b"", [])
    shape, dtype = source.shape, source.dtype
    if source.ndim not in (2, 3) or source.size == 0 or (source.ndim == 3 and shape[2] not in (3, 4)):
        raise InputError(f"a photo is an array of H×W, H×W×3 or H×W×4, not of {'×'.join(map(str, shape))}")
    if dtype not in (np.uint8, np.uint16):
        raise InputError(f"a photo holds uint8 or uint16, not {dtype}: scale 0 to 1 by 255 and round")
    if source.ndim == 2:
        return Photo(np.repeat(source[:, :, None], 3, axis=2))
    alpha = to_8_bit(source[:, :, 3]) if shape[2] == 4 else None
    alpha = None if alpha is None or alpha.min() == 255 else alpha
    return Photo(without_hidden(source[:, :, :3], alpha), alpha)


def _upright(image: Image.Image, name: str, data: bytes, notes: list[str], *, path: Path | None = None) -> Photo:
    """An opened image, turned as its EXIF says and in sRGB; the image is changed.

    Args:
        name: for messages.
        data: the bytes of its file; none for an image that is in memory.
        path: of its file.
    """
    check_readable(image, name)
    profile = profile_of(image, data)
    space = None if profile else space_of(image, data, notes)
    bits = bits_of(image, data)
    hdr = path is not None and image.format == "HEIF" and space is not None and space.name.startswith("HDR")
    if bits > 8 and not is_deep(image) and not hdr:
        notes.append(f"{Path(name).name} has {bits} bits per colour channel; it is read with 8")
    kept = kept_of(image, data, notes)
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:  # a camera's EXIF can be broken in any way; none is a reason to refuse the photo
        notes.append(f"the orientation can't be read; the photo is not turned ({type(error).__name__})")
    if hdr and path is not None and space is not None:
        pixels, alpha = hdr_colours(path, space, notes), None
    else:
        pixels, alpha = colours(image, name, profile=profile, space=space, notes=notes)
    return Photo(without_hidden(pixels, alpha), alpha, tuple(notes), kept)


def write_photo(path: Path, photo: Photo | np.ndarray) -> tuple[str, ...]:
    """Write a photo in the format of the suffix: .jpg, .jpeg, .jpe, .jfif, .png, .webp, .tif or .tiff.

    At 8 bits a channel, sRGB. JPEG and WebP at quality 95. EXIF and XMP go into all of them, IPTC into JPEG and TIFF,
    texts into PNG, alpha into PNG, WebP and TIFF. The file appears whole or not at all.

    Args:
        photo: a Photo, or pixels H×W×3 of uint8 or uint16.

    Returns:
        What could not be kept, one line each: `writing_notes` tells it before.

    Raises:
        InputError: another suffix, a folder that is missing or can't be written, or a size that the format can't hold.
    """
    path = Path(path)
    if isinstance(photo, np.ndarray):
        photo = Photo(photo)
    notes = writing_notes(path, photo)
    height, width = photo.pixels.shape[:2]
    kept, _ = fitting(path, photo.kept, width=width, height=height)
    image = photo.image
    if photo.alpha is not None and form_of(path)[0] == "JPEG":
        image = image.convert("RGB")
    with replacing(path) as file:
        file.write(encoded(image, path, kept))
    return notes


def writing_notes(path: Path, photo: Photo) -> tuple[str, ...]:
    """What `write_photo` will not be able to keep of a photo, one line each; to be asked before the work begins.

    Raises:
        InputError: a suffix or a size that can't be written.
    """
    path = Path(path)
    height, width = photo.pixels.shape[:2]
    check_size(path, width, height)
    notes = []
    if photo.pixels.dtype == np.uint16:
        notes.append(f"{path.name} is written with 8 bits per channel; the photo has 16")
    if photo.alpha is not None and form_of(path)[0] == "JPEG":
        notes.append(f"{path.name} loses its transparency, because JPEG has none: use .png or .webp to keep it")
    return (*notes, *fitting(path, photo.kept, width=width, height=height)[1])


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two pictures of one size and dtype beside each other, with a white gap of 2 % of their width: H×(2W + gap)×3."""
    height, width, channels = left.shape
    gap = np.full((height, max(1, round(0.02 * width)), channels), np.iinfo(left.dtype).max, left.dtype)
    return np.concatenate((left, gap, right), axis=1)
