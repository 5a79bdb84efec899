"""Training samples with sharp outlines for the depth network: rendered, composed and real ones in every batch.

- room: a rendered picture with exact disparity, at times with a cut-out in it (`training.depth_data.furnished`).
- composed: cut-outs on the ground of a photo, exact disparity (`training.depth_data.compose`).
- layered: two cut-outs at any place before a photo, each at one disparity, as in `scenes.planes`; the photo's disparity
  is a network's own, pressed together behind the cut-outs.
- real: a photo with a fine matte; its disparity is a network's own, snapped to the matte's contour
  (`training.depth_labels`); the matte is its segmentation. Every fourth is a photo without: the network's disparity is
  then known but for what is fine in it (`has_anchor`), and the teacher's coarse matte is the segmentation.

Cut-outs are those of the sources, and the subjects of real photos, cut out by their fine mattes.
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from deeplens.console.errors import MissingError
from deeplens.model.contract import DEPTH_SIZE
from deeplens.scenes.fine_mattes import cutout_path, fine_path, load_fine, unfit
from deeplens.scenes.mattes import load_matte
from deeplens.scenes.planes import SceneConfig, foreground
from deeplens.scenes.renderer import Array, linear_to_srgb, srgb_to_linear
from deeplens.scenes.sources import Sources, load_background
from deeplens.scenes.stream import Sample
from deeplens.training.depth_data import compose, furnished, grade, normalised, resized_part, sample_box, spoil
from deeplens.training.depth_labels import load_label, resized, snapped

KINDS = ("room", "real", "layered", "room", "real", "composed", "room", "real")
KINDS_WITHOUT_ROOMS = ("real", "composed", "real", "layered")

PHOTO = 640
"""Side of a photo that parts are taken of, in pixels: 60 % of it are more than the network's 320."""

CUTOUTS = SceneConfig(size=DEPTH_SIZE, cutout_only=True)
"""Foregrounds of layered pictures."""

LEAST_SPREAD = 0.3
"""A part of a photo whose label spans less than this says nothing of near and far: no disparity is known."""


def matted(photos: tuple[Path, ...], data: Path) -> tuple[Path, ...]:
    """Those photos that have a fine matte which is not unfit."""
    left_out = unfit()
    return tuple(path for path in photos if path.name not in left_out and fine_path(path, data).is_file())


class OutlineStream(Dataset[Sample]):
    """Sample i: of kind KINDS[i % 8], a function of (seed, i) and of what lies in the data folder.

    picture (3, 320, 320) in [0, 1]; disparity and segmentation (1, 320, 320) in [0, 1]; valid (1, 320, 320): 1 where
    the disparity is known; has_disparity, has_anchor and has_segmentation: 1 where that label exists, else 0.

    Args:
        rooms: files of `scenes.rooms`; may be empty.

    Raises:
        MissingError: no photo has a fine matte.
    """

    def __init__(self, sources: Sources, *, seed: int, data: Path, rooms: tuple[Path, ...] = ()) -> None:
        photos = sources.subjects + sources.backgrounds
        self.matted = matted(photos, data)
        if not self.matted:
            raise MissingError(f"no photo in {data} has a fine matte: run `python -m deeplens.scenes.fine_mattes`")
        self.others = tuple(path for path in photos if path not in self.matted)
        cut = tuple(path for photo in self.matted if (path := cutout_path(photo, data)).is_file())
        self.sources = replace(sources, cutouts=sources.cutouts + cut)
        self.seed, self.data, self.rooms = seed, data, rooms

    def kind(self, index: int) -> str:
        """What sample `index` is."""
        kinds = KINDS if self.rooms else KINDS_WITHOUT_ROOMS
        return kinds[index % len(kinds)]

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index, 3])
        kind = self.kind(index)
        segmentation = np.zeros((DEPTH_SIZE, DEPTH_SIZE), np.float32)
        anchor = False
        if kind == "composed":
            picture, disparity = compose(self.sources, rng)
        elif kind == "layered":
            picture, disparity = layered(self.sources, rng, data=self.data)
        elif kind == "room":
            picture, disparity = furnished(self.rooms[int(rng.integers(len(self.rooms)))], self.sources, rng)
        else:
            anchor = bool(self.others) and rng.random() < 0.25
            photos = self.others if anchor else self.matted
            maps = (_anchored if anchor else _snapped)(photos[int(rng.integers(len(photos)))], self.data)
            photo = maps[0]
            box, flip = sample_box(photo, rng), bool(rng.random() < 0.5)
            parts = [resized_part(each, box, flip=flip) for each in maps]
            picture, disparity, segmentation = parts[0].astype(np.float32) / np.float32(255), parts[1], parts[2]
        known = kind != "real" or float(np.ptp(disparity)) > LEAST_SPREAD
        return {
            "picture": torch.from_numpy(spoil(grade(picture, rng), rng)).permute(2, 0, 1).contiguous(),
            "disparity": torch.from_numpy(normalised(disparity))[None],
            "valid": torch.ones(1, DEPTH_SIZE, DEPTH_SIZE),
            "segmentation": torch.from_numpy(segmentation.copy())[None],
            "has_disparity": torch.tensor(float(known and not anchor)),
            "has_anchor": torch.tensor(float(known and anchor)),
            "has_segmentation": torch.tensor(float(kind == "real")),
        }


Maps = tuple[Image.Image, Image.Image, Image.Image]
"""A photo, its disparity and its matte, each PHOTO × PHOTO."""


def _photo(path: Path) -> Image.Image:
    return Image.fromarray(load_background(path)).resize((PHOTO, PHOTO), Image.Resampling.LANCZOS)


@lru_cache(maxsize=128)
def _snapped(path: Path, data: Path) -> Maps:
    matte = resized(load_fine(path, data), (PHOTO, PHOTO))
    disparity = snapped(resized(load_label(path, data), (PHOTO, PHOTO)), matte)
    return _photo(path), Image.fromarray(disparity), Image.fromarray(matte)


@lru_cache(maxsize=64)
def _anchored(path: Path, data: Path) -> Maps:
    label, matte = (resized(each, (PHOTO, PHOTO)) for each in (load_label(path, data), load_matte(path, data)))
    return _photo(path), Image.fromarray(label), Image.fromarray(matte)


def layered(sources: Sources, rng: np.random.Generator, *, data: Path) -> tuple[Array, Array]:
    """A picture (320, 320, 3) and its disparity (320, 320), both in [0, 1]: two cut-outs before a photo.

    What is drawn is as in `scenes.planes`, but for the photo's own disparity.
    """
    photo, label, _ = _anchored(sources.backgrounds[int(rng.integers(len(sources.backgrounds)))], data)
    box, flip = sample_box(photo, rng), bool(rng.random() < 0.5)
    light = srgb_to_linear(resized_part(photo, box, flip=flip).astype(np.float32) / np.float32(255))
    middle, front = np.sort(rng.uniform(0.05, 1.0, 2))
    high = float(rng.uniform(0.0, middle))
    disparity = (high * resized_part(label, box, flip=flip)).astype(np.float32)
    for own in (middle, front):
        patch, coverage = foreground(sources, rng, canvas=DEPTH_SIZE, config=CUTOUTS)
        light = patch * coverage[..., None] + light * (1 - coverage[..., None])
        disparity = np.where(coverage > 0.5, np.float32(own), disparity)
    return linear_to_srgb(light), normalised(disparity)


def layered_outlines(sources: Sources, *, seed: int, count: int, data: Path) -> list[tuple[Array, Array]]:
    """`count` layered pictures (320, 320, 3) and their disparity (320, 320), both in [0, 1]."""
    return [layered(sources, np.random.default_rng([seed, index, 5]), data=data) for index in range(count)]


def composed_outlines(sources: Sources, *, seed: int, count: int) -> list[tuple[Array, Array]]:
    """`count` composed pictures (320, 320, 3) and their exact disparity (320, 320), both in [0, 1]."""
    return [compose(sources, np.random.default_rng([seed, index, 4])) for index in range(count)]
