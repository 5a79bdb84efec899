"""What a depth network scores on the three planes that finds every outline and the order, but no number.

$ python -m deeplens.research.exact_order --scenes 60

The disparities of the three planes are drawn by chance (`scenes.planes`), and nothing in the photo shows them. The best
that can be known of a photo is which plane a pixel belongs to, and which plane is nearer. The map `order` has that
without any error, and for each plane the mean of what is drawn. So the set's PSNR with predicted depth has an upper end
well below that of the true map. The answer: docs/results.md.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from deeplens.console.report import console_for, table
from deeplens.console.script import run_script
from deeplens.evaluation.evaluate import CLICK
from deeplens.evaluation.metrics import depth_edge_band, psnr
from deeplens.evaluation.sets import blur_radius
from deeplens.evaluation.summary import estimate
from deeplens.runtimes import open_runtime
from deeplens.runtimes.disparity import normalise_disparity
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.options import Artifacts, Runtime, Variant, Weights, weights_from
from deeplens.scenes.planes import TEST_SEED, Scene, test_scenes
from deeplens.scenes.renderer import Array
from deeplens.scenes.sources import shipped
from deeplens.scenes.stream import refocused

LOWEST, HIGHEST = 0.05, 1.0
"""The foregrounds' disparities are two uniform draws from here to there, the larger one in front."""

MIDDLE, FRONT = LOWEST + (HIGHEST - LOWEST) / 3, LOWEST + 2 * (HIGHEST - LOWEST) / 3
"""The means of the smaller and of the larger draw."""

BACKGROUND = 3 / 16 * MIDDLE
"""The background's mean: in half of the scenes 0, in the others the middle of a ramp from l to h.

h is uniform below the middle plane's disparity, and l below h: 1/2 · 3/4 · 1/2 of the middle plane's mean.
"""

WITHIN = 1e-6


def planes_of(disparity: Array, *, seed: int, index: int) -> np.ndarray:
    """Which plane each pixel of scene `index` shows: 0 the background, 1 the middle one, 2 the front.

    Args:
        disparity: the scene's true one (H, W), with which the planes' own, the first draws of the scene's generator,
            are compared.
    """
    middle, front = np.sort(np.random.default_rng([seed, index]).uniform(LOWEST, HIGHEST, 2))
    found = np.zeros(disparity.shape, np.int64)
    for number, own in ((1, middle), (2, front)):
        found[np.abs(disparity - np.float32(own)) < WITHIN] = number
    return found


def maps_of(scene: Scene, *, seed: int, index: int) -> dict[str, Array]:
    """What each row of the table gives the harness: disparities (H, W) in [0, 1]."""
    order = np.array([BACKGROUND, MIDDLE, FRONT], np.float32)[planes_of(scene.disparity, seed=seed, index=index)]
    return {
        "true": scene.disparity,
        "relative: the true map, stretched to [0, 1]": normalise_disparity(scene.disparity),
        "order, with the planes' mean disparities": order,
        "order, the same stretched to [0, 1]": normalise_disparity(order),
    }


Scores = dict[str, list[tuple[float, float]]]
"""Row → for each scene PSNR over the picture and at its depth edges."""


def scored(harness: Harness, scenes: Iterator[Scene], *, seed: int) -> Scores:
    """The pictures of a row of scenes, from index 0 on, with each map; the focal plane is set as by a click."""
    found: Scores = {}
    for index, scene in enumerate(scenes):
        band = depth_edge_band(scene.disparity, blur_radius(scene))
        for name, disparity in maps_of(scene, seed=seed, index=index).items():
            focal = refocused(scene.disparity, disparity, focal=scene.focal, within=CLICK)
            if name == "true":
                focal = scene.focal
            pixels = harness.refocus(scene.picture, disparity, focal_disparity=focal, aperture=scene.aperture)
            picture = pixels.astype(np.float32) / np.float32(255)
            both = psnr(picture, scene.target), psnr(picture, scene.target, mask=band)
            found.setdefault(name, []).append(both)
    return found


def main(
    scenes: Annotated[int, typer.Option(min=1, help="How many of the test split, the first ones.")] = 60,
    data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data"),
    variant: Variant = "edge",
    runtime: Runtime = "torch",
    artifacts: Artifacts = None,
    weights: Weights = "shipped",
) -> None:
    """PSNR on three planes with maps that know the order exactly, and nothing more."""
    sources = shipped("test", data)
    opened = open_runtime(runtime, variant=variant, artifacts=artifacts, weights=weights_from(weights), threads=1)
    with opened:
        found = scored(Harness(opened), test_scenes(sources, count=scenes), seed=TEST_SEED)
    rows = [
        (name, str(len(pairs)), *(estimate(pair[which] for pair in pairs).text(2) for which in (0, 1)))
        for name, pairs in found.items()
    ]
    console_for(None).print(table("Exact order", ("depth", "pictures", "PSNR, dB", "PSNR at edges, dB"), rows))


if __name__ == "__main__":
    run_script(main)
