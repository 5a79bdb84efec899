"""Signed depth at each level: against the rule of `docs/harness.md` in float64, however it is come by."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens.console.errors import InputError
from deeplens.runtimes.depth_levels import DepthLevels, FocalPlane
from deeplens.runtimes.parts import BLOCK
from deeplens.runtimes.pyramid import geometry, registered_disparity

PHOTOS = [(1536, 2048), (700, 1000), (333, 200), (40, 50), (2100, 700)]


def by_the_rule(registered: np.ndarray, photo: tuple[int, int], plane: FocalPlane) -> list[np.ndarray]:
    """First all means, from the unscaled values; then the factor and the clipping. Float64."""
    levels = geometry(*photo)
    signed = registered.astype(np.float64) - plane.focal_disparity
    signed -= np.clip(signed, -plane.focus_range / 2, plane.focus_range / 2)
    signed = np.clip(signed * plane.aperture * levels.blur_scale, -1, 1)
    height, width = levels.padded(levels.finest_depth)
    found = [np.pad(signed, ((0, height - signed.shape[0]), (0, width - signed.shape[1])), mode="reflect")]
    while len(found) <= levels.finest_depth:
        last = found[-1]
        found.append(last.reshape(last.shape[0] // 2, 2, last.shape[1] // 2, 2).mean((1, 3)))
    return [np.clip(each * 2**level, -1, 1) for level, each in enumerate(found[::-1])]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(PHOTOS),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1, width=32),
    st.floats(0.05, 1),
    st.one_of(st.just(0.0), st.floats(0.01, 0.6)),
    st.permutations(range(5)),
)
def test_each_level_is_that_of_the_rule_in_whatever_order_it_is_asked_for(
    photo: tuple[int, int], seed: int, focal: float, aperture: float, width: float, order: list[int]
) -> None:
    levels = geometry(*photo)
    disparity = np.random.default_rng(seed).random((40, 60), np.float32)
    plane = FocalPlane(focal, aperture, width)
    depth = DepthLevels(registered_disparity(disparity, levels), levels)
    found, due = depth.signed(plane, by_level=True), by_the_rule(registered_disparity(disparity, levels), photo, plane)
    assert len(found) == len(due) == levels.finest_depth + 1
    for level in order:
        if level < len(found):
            assert found[level].dtype == np.float32
            assert found[level].shape == (1, 1, *levels.padded(level))
            # Eight units in the last place of 1, as the vectors allow.
            assert np.abs(found[level][0, 0] - due[level]).max() <= 8 * 2.0**-23


def test_what_is_in_focus_is_exactly_zero() -> None:
    levels = geometry(1536, 2048)
    flat = np.full(levels.covered(levels.finest_depth), 0.3, np.float32)
    for width in (0.0, 0.1):
        found = DepthLevels(flat, levels).signed(FocalPlane(0.3, 1.0, width), by_level=True)
        assert all(not each.any() for each in found)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PHOTOS), st.integers(0, 2**32 - 1), st.floats(0, 1, width=32), st.sampled_from([0.0, 0.3]))
def test_blocks_and_windows_are_those_of_the_whole_level(
    photo: tuple[int, int], seed: int, focal: float, width: float
) -> None:
    """A block that the focal plane crosses is not in focus and not very blurred; one behind it may be very blurred."""
    levels = geometry(*photo)
    generator = np.random.default_rng(seed)
    disparity = generator.choice([0.0, 0.5, focal, 1.0], (3, 4)).astype(np.float32).repeat(30, 0).repeat(40, 1)
    depth = DepthLevels(registered_disparity(disparity, levels), levels)
    found, judge = (depth.signed(FocalPlane(focal, 0.7, width), by_level=True) for _ in range(2))
    for level in range(len(judge)):
        whole = judge[level][0, 0]
        blocks = whole.reshape(whole.shape[0] // BLOCK, BLOCK, -1, BLOCK)
        nearest, farthest = blocks.max((1, 3)), blocks.min((1, 3))
        least, most = found.extremes(level)
        np.testing.assert_array_equal(most, np.abs(blocks).max((1, 3)))
        crossed = (nearest > 0) & (farthest < 0)
        np.testing.assert_array_equal(least, np.where(crossed, 0, np.abs(blocks).min((1, 3))))
        top, left = (int(generator.integers(0, side // 2)) for side in whole.shape)
        rows, columns = slice(top, top + 24), slice(left, left + 17)
        np.testing.assert_array_equal(found.window(level)(rows, columns)[0, 0], whole[rows, columns])


def test_only_what_is_asked_for_is_made() -> None:
    levels = geometry(1536, 2048)
    depth = DepthLevels(np.zeros(levels.covered(levels.finest_depth), np.float32), levels)
    assert depth.nbytes == sum(4 * h * w for h, w in (levels.padded(level) for level in range(3)))
    found = depth.signed(FocalPlane(0.5, 1.0), by_level=True)
    assert found[0] is found[0]
    assert list(found._made) == [0]
    assert depth.bounds(2)[0] is depth.bounds(2)[0], "it is the same for each focus"
    with pytest.raises(IndexError):
        found[3]


@pytest.mark.parametrize("name", ["focal_disparity", "aperture", "focus_range"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_plane_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name} must be from 0 to 1"):
        FocalPlane(**{"focal_disparity": 0.5, "aperture": 1.0, name: value})
