"""Plants, fences, poles and balls: their meshes and where they stand, without Blender."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplens.scenes.room_growth import SHAPES, extent, meshes
from deeplens.scenes.room_layout import sample_scene
from deeplens.scenes.room_scene import Item, Scene, Shape, Surface
from tests.scenes.test_room_layout import SOURCES, STOCK

GREY = Surface("plain", ((0.4, 0.4, 0.4), (0.2, 0.2, 0.2)), 1.0, 0.8)
WOOD = replace(GREY, pattern="wood")


def a_shape(kind: str, seed: int = 0) -> Shape:
    return Shape(kind, seed, (GREY, WOOD))


@given(st.sampled_from(sorted(SHAPES)), st.integers(0, 2**31 - 1))
def test_meshes_are_whole(kind: str, seed: int) -> None:
    """Faces name all vertices and no others, and have an area; all stands on z = 0 in the box that `extent` says."""
    shape = a_shape(kind, seed)
    parts = meshes(shape)
    points = np.concatenate([mesh.vertices for mesh, _ in parts])
    assert np.isfinite(points).all()
    np.testing.assert_allclose(points.min(0), [-extent(shape)[0] / 2, -extent(shape)[1] / 2, 0], atol=1e-9)
    np.testing.assert_allclose(points.max(0), [extent(shape)[0] / 2, extent(shape)[1] / 2, 1], atol=1e-9)
    for mesh, surface in parts:
        assert surface in shape.surfaces
        assert np.array_equal(np.unique(mesh.faces), np.arange(len(mesh.vertices)))
        assert mesh.uv.shape == (*mesh.faces.shape, 2)
        corners = mesh.vertices[mesh.faces]
        areas = np.linalg.norm(np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]), axis=1)
        assert np.median(areas) > 0


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_a_number_is_a_shape(kind: str) -> None:
    first, again, other = (meshes(a_shape(kind, seed))[0][0].vertices for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or not np.allclose(first, other)


def test_a_ball_is_round() -> None:
    """Of single round balls of a kind that may be flattened, all points are as far from the middle."""
    spread = []
    for seed in range(40):
        ((mesh, _),) = meshes(a_shape("balls", seed))
        if len(mesh.vertices) == 25 * 13:
            spread.append(float(np.ptp(np.linalg.norm(mesh.vertices - [0, 0, 0.5], axis=1))))
    assert min(spread) < 1e-9 < max(spread)


def test_most_of_what_is_thin_is_empty() -> None:
    """A fence covers little of its rectangle: one looks through it."""
    for seed in range(10):
        ((mesh, _),) = meshes(a_shape("fence", seed))
        wide, _, tall = extent(a_shape("fence", seed))
        corners = mesh.vertices[mesh.faces][..., [0, 2]]
        across, up = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
        seen = np.abs(across[:, 0] * up[:, 1] - across[:, 1] * up[:, 0]).sum() / 2 / 2  # each rod has two sides
        assert 0.02 < seen / (wide * tall) < 0.75


def grown(scene: Scene) -> list[Item]:
    return [item for item in scene.items if isinstance(item.what, Shape)]


def test_a_share_of_the_scenes_is_grown() -> None:
    drawn = {share: [sample_scene(replace(STOCK, grown=share), np.random.default_rng(n)) for n in range(60)]
             for share in (0.0, 0.5, 1.0)}  # fmt: skip
    counts = {share: sum(bool(grown(scene)) for scene in scenes) for share, scenes in drawn.items()}
    assert counts[0.0] == 0
    assert 15 < counts[0.5] < 45
    assert counts[1.0] > 55
    kinds = {item.what.kind for scene in drawn[1.0] for item in grown(scene) if isinstance(item.what, Shape)}
    assert kinds == set(SHAPES)


def test_scenes_without_growth_are_as_they_were() -> None:
    """Pictures of a seed that were rendered before there was growth stay what they are: sums noted then."""
    sums = []
    for number in range(8):
        items = sample_scene(STOCK, np.random.default_rng(number)).items
        sums.append(sum(sum(item.position) + item.yaw + sum(item.size) for item in items))
    noted = [993.8659, 94.9147, 81.1954, 109.0139, 1197.1082, 531.5296, 90.4708, 1256.168]
    assert sums == pytest.approx(noted, abs=1e-3)


def test_growth_stands_on_the_ground_within_its_height() -> None:
    for number in range(30):
        scene = sample_scene(replace(STOCK, grown=1.0), np.random.default_rng(number))
        for item in grown(scene):
            assert isinstance(item.what, Shape)
            x, y, z = item.position
            assert z == pytest.approx(scene.waves(x, y) if scene.room is None else 0.0, abs=0.03)
            assert np.allclose(np.array(extent(item.what)) * item.size[2], item.size)
            if scene.room is not None:
                assert item.size[2] <= scene.room[2]
            assert {each.photo for each in item.what.surfaces} <= {None, *SOURCES.backgrounds}
