"""Real photos with measured depth, and their shallow depth of field by the exact renderer. Evaluation only.

$ python -m deeplens.evaluation.rgbd [--data data]      writes data/rgbd/scenes/PHOTO/FOCUS-APERTURE.npz

Two pictures that public packages hold (`sources.tsv`, kind rgbd): Motorcycle of the Middlebury 2014 stereo set, and an
iPhone photo of a dog with the disparity map that the phone stored in it; reading that one needs pillow-heif.

What lies behind a foreground is not in a photo, so that no picture of it is the truth; this is the closest to it. The
disparity is cut into `LAYERS` planes that face the camera. Each continues behind nearer ones by the nearest of its own
colours, as far as their blur can uncover it. The rest is `scenes.renderer.render_exact`, done faster.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt, grey_dilation, grey_erosion, maximum_filter

from deeplens.console.errors import MissingError
from deeplens.console.script import run_script
from deeplens.runtimes.disparity import focal_disparity_at, normalise_disparity
from deeplens.runtimes.photo import read_photo, to_8_bit
from deeplens.runtimes.portrait import embedded_map
from deeplens.scenes.planes import TEST_CONFIG, Scene
from deeplens.scenes.renderer import Array, Plane, disc_points, linear_to_srgb, srgb_to_linear
from deeplens.scenes.stream import load_scene, save_scene

LAYERS = 48
"""Planes that the disparities from 0 to 1 are cut into: their radii are at most a third of a pixel apart."""

POINTS = 512
"""Points of the aperture."""

APERTURES = (1.0, 0.5)

RIM = 1
"""Pixels this near to a nearer object may hold some of its colour: what continues behind it starts past them."""

TILE = 128
"""Planes are shifted in squares of this many pixels: many show in few of them, and all that is at work stays small."""

CORRUPTION = 4
"""The corrupted disparity is dilated or eroded by 1 to this many pixels, as in the synthetic scenes of this size."""

SEED = 2018


@dataclass(frozen=True)
class Picture:
    """A photo with depth.

    Attributes:
        name: of its scenes.
        files: in the folder, as `sources.tsv` names them.
        read: those files → (H, W, 3) uint8 sRGB and (h, w) disparity in any unit, near = large, NaN or ±inf where it
            is not known.
        focus: name → point (x, y), in 0..1 from the top left, of what is in focus.
    """

    name: str
    files: tuple[str, ...]
    read: Callable[..., tuple[NDArray[np.uint8], Array]]
    focus: dict[str, tuple[float, float]]


def read_motorcycle(photo: Path, disparity: Path) -> tuple[NDArray[np.uint8], Array]:
    """Motorcycle's left picture and its disparity, inf where it was not measured."""
    with np.load(disparity) as stored:
        return read_photo(photo).pixels, stored["arr_0"]


def read_portrait(path: Path) -> tuple[NDArray[np.uint8], Array]:
    """A phone's photo and the disparity stored in it. InputError: it has none; MissingError: no pillow-heif."""
    return to_8_bit(read_photo(path).pixels), embedded_map(path)


PICTURES = (
    Picture(
        "motorcycle",
        ("motorcycle_left.png", "motorcycle_disp.npz"),
        read_motorcycle,
        {"wall": (0.30, 0.15), "shelf": (0.80, 0.15), "engine": (0.50, 0.66)},
    ),
    Picture("pug", ("pug.heic",), read_portrait, {"wall": (0.60, 0.20), "face": (0.62, 0.60), "bed": (0.97, 0.75)}),
)


def fill_from_behind(disparity: Array) -> Array:
    """Values that are not finite become the farther of the nearest known ones to the left and the right (h, w).

    What a stereo pair could not measure mostly lies beside a foreground, on what is behind it. A row that knows nothing
    repeats the nearest one that does.
    """
    known = np.isfinite(disparity)
    filled = np.where(known, disparity, np.float32(np.inf))
    for row, found in zip(filled, known, strict=True):
        at = np.flatnonzero(found)
        if not at.size:
            continue
        column = np.arange(row.size)
        after = np.minimum(np.searchsorted(at, column), at.size - 1)
        before = np.maximum(np.searchsorted(at, column, side="right") - 1, 0)
        row[:] = np.minimum(row[at[before]], row[at[after]])
    rows = np.flatnonzero(known.any(1))
    nearest = rows[np.abs(np.arange(len(filled))[:, None] - rows).argmin(1)]
    return filled[nearest]


def layers(light: Array, disparity: Array, *, focal: float, radius: float, parts: int = LAYERS) -> list[Plane]:
    """A picture with depth as planes that face the camera, from back to front.

    Args:
        light: (H, W, 3) linear light.
        disparity: (H, W) in [0, 1].
        focal: disparity of the focal plane.
        radius: pixels of radius for a difference of disparity of 1.
        parts: how many equal parts [0, 1] is cut into; those without a pixel are left out.

    Each has the mean disparity of its pixels, or the focal one where its disc is less than half a pixel in radius: that
    is a single pixel, as for `scenes.renderer.disc`. Composited in focus they are the picture.
    """
    index = np.minimum((disparity * parts).astype(int), parts - 1)
    rim = maximum_filter(index, 2 * RIM + 1) > index + 2  # beside a nearer object, and perhaps of mixed colours
    planes = []
    for layer in np.unique(index):
        own = index == layer
        value = float(disparity[own].mean())
        distance, nearest = distance_transform_edt(~own, return_indices=True)
        behind = (index > layer) & (distance <= radius * (disparity - value) + 3)
        if (clean := own & ~rim).any():
            clean_distance, nearest_clean = distance_transform_edt(~clean, return_indices=True)
            nearest = np.where(clean_distance <= distance + 2 * RIM, nearest_clean, nearest)
        coverage = (own | behind).astype(np.float32)
        colour = np.where(own[..., None], light, light[tuple(nearest)])
        in_focus = radius * abs(value - focal) < 0.5
        planes.append(Plane(colour * coverage[..., None], coverage, (focal if in_focus else value, 0.0, 0.0)))
    return planes


def render_facing(planes: Sequence[Plane], *, focal: float, radius: float, margin: int, points: int = POINTS) -> Array:
    """What `render_exact` gives without its outermost `margin` pixels, for planes that face the camera, sooner: each
    shifts as a whole, and where it does not show it is left out.

    Args:
        planes: from back to front, (H + 2·margin, W + 2·margin), without slopes.
        margin: at least the largest shift + 2 pixels.

    Returns:
        (H, W, 3) linear light.
    """
    stack = [
        torch.from_numpy(np.concatenate((plane.light, plane.coverage[..., None]), 2)).permute(2, 0, 1)
        for plane in planes
    ]
    shifts = [radius * (plane.disparity[0] - focal) for plane in planes]
    height, width = (side - 2 * margin for side in planes[0].coverage.shape)
    result = torch.zeros(3, height, width, dtype=torch.float64)
    for top, left in product(range(0, height, TILE), range(0, width, TILE)):
        rows, columns = min(TILE, height - top), min(TILE, width - left)
        shown = [
            (pixels, shift)
            for pixels, shift in zip(stack, shifts, strict=True)
            if pixels[3, top : top + rows + 2 * margin, left : left + columns + 2 * margin].any()
        ]
        total = result[:, top : top + rows, left : left + columns]
        for y, x in disc_points(points):
            light = torch.zeros(3, rows, columns)
            for pixels, shift in shown:
                # Bilinear: the whole part of the shift moves the window, the rest mixes neighbours.
                (down, below), (right, beside) = (divmod(margin - shift * along, 1) for along in (y, x))
                corner = top + int(down), left + int(right)
                window = pixels[:, corner[0] : corner[0] + rows + 1, corner[1] : corner[1] + columns + 1]
                between = torch.lerp(window[:, :-1], window[:, 1:], below)
                moved = torch.lerp(between[..., :-1], between[..., 1:], beside)
                light = torch.addcmul(light + moved[:3], light, moved[3:], value=-1)
            total += light
    return (result / points).permute(1, 2, 0).to(torch.float32).numpy()


def make_scene(
    picture: NDArray[np.uint8],
    disparity: Array,
    *,
    focal: float,
    aperture: float,
    radius: float,
    seed: int,
    points: int = POINTS,
) -> Scene:
    """The scene of a photo with depth.

    Args:
        picture: (H + 2m, W + 2m, 3), m = `margin(radius)`: the border is only there to be blurred into the scene.
        disparity: (H + 2m, W + 2m) in [0, 1].
        radius: pixels of radius for a difference of disparity of 1 at aperture 1.
        seed: of the corruption.

    Returns:
        fields of H × W pixels.
    """
    light = srgb_to_linear(picture.astype(np.float32) / np.float32(255))
    border = margin(radius)
    inner = slice(border, -border), slice(border, -border)
    planes = layers(light, disparity, focal=focal, radius=radius * aperture)
    target = render_facing(planes, focal=focal, radius=radius * aperture, margin=border, points=points)
    rng = np.random.default_rng(seed)
    corrupt = (grey_dilation, grey_erosion)[rng.integers(2)]
    side = 2 * int(rng.integers(1, CORRUPTION + 1)) + 1
    return Scene(
        picture=picture[inner],
        target=linear_to_srgb(target),
        disparity=disparity[inner],
        corrupted=corrupt(disparity, size=(side, side))[inner],
        focal=focal,
        aperture=aperture,
    )


def margin(radius: float) -> int:
    """Pixels around a scene that its blur may reach."""
    return int(np.ceil(radius)) + 2


def resized(pixels: NDArray[np.uint8], disparity: Array, long_side: int) -> tuple[NDArray[np.uint8], Array]:
    """A photo and its map with `long_side` pixels on the long side; the map by the nearest value: no depth between."""
    scale = long_side / max(pixels.shape[:2])
    size = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
    smaller = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(smaller), np.asarray(Image.fromarray(disparity).resize(size, Image.Resampling.NEAREST))


def planned_scenes(root: Path) -> Iterator[tuple[str, Callable[[], Scene]]]:
    """Name of each scene of the pictures that were fetched to `root`, and what renders it: minutes each.

    Raises:
        MissingError: a picture was not fetched, or pillow-heif is not installed.
    """
    radius, seeds = TEST_CONFIG.radius, count(SEED)
    for picture in PICTURES:
        paths = [root / file for file in picture.files]
        for path in paths:
            if not path.is_file():
                raise MissingError(
                    f"{path} does not exist: run `make data` (python -m deeplens.scenes.fetch --only rgbd)"
                )
        pixels, measured = picture.read(*paths)
        known = normalise_disparity(fill_from_behind(measured))
        pixels, disparity = resized(pixels, known, TEST_CONFIG.size + 2 * margin(radius))
        for place, (x, y) in picture.focus.items():
            focal = focal_disparity_at(disparity, x, y)
            for aperture in APERTURES:
                seed = next(seeds)
                yield (
                    f"{picture.name}/{place}-{aperture:g}",
                    partial(make_scene, pixels, disparity, focal=focal, aperture=aperture, radius=radius, seed=seed),
                )


def rgbd_scenes(root: Path) -> Iterator[tuple[str, Scene]]:
    """Name and scene, in order of the names, as `python -m deeplens.evaluation.rgbd` left them under the folder `root`.

    A name is PHOTO/FOCUS-APERTURE. 640 px on the long side; target and disparities rounded to 16 bits. Raises
    MissingError if there is none.
    """
    paths = sorted((root / "scenes").glob("*/*.npz"))
    if not paths:
        raise MissingError(
            f"{root / 'scenes'} has no scenes: run `make data`, then `python -m deeplens.evaluation.rgbd`"
        )
    for path in paths:
        yield f"{path.parent.name}/{path.stem}", load_scene(path)


def main(data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data")) -> None:
    """Render the scenes of the real photos with depth, minutes each; those that are there are kept."""
    for name, render in planned_scenes(data / "rgbd"):
        path = data / "rgbd" / "scenes" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            save_scene(path, render())
            typer.echo(path)


if __name__ == "__main__":
    run_script(main)
