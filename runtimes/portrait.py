"""The depth in a phone's portrait photo: in HEIC (iPhone), in a JPEG's XMP (GDepth), behind it (Dynamic Depth), or in
a picture that its multi-picture index lists (MPF).

GDepth and Dynamic Depth (developers.google.com/depthmap-metadata; Dynamic Depth 1.0) store v in [0, 1], 0 = near:

    RangeInverse: v = far · (z − near) / (z · (far − near))    so that 1/z is affine to 1 − v
    RangeLinear:  v = (z − near) / (far − near)

A picture in the MPF says what it is in an XMP packet of its own, as Apple's programs write it
(apdi:AuxiliaryImageType); nothing else tells depth from a preview or a gain map.
"""

import base64
import binascii
import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from deeplens.console.errors import DeepLensError, InputError, one_line
from deeplens.console.inputs import read_bytes
from deeplens.runtimes.bounds import check_pixels
from deeplens.runtimes.depth_kind import Kind, inverse_depth
from deeplens.runtimes.disparity import normalise_disparity
from deeplens.runtimes.heic import NoDepthError, heic_depth, heic_map, is_heic
from deeplens.runtimes.image_file import check_file, opened_image
from deeplens.runtimes.jpeg import listed_pictures
from deeplens.runtimes.xmp import Xmp

GDEPTH = "http://ns.google.com/photos/1.0/depthmap/"
DYNAMIC = "http://ns.google.com/photos/dd/1.0/depthmap/"
AUXILIARY = "http://ns.apple.com/pixeldatainfo/1.0/"
GAIN_MAP = "http://ns.adobe.com/hdr-gain-map/1.0/"
DEPTH_NAMES = ("android/depthmap", "Depth", "DepthMap")
"""What the container calls the depth map, where DepthMap:DepthURI says nothing."""


def embedded_disparity(
    path: Path, *, kind: Kind | None = None, max_pixels: int | None = None, notes: list[str] | None = None
) -> np.ndarray:
    """The disparity in a portrait photo, upright: h×w, float32, in [0, 1], near = large.

    Args:
        kind: what the depth in it is, where the file does not say so; a grey picture in the MPF is read only then.
        max_pixels: as in `runtimes.bounds.check_pixels`.
        notes: gets what was taken for granted, one line each.

    Raises:
        NoDepthError: the photo holds none, or none that says that it is depth.
        InputError: it holds one that can't be read.
        MissingError: a HEIC photo, and pillow-heif is not installed.
    """
    try:
        return normalise_disparity(embedded_map(path, kind=kind, max_pixels=max_pixels, notes=notes))
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error


def embedded_map(
    path: Path, *, kind: Kind | None = None, max_pixels: int | None = None, notes: list[str] | None = None
) -> np.ndarray:
    """As `embedded_disparity`, but not normalised: affine to inverse depth."""
    check_file(path)
    if is_heic(path):
        return heic_map(path, max_pixels=max_pixels)
    data = _bytes(path)
    xmp = Xmp(path, data)
    content = _gdepth(xmp, path) or _dynamic(xmp)
    if content is not None:
        return _inverse(_decoded(content, path, max_pixels), xmp, path)
    return _listed(path, data, kind, max_pixels, [] if notes is None else notes)


def holds_depth(path: Path) -> bool:
    """Whether `embedded_map` would find depth in a photo; nothing is decoded. False for a file that is broken.

    Raises:
        MissingError: a HEIC photo, and pillow-heif is not installed.
    """
    try:
        if is_heic(path):
            return heic_depth(path) is not None
        data = _bytes(path)
        xmp = Xmp(path, data)
        if xmp.value(GDEPTH, "Data") is not None or _dynamic(xmp) is not None:
            return True
        return any(_auxiliary(path, each.content)[0] is not None for each in listed_pictures(data))
    except InputError:
        return False


def _bytes(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise InputError(f"{path} can't be read: {one_line(error)}") from error


def _gdepth(xmp: Xmp, path: Path) -> bytes | None:
    text = xmp.value(GDEPTH, "Data")
    if text is None:
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{path}: GDepth:Data is not base64: {error}") from error


def _dynamic(xmp: Xmp) -> bytes | None:
    uri = xmp.value(DYNAMIC, "DepthURI")
    names = (uri,) if uri is not None else DEPTH_NAMES
    return next((item.content for item in xmp.items() if item.name in names and item.content), None)


def _listed(path: Path, data: bytes, kind: Kind | None, max_pixels: int | None, notes: list[str]) -> np.ndarray:
    """The depth among the pictures of the MPF; InputError, saying what the file has instead, where there is none."""
    pictures = [(each.content, *_auxiliary(path, each.content)) for each in listed_pictures(data)]
    for content, said, bounds in pictures:
        if said == "disparity":
            return _decoded(content, path, max_pixels)
        if said == "depth":
            if bounds is None:
                raise InputError(f"{path}: the depth in its MPF section has no FloatMinValue and FloatMaxValue")
            metres = bounds[0] + _decoded(content, path, max_pixels) * (bounds[1] - bounds[0])
            return inverse_depth(metres, path.name, notes)
    unsaid = [content for content, _, _ in pictures if _may_be_depth(path, content)]
    if kind is not None and len(unsaid) == 1:
        values = _decoded(unsaid[0], path, max_pixels)
        return values if kind == "disparity" else inverse_depth(values, path.name, notes)
    if unsaid:
        raise NoDepthError(
            f"{path} has {len(unsaid)} grey picture{'s' if len(unsaid) > 1 else ''} in its MPF section, but nothing in "
            "the file says that it is depth: if it is the only one and is, give --depth-kind disparity (near = bright) "
            "or depth (far = bright)"
        )
    raise NoDepthError(f"{path} has no depth in it ({_other_parts(pictures)}): give --depth FILE, or predict it")


def _other_parts(pictures: "list[tuple[bytes, Kind | None, tuple[float, float] | None]]") -> str:
    if not pictures:
        return "none in its XMP, and no further picture"
    return f"none in its XMP; the {len(pictures)} further pictures in it are no depth maps"


def _auxiliary(path: Path, content: bytes) -> tuple[Kind | None, tuple[float, float] | None]:
    """What a picture's own XMP says that it is, and the smallest and largest depth that it stands for."""
    xmp = Xmp(path, content)
    said = (xmp.value(AUXILIARY, "AuxiliaryImageType") or "").lower()
    try:
        bounds = tuple(float(xmp.value(AUXILIARY, name) or "") for name in ("FloatMinValue", "FloatMaxValue"))
    except ValueError:
        bounds = ()
    kind: Kind | None = "disparity" if said.endswith("disparity") else "depth" if said.endswith("depth") else None
    good = len(bounds) == 2 and 0 <= bounds[0] < bounds[1] < float("inf")
    return kind, (bounds[0], bounds[1]) if good else None


def _may_be_depth(path: Path, content: bytes) -> bool:
    """Whether a picture is grey and does not say that it is a gain map."""
    if Xmp(path, content).value(GAIN_MAP, "Version") is not None:
        return False
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            return image.mode == "L"
    except Exception:  # a decoder's, on a broken picture
        return False


def _decoded(content: bytes, path: Path, max_pixels: int | None) -> np.ndarray:
    """v in [0, 1], h×w, upright: turned as the map's own EXIF says, or else as the photo's."""
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            check_pixels(path, image.width, image.height, max_pixels, stored=len(content))
            if ExifTags.Base.Orientation not in image.getexif():
                with opened_image(path) as photo:
                    image.getexif()[ExifTags.Base.Orientation] = photo.getexif().get(ExifTags.Base.Orientation, 1)
            upright = ImageOps.exif_transpose(image)
            deep = upright.mode.startswith("I")
            return np.asarray(upright if deep else upright.convert("L"), np.float32) / (65535 if deep else 255)
    except DeepLensError:
        raise
    except MemoryError as error:
        raise InputError(f"{path}: the depth in it does not fit into memory") from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: the depth in it can't be read as JPEG or PNG: it is neither, or is broken"
        ) from error
    except Exception as error:  # a decoder's, on a broken picture
        raise InputError(f"{path}: the depth in it can't be read as JPEG or PNG: {one_line(error)}") from error


def _inverse(values: np.ndarray, xmp: Xmp, path: Path) -> np.ndarray:
    """v → what is affine to inverse depth, by the format that stands beside it."""
    namespace = DYNAMIC if xmp.value(DYNAMIC, "Format") else GDEPTH
    form = (xmp.value(namespace, "Format") or "RangeInverse").lower()
    if form == "rangeinverse":
        return 1 - values
    if form != "rangelinear":
        raise InputError(
            f"{path}: the depth in it has the format {form}, but only RangeInverse and RangeLinear can be read"
        )
    try:
        near, far = (float(xmp.value(namespace, name) or "") for name in ("Near", "Far"))
    except ValueError as error:
        raise InputError(f"{path}: the depth in it has no Near and Far values") from error
    if not 0 < near < far < float("inf"):
        raise InputError(f"{path}: the depth in it goes from Near {near:g} to Far {far:g}, which is not a valid range")
    return 1 / (near + values * (far - near))
