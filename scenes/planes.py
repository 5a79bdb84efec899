"""Synthetic three-plane scenes with exact shallow depth-of-field pictures (section 4.2 of the paper).

One background, two foregrounds, three planes. The background's disparity is 0 or a linear ramp b0 > b1 along one axis;
the foregrounds' are constant, f0 > f1, and nearer than what they cover. A foreground is a photographic cut-out, a
cut-out's outline filled with a photo, or a drawn outline (thin bars among them) filled with a photo: few cut-outs can
be had, and the effect depends on edges, not on objects.

Scene i of a seed is always the same scene, whatever was made before it: a stream has no state but its index.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import grey_dilation, grey_erosion

from deeplens.model.contract import BASE_LONG_SIDE, R_MAX
from deeplens.scenes.lights import relit, with_lights
from deeplens.scenes.renderer import (
    Array,
    Plane,
    composite,
    linear_to_srgb,
    render_exact,
    render_layered,
    srgb_to_linear,
    visible_disparity,
)
from deeplens.scenes.sources import Sources, load_background, load_cutout

TEST_SEED = 2018
TEST_SCENES = 500


@dataclass(frozen=True)
class SceneConfig:
    """How scenes are made.

    Attributes:
        size: side of the square pictures, in pixels; a multiple of 8 · 2^steps.
        steps: ×2 steps from the base to the full size: the base is size / 2^steps.
        exact: render by the accumulation buffer instead of layer by layer.
        cutout_only: foregrounds are photographic cut-outs in their own colours only, as in the paper.
        narrow: share of scenes with a small aperture, α from 0.02 to 0.5, evenly in its logarithm.
        lights: share of scenes with lamps put into them that are brighter than white, which the picture clips. Unless
            it is 0, what is clipped in small spots of the photos counts as such a lamp in all scenes.
    """

    size: int = 320
    steps: int = 2
    exact: bool = False
    cutout_only: bool = False
    narrow: float = 0.0
    lights: float = 0.0

    @property
    def radius(self) -> float:
        """Radius of the largest circle of confusion at the full size, in pixels."""
        return R_MAX * 2**self.steps


@dataclass(frozen=True)
class PhotoConfig(SceneConfig):
    """Scenes whose blur is what `runtimes.harness` gives a photo of this size: a fraction of the picture.

    `steps` is that of `runtimes.pyramid.geometry` for the size, so that the base is at most `BASE_LONG_SIDE`.
    """

    @property
    def radius(self) -> float:
        """Radius of the largest circle of confusion, in pixels: 2.5 % of the size."""
        return R_MAX / BASE_LONG_SIDE * self.size


TEST_CONFIG = PhotoConfig(size=640, steps=1, cutout_only=True)
LARGE_TEST_CONFIG = PhotoConfig(size=1280, steps=2, cutout_only=True)
"""The paper's size, and its largest kernel: 65 pixels."""


@dataclass(frozen=True)
class Scene:
    """One training or test pair.

    Attributes:
        picture: (size, size, 3) uint8, the all-in-focus picture.
        target: (size, size, 3) float32 sRGB in [0, 1], the shallow depth-of-field picture.
        disparity: (size, size) float32 in [0, 1], true.
        corrupted: (size, size) float32 in [0, 1], with the foregrounds dilated or eroded.
        focal: disparity of the focal plane, in [0, 1].
        aperture: α in [0, 1].
    """

    picture: NDArray[np.uint8]
    target: Array
    disparity: Array
    corrupted: Array
    focal: float
    aperture: float


def make_scene(sources: Sources, *, seed: int, index: int, config: SceneConfig) -> Scene:
    """Scene `index` of the stream `seed`."""
    rng = np.random.default_rng([seed, index])
    margin = int(np.ceil(config.radius)) + 2
    canvas = config.size + 2 * margin
    planes = _planes(sources, rng, canvas=canvas, config=config)
    lit = np.random.default_rng([seed, index, 3])
    if config.lights:
        planes = [relit(plane, lit) for plane in planes]
    if lit.random() < config.lights:
        planes = [with_lights(plane, lit) for plane in planes]
    inner = slice(margin, margin + config.size)
    disparity = visible_disparity(planes)
    focal = _focal(planes, disparity[inner, inner], rng)
    aperture = float(rng.choice([1.0, rng.uniform(0.0, 1.0), 0.0], p=[0.6, 0.37, 0.03]))
    narrow = np.random.default_rng([seed, index, 2])
    if narrow.random() < config.narrow:
        aperture = float(np.exp(narrow.uniform(np.log(0.02), np.log(0.5))))

    render = render_exact if config.exact else render_layered
    target = render(planes, focal=focal, radius=config.radius * aperture)[inner, inner]
    # The photo is what is known of the scene: 8 bits, and nothing brighter than white.
    picture = np.rint(linear_to_srgb(composite(planes)[inner, inner]) * 255).astype(np.uint8)
    return Scene(
        picture=picture,
        target=linear_to_srgb(target),
        disparity=disparity[inner, inner],
        corrupted=corrupt(planes, rng, reach=2**config.steps * 2)[inner, inner],
        focal=focal,
        aperture=aperture,
    )


def corrupt(planes: list[Plane], rng: np.random.Generator, *, reach: int) -> Array:
    """Disparity (H, W) with each foreground dilated or eroded by up to `reach` pixels (section 4.2)."""
    disparity = planes[0].disparity_map()
    for plane in planes[1:]:
        amount = int(rng.integers(-reach, reach + 1))
        mask = (plane.coverage >= 0.5).astype(np.uint8)
        size = 2 * abs(amount) + 1
        if amount > 0:
            mask = grey_dilation(mask, size=(size, size))
        elif amount < 0:
            mask = grey_erosion(mask, size=(size, size))
        disparity = np.where(mask > 0, plane.disparity_map(), disparity)
    return disparity


def test_scenes(
    sources: Sources, *, start: int = 0, count: int = TEST_SCENES, config: SceneConfig = TEST_CONFIG
) -> Iterator[Scene]:
    """The fixed test split: `count` scenes of its seed from `start`, of `shipped("test")` sources, cut-outs only."""
    for index in range(start, start + count):
        yield make_scene(sources, seed=TEST_SEED, index=index, config=config)


def _planes(sources: Sources, rng: np.random.Generator, *, canvas: int, config: SceneConfig) -> list[Plane]:
    """Background, middle and front plane on a square canvas."""
    front, middle = sorted(rng.uniform(0.05, 1.0, 2), reverse=True)
    background = Plane(
        _photo(sources, rng, canvas),
        np.ones((canvas, canvas), np.float32),
        _background_disparity(rng, below=middle, canvas=canvas),
    )
    planes = [background]
    for disparity in (middle, front):
        light, coverage = foreground(sources, rng, canvas=canvas, config=config)
        planes.append(Plane(light * coverage[..., None], coverage, (float(disparity), 0.0, 0.0)))
    return planes


def _background_disparity(rng: np.random.Generator, *, below: float, canvas: int) -> tuple[float, float, float]:
    """0, or a ramp from b1 to b0, 0 ≤ b1 < b0 < `below`, rising downwards or along a row."""
    if rng.random() < 0.5:
        return (0.0, 0.0, 0.0)
    high = rng.uniform(0.0, below)
    low = rng.uniform(0.0, high)
    slope = float(high - low) / (canvas - 1)
    side = rng.integers(3)  # nearer at the bottom, at the right, at the left
    if side == 0:
        return (float(low), slope, 0.0)
    return (float(low), 0.0, slope) if side == 1 else (float(high), 0.0, -slope)


def _focal(planes: list[Plane], disparity: Array, rng: np.random.Generator) -> float:
    """Mostly a disparity that the picture shows, else any."""
    if rng.random() < 0.3:
        return float(rng.uniform(0.0, 1.0))
    if rng.random() < 0.5:
        return float(disparity[tuple(rng.integers(0, disparity.shape))])
    return planes[int(rng.integers(1, len(planes)))].disparity[0]


@lru_cache(maxsize=64)
def decoded_photo(path: Path) -> Image.Image:
    """A background, at most 2560 pixels on its long side; kept while it is among the last."""
    photo = Image.fromarray(load_background(path))
    photo.thumbnail((2560, 2560), Image.Resampling.LANCZOS)
    return photo


@lru_cache(maxsize=256)
def decoded_cutout(path: Path) -> NDArray[np.uint8]:
    """A cut-out as it is in its file, kept while it is among the last."""
    return load_cutout(path)


def _photo(sources: Sources, rng: np.random.Generator, canvas: int) -> Array:
    """A random square of a random photo, flipped and graded, in linear light (canvas, canvas, 3)."""
    photo = decoded_photo(sources.backgrounds[int(rng.integers(len(sources.backgrounds)))])
    longest = min(photo.size)
    side = min(float(longest), float(np.exp(rng.uniform(np.log(min(0.8 * canvas, longest)), np.log(longest)))))
    left, top = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
    crop = photo.resize(
        (canvas, canvas), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side), reducing_gap=2.0
    )
    pixels = np.asarray(crop)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    return _grade(pixels, rng)


def _grade(pixels: NDArray[np.uint8], rng: np.random.Generator) -> Array:
    """Linear light of 8-bit sRGB pixels with a random exposure, white balance and, at times, order of channels."""
    light = _LINEAR[pixels]
    if rng.random() < 0.3:
        light = light[..., rng.permutation(3)]
    gain = np.exp(rng.normal(0.0, 0.3) + rng.normal(0.0, 0.08, 3)).astype(np.float32)
    return np.clip(light * gain, 0.0, 1.0)


_LINEAR = srgb_to_linear(np.arange(256, dtype=np.float32) / np.float32(255))


def foreground(sources: Sources, rng: np.random.Generator, *, canvas: int, config: SceneConfig) -> tuple[Array, Array]:
    """Linear light (canvas, canvas, 3) and coverage (canvas, canvas) of one foreground, somewhere on the canvas.

    The light is that of the patch, not yet multiplied by the coverage.
    """
    kind = 0.0 if config.cutout_only else rng.random()
    height = float(np.exp(rng.uniform(np.log(0.2), np.log(0.95)))) * config.size
    if kind < 0.75:
        cutout = Image.fromarray(decoded_cutout(sources.cutouts[int(rng.integers(len(sources.cutouts)))]))
        scale = min(height / cutout.height, 1.5 * canvas / cutout.width)
        if kind < 0.45:
            scale = min(scale, 1.5)  # its own colours: not blown up to mush
        size = max(8, round(cutout.width * scale)), max(8, round(cutout.height * scale))
        cutout = cutout.rotate(rng.normal(0.0, 12.0), Image.Resampling.BICUBIC, expand=True)
        # Resampling premultiplied pixels keeps hidden colours out of the rim.
        patch = np.asarray(cutout.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA"))
        if rng.random() < 0.5:
            patch = patch[:, ::-1]
        alpha = patch[..., 3].astype(np.float32) / np.float32(255)
        alpha = np.clip((alpha - 0.5) * max(1.0, scale) + 0.5, 0.0, 1.0)
    else:
        patch = None
        alpha = _outline(rng, max(8, round(height)))
    light = np.zeros((canvas, canvas, 3), np.float32)
    coverage = np.zeros((canvas, canvas), np.float32)
    top = int(rng.integers(-alpha.shape[0] // 3, canvas - alpha.shape[0] // 2))
    left = int(rng.integers(-alpha.shape[1] // 3, canvas - alpha.shape[1] // 2))
    rows = slice(max(0, top), min(canvas, top + alpha.shape[0]))
    columns = slice(max(0, left), min(canvas, left + alpha.shape[1]))
    part = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    coverage[rows, columns] = alpha[part]
    if patch is not None and kind < 0.45:
        light[rows, columns] = _grade(patch[part][..., :3], rng)
    else:
        light = _photo(sources, rng, canvas)
    return light, coverage


def _outline(rng: np.random.Generator, height: int) -> Array:
    """A drawn outline's coverage (height, width): an ellipse, a polygon, or a few thin bars."""
    width = max(8, round(height * float(rng.uniform(0.4, 1.6))))
    scale = 4
    canvas = Image.new("L", (scale * width, scale * height))
    draw = ImageDraw.Draw(canvas)
    kind = rng.integers(3)
    if kind == 0:
        draw.ellipse((0, 0, scale * width - 1, scale * height - 1), fill=255)
    elif kind == 1:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 12))))
        reach = rng.uniform(0.3, 1.0, angles.size)
        x = scale * width / 2 * (1 + reach * np.cos(angles))
        y = scale * height / 2 * (1 + reach * np.sin(angles))
        draw.polygon(list(zip(x.tolist(), y.tolist(), strict=True)), fill=255)
    else:
        for _ in range(int(rng.integers(1, 7))):
            ends = rng.uniform(0, 1, 4) * (scale * width, scale * height, scale * width, scale * height)
            draw.line(ends.tolist(), fill=255, width=int(rng.integers(scale, 6 * scale)))
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX), np.float32) / np.float32(255)
