"""The renderers against optics: known values, conserved light, radii, and each other."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from skimage.color import rgb2xyz
from skimage.color.colorconv import xyz_from_rgb

from deeplens.scenes.renderer import (
    Array,
    Plane,
    composite,
    disc,
    disc_points,
    linear_to_srgb,
    render_exact,
    render_layered,
    srgb_to_linear,
    visible_disparity,
)
from tests.support.tiny import textured

SIZE = 72
RADIUS = 6.0
POINTS = 256
RENDERERS: dict[str, Callable[..., Array]] = {
    "layered": render_layered,
    "exact": partial(render_exact, points=POINTS),
}


def plane(
    disparity: tuple[float, float, float], *, seed: int = 0, coverage: np.ndarray | None = None, size: int = SIZE
) -> Plane:
    """A textured plane; whole, or what `coverage` leaves of it."""
    alpha = np.ones((size, size), np.float32) if coverage is None else coverage.astype(np.float32)
    light = srgb_to_linear((textured(size, size, seed=seed) / np.float32(255)).astype(np.float32))
    return Plane(light * alpha[..., None], alpha, disparity)


def round_coverage(row: float, column: float, radius: float, size: int = SIZE) -> np.ndarray:
    rows, columns = np.indices((size, size))
    return np.clip(radius - np.hypot(rows - row, columns - column) + 0.5, 0, 1)


def point(size: int = 41, *, background: float = 0.0) -> Array:
    """Light (size, size, 3): a single bright pixel in the middle."""
    light = np.full((size, size, 3), background, np.float32)
    light[size // 2, size // 2] = 1.0
    return light


def psnr(one: Array, other: Array) -> float:
    """Of the encoded pictures, away from the border, in dB."""
    inner = slice(int(RADIUS) + 2, -int(RADIUS) - 2)
    error = linear_to_srgb(one)[inner, inner].astype(np.float64) - linear_to_srgb(other)[inner, inner]
    return float(-10 * np.log10(np.square(error).mean() + 1e-12))


# --- Colour and discs


def test_srgb_has_the_known_values() -> None:
    encoded = np.array([0.0, 0.04045, 0.2, 0.5, 0.73536, 1.0], np.float32)
    light = np.array([0.0, 0.0031308, 0.0331048, 0.2140411, 0.5, 1.0])
    np.testing.assert_allclose(srgb_to_linear(encoded), light, atol=1e-5)
    np.testing.assert_allclose(linear_to_srgb(light.astype(np.float32)), encoded, atol=2e-5)


def test_srgb_agrees_with_scikit_image() -> None:
    codes = np.arange(256, dtype=np.float64) / 255
    theirs = (rgb2xyz(np.stack([codes] * 3, 1)[None]) @ np.linalg.inv(xyz_from_rgb).T)[0, :, 0]
    light = srgb_to_linear(codes.astype(np.float32))
    np.testing.assert_allclose(light, theirs, atol=1e-6)
    assert (np.rint(linear_to_srgb(light) * 255) == np.arange(256)).all(), "8 bits survive the way there and back"
    np.testing.assert_allclose(linear_to_srgb(np.array([-1.0, 2.0], np.float32)), [0, 1], atol=1e-7)


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.5, 8.0, 16.0])
def test_disc_sums_to_one_and_has_its_area(radius: float) -> None:
    kernel = disc(radius).astype(np.float64)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(kernel, kernel.T)
    np.testing.assert_array_equal(kernel, kernel[::-1])
    if radius < 0.5:
        assert kernel.max() == 1
        return
    assert 1 / kernel.max() == pytest.approx(np.pi * radius**2, rel=0.1 if radius < 2 else 0.03)
    if radius > 2:  # below, the antialiased rim is most of it
        offsets = np.arange(len(kernel)) - len(kernel) // 2
        assert (kernel * np.hypot(offsets[:, None], offsets) ** 2).sum() == pytest.approx(radius**2 / 2, rel=0.15)


def test_aperture_points_cover_the_disc_evenly() -> None:
    points = disc_points(1024)
    distance = np.hypot(*points.T)
    assert distance.max() < 1
    assert np.abs(points.mean(0)).max() < 0.005
    assert (distance**2).mean() == pytest.approx(0.5, abs=1e-6)
    for share in (0.25, 0.5, 0.75):  # equal areas: as many points within a circle as its area says
        assert (distance < share).mean() == pytest.approx(share**2, abs=0.002)
    for down, right in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        assert (points * (down, right) > 0).all(1).mean() == pytest.approx(0.25, abs=0.01)


def test_composite_and_visible_disparity_by_hand() -> None:
    coverage = np.array([[0.0, 0.25, 0.5, 1.0]], np.float32)
    back = Plane(np.full((1, 4, 3), 0.8, np.float32), np.ones((1, 4), np.float32), (0.1, 0.0, 0.01))
    front = Plane(np.float32(0.2) * coverage[..., None].repeat(3, 2), coverage, (0.7, 0.0, 0.0))
    np.testing.assert_allclose(composite([back, front])[0, :, 0], [0.8, 0.65, 0.5, 0.2], atol=1e-6)
    np.testing.assert_allclose(visible_disparity([back, front]), [[0.1, 0.11, 0.7, 0.7]], atol=1e-6)


# --- Optics


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize(("disparity", "focal"), [(0.9, 0.1), (0.1, 0.9), (0.5, 0.2)])
def test_a_point_becomes_a_disc_of_its_own_light(renderer: str, disparity: float, focal: float) -> None:
    """Its light is kept, and its radius is `radius` · |disparity − focal disparity|, before focus and behind it."""
    scene = [Plane(point(), np.ones((41, 41), np.float32), (disparity, 0.0, 0.0))]
    found = RENDERERS[renderer](scene, focal=focal, radius=14.0)[..., 0].astype(np.float64)
    assert found.sum() == pytest.approx(1, rel=2e-3)
    rows, columns = np.indices(found.shape) - 20
    spread = (found * (rows**2 + columns**2)).sum() / found.sum()
    assert np.sqrt(2 * spread) == pytest.approx(14 * abs(disparity - focal), rel=0.05)
    assert found[19:22, 19:22].mean() == pytest.approx(found[18:23, 18:23].mean(), rel=0.1), "a disc is flat"
    assert abs((found * rows).sum()) < 0.05
    assert abs((found * columns).sum()) < 0.05


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_plane_in_focus_is_left_alone(renderer: str) -> None:
    scene = [plane((0.4, 0.0, 0.0))]
    render = RENDERERS[renderer]
    np.testing.assert_allclose(render(scene, focal=0.4, radius=RADIUS), scene[0].light, atol=1e-5)
    assert np.abs(render(scene, focal=0.9, radius=RADIUS) - scene[0].light).max() > 0.1, "the control"


@pytest.mark.slow
@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_ramp_blurs_by_its_distance_from_the_focal_line(renderer: str) -> None:
    """A column of points on a plane whose disparity rises downwards: each has the radius of its own row."""
    size = 121
    light = np.zeros((size, size, 3), np.float32)
    rows = [24, 60, 96]
    light[rows, size // 2] = 1.0
    scene = [Plane(light, np.ones((size, size), np.float32), (0.0, 1 / (size - 1), 0.0))]
    found = RENDERERS[renderer](scene, focal=0.5, radius=20.0)[..., 0].astype(np.float64)
    for row in rows:
        part = found[row - 18 : row + 19]
        across = np.arange(size) - size // 2
        spread = (part * across[None, :] ** 2).sum() / part.sum()
        expected = 20 * abs(row / (size - 1) - 0.5)
        assert 2 * np.sqrt(spread) == pytest.approx(expected, abs=0.75)  # a disc of radius r: mean x² = r²/4
        # In focus each aperture point samples the row itself, a little magnified.
        assert part.sum() == pytest.approx(1, rel=0.02 if expected else 0.1)


@pytest.mark.parametrize("renderer", RENDERERS)
def test_highlights_bloom_in_linear_light(renderer: str) -> None:
    scene = [Plane(point(background=0.01), np.ones((41, 41), np.float32), (1.0, 0.0, 0.0))]
    found = linear_to_srgb(RENDERERS[renderer](scene, focal=0.0, radius=5.0))[20, 20, 0]
    encoded = [Plane(linear_to_srgb(scene[0].light), scene[0].coverage, scene[0].disparity)]
    in_gamma = RENDERERS[renderer](encoded, focal=0.0, radius=5.0)[20, 20, 0]
    assert found > in_gamma + 0.03


# --- One renderer against the other

NO_OVERLAP = {
    "a plane that faces the camera": ([plane((0.9, 0.0, 0.0))], 0.1),
    "a ramp": ([plane((0.1, 0.8 / SIZE, 0.0))], 0.5),
    "a ramp along a row": ([plane((0.9, 0.0, -0.8 / SIZE))], 0.2),
    "a blurred front before a sharp background": (
        [plane((0.2, 0.0, 0.0)), plane((0.9, 0.0, 0.0), seed=1, coverage=round_coverage(36, 36, 15))], 0.2
    ),
    "a sharp front before a blurred background": (
        [plane((0.1, 0.0, 0.0)), plane((0.9, 0.0, 0.0), seed=1, coverage=round_coverage(36, 36, 15))], 0.9
    ),
    "two fronts side by side": (
        [
            plane((0.2, 0.0, 0.0)),
            plane((0.7, 0.0, 0.0), seed=1, coverage=round_coverage(36, 18, 8)),
            plane((0.9, 0.0, 0.0), seed=2, coverage=round_coverage(36, 54, 8)),
        ],
        0.2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_OVERLAP)
def test_renderers_agree_where_no_blurred_edges_overlap(case: str) -> None:
    planes, focal = NO_OVERLAP[case]
    exact = render_exact(planes, focal=focal, radius=RADIUS, points=POINTS)
    layered = render_layered(planes, focal=focal, radius=RADIUS)
    assert psnr(layered, exact) > 45
    assert psnr(composite(planes), exact) < 35, "the control: there is a blur to agree on"


def test_renderers_differ_where_blurred_edges_overlap() -> None:
    """A front that just hides the plane behind it, both out of focus by the same: their coverages are not independent.

    With each point of the aperture both move alike, so that the middle plane stays hidden; layer by layer it shows.
    """
    coverage = round_coverage(36, 36, 16)
    white = np.ones((SIZE, SIZE, 3), np.float32)
    planes = [
        Plane(0 * white, np.ones((SIZE, SIZE), np.float32), (0.1, 0.0, 0.0)),
        Plane((white * coverage[..., None]).astype(np.float32), coverage.astype(np.float32), (0.9, 0.0, 0.0)),
        Plane((0 * white).astype(np.float32), coverage.astype(np.float32), (0.95, 0.0, 0.0)),
    ]
    exact = render_exact(planes, focal=0.1, radius=RADIUS, points=POINTS)
    layered = render_layered(planes, focal=0.1, radius=RADIUS)
    assert exact.max() < 0.1
    assert layered.max() > 0.2
    assert psnr(layered, exact) < 25


def test_more_points_change_nothing_visible() -> None:
    planes, focal = NO_OVERLAP["a blurred front before a sharp background"]
    few, many = (render_exact(planes, focal=focal, radius=RADIUS, points=count) for count in (POINTS, 2 * POINTS))
    assert psnr(few, many) > 50
