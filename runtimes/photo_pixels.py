"""A picture that Pillow opened → upright sRGB pixels and alpha, whatever its mode, depth, polarity and colour space."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from deeplens.console.errors import InputError
from deeplens.runtimes.colour import Space, grey_table, srgb_decoded, to_srgb
from deeplens.runtimes.colour_said import bits_of
from deeplens.runtimes.heic import import_pillow_heif
from deeplens.runtimes.icc import grey_curve

WHITE_IS_ZERO, PHOTOMETRIC, BITS, PLANES = 0, 262, 258, 284
"""TIFF: a photometric interpretation, and the tags of interpretation, bits of a sample, and order of the samples."""

TOLD_SHARE = 1e-4
"""Of the pixels that sRGB can't hold, a smaller share is not worth a note."""


def is_deep(image: Image.Image) -> bool:
    """Whether the picture is grey of 16 or 32 bits or of floating point numbers."""
    return image.mode.startswith("I") or image.mode == "F"


def check_readable(image: Image.Image, name: str) -> None:
    """Refuse what Pillow decodes to another picture: it takes TIFF planes of 16 bits for planes of 8."""
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and tags.get(PLANES) == 2 and len(image.getbands()) > 1 and max(tags.get(BITS, (8,))) > 8:
        raise InputError(
            f"{name} is a TIFF with a plane of 16 bits for each channel, which can't be read: save it with the "
            "channels interleaved, or with 8 bits"
        )


def colours(
    image: Image.Image, name: str, *, profile: bytes | None, space: Space | None, notes: list[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """The pixels of an upright picture in sRGB.

    Args:
        name: for messages.
        profile: its ICC profile.
        space: its colour space where it has no profile; None: sRGB.
        notes: gets a line for each thing that was not kept.

    Returns:
        H×W×3, uint16 of deep grey, else uint8; and the alpha, H×W, uint8, or None where all is opaque.

    Raises:
        InputError: numbers that have no meaning as grey values.
    """
    if is_deep(image):
        grey = _deep_grey(image, name)
        alpha = _key_alpha(image, grey)
        table = _deep_table(profile, space, notes)
        grey = grey if table is None else table[grey]
        return np.repeat(grey[:, :, None], 3, axis=2), alpha
    alpha = _alpha(image)
    if profile is not None or space is None:
        return np.asarray(_by_profile(image, profile, notes)), alpha
    pixels, outside = to_srgb(np.asarray(image.convert("RGB")), space)
    _tell_clipped(outside, space, notes)
    return pixels, alpha


def _tell_clipped(share: float, space: Space | None, notes: list[str]) -> None:
    if share > TOLD_SHARE:
        bright = "are brighter than white or " if space is not None and "HDR" in space.name else ""
        percent = f"{100 * share:.0f}" if share >= 0.01 else f"{100 * share:.1g}"
        notes.append(f"{percent} % of the pixels {bright}have colours outside sRGB; they are clipped")


def hdr_pixels(path: Path) -> np.ndarray:
    """A HEIC's pixels at their full depth, upright, as stored: H×W×3, uint16. 8 bits are too few for PQ and HLG."""
    stored = import_pillow_heif().open_heif(path, convert_hdr_to_8bit=False)
    values = np.asarray(stored)
    if values.ndim == 2:
        values = np.repeat(values[:, :, None], 3, axis=2)
    values = values[:, :, :3]
    if values.dtype != np.uint16:
        return values.astype(np.uint16) * 257
    bits = int(stored.info.get("bit_depth") or 10)  # the samples stand in the upper bits
    return np.rint(values * (65535 / (65535 - (65535 >> bits)))).clip(0, 65535).astype(np.uint16)


def hdr_colours(path: Path, space: Space, notes: list[str]) -> np.ndarray:
    """The pixels of a HEIC of high dynamic range in sRGB: H×W×3, uint16. What is brighter than white is clipped."""
    pixels, outside = to_srgb(hdr_pixels(path), space)
    notes.append(f"the photo is {space.name}; it is converted to sRGB, white at 203 cd/m²")
    _tell_clipped(outside, space, notes)
    return pixels


def _deep_grey(image: Image.Image, name: str) -> np.ndarray:
    """Values of a deep grey picture, H×W, uint16: black 0, white 65535, whatever bits and polarity the file has."""
    values = np.asarray(image)
    bits = bits_of(image, b"") if image.format == "TIFF" else 16
    if image.mode == "F":
        if not (values.min() >= 0.0 and values.max() <= 1.0):
            raise InputError(
                f"{name} holds floating point values outside 0 to 1: scale them, or save the photo with 16 bits"
            )
        grey = np.rint(values * np.float32(65535.0)).astype(np.uint16)
    elif values.min() < 0 or values.max() > 65535:
        raise InputError(f"{name} holds integers of more than 16 bits: save the photo with 8 or 16 bits a channel")
    elif bits < 16:
        grey = np.rint(values * (65535 / ((1 << bits) - 1))).clip(0, 65535).astype(np.uint16)
    else:
        grey = values.astype(np.uint16)
    return 65535 - grey if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO else grey


def _key_alpha(image: Image.Image, grey: np.ndarray) -> np.ndarray | None:
    """The alpha of a deep grey PNG that names one value as transparent."""
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return None
    alpha = np.where(grey == key, 0, 255).astype(np.uint8)
    return None if alpha.min() == 255 else alpha


def _deep_table(profile: bytes | None, space: Space | None, notes: list[str]) -> np.ndarray | None:
    """What each grey value is in sRGB; None: what it is already."""
    decode = None if space is None else space.decode
    if profile is not None:
        try:
            decode = grey_curve(profile)
        except ValueError as error:
            notes.append(f"the ICC profile can't be used for grey of 16 bits ({error}); sRGB is assumed")
    if decode is None or decode is srgb_decoded:
        return None
    table = grey_table(decode)
    moved = np.abs(table.astype(int) - np.arange(65536)).max()
    return None if moved <= 64 else table  # an sRGB curve, rounded in the profile


def _alpha(image: Image.Image) -> np.ndarray | None:
    if not image.has_transparency_data:
        return None
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return None if alpha.min() == 255 else alpha


def _by_profile(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """The picture as RGB, through its ICC profile where it has one for its colour space."""
    plain = image if image.mode in ("L", "CMYK", "LAB") else image.convert("RGB")
    if image.mode in ("1", "LA", "La"):
        plain = image.convert("L") if image.mode != "La" else image.convert("LA").convert("L")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = source.profile.xcolor_space.strip()
            if space == "GRAY" and plain.mode == "RGB":
                plain = _grey_if_it_is(plain)
            if plain.mode == "L" and (table := _table(profile)) is not None:
                return plain.point(table.tolist()).convert("RGB")
            if space == "RGB" and plain.mode == "L":
                plain = plain.convert("RGB")
            target = ImageCms.createProfile("sRGB")
            transform = _transform(source, target, plain.mode, "RGB")
            if plain.mode == "RGB" and _keeps_colours(transform):
                return plain
            converted = ImageCms.applyTransform(plain, transform)
            assert converted is not None  # only None in place
            if plain.mode == "RGB":
                _tell_clipped(_share_clipped(plain, converted, source, target), None, notes)
            return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
            notes.append(f"the ICC profile is broken or does not fit; sRGB is assumed ({type(error).__name__})")
    return plain.convert("RGB")


def _table(profile: bytes) -> np.ndarray | None:
    """As `_deep_table`, of 8 bits: Little CMS is up to 20 levels off in the dark. None: a profile that has no curve."""
    try:
        return grey_table(grey_curve(profile), top=255)
    except ValueError:
        return None


def _grey_if_it_is(image: Image.Image) -> Image.Image:
    """A colour picture whose channels are equal as a grey one, as its profile says that it is."""
    pixels = np.asarray(image)
    return image.getchannel("R") if (pixels == pixels[:, :, :1]).all() else image


def _transform(source: ImageCms.ImageCmsProfile, target: Any, mode: str, to: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        source, target, mode, to, ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    )


def _share_clipped(plain: Image.Image, converted: Image.Image, source: ImageCms.ImageCmsProfile, target: Any) -> float:
    """The share of pixels, of at most some 300,000, that do not come back from sRGB; 0 where there is no way back."""
    step = max(1, round((plain.width * plain.height / 300_000) ** 0.5))
    before, after = (np.ascontiguousarray(np.asarray(each)[::step, ::step]) for each in (plain, converted))
    try:
        back = ImageCms.applyTransform(Image.fromarray(after), _transform(target, source, "RGB", "RGB"))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a profile for reading only
        return 0.0
    return float((np.abs(np.asarray(back).astype(int) - before).max(axis=2) > 6).mean())


def _keeps_colours(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a transform moves no colour of a 16×16×16 grid by more than rounding: an sRGB profile by any name."""
    axis = np.linspace(0, 255, 16).astype(np.uint8)
    grid = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(64, 64, 3)
    moved = ImageCms.applyTransform(Image.fromarray(grid), transform)
    return int(np.abs(np.asarray(moved).astype(int) - grid).max()) <= 1


def without_hidden(pixels: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """Pixels whose fully transparent ones have the mean colour of the nearest that can be seen.

    What stands there in the file is anything, often black, and a blur would draw it into the rim.

    Args:
        pixels: H×W×3.
        alpha: H×W; None: all is opaque.
    """
    if alpha is None or alpha.min() > 0 or alpha.max() == 0:
        return pixels
    result = pixels.copy()
    seen = (alpha > 0).astype(np.float32)[:, :, None]
    hidden = alpha == 0
    result[hidden] = np.rint(_filled(pixels.astype(np.float32) * seen, seen)[hidden]).astype(pixels.dtype)
    return result


def _filled(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means where there is a weight; elsewhere those of half the size, down to one pixel."""
    if weights.all() or weights.size == 1:
        return sums / np.maximum(weights, 1)
    height, width = weights.shape[:2]
    pad = ((0, height % 2), (0, width % 2), (0, 0))

    def halved(values: np.ndarray) -> np.ndarray:
        even = np.pad(values, pad)
        return even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]

    coarse = _filled(halved(sums), halved(weights)).repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(weights > 0, sums / np.maximum(weights, 1e-6), coarse)
