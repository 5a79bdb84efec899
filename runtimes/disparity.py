"""Disparity maps: inverse depth in [0, 1], near = large; their files; the value at a point. NumPy and Pillow only."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from deeplens.console.errors import InputError
from deeplens.console.files import replacing
from deeplens.runtimes.depth_kind import KEY, Kind, Said, inverse_depth, settled_kind
from deeplens.runtimes.image_file import check_file, opened_image
from deeplens.runtimes.numpy_file import read_array

EPSILON = 1e-8
"""ε of the disparity normalisation (x − min) / (max − min + ε)."""

SUBJECT_SIGMA, SUBJECT_SHARE = 0.25, 0.95
"""Of `nearest_subject`: σ of the weights relative to each side, and the share of them that is not nearer."""

SUFFIXES = (".png", ".npy", ".pfm")
"""What is written; pictures of any other kind that Pillow opens are read too."""


def normalise_disparity(disparity: np.ndarray) -> np.ndarray:
    """(x − min) / (max − min + ε).

    Args:
        disparity: h×w, inverse depth in any unit, near = large.

    Returns:
        h×w, float32, in [0, 1]; zeros if all values are equal.

    Raises:
        InputError: not two-dimensional, empty, not real numbers, or with values that are not finite.
    """
    values = np.asarray(disparity)
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"a depth map must have height × width values, but this one has the shape {values.shape}")
    if values.dtype.kind not in "biuf":
        raise InputError(f"a depth map must hold real numbers, but this one holds {values.dtype}")
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(high - low):
        raise InputError("the depth map holds values that are not finite (NaN or infinity): fill them in first")
    shifted = values - low
    shifted *= 1.0 / (high - low + EPSILON)
    result = shifted.astype(np.float32, copy=False)
    return np.minimum(result, np.float32(1.0), out=result)


def focal_disparity_at(disparity: np.ndarray, x: float, y: float) -> float:
    """The disparity of the pixel that the point lies in (the nearest pixel; nothing is interpolated).

    Args:
        disparity: h×w.
        x: from 0 (left) to 1 (right).
        y: from 0 (top) to 1 (bottom).

    Raises:
        InputError: the point lies outside the picture.
    """
    if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
        raise InputError(f"the focus point {x:g},{y:g} lies outside the picture: x and y must be from 0 to 1")
    height, width = disparity.shape
    return float(disparity[min(int(y * height), height - 1), min(int(x * width), width - 1)])


def nearest_subject(disparity: np.ndarray) -> float:
    """The disparity of the nearest subject: what 95 % of the picture, its middle counting most, do not exceed.

    Pixels are weighed by a Gaussian around the centre whose σ is a quarter of each side, so that the floor before the
    subject, which is nearer and lies at the border, counts little; the nearest 5 % are left to noise and to what else
    stands in the way.

    Args:
        disparity: h×w in [0, 1], near = large.
    """
    weights = [np.exp(-0.5 * (((np.arange(side) + 0.5) / side - 0.5) / SUBJECT_SIGMA) ** 2) for side in disparity.shape]
    order = np.argsort(disparity, axis=None)
    share = np.cumsum(np.outer(*weights).ravel()[order])
    return float(disparity.ravel()[order[np.searchsorted(share, SUBJECT_SHARE * share[-1])]])


@dataclass(frozen=True)
class StoredMap:
    """A depth file's numbers as they stand in it, and what it says about them.

    Attributes:
        values: h×w, of the file's own dtype.
        said: the most reliable first; the name of the file last.
    """

    values: np.ndarray
    said: tuple[Said, ...]


def read_disparity(
    path: Path, *, kind: Kind | None = None, max_pixels: int | None = None, notes: list[str] | None = None
) -> np.ndarray:
    """Read a depth map in any unit, as disparity (near = large), and normalise it.

    Grey pictures of 8, 16 or 32 bits (PNG, TIFF and so on), colour pictures whose three channels are equal, TIFF and
    PFM of floating point numbers, and NumPy's .npy, or .npz of one array, with two axes. Turned upright as EXIF says.

    Args:
        kind: what the file holds; None: what its metadata, the name of its array or its own name says, else disparity.
            Depth is inverted.
        max_pixels: as in `runtimes.bounds.check_pixels`.
        notes: gets what was taken for granted, one line each.

    Returns:
        h×w, float32, in [0, 1]: (x − min) / (max − min); zeros if all values are equal.

    Raises:
        InputError: not readable, coloured, not two-dimensional, too large, values that are not finite, or depth that
            is mostly not above 0.
    """
    path = Path(path)
    notes = [] if notes is None else notes
    try:
        stored = read_stored(path, max_pixels=max_pixels)
        values = stored.values
        even = values.size > 0 and bool((values == values.flat[0]).all())  # goes neither way: nothing to tell
        if settled_kind(kind, stored.said, path.name, [] if even else notes) == "depth":
            values = inverse_depth(values, path.name, notes)
        return normalise_disparity(values)
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error


def read_map(path: Path, *, max_pixels: int | None = None) -> np.ndarray:
    """A depth file's numbers as they stand in it, of the formats of `read_disparity`: h×w, of the file's own dtype.

    Raises:
        InputError: not readable, coloured, an .npz of several arrays, or too large.
    """
    return read_stored(Path(path), max_pixels=max_pixels).values


def read_stored(path: Path, *, max_pixels: int | None = None) -> StoredMap:
    """A depth file's numbers, and what it says about them.

    Raises:
        InputError: as `read_map`.
    """
    own = Said("its name", path.stem)
    if path.suffix.lower() not in (".npy", ".npz"):
        return _read_picture(path, max_pixels, own)
    check_file(path)
    values, name = read_array(path, max_pixels=max_pixels, choose=_the_map)
    return StoredMap(values, (Said("the name of its array", name, names_array=True), own))


def _the_map(names: Iterable[str]) -> str | None:
    """The only array whose name says which way a map goes."""
    found = [name for name in names if Said("", name, names_array=True).kind() is not None]
    return found[0] if len(found) == 1 else None


def _read_picture(path: Path, max_pixels: int | None, own: Said) -> StoredMap:
    with opened_image(path, max_pixels=max_pixels) as image:
        said = (*_said_in(image), own)
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode in ("L", "F") or image.mode.startswith("I"):
            return StoredMap(np.asarray(image), said)
        channels = np.asarray(image.convert("RGB"))
    if not (channels == channels[:, :, :1]).all():
        raise InputError(f"{path} is a colour picture: give a grey depth map with near = bright")
    return StoredMap(channels[:, :, 0], said)


def _said_in(image: Image.Image) -> list[Said]:
    """What the texts in a picture's file say: our own key first."""
    texts = {name: text for name, text in image.info.items() if isinstance(name, str) and isinstance(text, str)}
    found = [Said(f"'{KEY}' in it", texts.pop(KEY), names_array=True)] if KEY in texts else []
    found += [Said(f"'{name}' in it", f"{name} {text}"[:200]) for name, text in texts.items()]
    description = image.getexif().get(ExifTags.Base.ImageDescription)
    return [*found, Said("its description", str(description)[:200])] if description else found


def write_disparity(path: Path, disparity: np.ndarray) -> None:
    """Write a disparity map by its suffix: .png (grey, 16 bits, 0 … 1 as 0 … 65535), .npy or .pfm (float32).

    The PNG says that it holds disparity; the others have no place for it.

    Args:
        disparity: h×w, in [0, 1].

    Raises:
        InputError: another suffix, another shape, values outside [0, 1], or a file that can't be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: this file type can't hold a depth map: use {', '.join(SUFFIXES)}")
    values = np.asarray(disparity, np.float32)
    if values.ndim != 2 or values.size == 0 or not (values.min() >= 0.0 and values.max() <= 1.0):
        raise InputError(f"a disparity map to write must have height × width values from 0 to 1, not {values.shape}")
    with replacing(path) as file:
        if suffix == ".npy":
            np.save(file, values)
        elif suffix == ".pfm":
            Image.fromarray(values).save(file, format="PPM")
        else:
            grey = Image.fromarray(np.rint(values * np.float32(65535.0)).astype(np.uint16))
            said = PngImagePlugin.PngInfo()
            said.add_text(KEY, "disparity")
            grey.save(file, format="PNG", pnginfo=said)
