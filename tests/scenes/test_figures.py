"""People's shapes, poses and clothes: by hand where anny is missing, and one whole person where it is there."""

from math import pi
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="SciPy is not installed (extra `train`)")

from deeplens.console.errors import InputError
from deeplens.scenes import figure_clothes, figure_hair, figure_poses
from deeplens.scenes.figure_clothes import cut_part, pushed_out, surface_of
from deeplens.scenes.figure_files import load_person, people_of
from deeplens.scenes.figure_rig import Rig, Shape, normals, smoothed, triangles
from deeplens.scenes.people import SPLITS, make_people, sample_phenotype, shape_cell


def grid(side: int = 11) -> tuple[np.ndarray, np.ndarray]:
    """A square of 1 m in the plane z = 0 that faces up: vertices (side², 3), quads."""
    x, y = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    vertices = np.stack([x.ravel(), y.ravel(), np.zeros(side**2)], 1)
    corners = np.add.outer(np.arange(side - 1) * side, np.arange(side - 1)).ravel()
    return vertices, np.stack([corners, corners + 1, corners + side + 1, corners + side], 1)


def an_arm() -> tuple[Rig, Shape]:
    """Two bones of 1 m along +x, a vertex at the end of each, and one at the elbow that both move alike."""
    rig = Rig(
        model=None,
        labels=("upper", "lower"),
        parents=(-1, 0),
        bones=np.array([[0, 1]] * 3),
        weights=np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]),
        faces={},
        masks={},
    )
    return rig, Shape(np.array([[0.5, 0, 0], [1, 0, 0], [2, 0, 0]]), np.array([[0.0, 0, 0], [1.0, 0, 0]]))


def test_a_bent_arm() -> None:
    """The upper bone is turned to +y, the lower one a quarter further, to −x."""
    rig, shape = an_arm()
    quarter = figure_poses._about((0, 0, 1), pi / 2)
    posed = rig.posed(shape, {"upper": quarter, "lower": quarter})
    np.testing.assert_allclose(posed.joints, [(0, 0, 0), (0, 1, 0)], atol=1e-6)
    np.testing.assert_allclose(posed.vertices, [(0, 0.5, 0), (0, 1, 0), (-1, 1, 0)], atol=1e-6)
    still = rig.posed(shape, {})
    np.testing.assert_allclose(still.vertices, shape.vertices, atol=1e-6)
    assert rig.weight("low").tolist() == pytest.approx([0, 0.5, 1])


def test_rotations() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        start, end = rng.normal(0, 1, (2, 3))
        turn = figure_poses._between(start, end)
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
        np.testing.assert_allclose(turn @ start / np.linalg.norm(start), end / np.linalg.norm(end), atol=1e-9)
        half = figure_poses._power(turn, 0.5)
        np.testing.assert_allclose(half @ half, turn, atol=1e-9)


def test_poses_are_drawn_from_what_there_is() -> None:
    poses = [figure_poses.sample_pose(np.random.default_rng(seed)) for seed in range(300)]
    assert {pose.stance for pose in poses} == set(figure_poses.STANCES)
    assert {arm for pose in poses for arm in pose.arms} == set(figure_poses.ARMS)
    assert {hand for pose in poses for hand in pose.hands} == set(figure_poses.HANDS)
    assert figure_poses.sample_pose(np.random.default_rng(3)) == poses[3]
    small = [figure_poses.sample_pose(np.random.default_rng(seed), small=True).stance for seed in range(100)]
    assert np.mean([stance in figure_poses.SEATED for stance in small]) > 0.6


def test_smoothing_and_normals() -> None:
    vertices, faces = grid()
    np.testing.assert_allclose(normals(vertices, faces), np.tile((0, 0, 1), (len(vertices), 1)), atol=1e-6)
    rough = vertices + np.random.default_rng(0).normal(0, 0.02, vertices.shape) * (0, 0, 1)
    assert smoothed(rough, faces, rounds=5)[:, 2].std() < 0.4 * rough[:, 2].std()
    flat = smoothed(vertices, faces, rounds=1)
    inside = (np.abs(vertices[:, :2] - 0.5) < 0.49).all(1)
    np.testing.assert_allclose(flat[inside], vertices[inside], atol=1e-6)
    edge = ~inside & (np.abs(vertices[:, 0] - 0.5) < 0.4)
    np.testing.assert_allclose(flat[edge], vertices[edge], atol=1e-6)  # an edge stays where it is


def test_a_cut_is_where_its_field_is_zero() -> None:
    vertices, faces = grid()
    for level in (0.25, 0.33, 0.871):
        part = cut_part("shirt", vertices, faces, level - vertices[:, 0], vertices)
        assert part.faces is not None
        assert part.points[:, 0].max() == pytest.approx(level, abs=1e-5)
        a, b, c = (part.points[part.faces[:, corner]] for corner in range(3))
        area = 0.5 * np.cross(b - a, c - a)[:, 2]
        assert area.sum() == pytest.approx(level, abs=1e-4)
        assert area.min() > -1e-9, "no triangle is turned over"
        assert np.unique(part.faces).size == len(part.points)


def test_finer_faces_cover_the_same() -> None:
    vertices, faces = grid(4)
    means, finer = figure_clothes._finer(figure_clothes._one_each(len(vertices)), triangles(faces))
    points = means @ vertices
    a, b, c = (points[finer[:, corner]] for corner in range(3))
    assert len(finer) == 8 * len(faces)
    area = 0.5 * np.cross(b - a, c - a)[:, 2]
    np.testing.assert_allclose(area, 1 / len(finer), rtol=1e-5)


def test_clothes_stay_outside() -> None:
    vertices, faces = grid()
    points = np.array([[0.5, 0.5, -0.03], [0.5, 0.5, 0.002], [0.2, 0.2, 0.05], [0.5, 0.5, -0.5]])
    moved = pushed_out(points, surface_of(vertices, faces), by=0.01)
    np.testing.assert_allclose(moved[:, 2], [0.01, 0.01, 0.05, -0.5], atol=1e-6)


def test_hair_grows_as_long_as_it_is_told_and_stays_outside() -> None:
    vertices, faces = grid()
    style = figure_hair.Style("long", 0.3, 0.01, 1, 0.2, 0.3, (0, 0, 0))
    under = surface_of(vertices, faces)
    start, way = np.array([[0.5, 0.5, 0.02]]), np.array([[1.0, 0, 0.5]])
    lines = figure_hair._grown(start, way, np.full((1, 1), 0.3), style, under)
    assert lines.shape == (1, figure_hair.STEPS, 3)
    length = np.linalg.norm(np.diff(lines[0], axis=0), axis=1).sum()
    assert 0.24 < length < 0.31, "a step along the surface is a little shorter"
    assert lines[..., 2].min() > 0.002
    assert lines[0, -1, 2] < lines[0, 4, 2] + 0.01, "it falls"
    knot = np.array([0.5, 0.7, 0.3])
    gathered = figure_hair._grown(start, way, np.full((1, 1), 0.35), style, under, knot)
    assert np.linalg.norm(gathered[0, -1] - knot) < 0.12


def test_no_shape_is_in_two_splits() -> None:
    cells = {}
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng(number)
        found = [sample_phenotype(split, rng) for _ in range(300)]
        assert all(0 <= value <= 1 for each in found for value in each.values())
        cells[split] = {shape_cell(each) for each in found}
        ages = np.array([each["age"] for each in found])
        assert 0.1 < (ages < 0.5).mean() < 0.4, "children, too"
    assert not cells["train"] & cells["val"]
    assert not cells["train"] & cells["test"]
    assert not cells["val"] & cells["test"]


def test_an_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train, val, test"):
        make_people(out=tmp_path, split="calibration", count=1, seed=0)


def test_whole_people(tmp_path: Path) -> None:
    """Of real bodies: all ages have a person's height, feet are on the ground, clothes and hair around the body."""
    pytest.importorskip("anny", reason="anny is not installed (dependency group `people`)")
    assert make_people(out=tmp_path, split="val", count=4, seed=5) == 4
    assert make_people(out=tmp_path, split="val", count=4, seed=5) == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "val").glob("*.npz")}
    people = people_of("val", tmp_path)
    assert len({person.size for person in people}) == 4
    for person in people:
        assert 0.3 < person.size[2] < 2.6
        assert 0.5 * person.size[2] < person.eyes[2] < person.size[2]
        pieces = {piece.name: piece for piece in load_person(person.path)}
        assert {"skin", "eyes", "brows", "shirt"} <= pieces.keys()
        skin = pieces["skin"].points
        assert np.linalg.norm(pieces["eyes"].points.mean(0) - person.eyes) < 0.02
        for piece in pieces.values():
            assert np.isfinite(piece.points).all()
            assert piece.points[..., 2].min() > -0.12
            assert np.abs(piece.points).max() < 2.6
            if piece.faces is not None:
                assert piece.faces.max() < len(piece.points)
        assert skin[:, 2].max() > 0.8 * person.eyes[2]
    (tmp_path / "val" / people[1].path.name).unlink()
    assert make_people(out=tmp_path, split="val", count=4, seed=5) == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "val").glob("*.npz")} == first
