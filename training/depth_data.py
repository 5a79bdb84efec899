"""Training samples for the depth network: composed scenes with exact disparity, photos with the teacher's mattes.

Three kinds alternate, so that every mini-batch is mixed (section 3.1):

- composed: cut-outs stand on the ground of a photo; the ground rises in disparity from a horizon to the bottom edge, a
  cut-out has the disparity of the ground where it stands, or a little more. Exact disparity, no segmentation.
- photo: a photo of a subject; pseudo-disparity = the ground's ramp, with the matte at the subject's own disparity.
- matte: another photo, with the teacher's matte as segmentation and no disparity.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from model.contract import DEPTH_SIZE
from training.fit import Sample
from training.mattes import load_matte
from training.renderer import Array, linear_to_srgb, srgb_to_linear
from training.sources import Sources, load_background, load_cutout

Box = tuple[float, float, float, float]

KINDS = ("composed", "photo", "composed", "matte")


class DepthStream(Dataset[Sample]):
    """Sample i: of kind KINDS[i % 4], a function of (seed, i).

    picture (3, 320, 320) in [0, 1]; disparity and segmentation (1, 320, 320) in [0, 1]; has_disparity and
    has_segmentation: 1 where that label exists, else 0 (the label is 0 there).
    """

    def __init__(self, sources: Sources, *, seed: int, data: Path) -> None:
        self.sources, self.seed, self.data = sources, seed, data

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index, 2])
        kind = KINDS[index % len(KINDS)]
        zeros = np.zeros((DEPTH_SIZE, DEPTH_SIZE), np.float32)
        disparity, segmentation = zeros, zeros
        if kind == "composed":
            picture, disparity = compose(self.sources, rng)
        else:
            photos = self.sources.subjects + self.sources.backgrounds
            pixels, matte = _crop(photos[int(rng.integers(len(photos)))], self.data, rng)
            picture = pixels.astype(np.float32) / np.float32(255)
            if kind == "photo":
                disparity = pseudo_disparity(matte, horizon=float(rng.uniform(0.2, 0.5)))
            else:
                segmentation = matte
        return {
            "picture": torch.from_numpy(_grade(picture, rng)).permute(2, 0, 1).contiguous(),
            "disparity": torch.from_numpy(disparity.copy())[None],
            "segmentation": torch.from_numpy(segmentation.copy())[None],
            "has_disparity": torch.tensor(float(kind != "matte")),
            "has_segmentation": torch.tensor(float(kind == "matte")),
        }


def ground(size: int, *, horizon: float) -> Array:
    """Disparity (size, size) of a level ground: 0 above the row `horizon` · size, rising linearly to 1 at the end."""
    rows = (np.arange(size, dtype=np.float32) + 0.5) / size
    return np.repeat(np.clip((rows - horizon) / (1 - horizon), 0, 1)[:, None], size, 1)


def pseudo_disparity(matte: Array, *, horizon: float) -> Array:
    """Disparity (H, W) in [0, 1] from a matte: half a ground ramp behind, the subject at one disparity before it."""
    behind = 0.5 * ground(matte.shape[0], horizon=horizon)
    rows = np.flatnonzero((matte > 0.5).any(1))
    if not rows.size:
        return 2 * behind
    subject = max(0.7, float(behind[rows[-1], 0]) + 0.3)
    return (matte * subject + (1 - matte) * behind).astype(np.float32)


def compose(sources: Sources, rng: np.random.Generator) -> tuple[Array, Array]:
    """A picture (320, 320, 3) and its disparity (320, 320), both in [0, 1]: up to four cut-outs on a photo's ground."""
    size = DEPTH_SIZE
    photo = _photo(sources.backgrounds[int(rng.integers(len(sources.backgrounds)))])
    picture = _resized(photo, _box(photo, rng), flip=bool(rng.random() < 0.5)).astype(np.float32) / np.float32(255)
    horizon = float(rng.uniform(0.1, 0.6))
    disparity = rng.uniform(0.2, 0.9) * ground(size, horizon=horizon)
    feet = np.sort(rng.uniform(horizon + 0.05, 1.25, int(rng.integers(0, 5))))
    for foot in feet:  # from far to near
        near = float(disparity.max() * np.clip((foot - horizon) / (1 - horizon), 0, 1.3))
        own = min(1.0, near + float(rng.uniform(0.02, 0.2)))
        patch = _cutout(sources.cutouts[int(rng.integers(len(sources.cutouts)))])
        height = size * float(np.clip(own * rng.uniform(0.5, 1.4), 0.08, 1.2))
        scale = height / patch.height
        shape = max(4, round(patch.width * scale)), max(4, round(height))
        pixels = np.asarray(patch.resize(shape, Image.Resampling.BILINEAR).convert("RGBA"), np.float32) / 255
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        top, left = round(foot * size) - shape[1], int(rng.integers(-shape[0] // 2, size - shape[0] // 2))
        rows = slice(max(0, top), min(size, top + shape[1]))
        columns = slice(max(0, left), min(size, left + shape[0]))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        part = pixels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        alpha = part[..., 3:]
        picture[rows, columns] = part[..., :3] * alpha + picture[rows, columns] * (1 - alpha)
        disparity[rows, columns] = np.where(alpha[..., 0] > 0.5, own, disparity[rows, columns])
    return picture, normalised(disparity)


def normalised(disparity: Array) -> Array:
    """(x − min) / (max − min), as both sides of equation 1 are; zeros where the map is constant."""
    spread = float(np.ptp(disparity))
    return ((disparity - disparity.min()) / spread if spread else np.zeros_like(disparity)).astype(np.float32)


def _grade(picture: Array, rng: np.random.Generator) -> Array:
    """A random exposure and white balance, in linear light."""
    gain = np.exp(rng.normal(0.0, 0.25) + rng.normal(0.0, 0.06, 3)).astype(np.float32)
    return linear_to_srgb(srgb_to_linear(np.clip(picture, 0, 1)) * gain)


def _box(photo: Image.Image, rng: np.random.Generator) -> Box:
    """A random part of at least 60 % of each side (left, top, right, bottom)."""
    width, height = photo.width * rng.uniform(0.6, 1.0), photo.height * rng.uniform(0.6, 1.0)
    left, top = rng.uniform(0, photo.width - width), rng.uniform(0, photo.height - height)
    return left, top, left + width, top + height


def _crop(path: Path, data: Path, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Array]:
    """The same random part of a photo (320, 320, 3) and of its matte (320, 320)."""
    photo = _photo(path)
    box, flip = _box(photo, rng), bool(rng.random() < 0.5)
    matte = Image.fromarray(load_matte(path, data)).resize(photo.size, Image.Resampling.BILINEAR)
    return _resized(photo, box, flip=flip), _resized(matte, box, flip=flip)


def _resized(image: Image.Image, box: Box, *, flip: bool) -> NDArray:
    pixels = np.asarray(image.resize((DEPTH_SIZE, DEPTH_SIZE), Image.Resampling.BILINEAR, box=box))
    return pixels[:, ::-1] if flip else pixels


@lru_cache(maxsize=128)
def _photo(path: Path) -> Image.Image:
    """The photo at 480×480: a little above the network's size, the aspect ignored as at inference."""
    return Image.fromarray(load_background(path)).resize((480, 480), Image.Resampling.LANCZOS)


@lru_cache(maxsize=256)
def _cutout(path: Path) -> Image.Image:
    cutout = Image.fromarray(load_cutout(path))
    cutout.thumbnail((480, 480), Image.Resampling.LANCZOS)
    return cutout.convert("RGBa")
