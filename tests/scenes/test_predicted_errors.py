"""Depth with a network's errors: thin parts go, outlines wander by no more than is said, edges get soft."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deeplens.scenes.predicted_errors import SOFT, THIN, WANDER, like_predicted

SIDE, PIXEL = 96, 2


def scene() -> NDArray[np.float32]:
    """A block and a wire of one pixel of the base on an even background."""
    disparity = np.full((SIDE, SIDE), 0.2, np.float32)
    disparity[30:70, 30:70] = 0.8
    disparity[:, 10 : 10 + PIXEL] = 0.9
    return disparity


def made(count: int = 200) -> list[NDArray[np.float32]]:
    return [like_predicted(scene(), np.random.default_rng(seed), pixel=PIXEL) for seed in range(count)]


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_nothing_is_nearer_or_farther_than_it_was(seed: int) -> None:
    before = scene()
    after = like_predicted(before, np.random.default_rng(seed), pixel=PIXEL)
    assert after.shape == before.shape
    assert after.dtype == np.float32
    assert after.min() >= before.min() - 1e-6
    assert after.max() <= before.max() + 1e-6
    assert np.array_equal(before, scene())


def test_half_of_the_maps_lose_the_wire_and_none_the_block() -> None:
    maps = made()
    lost = [bool(each[:, 5:20].max() < 0.4) for each in maps]
    assert np.mean(lost) == pytest.approx(0.5, abs=0.2)
    assert all(each[45:55, 45:55].mean() > 0.6 for each in maps)
    assert THIN * PIXEL < 40


def test_outlines_wander_as_far_as_is_said() -> None:
    """The 50 % crossing of the block's edge in its middle rows: some lie a pixel of the base off, none four times that.

    Four standard deviations and the softest edge's own asymmetry are the bound.
    """
    columns = np.arange(50)
    crossings = []
    for each in made():
        row = each[50, :50].copy()
        row[:15] = row[20]
        crossings.append(float(np.interp(0.5, np.maximum.accumulate(row), columns)))
    off = np.abs(np.array(crossings) - 29.5)
    assert (off > PIXEL).any()
    assert off.max() < 4 * WANDER * PIXEL


def test_some_edges_are_soft_and_some_are_hard() -> None:
    steepest = np.array([np.abs(np.diff(each[50, 20:50])).max() for each in made()])
    assert (steepest > 0.55).any()
    assert (steepest < 0.6 / (SOFT * PIXEL)).any()
