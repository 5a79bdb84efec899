"""Lights in scenes: brighter than white, clipped in the picture, and as bright as they are in the target."""

from dataclasses import replace

import numpy as np
import pytest

from deeplens.scenes.lights import relit, with_lights
from deeplens.scenes.planes import SceneConfig, make_scene
from deeplens.scenes.renderer import Plane, disc, render_exact, render_layered, srgb_to_linear
from deeplens.scenes.sources import Sources
from tests.support.tiny import make_sources

SMALL = SceneConfig(size=64, steps=1)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return make_sources(tmp_path_factory.mktemp("sources"))


def grey_plane(coverage: float = 1.0) -> Plane:
    alpha = np.full((80, 96), coverage, np.float32)
    return Plane(np.repeat(0.2 * alpha[..., None], 3, 2), alpha, (0.5, 0.0, 0.0))


def test_lights_are_brighter_than_white_and_small() -> None:
    peaks, areas = [], []
    for seed in range(60):
        plane = grey_plane()
        lit = with_lights(plane, np.random.default_rng(seed))
        assert plane.light.max() == np.float32(0.2), "the plane that was given is left alone"
        changed = np.abs(lit.light - plane.light).max(2) > 1e-6
        if changed.any():
            peaks.append(lit.light.max())
            areas.append(changed.mean())
        assert np.array_equal(lit.coverage, plane.coverage)
    assert 40 <= len(peaks) < 60, "most planes have some"
    assert np.median(peaks) > 2
    assert 20 < max(peaks) < 80
    assert np.median(areas) < 0.1


def test_lights_stand_on_what_the_plane_covers() -> None:
    empty = grey_plane(0.0)
    for seed in range(10):
        assert not with_lights(empty, np.random.default_rng(seed)).light.any()
    half = grey_plane()
    half.coverage[:, 48:] = 0
    half.light[:, 48:] = 0
    for seed in range(10):
        assert not with_lights(half, np.random.default_rng(seed)).light[:, 48:].any()


def test_small_clipped_spots_become_brighter_and_a_clipped_sky_does_not() -> None:
    plane = grey_plane()
    plane.light[:20] = 1.0
    plane.light[40:44, 10:14] = plane.light[60, 90] = 1.0
    plane.light[45:, 40:56] = 0.9  # something white, which is clipped in one place
    plane.light[60:62, 47:49] = 1.0
    plane.light[62:77, 5:20] = 1.0  # a window: in the dark, but too large
    factors = set()
    for seed in range(20):
        found = relit(plane, np.random.default_rng(seed)).light / plane.light
        spots = found[41, 11], found[60, 90]
        for spot in spots:
            assert spot[0] == spot[1] == spot[2] > 0.5, "the same for all colours"
            factors.add(float(spot[0]))
        assert 0.2 < spots[0][0] / spots[1][0] < 5, "like each other"
        found[40:44, 10:14] = found[60, 90] = 1
        assert (found == 1).all()
    assert min(factors) < 3
    assert 15 < max(factors) < 80
    assert relit(grey_plane(), np.random.default_rng(0)).light.max() == np.float32(0.2)


def test_scenes_without_lights_are_what_they_were(sources: Sources) -> None:
    changed = 0
    for index in range(12):
        dark = make_scene(sources, seed=5, index=index, config=replace(SMALL, lights=1e-9))
        lit = make_scene(sources, seed=5, index=index, config=replace(SMALL, lights=0.5))
        assert (dark.focal, dark.aperture) == (lit.focal, lit.aperture)
        assert np.array_equal(dark.disparity, lit.disparity)
        changed += not np.array_equal(dark.picture, lit.picture)
        assert lit.target.max() <= 1
    assert 2 <= changed <= 10


def test_a_lamp_of_twenty_times_white_gives_a_disc_that_the_picture_could_not() -> None:
    """A spot of known light, out of focus: its disc has the spot's light over the disc's area, in both renderers."""
    plane = grey_plane()
    plane.light[:] = 0
    plane.light[38:42, 46:50] = 20.0
    expected = 20.0 * 16 / (np.pi * 6**2)
    for render in (render_layered, render_exact):
        middle = render([plane], focal=0.0, radius=12.0)[40, 48]
        assert middle == pytest.approx(expected, rel=0.05)
        assert middle.max() > 5 * 16 * disc(6.0).max(), "more than a white spot could give"


def test_the_target_knows_the_light_that_the_picture_lost(sources: Sources) -> None:
    """Where all is blurred, the target of a lit scene holds more light than the picture that was clipped."""
    gained = []
    for index in range(60):
        scene = make_scene(sources, seed=6, index=index, config=replace(SMALL, lights=1.0))
        blur = np.abs(scene.disparity - scene.focal).min() * scene.aperture * SMALL.radius
        if blur > 2 and (scene.picture == 255).any():
            clipped = scene.picture.astype(np.float32) / np.float32(255)
            gained.append(srgb_to_linear(scene.target).mean() / srgb_to_linear(clipped).mean())
    assert len(gained) >= 3
    assert np.mean(gained) > 1.1
