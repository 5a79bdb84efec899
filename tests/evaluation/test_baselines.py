"""The blur baselines on cases with a known answer, each method's weakness among them: it tells which one is at work."""

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d

from deeplens.evaluation.baselines import BLURS, scatter
from deeplens.evaluation.metrics import psnr
from deeplens.scenes.renderer import Plane, composite, linear_to_srgb, render_exact, srgb_to_linear, visible_disparity
from tests.support.tiny import textured

SIZE = 64
RADIUS = 6.0
INSIDE = slice(10, -10)

each_blur = pytest.mark.parametrize("name", BLURS)


def decoded(photo: np.ndarray) -> np.ndarray:
    """Linear light of an 8-bit photo."""
    return srgb_to_linear(photo.astype(np.float32) / np.float32(255))


def reference_disc(radius: float) -> np.ndarray:
    """A disc that sums to 1 by counting: 16×16 points in each pixel."""
    reach = int(radius) + 2
    points = (np.arange(-16 * reach - 8, 16 * reach + 8) + 0.5) / 16
    inside = np.hypot(points[:, None], points) <= radius
    counts = inside.reshape(2 * reach + 1, 16, 2 * reach + 1, 16).sum((1, 3), dtype=np.float64)
    return counts / counts.sum()


def convolved(photo: np.ndarray, radius: float) -> np.ndarray:
    """A photo blurred by one disc in linear light, sRGB in [0, 1]."""
    light = decoded(photo).astype(np.float64)
    kernel = reference_disc(radius)
    blurred = np.dstack([convolve2d(light[..., c], kernel, mode="same", boundary="symm") for c in range(3)])
    return linear_to_srgb(blurred.astype(np.float32))


def likeness(photo: np.ndarray, truth: np.ndarray, columns: slice = INSIDE) -> float:
    """PSNR away from the border, in dB."""
    return psnr((photo.astype(np.float32) / np.float32(255))[INSIDE, columns], truth[INSIDE, columns])


def half(left: float, right: float) -> np.ndarray:
    """(SIZE, SIZE): one value left of the middle, another right of it."""
    values = np.full((SIZE, SIZE), left, np.float32)
    values[:, SIZE // 2 :] = right
    return values


def grey(values: np.ndarray) -> np.ndarray:
    """A photo of 0 … 255."""
    return np.repeat(values.astype(np.uint8)[..., None], 3, 2)


# --- What holds for all


@each_blur
@settings(max_examples=12)
@given(data=st.data())
def test_one_colour_stays(name: str, data: st.DataObject) -> None:
    """Any size from 1×1, any depth: nothing darkens at the border or at a depth edge."""
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    colour = data.draw(st.tuples(*[st.integers(0, 255)] * 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    disparity = rng.random((height, width), dtype=np.float32).round(data.draw(st.integers(0, 3)))
    photo = np.full((height, width, 3), colour, np.uint8)
    focal, aperture = data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1))
    blurred = BLURS[name](photo, disparity, focal=focal, aperture=aperture, radius=RADIUS)
    assert blurred.dtype == np.uint8
    assert blurred.shape == photo.shape
    assert np.abs(blurred.astype(int) - photo).max() <= 1


@each_blur
@settings(max_examples=12)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_what_is_in_focus_stays(name: str, height: int, width: int, focal: float) -> None:
    photo = textured(height, width, seed=height)
    disparity = np.random.default_rng(0).random((height, width), dtype=np.float32)
    closed = BLURS[name](photo, disparity, focal=focal, aperture=0.0, radius=RADIUS)
    np.testing.assert_array_equal(closed, photo)
    flat = np.full_like(disparity, focal)
    sharp = BLURS[name](photo, flat, focal=float(flat[0, 0]), aperture=1.0, radius=RADIUS)
    np.testing.assert_array_equal(sharp, photo)


FLOOR = 50
"""PSNR, in dB, where a photo tells all there is to know."""


@each_blur
@pytest.mark.parametrize(("disparity", "focal"), [(0.9, 0.1), (0.1, 0.7)])
def test_a_plane_is_convolved_with_a_disc_in_linear_light(name: str, disparity: float, focal: float) -> None:
    photo = textured(SIZE, SIZE, seed=3)
    radius = RADIUS * abs(disparity - focal)
    depth = np.full((SIZE, SIZE), disparity, np.float32)
    blurred = BLURS[name](photo, depth, focal=focal, aperture=1.0, radius=RADIUS)
    assert likeness(blurred, convolved(photo, radius)) > FLOOR
    for scale in (0.85, 1.15):
        assert likeness(blurred, convolved(photo, scale * radius)) < FLOOR
    stopped = BLURS[name](photo, depth, focal=focal, aperture=0.5, radius=2 * RADIUS)
    np.testing.assert_array_equal(stopped, blurred)


@each_blur
def test_a_bright_point_opens_into_a_disc_of_its_own_light(name: str) -> None:
    photo = np.zeros((41, 41, 3), np.uint8)
    photo[20, 20] = 255
    light = decoded(BLURS[name](photo, np.ones((41, 41), np.float32), focal=0.0, aperture=1.0, radius=RADIUS))[..., 0]
    rows, columns = np.indices(light.shape) - 20
    distance = np.hypot(rows, columns)
    assert light.sum() == pytest.approx(1, abs=0.06)  # what 8 bits leave of 113 dark pixels
    assert np.sqrt(2 * (light * distance**2).sum() / light.sum()) == pytest.approx(RADIUS, rel=0.06)
    assert light[distance < RADIUS - 1].min() > 0.4 / (np.pi * RADIUS**2)
    assert light[distance > RADIUS + 1.5].max() == 0


# --- Two planes


@pytest.mark.parametrize(
    ("name", "clean"), [("compositional", False), ("scatter", True), ("layered", True), ("ray-traced", True)]
)
def test_a_sharp_foreground_gives_no_light_to_a_blurred_background(name: str, clean: bool) -> None:
    """A white foreground in focus, on the right, before black: the compositional blur has a halo."""
    blurred = BLURS[name](grey(255 * half(0, 1)), half(0.1, 0.9), focal=0.9, aperture=1.0, radius=RADIUS)
    beside = blurred[:, SIZE // 2 - 4 : SIZE // 2]
    assert (beside == 0).all() if clean else (beside > 60).all()


@pytest.mark.parametrize(
    ("name", "clean"), [("compositional", True), ("scatter", False), ("layered", True), ("ray-traced", True)]
)
def test_a_blurred_background_gives_no_light_to_a_sharp_foreground(name: str, clean: bool) -> None:
    """A black foreground in focus, on the right, before white: scatter lays the background over it."""
    blurred = BLURS[name](grey(255 * half(1, 0)), half(0.1, 0.9), focal=0.9, aperture=1.0, radius=RADIUS)
    upon = blurred[:, SIZE // 2 : SIZE // 2 + 3]
    assert (upon == 0).all() if clean else (upon > 60).all()
    sharp = BLURS[name](grey(255 * half(1, 0)), half(0.1, 0.9), focal=0.9, aperture=0.0, radius=RADIUS)
    assert (sharp[:, SIZE // 2 :] == 0).all()


@each_blur
def test_a_blurred_foreground_is_soft_beyond_its_outline(name: str) -> None:
    """White over sharp black: x pixels outside a straight outline, the share of the disc that lies within it.

    The compositional blur ends the foreground at its outline; scatter has its own shares, as it counts the sharp
    background in full beside whatever reaches it.
    """
    blurred = BLURS[name](grey(255 * half(0, 1)), half(0.1, 0.9), focal=0.1, aperture=1.0, radius=10.0)
    outside = decoded(blurred)[SIZE // 2, SIZE // 2 - 9 : SIZE // 2, 0]
    x = np.minimum((np.arange(9, 0, -1) - 0.5) / 8, 1)  # the disc's radius is 0.8 · 10 pixels
    share = (np.arccos(x) - x * np.sqrt(1 - x**2)) / np.pi
    if name == "compositional":
        assert (outside == 0).all()
    elif name == "scatter":
        assert (np.diff(outside) > 0).all()
        assert share[-1] - outside[-1] > 0.05
    else:
        np.testing.assert_allclose(outside, share, atol=0.02)


@pytest.mark.parametrize("name", ["layered", "ray-traced"])
def test_blurred_edges_before_a_blurred_background_keep_their_proportion(name: str) -> None:
    """White before black, both out of focus: at the outline half of each, though the photo lacks half of the black."""
    blurred = BLURS[name](grey(255 * half(0, 1)), half(0.2, 0.8), focal=1.0, aperture=1.0, radius=10.0)
    light = decoded(blurred)[SIZE // 2, :, 0]
    assert light[SIZE // 2 - 1 : SIZE // 2 + 1].mean() == pytest.approx(0.5, abs=0.03)


# --- Against the exact renderer


def striped(seed: int) -> np.ndarray:
    """A photo that is the same in each column: what lies behind a front at its side is what lies beside it."""
    return np.repeat(textured(SIZE, 1, seed=seed), SIZE, axis=1)


def plane(photo: np.ndarray, disparity: tuple[float, float, float], coverage: np.ndarray | None = None) -> Plane:
    alpha = np.ones((SIZE, SIZE), np.float32) if coverage is None else coverage
    return Plane(decoded(photo) * alpha[..., None], alpha, disparity)


RIGHT = half(0, 1)
FRONT = [plane(striped(5), (0.1, 0.0, 0.0)), plane(textured(SIZE, SIZE, seed=6), (0.8, 0.0, 0.0), RIGHT)]
OUTSIDE = slice(10, SIZE // 2)
SCENES = {
    "a sharp front": (FRONT, 0.8, INSIDE),
    "a blurred front": (FRONT, 0.1, OUTSIDE),
}
"""Planes, focal disparity, and the columns that the photo tells enough of."""


@lru_cache
def truth(scene: str, radius: float) -> np.ndarray:
    planes, focal, _ = SCENES[scene]
    return linear_to_srgb(render_exact(planes, focal=focal, radius=radius, points=192))


@pytest.mark.parametrize("name", ["layered", "ray-traced"])
@pytest.mark.parametrize("scene", SCENES)
def test_agrees_with_the_exact_renderer(scene: str, name: str) -> None:
    planes, focal, columns = SCENES[scene]
    photo = np.rint(linear_to_srgb(composite(planes)) * 255).astype(np.uint8)
    found = BLURS[name](photo, visible_disparity(planes), focal=focal, aperture=1.0, radius=8.0)
    assert likeness(found, truth(scene, 8.0), columns) > FLOOR
    for scale in (0.85, 1.15):
        assert likeness(found, truth(scene, scale * 8.0), columns) < FLOOR
    assert likeness(photo, truth(scene, 8.0), columns) < FLOOR


def test_ray_tracing_bends_a_ramp_smoothly() -> None:
    """A slanted plane has another radius in each row; layers make steps of it."""
    planes = [plane(textured(SIZE, SIZE, seed=5), (0.1, 0.8 / SIZE, 0.0))]
    photo = np.rint(linear_to_srgb(composite(planes)) * 255).astype(np.uint8)
    truth = [linear_to_srgb(render_exact(planes, focal=0.3, radius=radius, points=256)) for radius in (8.0, 9.2, 6.8)]
    found = {
        name: BLURS[name](photo, planes[0].disparity_map(), focal=0.3, aperture=1.0, radius=8.0)
        for name in ("ray-traced", "layered")
    }
    assert likeness(found["ray-traced"], truth[0]) > 45
    assert all(likeness(found["ray-traced"], wrong) < 45 for wrong in truth[1:])
    assert 38 < likeness(found["layered"], truth[0]) < 45


def test_scatter_is_its_formula() -> None:
    """Pixel by pixel, over a depth that goes from sharp to blurred."""
    photo = textured(30, 30, seed=8)
    radii = np.random.default_rng(1).random((30, 30)).cumsum(1) / 3
    radii = (radii / radii.max() * 5).astype(np.float32)
    found = BLURS["scatter"](photo, radii / 5, focal=0.0, aperture=1.0, radius=5.0)
    light, total, weights = decoded(photo).astype(np.float64), np.zeros((30, 30, 3)), np.zeros((30, 30, 1))
    rows, columns = np.indices((30, 30))
    for y, x in np.ndindex(30, 30):
        radius = float(radii[y, x])
        distance = np.hypot(rows - y, columns - x)
        weight = (0.5 + 0.5 * np.tanh(4 * (radius - distance))) / (radius**2 + 0.2) * (distance < radius + 1.5)
        total += weight[..., None] * light[y, x]
        weights += weight[..., None]
    expected = linear_to_srgb((total / weights).astype(np.float32))
    assert likeness(found, expected) > 44
    assert scatter.scatter_kernel(0.0).shape == (1, 1)
    assert scatter.scatter_kernel(2.5).shape == (7, 7)
