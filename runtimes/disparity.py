"""Disparity maps: inverse depth in [0, 1], near = large; their files; the value at a point. NumPy and Pillow only."""

import math
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from deeplens.console.errors import InputError
from deeplens.console.files import replacing
from deeplens.runtimes.image_file import MAX_PIXELS, check_file, check_pixels, opened_image

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


def read_disparity(path: Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a depth map of inverse depth (near = large) in any unit, and normalise it.

    Grey pictures of 8, 16 or 32 bits (PNG, TIFF and so on), colour pictures whose three channels are equal, TIFF and
    PFM of floating point numbers, and NumPy's .npy, or .npz of one array, with two axes. Turned upright as EXIF says.

    Returns:
        h×w, float32, in [0, 1]: (x − min) / (max − min); zeros if all values are equal.

    Raises:
        InputError: not readable, coloured, not two-dimensional, too large, or values that are not finite.
    """
    path = Path(path)
    try:
        return normalise_disparity(read_map(path, max_pixels=max_pixels))
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error


def read_map(path: Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """A depth file's numbers as they stand in it, of the formats of `read_disparity`: h×w, of the file's own dtype.

    Raises:
        InputError: not readable, coloured, an .npz of several arrays, or too large.
    """
    path = Path(path)
    return _read_numpy(path, max_pixels) if path.suffix.lower() in (".npy", ".npz") else _read_picture(path, max_pixels)


def _read_numpy(path: Path, max_pixels: int) -> np.ndarray:
    check_file(path)
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded:
                if len(loaded.files) != 1:
                    raise InputError(
                        f"{path} holds {', '.join(loaded.files) or 'nothing'}, but a depth file must be a single array"
                    )
                loaded = loaded[loaded.files[0]]
        values: np.ndarray = loaded
    except (OSError, ValueError, EOFError, SyntaxError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is not a NumPy file with an array of numbers, or is incomplete: write it again"
        ) from error
    if values.ndim == 2:
        check_pixels(path, values.shape[1], values.shape[0], max_pixels)
    return values


def _read_picture(path: Path, max_pixels: int) -> np.ndarray:
    with opened_image(path, max_pixels=max_pixels) as image:
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode in ("L", "F") or image.mode.startswith("I"):
            return np.asarray(image)
        channels = np.asarray(image.convert("RGB"))
    if not (channels == channels[:, :, :1]).all():
        raise InputError(f"{path} is a colour picture: give a grey depth map with near = bright")
    return channels[:, :, 0]


def write_disparity(path: Path, disparity: np.ndarray) -> None:
    """Write a disparity map by its suffix: .png (grey, 16 bits, 0 … 1 as 0 … 65535), .npy or .pfm (float32).

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
            Image.fromarray(np.rint(values * np.float32(65535.0)).astype(np.uint16)).save(file, format="PNG")
