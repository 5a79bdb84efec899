"""Does it help the picture to fit a low-resolution disparity to the photo's edges first? The answer: docs/depth.md.

$ python -m deeplens.research.refinement --lens data/lens --lens samples/lens

Two disparities of the depth network's size, 320×320, that are off in the way such maps are: `predicted` by it, and
`corrupted`, foregrounds grown or shrunk. Each goes to the harness as it is, and upsampled to twice the base by the
photo with the filters of `evaluation.baselines.upsampling`. Compared is the picture, on scenes of the lens set.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from deeplens.console.report import console_for, table
from deeplens.console.script import run_script
from deeplens.evaluation.baselines.upsampling import guided_filter, joint_bilateral
from deeplens.evaluation.evaluate import CLICK
from deeplens.evaluation.lens_truth import lens_truth
from deeplens.evaluation.metrics import depth_edge_band, psnr
from deeplens.evaluation.sets import blur_radius, setting
from deeplens.evaluation.summary import Estimate, estimate
from deeplens.model.contract import BASE_LONG_SIDE, DEPTH_SIZE
from deeplens.runtimes import open_runtime
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.options import Artifacts, Runtime, Variant, Weights, weights_from
from deeplens.scenes.planes import Scene
from deeplens.scenes.renderer import Array
from deeplens.scenes.stream import refocused

Filter = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

Scores = tuple[str, float, float]
"""Name of a scene, PSNR of the whole picture, and at its depth edges."""

FILTERS: dict[str, Filter | None] = {
    "as it is": None,
    "guided filter, 9 px": partial(guided_filter, radius=4, epsilon=1e-3),
    "guided filter, 17 px": partial(guided_filter, radius=8, epsilon=1e-3),
    "joint bilateral": partial(joint_bilateral, sigma_space=1.0, sigma_range=0.05),
}
"""Name → what brings a map from the base's size to twice that; widths in pixels of the base."""


def refined(square: Array, photo: NDArray[np.uint8], filter_: Filter | None) -> Array:
    """A disparity (320, 320) in [0, 1] as the harness gets it.

    Args:
        photo: (H, W, 3), uint8.
    """
    if filter_ is None:
        return square
    height, width = photo.shape[:2]
    scale = BASE_LONG_SIDE / max(height, width)
    low = max(1, round(height * scale)), max(1, round(width * scale))
    disparity = _resized(square, low, Image.Resampling.BILINEAR)[None, None]
    pictures = [
        _resized(photo, (factor * low[0], factor * low[1]), Image.Resampling.BOX).transpose(2, 0, 1)[None]
        .astype(np.float32) / np.float32(255)
        for factor in (2, 1)
    ]  # fmt: skip
    return np.clip(filter_(disparity, *pictures)[0, 0], 0.0, 1.0)


def gains(harness: Harness, scenes: Iterator[tuple[str, Scene]]) -> dict[tuple[str, str], list[Scores]]:
    """(kind of depth, filter) → for each scene its name, and PSNR over the picture and at its depth edges."""
    found: dict[tuple[str, str], list[Scores]] = {}
    for name, scene in scenes:
        size = (DEPTH_SIZE, DEPTH_SIZE)
        band = depth_edge_band(scene.disparity, blur_radius(scene))
        kinds = {
            "predicted": harness.disparity(scene.picture),
            "corrupted": np.clip(_resized(scene.corrupted, size, Image.Resampling.BILINEAR), 0, 1),
        }
        for kind, square in kinds.items():
            for title, filter_ in FILTERS.items():
                disparity = refined(square, scene.picture, filter_)
                shown = _resized(disparity, scene.disparity.shape, Image.Resampling.BILINEAR)
                focal = min(1.0, max(0.0, refocused(scene.disparity, shown, focal=scene.focal, within=CLICK)))
                pixels = harness.refocus(
                    scene.picture, disparity, focal_disparity=focal, aperture=scene.aperture
                ).astype(np.float32) / np.float32(255)
                both = psnr(pixels, scene.target), psnr(pixels, scene.target, mask=band)
                found.setdefault((kind, title), []).append((name, *both))
    return found


def gained(scores: list[Scores], before: list[Scores], which: int) -> Estimate:
    """By how much scores (1: whole, 2: edges) are better, over settings, pictures of one setting averaged first."""
    settings: dict[str, list[float]] = {}
    for after, at_first in zip(scores, before, strict=True):
        settings.setdefault(setting(after[0]), []).append(_number(after, which) - _number(at_first, which))
    return estimate(sum(values) / len(values) for values in settings.values())


def _number(scores: Scores, which: int) -> float:
    return (scores[1], scores[2])[which - 1]


def _resized(values: NDArray, size: tuple[int, ...], filter_: Image.Resampling) -> NDArray:
    return np.asarray(Image.fromarray(values).resize((size[1], size[0]), filter_))


def main(
    lens: Annotated[list[Path], typer.Option(help="Folder of the lens set; may be repeated.")],
    variant: Variant = "edge",
    runtime: Runtime = "torch",
    artifacts: Artifacts = None,
    weights: Weights = "shipped",
) -> None:
    """PSNR with refined disparity against the same as it is, at the full aperture."""
    opened = open_runtime(runtime, variant=variant, artifacts=artifacts, weights=weights_from(weights), threads=1)
    scenes = ((name, scene) for name, scene in chain(*map(lens_truth, lens)) if scene.aperture == 1.0)
    with opened:
        found = gains(Harness(opened), scenes)
    rows = []
    for (kind, title), scores in found.items():
        before = found[kind, next(iter(FILTERS))]
        whole, edges = (gained(scores, before, which).text(2, signed=True) for which in (1, 2))
        rows.append((kind, title, len(scores), f"{sum(each[1] for each in scores) / len(scores):.2f}", whole, edges))
    headers = ("depth", "refined by", "pictures", "PSNR, dB", "gain, dB", "gain at edges, dB")
    console_for(None).print(table("Refined disparity", headers, rows))


if __name__ == "__main__":
    run_script(main)
