"""HEIC files, as iPhones write them: told by their first bytes, opened by pillow-heif where that is installed."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from deeplens.console.errors import InputError, MissingError, one_line
from deeplens.console.package import pip_install
from deeplens.runtimes.bounds import check_pixels

BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
"""Of ISO/IEC 23008-12: pictures in HEVC. A general file (mif1, msf1) is one if it is compatible with any of them."""

DISPARITY_KINDS = (None, 0, 1)
"""Values of the depth representation type that are affine to inverse depth, near = large: 1/Z and disparity, both
evenly quantised; or nothing said."""


class NoDepthError(InputError):
    """A photo holds no depth map. One that holds a map that can't be read is another error."""


def is_heic(path: Path) -> bool:
    """Whether a file's first bytes say that it is HEIC; False for one that can't be read."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except (OSError, ValueError):
        return False
    if head[4:8] != b"ftyp":
        return False
    box = head[: min(len(head), int.from_bytes(head[:4], "big"))]
    brands = [box[8:12], *(box[at : at + 4] for at in range(16, len(box) - 3, 4))]
    return brands[0] in BRANDS or (brands[0] in (b"mif1", b"msf1") and any(each in BRANDS for each in brands))


def import_pillow_heif() -> ModuleType:
    """The library. MissingError, naming the extra, where it is not installed."""
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingError(f"HEIC photos need pillow-heif ({error}): {pip_install('heic')}") from error
    return pillow_heif


def register() -> None:
    """Let Pillow open HEIC, as the format HEIF; upright, as the file says."""
    import_pillow_heif().register_heif_opener()


def heic_depth(path: Path) -> Any | None:
    """The first depth picture of a HEIC file, not decoded yet; None if it has none. InputError: a broken file."""
    library = import_pillow_heif()
    try:
        stored = library.open_heif(path)
        return next(iter(stored.info.get("depth_images") or ()), None)
    except Exception as error:  # whatever libheif and its wrapper raise on a broken file
        raise InputError(f"{path} can't be opened as HEIC: {one_line(error)}") from error


def heic_map(path: Path, *, max_pixels: int | None = None) -> np.ndarray:
    """The disparity that a portrait photo holds, as stored: h×w, float32, near = large.

    Raises:
        NoDepthError: no depth in it.
        InputError: depth of another kind, too large, or a broken file.
        MissingError: pillow-heif is not installed.
    """
    depth = heic_depth(path)
    if depth is None:
        raise NoDepthError(f"{path} has no depth in it: give --depth FILE, or predict it")
    kind = (depth.info.get("metadata") or {}).get("representation_type")
    if kind not in DISPARITY_KINDS:
        raise InputError(
            f"{path} holds depth of kind {kind}, but only kinds 0 (inverse depth) and 1 (disparity) can be read"
        )
    width, height = depth.size
    check_pixels(path, width, height, max_pixels)
    try:
        return np.asarray(depth.to_pillow()).astype(np.float32)
    except Exception as error:  # as above
        raise InputError(f"{path}: the depth in it can't be read: {one_line(error)}") from error
