"""Fine mattes of photos with one subject: the teacher's coarse matte → a trimap → closed-form alpha (PyMatting).

$ python -m deeplens.scenes.fine_mattes [--split train] [--size 640] [--data data] [PHOTO …]

Writes data/teacher/fine/{photo}.png for the photos of a split that have a subject, or for the photos named; 5 to 60 s
each; and for a photo whose subject does not reach a side or the top data/teacher/cutouts/{photo}.png, the subject with
its own colours and alpha. Every one was looked at: those whose outline is wrong, or whose photo has no subject, are
listed in `unfit_mattes.tsv` with the reason, and are neither made nor used.
"""

import csv
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from deeplens.console.errors import MissingError
from deeplens.console.files import replacing
from deeplens.console.script import run_script
from deeplens.runtimes.photo import read_photo, to_8_bit
from deeplens.scenes.mattes import open_teacher
from deeplens.scenes.renderer import Array
from deeplens.scenes.sources import shipped

UNFIT = Path(__file__).with_name("unfit_mattes.tsv")

SURE, NONE = 0.8, 0.15
"""Of the coarse matte: above, all is subject; below, nothing is."""

BAND = 9 / 1024
"""How far inside and outside of those the alpha is sought, too, as a share of the long side."""


def fine_path(photo: Path, root: Path) -> Path:
    """Where the fine matte of a photo lies under the data folder."""
    return root / "teacher" / "fine" / f"{photo.stem}.png"


def cutout_path(photo: Path, root: Path) -> Path:
    """Where the cut-out subject of a photo lies under the data folder; those that reach a side have none."""
    return root / "teacher" / "cutouts" / f"{photo.stem}.png"


def unfit(path: Path = UNFIT) -> dict[str, str]:
    """Name of a photo's file → why its matte is not to be used."""
    with path.open(encoding="utf-8", newline="") as stream:
        return {row["photo"]: row["why"] for row in csv.DictReader(stream, delimiter="\t")}


def load_fine(photo: Path, root: Path) -> Array:
    """The fine matte of a photo, (h, w) in [0, 1]. Raises MissingError when it was not made, or is unfit."""
    path, why = fine_path(photo, root), unfit().get(photo.name)
    if why is not None:
        raise MissingError(f"the matte of {photo.name} is not used: {why}")
    if not path.is_file():
        raise MissingError(f"{path} is not there: run `python -m deeplens.scenes.fine_mattes --data {root} {photo}`")
    return np.asarray(Image.open(path), np.float32) / np.float32(255)


def trimap(coarse: Array) -> NDArray[np.float64]:
    """1 where a matte (h, w) in [0, 1] is surely subject, 0 where surely not, and 0.5 in a band between."""
    band = max(1, round(BAND * max(coarse.shape)))
    known = np.full(coarse.shape, 0.5)
    known[binary_erosion(coarse > SURE, iterations=band)] = 1
    known[~binary_dilation(coarse > NONE, iterations=band)] = 0
    return known


def fine_matte(photo: NDArray[np.uint8], coarse: Array) -> Array:
    """The alpha (h, w) in [0, 1] of a photo (h, w, 3) from a coarse matte of any size.

    Raises MissingError where PyMatting is not installed, or the coarse matte holds no sure subject.
    """
    try:
        from pymatting import estimate_alpha_cf
    except ImportError as error:
        raise MissingError("fine mattes need PyMatting: `pip install --group mattes` (pip 25.1 or newer)") from error
    height, width = photo.shape[:2]
    stretched = (coarse - coarse.min()) / max(float(np.ptp(coarse)), 1e-6)
    large = Image.fromarray(stretched.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    known = trimap(np.asarray(large))
    if not (known == 1).any():
        raise MissingError("the coarse matte holds no sure subject")
    return np.clip(estimate_alpha_cf(photo / 255.0, known), 0, 1).astype(np.float32)


def stands_free(matte: Array) -> bool:
    """Whether a subject reaches neither the top nor a side of its photo, and is more than a speck."""
    border = np.concatenate((matte[0], matte[:, 0], matte[:, -1]))
    return bool((border < 0.1).all() and (matte > 0.5).mean() > 0.01)


def make_cutout(photo: NDArray[np.uint8], matte: Array, path: Path) -> None:
    """Write the subject of a photo (h, w, 3), matte (h, w) in [0, 1], as PNG with alpha and without foreign colours."""
    from pymatting import estimate_foreground_ml

    colours = estimate_foreground_ml(photo / 255.0, matte.astype(np.float64))
    pixels = np.dstack((np.clip(colours, 0, 1), matte))
    _write_png(path, pixels)


def _write_png(path: Path, values: Array) -> None:
    """Write values in [0, 1], (h, w) or (h, w, 4), as an 8-bit PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        Image.fromarray(np.rint(values * 255).astype(np.uint8)).save(file, "PNG")


def make_fine(photos: list[Path], root: Path, *, size: int) -> int:
    """Make the fine mattes of `photos` that are not there yet and not unfit, at a long side of `size` pixels."""
    teacher, left_out, made = open_teacher(root), unfit(), 0
    for photo in photos:
        path = fine_path(photo, root)
        if photo.name in left_out:
            continue
        if path.exists():
            _cut(photo, root)
            continue
        picture = Image.fromarray(to_8_bit(read_photo(photo).pixels))
        picture.thumbnail((size, size), Image.Resampling.LANCZOS)
        pixels = np.asarray(picture)
        try:
            matte = fine_matte(pixels, teacher(pixels))
        except MissingError as missing:
            print(f"{photo.name}: {missing}: left out", file=sys.stderr)
            continue
        _write_png(path, matte)
        _cut(photo, root)
        made += 1
        print(path, flush=True)
    return made


def _cut(photo: Path, root: Path) -> None:
    """Make the cut-out of a photo whose matte is there, if it has one and lacks it."""
    path, matte = cutout_path(photo, root), load_fine(photo, root)
    if path.exists() or not stands_free(matte):
        return
    size = matte.shape[1], matte.shape[0]
    picture = Image.fromarray(to_8_bit(read_photo(photo).pixels)).resize(size, Image.Resampling.LANCZOS)
    make_cutout(np.asarray(picture), matte, path)


def main(
    photos: Annotated[list[Path] | None, typer.Argument(metavar="PHOTO", help="Instead of a split's.")] = None,
    split: Annotated[str, typer.Option(help="The photos of which split.")] = "train",
    size: Annotated[int, typer.Option(min=64, help="Long side in pixels; tests want 1024.")] = 640,
    data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data"),
) -> None:
    """Make fine mattes of the photos with a subject."""
    if not photos:
        sources = shipped(split, data)
        photos = [*sources.subjects, *sources.backgrounds]
    typer.echo(f"{make_fine(photos, data, size=size)} fine mattes made in {data / 'teacher' / 'fine'}")


if __name__ == "__main__":
    run_script(main)
