"""Scenes of the test split as pictures on one sheet: to look at what the numbers say."""

from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter

from deeplens.demo import sheet
from evaluation.evaluate import BILINEAR, Job, pictures
from evaluation.metrics import depth_edge_band
from runtimes.harness import Harness
from training.scenes import PhotoConfig, Scene, test_scenes

CELL = 320
"""Side of a picture on the sheet, in pixels."""

CROP = 1 / 8
"""Side of a crop, as a share of the picture's."""

GAIN = 4
"""By how much errors are brightened."""

MIN_APERTURE = 0.5
"""Scenes with less blur, or without depth edges, are passed over: they show little."""

SEARCHED = 50
"""Scenes that are made at most to find those."""


def contact_sheet(job: Job, *, config: PhotoConfig, scenes: int = 5) -> np.ndarray:
    """The first `scenes` of the split that show something, two rows each, with true depth: H×W×3, uint8.

    Photo, truth, method, own low-resolution blur upsampled bilinearly, and the error of both; below, the same cut out
    around the depth edge where photo and truth differ most, which does not look at the method.
    """
    rows: list[list[tuple[str, np.ndarray]]] = []
    with job.open() as runtime:
        harness = Harness(runtime)
        for number, scene in _telling(job, config, scenes):
            found = pictures(harness, scene, variant=job.variant)
            truth = np.rint(scene.target * 255).astype(np.uint8)
            method, bilinear = found[job.variant, "true"], found[BILINEAR, "true"]
            cells = [
                (f"scene {number}: photo", scene.picture),
                (f"truth, aperture {scene.aperture:.2f}", truth),
                (job.variant, method),
                ("low-resolution blur, bilinear", bilinear),
                (f"error of {job.variant}, times {GAIN}", _error(method, truth)),
                (f"error of bilinear, times {GAIN}", _error(bilinear, truth)),
            ]
            rows.append([(text, _resized(picture, Image.Resampling.LANCZOS)) for text, picture in cells])
            window = crop_window(scene)
            rows.append([("", _resized(picture[window], Image.Resampling.NEAREST)) for _, picture in cells])
    return sheet(rows)


def crop_window(scene: Scene) -> tuple[slice, slice]:
    """A window of `CROP`, inside the picture, around the depth edge where photo and truth differ most."""
    size = scene.picture.shape[0]
    side = max(8, round(CROP * size))
    change = np.abs(scene.picture / 255.0 - scene.target).mean(axis=2)
    nearby = uniform_filter(change, side, mode="constant")
    nearby[~depth_edge_band(scene.disparity, 0)] = -1.0
    centre = np.unravel_index(int(nearby.argmax()), nearby.shape)
    top, left = (min(max(0, int(at) - side // 2), size - side) for at in centre)
    return slice(top, top + side), slice(left, left + side)


def _telling(job: Job, config: PhotoConfig, count: int) -> Iterator[tuple[int, Scene]]:
    """Number and scene of the first `count` with enough blur and a depth edge."""
    for number, scene in enumerate(test_scenes(job.sources, count=SEARCHED, config=config)):
        if count and scene.aperture >= MIN_APERTURE and depth_edge_band(scene.disparity, 0).any():
            count -= 1
            yield number, scene
        if not count:
            return


def _error(picture: np.ndarray, truth: np.ndarray) -> np.ndarray:
    difference = np.abs(picture.astype(np.int16) - truth.astype(np.int16))
    return np.clip(GAIN * difference, 0, 255).astype(np.uint8)


def _resized(picture: np.ndarray, filter_: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((CELL, CELL), filter_))
