"""Training samples for the depth network: rendered and composed scenes with exact disparity, photos with mattes.

Four kinds alternate, so that every mini-batch is mixed (section 3.1):

- room: a rendered picture with exact disparity (`scenes.rooms`); in a third of them a photographic cut-out stands at
  the disparity of what it stands on. No segmentation.
- composed: cut-outs stand on the ground of a photo; the ground rises in disparity from a horizon to the bottom edge, a
  cut-out has the disparity of the ground where it stands, or a little more. Exact disparity, no segmentation.
- photo: a photo of a subject; pseudo-disparity = the ground's ramp, with the matte at the subject's own disparity.
- matte: another photo, with the teacher's matte as segmentation and no disparity.
"""

import io
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.utils.data import Dataset

from deeplens.model.contract import DEPTH_SIZE
from deeplens.scenes.mattes import load_matte
from deeplens.scenes.renderer import Array, linear_to_srgb, srgb_to_linear
from deeplens.scenes.rooms import load_room
from deeplens.scenes.sources import Sources, load_background, load_cutout
from deeplens.scenes.stream import Sample

Box = tuple[float, float, float, float]

KINDS = ("room", "composed", "room", "photo", "room", "composed", "room", "matte")
KINDS_WITHOUT_ROOMS = ("composed", "photo", "composed", "matte")


class DepthStream(Dataset[Sample]):
    """Sample i: of kind KINDS[i % 8] (without rooms KINDS_WITHOUT_ROOMS[i % 4]), a function of (seed, i).

    picture (3, 320, 320) in [0, 1]; disparity and segmentation (1, 320, 320) in [0, 1]; valid (1, 320, 320): 1 where
    the disparity is known; has_disparity and has_segmentation: 1 where that label exists, else 0 (and the label, too).

    Args:
        rooms: files of `scenes.rooms`; may be empty.
    """

    def __init__(self, sources: Sources, *, seed: int, data: Path, rooms: tuple[Path, ...] = ()) -> None:
        self.sources, self.seed, self.data, self.rooms = sources, seed, data, rooms

    def kind(self, index: int) -> str:
        """What sample `index` is."""
        kinds = KINDS if self.rooms else KINDS_WITHOUT_ROOMS
        return kinds[index % len(kinds)]

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index, 2])
        kind = self.kind(index)
        zeros = np.zeros((DEPTH_SIZE, DEPTH_SIZE), np.float32)
        disparity, segmentation = zeros, zeros
        if kind == "composed":
            picture, disparity = compose(self.sources, rng)
        elif kind == "room":
            picture, disparity = furnished(self.rooms[int(rng.integers(len(self.rooms)))], self.sources, rng)
        else:
            photos = self.sources.subjects + self.sources.backgrounds
            pixels, matte = _crop(photos[int(rng.integers(len(photos)))], self.data, rng)
            picture = pixels.astype(np.float32) / np.float32(255)
            if kind == "photo":
                disparity = pseudo_disparity(matte, horizon=float(rng.uniform(0.2, 0.5)))
            else:
                segmentation = matte
        return {
            "picture": torch.from_numpy(spoil(grade(picture, rng), rng)).permute(2, 0, 1).contiguous(),
            "disparity": torch.from_numpy(disparity.copy())[None],
            "valid": torch.ones(1, DEPTH_SIZE, DEPTH_SIZE),
            "segmentation": torch.from_numpy(segmentation.copy())[None],
            "has_disparity": torch.tensor(float(kind != "matte")),
            "has_segmentation": torch.tensor(float(kind == "matte")),
        }


def furnished(path: Path, sources: Sources, rng: np.random.Generator) -> tuple[Array, Array]:
    """A part of a rendered picture (320, 320, 3) and its disparity (320, 320), both in [0, 1]; at times with a cut-out.

    The cut-out's foot is at a random pixel of the lower part, its disparity that of this pixel, or a little more, and
    what is nearer than that stays in front of it.
    """
    pixels, depth = load_room(path)
    photo = Image.fromarray(pixels)
    box, flip = sample_box(photo, rng), bool(rng.random() < 0.5)
    picture = resized_part(photo, box, flip=flip).astype(np.float32) / np.float32(255)
    disparity = resized_part(Image.fromarray(depth), box, flip=flip).copy()
    if rng.random() < 1 / 3:
        foot, column = int(rng.integers(DEPTH_SIZE // 2, DEPTH_SIZE)), int(rng.integers(0, DEPTH_SIZE))
        own = float(disparity[foot, column]) * float(rng.uniform(1.0, 1.1))
        height = DEPTH_SIZE * float(np.clip((0.1 + own) * rng.uniform(0.4, 1.0), 0.08, 1.0))
        stand(picture, disparity, sources, rng, own=own, foot=foot, column=column, height=height)
    return picture, normalised(disparity)


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
    picture = resized_part(photo, sample_box(photo, rng), flip=bool(rng.random() < 0.5)).astype(
        np.float32
    ) / np.float32(255)
    horizon = float(rng.uniform(0.1, 0.6))
    disparity = rng.uniform(0.2, 0.9) * ground(size, horizon=horizon)
    feet = np.sort(rng.uniform(horizon + 0.05, 1.25, int(rng.integers(0, 5))))
    for foot in feet:  # from far to near
        near = float(disparity.max() * np.clip((foot - horizon) / (1 - horizon), 0, 1.3))
        own = min(1.0, near + float(rng.uniform(0.02, 0.2)))
        height = size * float(np.clip(own * rng.uniform(0.5, 1.4), 0.08, 1.2))
        column = int(rng.integers(0, size))
        stand(picture, disparity, sources, rng, own=own, foot=round(foot * size), column=column, height=height)
    return picture, normalised(disparity)


def stand(
    picture: Array,
    disparity: Array,
    sources: Sources,
    rng: np.random.Generator,
    *,
    own: float,
    foot: int,
    column: int,
    height: float,
) -> None:
    """Put a random cut-out, `height` pixels high, into a picture and its disparity, behind what is nearer than `own`.

    Its lowest row is `foot`, its middle `column`; what lies outside the picture is cut off.
    """
    patch = _cutout(sources.cutouts[int(rng.integers(len(sources.cutouts)))])
    scale = height / patch.height
    width, rows_high = max(4, round(patch.width * scale)), max(4, round(height))
    pixels = np.asarray(patch.resize((width, rows_high), Image.Resampling.BILINEAR).convert("RGBA"), np.float32) / 255
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    top, left = foot - rows_high, column - width // 2
    rows = slice(max(0, top), min(picture.shape[0], top + rows_high))
    columns = slice(max(0, left), min(picture.shape[1], left + width))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    part = pixels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    alpha = part[..., 3:] * (disparity[rows, columns] <= own)[..., None]
    picture[rows, columns] = part[..., :3] * alpha + picture[rows, columns] * (1 - alpha)
    disparity[rows, columns] = np.where(alpha[..., 0] > 0.5, own, disparity[rows, columns])


def normalised(disparity: Array) -> Array:
    """(x − min) / (max − min), as both sides of equation 1 are; zeros where the map is constant."""
    spread = float(np.ptp(disparity))
    return ((disparity - disparity.min()) / spread if spread else np.zeros_like(disparity)).astype(np.float32)


def grade(picture: Array, rng: np.random.Generator) -> Array:
    """A random exposure and white balance, in linear light."""
    gain = np.exp(rng.normal(0.0, 0.25) + rng.normal(0.0, 0.06, 3)).astype(np.float32)
    return linear_to_srgb(srgb_to_linear(np.clip(picture, 0, 1)) * gain)


def spoil(picture: Array, rng: np.random.Generator) -> Array:
    """At times what cameras and files do to a picture: no colours, blur, noise, JPEG; (320, 320, 3) in [0, 1]."""
    if rng.random() < 0.1:
        picture = np.repeat(picture.mean(2, keepdims=True), 3, 2)
    if rng.random() < 0.15:
        radius = float(rng.uniform(0.3, 1.5))
        picture = np.stack([gaussian_filter(picture[..., c], radius) for c in range(3)], 2)
    if rng.random() < 0.3:
        picture = picture + rng.normal(0, rng.uniform(0.005, 0.04), picture.shape).astype(np.float32)
    picture = np.clip(picture, 0, 1).astype(np.float32)
    if rng.random() < 0.3:
        stored = io.BytesIO()
        pixels = np.rint(picture * 255).astype(np.uint8)
        Image.fromarray(pixels).save(stored, "JPEG", quality=int(rng.integers(40, 95)))
        picture = np.asarray(Image.open(stored), np.float32) / np.float32(255)
    return picture


def sample_box(photo: Image.Image, rng: np.random.Generator) -> Box:
    """A random part of at least 60 % of each side (left, top, right, bottom)."""
    width, height = photo.width * rng.uniform(0.6, 1.0), photo.height * rng.uniform(0.6, 1.0)
    left, top = rng.uniform(0, photo.width - width), rng.uniform(0, photo.height - height)
    return left, top, left + width, top + height


def _crop(path: Path, data: Path, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Array]:
    """The same random part of a photo (320, 320, 3) and of its matte (320, 320)."""
    photo = _photo(path)
    box, flip = sample_box(photo, rng), bool(rng.random() < 0.5)
    matte = Image.fromarray(load_matte(path, data)).resize(photo.size, Image.Resampling.BILINEAR)
    return resized_part(photo, box, flip=flip), resized_part(matte, box, flip=flip)


def resized_part(image: Image.Image, box: Box, *, flip: bool) -> NDArray:
    """A part of an image at 320×320, (320, 320) or (320, 320, 3), the sides changed round with `flip`."""
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
