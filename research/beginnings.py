"""Where the loop should begin: the lens blur at level 1 against the base and one step, by how far blur reaches.

$ python -m deeplens.research.beginnings [--scenes 40] [--data data]

Scenes of the synthetic test split with one ×2 step and an aperture of 0.7 or more, in which the loop begins at the
base. Pixels are parted by the reach of all blur around them (`runtimes.sharp.reach`), in pixels of level 1. Prints the
PSNR of both beginnings in each part, against the exact picture.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from deeplens.console.report import console_for, table
from deeplens.console.script import run_script
from deeplens.model.contract import FINER_BASE, R_MAX
from deeplens.runtimes.contract import Runtime
from deeplens.runtimes.depth_levels import signed_depth_levels
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.pyramid import geometry, read_picture, registered_disparity
from deeplens.runtimes.pytorch import TorchRuntime
from deeplens.runtimes.sharp import enlarged, reach
from deeplens.scenes.planes import TEST_CONFIG, Scene, test_scenes
from deeplens.scenes.renderer import Array
from deeplens.scenes.sources import shipped

BOUNDS = (0, 0.01, 0.5, 1, 2, 4, 8, 12.8, 16, np.inf)
LEAST_APERTURE = 0.7


def both(scene: Scene, disparity: Array, runtime: Runtime) -> tuple[Array, Array, Array]:
    """The picture that begins at the base, the one of a lens blur at level 1, and the reach of blur in pixels.

    (H, W, 3), (H, W, 3) and (H, W), float32.
    """
    pixels, levels, seen = scene.picture, geometry(*scene.picture.shape[:2]), list[Array]()
    Harness(runtime, tile=None).refocus(
        pixels,
        disparity,
        focal_disparity=scene.focal,
        aperture=scene.aperture,
        observe=lambda _level, _network, arrays: seen.append(list(arrays.values())[-1]),
    )
    whole = [slice(0, side) for side in levels.padded(1)]
    depths = signed_depth_levels(
        registered_disparity(disparity, levels),
        levels,
        focal_disparity=scene.focal,
        aperture=scene.aperture,
        by_level=True,
    )
    inputs = {"picture": read_picture(pixels, *whole), "signed_depth": depths[1]}
    session = runtime.open("lens_blur")
    finer = session.run(inputs)[session.describe().outputs[0].name]
    height, width = pixels.shape[:2]
    base, finer = (np.clip(each[0, :, :height, :width].transpose(1, 2, 0), 0, 1) for each in (seen[-1], finer))
    reached = 2 * enlarged(reach(np.abs(depths[0][0, 0]) * np.float32(R_MAX)), 2, *whole)[:height, :width]
    return base, finer, reached


def begins_at_the_base(scene: Scene) -> bool:
    """Whether the aperture is wide, and nothing of the loop of this scene begins at level 1."""
    levels = geometry(*scene.picture.shape[:2])
    signed = signed_depth_levels(
        registered_disparity(scene.disparity, levels), levels, focal_disparity=scene.focal, aperture=scene.aperture
    )
    return scene.aperture >= LEAST_APERTURE and float(np.abs(signed[0]).max()) > FINER_BASE[1]


def rows_of(scenes: Iterator[Scene], runtime: Runtime) -> list[list[str]]:
    """For true and corrupted depth, a row for each part of the pixels: share, PSNR of both beginnings."""
    parts = len(BOUNDS) - 1
    sums = {"true": np.zeros((3, parts)), "corrupted": np.zeros((3, parts))}
    for scene in filter(begins_at_the_base, scenes):
        for name, disparity in {"true": scene.disparity, "corrupted": scene.corrupted}.items():
            base, finer, reached = both(scene, disparity, runtime)
            part = (np.digitize(reached, BOUNDS) - 1).ravel()
            errors = (np.square(each - scene.target).mean(-1).ravel() for each in (base, finer))
            sums[name] += [np.bincount(part, each, parts) for each in (np.ones_like(reached).ravel(), *errors)]
    rows = []
    for name, found in sums.items():
        labels = [f"{low:g} – {high:g} px" for low, high in pairwise(BOUNDS)]
        for label, (count, *total) in [*zip(labels, found.T, strict=True), ("all", found.sum(1))]:
            if count:
                psnr = [f"{-10 * np.log10(max(error / count, 1e-12)):.2f}" for error in total]
                rows.append([f"{name}, {label}", f"{100 * count / found[0].sum():.1f}", *psnr])
    return rows


def main(
    scenes: Annotated[int, typer.Option(min=1, help="Scenes of the test split to look at.")] = 40,
    data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data"),
) -> None:
    """Compare a lens blur at level 1 with one at the base and a step, by how far blur reaches."""
    found = test_scenes(shipped("test", data), start=0, count=scenes, config=TEST_CONFIG)
    headers = ["depth, reach of blur", "% of the pixels", "dB from the base", "dB of level 1"]
    console_for(None).print(table("Where the loop begins", headers, rows_of(iter(found), TorchRuntime(variant="edge"))))


if __name__ == "__main__":
    run_script(main)
