"""The depth in a phone's portrait photo: in HEIC (iPhone), in a JPEG's XMP (GDepth) or behind it (Dynamic Depth).

GDepth and Dynamic Depth (developers.google.com/depthmap-metadata; Dynamic Depth 1.0) store v in [0, 1], 0 = near:

    RangeInverse: v = far · (z − near) / (z · (far − near))    so that 1/z is affine to 1 − v
    RangeLinear:  v = (z − near) / (far − near)
"""

import base64
import binascii
import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from deeplens.console.errors import InputError
from deeplens.runtimes.disparity import normalise_disparity
from deeplens.runtimes.heic import heic_depth, heic_map, is_heic
from deeplens.runtimes.image_file import DECODING_ERRORS, MAX_PIXELS, check_file, check_pixels, opened_image
from deeplens.runtimes.xmp import Xmp

GDEPTH = "http://ns.google.com/photos/1.0/depthmap/"
DYNAMIC = "http://ns.google.com/photos/dd/1.0/depthmap/"
DEPTH_NAMES = ("android/depthmap", "Depth", "DepthMap")
"""What the container calls the depth map, where DepthMap:DepthURI says nothing."""


def embedded_disparity(path: Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The disparity in a portrait photo, upright: h×w, float32, in [0, 1], near = large.

    Raises:
        InputError: the photo holds none, or one that can't be read.
        MissingError: a HEIC photo, and pillow-heif is not installed.
    """
    try:
        return normalise_disparity(embedded_map(path, max_pixels=max_pixels))
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error


def embedded_map(path: Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """As `embedded_disparity`, but not normalised: affine to inverse depth."""
    check_file(path)
    if is_heic(path):
        return heic_map(path)
    xmp = Xmp(path)
    content = _gdepth(xmp, path) or _dynamic(xmp)
    if content is None:
        raise InputError(
            f"{path} has no depth in it: take the photo in the phone's portrait mode, or give --depth FILE"
        )
    return _inverse(_decoded(content, path, max_pixels), xmp, path)


def holds_depth(path: Path) -> bool:
    """Whether `embedded_map` would find depth in a photo; nothing is decoded. False for a file that is broken.

    Raises:
        MissingError: a HEIC photo, and pillow-heif is not installed.
    """
    try:
        if is_heic(path):
            return heic_depth(path) is not None
        xmp = Xmp(path)
        return xmp.value(GDEPTH, "Data") is not None or _dynamic(xmp) is not None
    except InputError:
        return False


def _gdepth(xmp: Xmp, path: Path) -> bytes | None:
    text = xmp.value(GDEPTH, "Data")
    if text is None:
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error as error:
        raise InputError(f"{path}: GDepth:Data is not base64: {error}") from error


def _dynamic(xmp: Xmp) -> bytes | None:
    uri = xmp.value(DYNAMIC, "DepthURI")
    names = (uri,) if uri is not None else DEPTH_NAMES
    return next((item.content for item in xmp.items() if item.name in names), None)


def _decoded(content: bytes, path: Path, max_pixels: int) -> np.ndarray:
    """v in [0, 1], h×w, upright: turned as the map's own EXIF says, or else as the photo's."""
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            check_pixels(path, image.width, image.height, max_pixels)
            if ExifTags.Base.Orientation not in image.getexif():
                with opened_image(path) as photo:
                    image.getexif()[ExifTags.Base.Orientation] = photo.getexif().get(ExifTags.Base.Orientation, 1)
            upright = ImageOps.exif_transpose(image)
            deep = upright.mode.startswith("I")
            return np.asarray(upright if deep else upright.convert("L"), np.float32) / (65535 if deep else 255)
    except DECODING_ERRORS as error:
        raise InputError(f"{path}: the depth in it can't be read as JPEG or PNG: {error}") from error


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
