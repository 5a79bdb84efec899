import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deeplens.model.contract import ALIGNMENT, BASE_LONG_SIDE, MIN_SIZE
from deeplens.runtimes.depth_levels import signed_depth_levels
from deeplens.runtimes.pyramid import (
    Geometry,
    doubled,
    geometry,
    halve,
    halved_window,
    pad_to,
    picture_levels,
    quantise,
    read_picture,
    read_window,
    registered_disparity,
    resize_registered,
)
from tests.support.device import needs_torch

sides = st.integers(1, 9000)


def signed_depths(disparity: np.ndarray, levels: Geometry, **focus: Any) -> list[np.ndarray]:
    """From a disparity map of any size."""
    return signed_depth_levels(registered_disparity(disparity, levels), levels, **focus)


def halved(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The whole photo, halved to `size`."""
    return halved_window(pixels, slice(0, size[0]), slice(0, size[1]))


@given(st.integers(1, 500), st.integers(330, 900), st.data())
def test_a_window_of_the_halved_photo_is_that_part_of_the_whole(height: int, width: int, data: st.DataObject) -> None:
    levels = geometry(height, width)
    pixels = noise(height, width, 3)
    whole = picture_levels(pixels, levels)
    spans = []
    for side in levels.padded(max(0, levels.steps - 1)):
        start = data.draw(st.integers(0, side - 1))
        spans.append(slice(start, data.draw(st.integers(start + 1, side))))
    if levels.steps:
        np.testing.assert_array_equal(halved_window(pixels, *spans), whole[-1][:, :, spans[0], spans[1]])
    without = picture_levels(pixels, levels, finest=False)
    assert len(without) == len(whole) - (levels.steps > 1)
    for found, expected in zip(without, whole, strict=False):
        np.testing.assert_array_equal(found, expected)


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@given(sides, sides)
@example(100_000, 480)
@example(5000, 3)
@example(1, 1)
@example(6000, 8000)
def test_geometry_is_the_fewest_halvings_with_little_padding(height: int, width: int) -> None:
    levels = geometry(height, width)
    long, short = max(height, width), min(height, width)
    enough = next(n for n in range(30) if math.ceil(long / 2**n) <= BASE_LONG_SIDE)
    most = next(n for n in range(30) if ALIGNMENT * 2**n >= short)
    assert levels.steps == min(enough, most)
    for side, base in zip((height, width), levels.base, strict=True):
        assert base % ALIGNMENT == 0
        assert base >= MIN_SIZE
        assert base * 2**levels.steps >= side
        assert base == MIN_SIZE or (base - ALIGNMENT) * 2**levels.steps < side
    assert levels.padded(levels.steps) == tuple(side * 2**levels.steps for side in levels.base)
    assert levels.covered(levels.steps) == (height, width)


@pytest.mark.parametrize(
    ("size", "steps", "base", "scale"),
    [
        ((1536, 2048), 3, (192, 256), 0.8),
        ((6000, 8000), 5, (192, 256), 250 / 320),
        ((960, 1280), 2, (240, 320), 1.0),
        ((961, 1281), 3, (128, 168), 1281 / 8 / 320),
        ((1, 1), 0, (32, 32), 1 / 320),
        ((3, 5000), 0, (32, 5000), 1.0),
        ((480, 100_000), 6, (32, 1568), 1.0),
    ],
)
def test_geometry_of_known_sizes(size: tuple[int, int], steps: int, base: tuple[int, int], scale: float) -> None:
    levels = geometry(*size)
    assert (levels.steps, levels.base) == (steps, base)
    assert levels.blur_scale == pytest.approx(scale)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 130), st.integers(0, 130), st.data())
def test_windows_of_the_padded_photo_are_those_of_np_pad(
    h: int, w: int, below: int, right: int, data: st.DataObject
) -> None:
    pixels = noise(h, w, 3)
    padded = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="reflect")
    top, left = data.draw(st.integers(0, h + below - 1)), data.draw(st.integers(0, w + right - 1))
    rows = slice(top, data.draw(st.integers(top + 1, h + below)))
    columns = slice(left, data.draw(st.integers(left + 1, w + right)))
    np.testing.assert_array_equal(read_window(pixels, rows, columns), padded[rows, columns])
    planes = pixels.transpose(2, 0, 1)[None]
    np.testing.assert_array_equal(pad_to(planes, h + below, w + right), padded.transpose(2, 0, 1)[None])


def test_a_window_inside_the_photo_is_not_copied() -> None:
    pixels = noise(20, 30, 3)
    assert np.shares_memory(read_window(pixels, slice(2, 9), slice(3, 30)), pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_picture_is_planar_and_in_0_to_1(dtype: type) -> None:
    pixels = noise(9, 14, 3, dtype=dtype)
    picture = read_picture(pixels, slice(2, 9), slice(0, 14))
    assert picture.dtype == np.float32
    assert picture.flags.c_contiguous
    expected = pixels[2:].transpose(2, 0, 1)[None] / np.float64(np.iinfo(dtype).max)
    np.testing.assert_allclose(picture, expected, rtol=1e-7, atol=0)


def reference_halving(picture: np.ndarray) -> np.ndarray:
    """sqrt(mean(x²)) in float64; (C, 2h, 2w) → (C, h, w)."""
    c, h, w = picture.shape
    return np.sqrt(np.mean(np.asarray(picture, np.float64).reshape(c, h // 2, 2, w // 2, 2) ** 2, axis=(2, 4)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(70, 90), (64, 96), (1, 1), (33, 1), (300, 700)])
def test_halving_is_the_mean_in_linear_light(dtype: type, size: tuple[int, int]) -> None:
    pixels = noise(*size, 3, dtype=dtype)
    height, width = (-(-side // 16) * 8 for side in size)
    padding = ((0, 2 * height - size[0]), (0, 2 * width - size[1]), (0, 0))
    whole = np.pad(pixels, padding, mode="reflect").transpose(2, 0, 1) / np.iinfo(dtype).max
    once = halved(pixels, (height, width))
    np.testing.assert_allclose(once[0], reference_halving(whole), rtol=3e-7)
    np.testing.assert_allclose(halve(once)[0], reference_halving(once[0]), rtol=3e-7)
    if max(size) > 1:  # the mean of gamma-encoded values would be told apart
        assert np.abs(once[0] - whole.reshape(3, height, 2, width, 2).mean(axis=(2, 4))).max() > 0.01


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_grey_keeps_its_value_and_white_stays_within_range(dtype: type) -> None:
    greys: np.ndarray = np.linspace(0, np.iinfo(dtype).max, 256).astype(dtype)
    pixels = np.repeat(np.broadcast_to(greys.repeat(2)[:, None, None], (512, 8, 1)), 3, axis=2)
    once = halved(pixels, (256, 4))
    np.testing.assert_allclose(once[0, 0, :, 0], greys / np.iinfo(dtype).max, rtol=2e-7)
    assert once.max() == 1.0
    assert halve(halve(once)).max() <= 1.0


def test_levels_halve_one_another_and_the_whole_photo_is_not_among_them() -> None:
    pixels = noise(700, 901, 3)
    levels = geometry(700, 901)
    pictures = picture_levels(pixels, levels)
    assert [picture.shape[2:] for picture in pictures] == [levels.padded(k) for k in range(levels.steps)]
    for low, high in pairwise(pictures):
        np.testing.assert_allclose(low[0], reference_halving(high[0]), rtol=3e-7)
    small = noise(20, 30, 3)
    assert [picture.shape for picture in picture_levels(small, geometry(20, 30))] == [(1, 3, 32, 32)]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from(["320", "photo", "half", "double"]))
@example(333, 701, "320")
@example(701, 333, "photo")
@example(645, 899, "double")
def test_a_ramp_of_disparity_lands_in_its_place_at_every_level(height: int, width: int, kind: str) -> None:
    levels = geometry(height, width)
    size = {
        "320": (320, 320),
        "photo": (height, width),
        "half": (-(-height // 2), -(-width // 2)),
        "double": (2 * height, 2 * width),
    }[kind]
    down, across = ((np.arange(side, dtype=np.float64) + 0.5) / side for side in size)
    ramp = (0.3 * down[:, None] + 0.6 * across).astype(np.float32)
    depths = signed_depths(ramp, levels, focal_disparity=0.25, aperture=0.5)
    assert len(depths) == levels.finest_depth + 1 == (levels.steps if levels.steps > 1 else levels.steps + 1)
    for level, depth in enumerate(depths):
        assert depth.shape == (1, 1, *levels.padded(level))
        assert depth.dtype == np.float32
        pixel = 2 ** (levels.steps - level)
        # Where the level's pixels lie on the photo, in 0 … 1; away from borders, where the map has no neighbours.
        places, inner = [], []
        for side, count, samples in zip((height, width), levels.covered(level), size, strict=True):
            place = (np.arange(count) + 0.5) * pixel / side
            margin = max(1.0 / samples, 1.5 * pixel / side)
            places.append(place)
            inner.append((place > margin) & (place < 1 - margin))
        expected = (0.3 * places[0][:, None] + 0.6 * places[1] - 0.25) * 0.5 * levels.blur_scale
        rows, columns = levels.covered(level)
        found = depth[0, 0, :rows, :columns]
        # 8 % of a pixel's step: antialiased shrinking by a fraction ripples by up to 5 %.
        tolerance = 0.08 * (0.3 * pixel / height + 0.6 * pixel / width) * 0.5 * levels.blur_scale
        inside = np.ix_(inner[0], inner[1])
        np.testing.assert_allclose(found[inside], expected[inside], rtol=0, atol=max(tolerance, 1e-6))


def test_a_stretched_ramp_would_be_seen() -> None:
    """The negative control of the test above: ignoring the odd last column moves the right end by half a pixel."""
    levels = geometry(333, 701)
    ramp = np.broadcast_to(((np.arange(701) + 0.5) / 701).astype(np.float32), (333, 701))
    right = resize_registered(ramp, levels, levels.steps - 1)
    wrong = resize_registered(ramp[:, :700], Geometry(334, 700, levels.steps, levels.base), levels.steps - 1)
    assert np.abs(right[10, 340] - wrong[10, 340]) < 0.1 / 701
    place = (np.arange(351) + 0.5) * 2 / 701
    assert np.abs(right[10, 2:-2] - place[2:-2]).max() < 0.01 / 701
    stretched = np.interp((np.arange(351) + 0.5) * 701 / 351, np.arange(701) + 0.5, ramp[0])
    assert np.abs(stretched[2:-2] - place[2:-2]).max() > 0.1 / 701


def test_signed_depth_follows_the_equation_and_stays_in_range() -> None:
    levels = geometry(480, 640)
    for disparity, focal, aperture in [(1.0, 0.25, 0.5), (0.0, 1.0, 1.0), (0.75, 0.75, 1.0), (0.3, 0.9, 0.0)]:
        for depth in signed_depths(np.full((320, 320), disparity), levels, focal_disparity=focal, aperture=aperture):
            np.testing.assert_allclose(depth, (disparity - focal) * aperture, atol=1e-7)


@given(disparity=st.floats(0, 1, width=32), focal=st.floats(0, 1), width=st.floats(0, 1), aperture=st.floats(0, 1))
def test_a_range_is_sharp_and_blur_counts_from_its_ends(
    disparity: float, focal: float, width: float, aperture: float
) -> None:
    (found,) = signed_depths(
        np.full((8, 8), disparity), geometry(40, 40), focal_disparity=focal, aperture=aperture, focus_range=width
    )
    low, high = focal - width / 2, focal + width / 2
    end = min(max(disparity, low), high)  # the nearest disparity that is sharp
    expected = (disparity - end) * aperture * geometry(40, 40).blur_scale
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_by_level_the_signed_depth_is_a_radius_in_pixels_of_its_level() -> None:
    levels = geometry(1536, 2048)
    assert levels.steps == 3
    assert levels.blur_scale == 0.8
    for disparity, expected in [(0.5, [0.08, 0.16, 0.32]), (0.9, [0.4, 0.8, 1.0]), (0.0, [-0.32, -0.64, -1.0])]:
        found = signed_depths(np.full((320, 320), disparity), levels, focal_disparity=0.4, aperture=1.0, by_level=True)
        for depth, value in zip(found, expected, strict=True):
            np.testing.assert_allclose(depth, value, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_are_clipped_and_rounded_half_to_even(dtype: type) -> None:
    largest = int(np.iinfo(dtype).max)
    values = np.array([-1.0, 0.5, 1.5, 2.5, 2.500001, 3.5, largest - 0.5, largest + 7.0]) / largest
    out: np.ndarray = np.zeros((1, 8, 3), dtype)
    quantise(np.broadcast_to(values, (1, 3, 1, 8)), out)
    expected = [min(max(round(value * largest), 0), largest) for value in values]
    assert out[0, :, 1].tolist() == expected
    assert expected[:4] == [0, 0, 2, 2]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_integer_survives_the_way_to_float_and_back(dtype: type) -> None:
    values: np.ndarray = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(256, -1)
    pixels = np.stack((values, values[::-1], values), axis=-1)
    out = np.zeros_like(pixels)
    quantise(read_picture(pixels, slice(0, pixels.shape[0]), slice(0, pixels.shape[1])), out)
    np.testing.assert_array_equal(out, pixels)


@needs_torch
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
def test_doubled_is_pytorchs_bilinear(height: int, width: int, channels: int) -> None:
    import torch

    picture = np.random.default_rng(height).random((1, channels, height, width), dtype=np.float32)
    before = picture.copy()
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(picture), scale_factor=2, mode="bilinear", align_corners=False
    )
    found = doubled(picture)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    np.testing.assert_array_equal(picture, before)
