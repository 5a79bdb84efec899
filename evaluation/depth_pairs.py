"""Photos with depth that no depth network of ours was trained on, by sets: what `evaluation.depth_table` judges on.

- `real`: two Middlebury scenes, Motorcycle and Aloe, and an iPhone portrait with its own depth;
- `stereo`: indoor stereo pairs, their disparity by semi-global matching where it holds (`evaluation.stereo`);
- `lens`: the photos of the lens set (`evaluation.lens_truth`), exact depth;
- `rooms`: the test split of our rendered rooms, other models and photos than in training, exact depth;
- KIND:DIR, a set of the user's (`training.depth_sets`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deeplens.console.errors import InputError, MissingError
from deeplens.evaluation.lens_truth import lens_truth
from deeplens.evaluation.rgbd import PICTURES
from deeplens.evaluation.stereo import stereo_pairs
from deeplens.runtimes.disparity import read_map
from deeplens.runtimes.photo import read_photo, to_8_bit
from deeplens.scenes.renderer import Array
from deeplens.scenes.rooms import load_room, room_files
from deeplens.training.depth_sets import known_disparity, parse_sets

LARGEST = 640
"""Pixels on the long side at which maps are compared; larger ones are made smaller, by the nearest value."""

ALOE = "photos/calibration/opencv-aloeL.jpg"
"""Aloe's left picture. It is among the calibration photos too: ranges for INT8 are measured on it, no weights."""

Pair = tuple[str, NDArray[np.uint8], Array]
"""Name; photo, H×W×3, sRGB; disparity, h×w in any unit, near = large, NaN where it is not known."""


@dataclass(frozen=True)
class PairSet:
    """A set of pairs by its name; `title` says what it is."""

    name: str
    title: str
    read: Callable[[], Iterator[Pair]]


def open_pairs(name: str, *, data: Path) -> PairSet:
    """A set by its name, or KIND:DIR. It is read when its pairs are.

    Raises:
        InputError: an unknown set.
        MissingError: a library that a user's set takes is not installed.
    """
    if name in SETS:
        title, reader = SETS[name]
        return PairSet(name, title, partial(reader, data))
    if ":" not in name:
        raise InputError(f"unknown set '{name}': choose {', '.join(SETS)} or KIND:DIR")
    return PairSet(name, name, partial(_own, name))


def smaller(disparity: Array) -> Array:
    """The map with at most `LARGEST` pixels on the long side; no depth arises between two."""
    scale = LARGEST / max(disparity.shape)
    if scale >= 1:
        return disparity
    size = round(disparity.shape[1] * scale), round(disparity.shape[0] * scale)
    return np.asarray(Image.fromarray(disparity).resize(size, Image.Resampling.NEAREST))


def _real(data: Path) -> Iterator[Pair]:
    for picture in PICTURES:
        paths = [data / "rgbd" / file for file in picture.files]
        _check_there(*paths)
        pixels, disparity = picture.read(*paths)
        yield picture.name, pixels, known_disparity(disparity)
    photo, disparity_file = data / ALOE, data / "rgbd" / "aloe_disparity.png"
    _check_there(photo, disparity_file)
    yield "aloe", to_8_bit(read_photo(photo).pixels), known_disparity(read_map(disparity_file))


def _lens(data: Path) -> Iterator[Pair]:
    """Each scene once: its pictures share one photo and its depth."""
    seen = set()
    for name, scene in lens_truth(data / "lens"):
        place = name.split("/")[0]
        if place not in seen:
            seen.add(place)
            yield place, scene.picture, scene.disparity


def _rooms(data: Path) -> Iterator[Pair]:
    for path in room_files("test", data / "rooms"):
        yield path.stem, *load_room(path)


def _own(name: str) -> Iterator[Pair]:
    (found,) = parse_sets([name], [])
    for index, reader in enumerate(found.readers):
        example = reader()
        assert example.disparity is not None
        yield f"{index:05d}", example.picture, example.disparity


def _check_there(*paths: Path) -> None:
    for path in paths:
        if not path.is_file():
            raise MissingError(f"{path} does not exist: run `make data` (python -m deeplens.scenes.fetch --only rgbd)")


SETS: dict[str, tuple[str, Callable[[Path], Iterator[Pair]]]] = {
    "real": ("Real photos with measured depth", _real),
    "stereo": ("Real indoor stereo, grey, disparity by semi-global matching", stereo_pairs),
    "lens": ("Photos of the lens set (Mitsuba)", _lens),
    "rooms": ("Rendered rooms, test split", _rooms),
}
"""Name → title, and what reads it from the data folder; MissingError where it is not there."""
