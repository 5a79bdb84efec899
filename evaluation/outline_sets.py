"""Pictures whose outlines are known, that no depth network of ours was trained on, for `evaluation.outlines`.

$ python -m deeplens.evaluation.outline_sets [--data data]

makes the fine mattes of the real photos, once, in about 10 minutes. The sets:

- `photos`: real photos with one subject and its fine matte, looked at (`outline_photos.tsv`);
- `composed`: cut-outs on the ground of a photo, of the test split, exact disparity;
- `rooms`: rendered rooms of the test split, exact disparity;
- `lens`: the photos of the lens set, exact disparity.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from deeplens.console.errors import InputError, MissingError
from deeplens.console.script import run_script
from deeplens.evaluation.depth_pairs import open_pairs, smaller
from deeplens.runtimes.photo import read_photo, to_8_bit
from deeplens.scenes.fine_mattes import fine_path, load_fine, make_fine
from deeplens.scenes.renderer import Array
from deeplens.scenes.sources import shipped
from deeplens.training.depth_data import compose

PHOTOS = Path(__file__).resolve().with_name("outline_photos.tsv")

MATTE_SIZE = 1024
"""Long side of the photos' mattes, in pixels."""

COMPOSED, SEED = 60, 80
"""Composed pictures of the test, and their seed."""


@dataclass(frozen=True)
class Outlined:
    """A picture whose outlines are known.

    Attributes:
        picture: H×W×3 uint8, sRGB.
        matte: h×w in [0, 1] of its one subject; None for exact disparity.
        truth: h×w disparity, near = large, NaN where it is not known; None for a matte.
    """

    name: str
    picture: NDArray[np.uint8]
    matte: Array | None = None
    truth: Array | None = None


def photo_paths(data: Path, table: Path = PHOTOS) -> list[Path]:
    """The photos of a table; `data/` stands for the data folder, other paths start at the root of the project."""
    with table.open(encoding="utf-8", newline="") as stream:
        names = [row["photo"] for row in csv.DictReader(stream, delimiter="\t")]
    return [
        data / name.removeprefix("data/") if name.startswith("data/") else table.parent.parent / name for name in names
    ]


def _photos(data: Path) -> Iterator[Outlined]:
    paths = photo_paths(data)
    lacking = [path for path in paths if not path.is_file() or not fine_path(path, data).is_file()]
    if lacking:
        raise MissingError(
            f"{len(lacking)} of {len(paths)} photos or their mattes are not there, {lacking[0]} first: run `make data` "
            "and `python -m deeplens.evaluation.outline_sets`"
        )
    for path in paths:
        yield Outlined(path.stem, to_8_bit(read_photo(path).pixels), matte=load_fine(path, data))


def _composed(data: Path) -> Iterator[Outlined]:
    sources = shipped("test", data)
    for index in range(COMPOSED):
        picture, disparity = compose(sources, np.random.default_rng([SEED, index]))
        yield Outlined(f"{index:03d}", np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8), truth=disparity)


def _pairs(name: str) -> Callable[[Path], Iterator[Outlined]]:
    def read(data: Path) -> Iterator[Outlined]:
        for title, picture, disparity in open_pairs(name, data=data).read():
            yield Outlined(title, picture, truth=smaller(disparity))

    return read


SETS: dict[str, tuple[str, Callable[[Path], Iterator[Outlined]]]] = {
    "photos": ("Real photos with a fine matte", _photos),
    "composed": ("Composed pictures, test split", _composed),
    "rooms": ("Rendered rooms, test split", _pairs("rooms")),
    "lens": ("Photos of the lens set (Mitsuba)", _pairs("lens")),
}
"""Name → title, and what reads it from the data folder; MissingError where it is not there."""


def read_set(name: str, data: Path) -> tuple[str, list[Outlined]]:
    """The title and the pictures of a set. Raises InputError for an unknown one, MissingError where it is not there."""
    if name not in SETS:
        raise InputError(f"unknown set '{name}': choose {', '.join(SETS)}")
    title, read = SETS[name]
    return title, list(read(data))


def main(data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data")) -> None:
    """Make the fine mattes of the photos that outlines are judged on."""
    made = make_fine(photo_paths(data), data, size=MATTE_SIZE)
    typer.echo(f"{made} mattes made in {data / 'teacher' / 'fine'}")


if __name__ == "__main__":
    run_script(main)
