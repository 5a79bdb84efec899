"""The photos to calibrate on: of the calibration split, or of a user's own folder, with what is done to each.

Where the focal plane lies and how far the aperture is open follow from a photo's bytes alone, so that a set of photos
always gives the same inputs, in whatever order and folder it lies.
"""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from deeplens.console.errors import DeepLensError, InputError, MissingError
from deeplens.runtimes.photo import read_photo, to_8_bit

ENOUGH = 64
"""Fewer photos than this are calibrated on with a warning."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".heic")

FLAT = 8
"""A photo none of whose channels spans more than this many steps of 8 bits is of one colour: it says nothing about
ranges, and is left out."""

APERTURES = (1.0, 0.5, 0.25)


@dataclass(frozen=True)
class Photo:
    """One photo of a set.

    Attributes:
        path: where it lies.
        sha256: of its bytes.
        size: height and width, in pixels.
        point: x, y in 0..1 from the top left, where the focal plane is laid.
        aperture: α in (0, 1].
    """

    path: Path
    sha256: str
    size: tuple[int, int]
    point: tuple[float, float]
    aperture: float

    def pixels(self, longest: int) -> np.ndarray:
        """H×W×3, uint8; made smaller where its long side is more than `longest` pixels."""
        pixels = to_8_bit(read_photo(self.path).pixels)
        height, width = pixels.shape[:2]
        share = longest / max(height, width)
        if share >= 1:
            return pixels
        size = (max(1, round(width * share)), max(1, round(height * share)))
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def photo(path: Path) -> Photo:
    """The photo at `path`.

    Raises:
        InputError: it can't be read, or is of one colour.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from error
    pixels = to_8_bit(read_photo(path).pixels)
    span = int((pixels.max((0, 1)).astype(int) - pixels.min((0, 1))).max())
    if span <= FLAT:
        raise InputError(f"{path}: has a single colour (its channels span {span} steps of 255)")
    digest = hashlib.sha256(data).hexdigest()
    generator = np.random.default_rng(int(digest[:16], 16))
    x, y = generator.uniform(0.1, 0.9, 2)
    return Photo(
        path, digest, pixels.shape[:2], (round(float(x), 4), round(float(y), 4)), APERTURES[int(generator.integers(3))]
    )


def from_folder(folder: Path) -> list[Photo]:
    """All photos below a folder, by SHA-256; one that can't be used is left out with a warning, copies are one.

    Raises:
        InputError: it is no folder, or holds no photo that can be used.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give a folder of photos")
    files = sorted(each for each in folder.rglob("*") if each.suffix.lower() in SUFFIXES and not each.is_dir())
    if not files:
        raise InputError(f"{folder} has no photos ({', '.join(SUFFIXES)}): give another folder")
    return usable(files)


def shipped(data: Path) -> list[Photo]:
    """The photos of the calibration split, which no other split holds.

    Raises:
        MissingError: they were not fetched.
    """
    folder = data / "photos" / "calibration"
    if not folder.is_dir():
        raise MissingError(f"{folder} does not exist: run `make data`, or give a folder of your own with --photos")
    return from_folder(folder)


def usable(files: Sequence[Path]) -> list[Photo]:
    """The photos among `files` that can be used, by SHA-256, each once; InputError where none can."""
    found: dict[str, Photo] = {}
    first: str | None = None
    for path in files:
        try:
            each = photo(path)
        except DeepLensError as error:
            first = first or str(error)
            warnings.warn(f"left out: {error}", stacklevel=2)
            continue
        found.setdefault(each.sha256, each)
    if not found:
        raise InputError(f"none of the {len(files)} photos can be used; the first: {first}")
    if len(found) < ENOUGH:
        warnings.warn(
            f"only {len(found)} photos to calibrate on: use {ENOUGH} or more, as varied as possible", stacklevel=2
        )
    return [found[key] for key in sorted(found)]


def set_sha256(photos: Sequence[Photo]) -> str:
    """SHA-256 of a set: over the sorted SHA-256 of its photos."""
    return hashlib.sha256("\n".join(sorted(each.sha256 for each in photos)).encode()).hexdigest()
