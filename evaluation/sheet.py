"""Scenes of a set as pictures on one sheet: to look at what the numbers say."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter

from deeplens.evaluation.baselines import BLURS
from deeplens.evaluation.contact_sheet import sheet
from deeplens.evaluation.evaluate import DIRECT, Contest, Job, own_base
from deeplens.evaluation.metrics import depth_edge_band
from deeplens.evaluation.sets import PictureSet
from deeplens.scenes.planes import Scene

CELL = 320
"""Long side of a picture on the sheet, in pixels."""

CROP = 1 / 8
"""Side of a crop, as a share of the picture's long side."""

GAIN = 4
"""By how much errors are brightened."""

MIN_APERTURE = 0.5
"""Scenes with less blur, or without depth edges, are passed over: they show little."""


def contact_sheet(job: Job, pictures: PictureSet, *, scenes: int = 6, kind: str = "true") -> np.ndarray:
    """`scenes` of the set that show something, from all over it, two rows each: H×W×3, uint8.

    Photo, truth, every method with one kind of depth, and the first variant's error; below, the same cut out around the
    depth edge where photo and truth differ most, which does not look at any method.
    """
    rows: list[list[tuple[str, np.ndarray]]] = []
    contest = Contest(job)
    for name, scene in _telling(pictures, scenes):
        found = contest.pictures(scene)
        truth = np.rint(scene.target * 255).astype(np.uint8)
        names = [*job.variants, *BLURS, DIRECT, own_base(job.variants[0], "bilinear")]
        cells = [
            (f"{name}: photo", scene.picture),
            (f"truth, aperture {scene.aperture:.2f}", truth),
            *((each, found[each, kind]) for each in names if (each, kind) in found),
            (f"error of {job.variants[0]}, times {GAIN}", _error(found[job.variants[0], kind], truth)),
        ]
        rows.append([(text, _resized(picture, Image.Resampling.LANCZOS)) for text, picture in cells])
        window = crop_window(scene)
        rows.append([("", _resized(picture[window], Image.Resampling.NEAREST)) for _, picture in cells])
    return sheet(rows)


def crop_window(scene: Scene) -> tuple[slice, slice]:
    """A square of `CROP`, inside the picture, around the depth edge where photo and truth differ most."""
    shape = scene.picture.shape[:2]
    side = max(8, round(CROP * max(shape)))
    change = np.abs(scene.picture / 255.0 - scene.target).mean(axis=2)
    nearby = uniform_filter(change, side, mode="constant")
    nearby[~depth_edge_band(scene.disparity, 0)] = -1.0
    centre = np.unravel_index(int(nearby.argmax()), shape)
    top, left = (min(max(0, int(at) - side // 2), size - side) for at, size in zip(centre, shape, strict=True))
    return slice(top, top + side), slice(left, left + side)


def _telling(pictures: PictureSet, count: int) -> Iterator[tuple[str, Scene]]:
    """Name and scene of up to `count` with enough blur and a depth edge, the first of each stretch of the set.

    A set without any shows its first scene.
    """
    stretch = max(1, pictures.count // count)
    due, wanted = 0, count
    for index, (name, scene) in enumerate(pictures.part(0, 1)):
        if index >= due and scene.aperture >= MIN_APERTURE and depth_edge_band(scene.disparity, 0).any():
            count, due = count - 1, (index // stretch + 1) * stretch
            yield name, scene
        if not count:
            return
    if count == wanted:
        yield from islice(pictures.part(0, 1), 1)


def _error(picture: np.ndarray, truth: np.ndarray) -> np.ndarray:
    difference = np.abs(picture.astype(np.int16) - truth.astype(np.int16))
    return np.clip(GAIN * difference, 0, 255).astype(np.uint8)


def _resized(picture: np.ndarray, filter_: Image.Resampling) -> np.ndarray:
    scale = CELL / max(picture.shape[:2])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    return np.asarray(Image.fromarray(picture).resize(size, filter_))
