"""Maps that know the order of three planes and nothing else."""

from pathlib import Path

import numpy as np
import pytest

from deeplens.research.exact_order import BACKGROUND, FRONT, MIDDLE, maps_of, planes_of, scored
from deeplens.runtimes import open_runtime
from deeplens.runtimes.harness import Harness
from deeplens.scenes.planes import PhotoConfig, make_scene
from tests.support.tiny import make_sources

SMALL = PhotoConfig(size=64, steps=1, cutout_only=True)


def test_means_are_those_of_the_draws() -> None:
    rng = np.random.default_rng(0)
    middle, front = np.sort(rng.uniform(0.05, 1.0, (200_000, 2)), axis=1).T
    high = rng.uniform(0, middle)
    background = np.where(rng.random(high.size) < 0.5, 0, (high + rng.uniform(0, high)) / 2)
    for drawn, mean in ((middle, MIDDLE), (front, FRONT), (background, BACKGROUND)):
        assert drawn.mean() == pytest.approx(mean, abs=2e-3)


def test_planes_are_told_apart(tmp_path: Path) -> None:
    """Where the front plane is, nothing is nearer, and its disparity is one number; the background is what is left."""
    sources = make_sources(tmp_path)
    shown = 0
    for index in range(12):
        disparity = make_scene(sources, seed=5, index=index, config=SMALL).disparity
        planes = planes_of(disparity, seed=5, index=index)
        for number in (1, 2):
            if (planes == number).any():
                assert np.ptp(disparity[planes == number]) < 1e-6
                assert disparity[planes < number].max(initial=0) < disparity[planes == number].min()
                shown += 1
        other = planes_of(disparity, seed=5, index=index + 1)
        assert not other.any(), "the draws of another scene are found in this one"
    assert shown > 12


def test_order_keeps_the_order_and_loses_the_numbers(tmp_path: Path) -> None:
    sources = make_sources(tmp_path)
    with open_runtime("torch", variant="edge", weights="shipped", threads=1) as runtime:
        scenes = [make_scene(sources, seed=5, index=index, config=SMALL) for index in range(6)]
        found = scored(Harness(runtime), iter(scenes), seed=5)
    true, relative, order, stretched = (np.array(pairs)[:, 0].mean() for pairs in found.values())
    assert true > max(relative, order, stretched)
    maps = maps_of(scenes[0], seed=5, index=0)
    assert list(maps) == list(found)
    flat = [values.ravel()[np.argsort(scenes[0].disparity, axis=None)] for values in maps.values()]
    assert all((np.diff(values) >= 0).all() for values in flat), "what is nearer is not nearer in a map"
    for values in maps.values():
        assert values.dtype == np.float32
        assert 0 <= values.min() <= values.max() <= 1
