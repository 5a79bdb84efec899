"""Scenes from photos with measured depth: on planes, where the exact renderer knows the answer, and their files."""

from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from deeplens.console.errors import MissingError
from deeplens.evaluation import rgbd
from deeplens.evaluation.metrics import psnr
from deeplens.evaluation.rgbd import (
    Picture,
    fill_from_behind,
    layers,
    main,
    make_scene,
    margin,
    render_facing,
    resized,
    rgbd_scenes,
)
from deeplens.runtimes.photo import write_photo
from deeplens.scenes.planes import PhotoConfig, Scene
from deeplens.scenes.renderer import (
    Array,
    Plane,
    composite,
    linear_to_srgb,
    render_exact,
    srgb_to_linear,
    visible_disparity,
)
from tests.support.tiny import textured

RADIUS = 5.0
BORDER = margin(RADIUS)
SIZE = 60 + 2 * BORDER
POINTS = 96
INNER = slice(BORDER, -BORDER)


def planes(front: float = 0.9) -> list[Plane]:
    """A background, the same in each column, and a square before it."""
    square = np.pad(np.ones((30, 30), np.float32), (SIZE - 30) // 2)
    back = np.repeat(textured(SIZE, 1, seed=1), SIZE, axis=1)
    light = [
        srgb_to_linear(photo.astype(np.float32) / np.float32(255)) for photo in (back, textured(SIZE, SIZE, seed=2))
    ]
    return [
        Plane(light[0], np.ones((SIZE, SIZE), np.float32), (0.1, 0.0, 0.0)),
        Plane(light[1] * square[..., None], square, (front, 0.0, 0.0)),
    ]


def photographed(scene: list[Plane]) -> tuple[np.ndarray, Array]:
    photo = np.rint(linear_to_srgb(composite(scene)) * 255).astype(np.uint8)
    return photo, visible_disparity(scene)


def made(scene: list[Plane], *, focal: float, aperture: float) -> Scene:
    photo, disparity = photographed(scene)
    return make_scene(photo, disparity, focal=focal, aperture=aperture, radius=RADIUS, seed=1, points=POINTS)


def exact(scene: list[Plane], *, focal: float, radius: float) -> np.ndarray:
    return linear_to_srgb(render_exact(scene, focal=focal, radius=radius, points=POINTS)[INNER, INNER])


class TestTruth:
    def test_a_sharp_front_is_as_the_true_planes(self) -> None:
        """What the square hides is as what is beside it, but at its top and bottom."""
        scene = made(planes(), focal=0.9, aperture=1.0)
        sides = slice(22, 38)  # the middle rows of the square and of what is beside it
        assert psnr(scene.target[sides], exact(planes(), focal=0.9, radius=RADIUS)[sides]) > 60
        for scale in (0.85, 1.15):
            assert psnr(scene.target[sides], exact(planes(), focal=0.9, radius=scale * RADIUS)[sides]) < 60

    def test_a_blurred_front_is_as_the_true_planes(self) -> None:
        scene = made(planes(), focal=0.1, aperture=0.5)
        sides = slice(22, 38)
        assert psnr(scene.target[sides], exact(planes(), focal=0.1, radius=0.5 * RADIUS)[sides]) > 60
        assert psnr(scene.target[sides], exact(planes(), focal=0.1, radius=0.6 * RADIUS)[sides]) < 60
        photo = scene.picture.astype(np.float32) / np.float32(255)
        assert psnr(photo[sides], exact(planes(), focal=0.1, radius=0.5 * RADIUS)[sides]) < 35

    def test_in_focus_it_is_the_photo(self) -> None:
        photo, disparity = photographed(planes())
        closed = made(planes(), focal=0.5, aperture=0.0)
        np.testing.assert_array_equal(closed.picture, photo[INNER, INNER])
        np.testing.assert_array_equal(closed.disparity, disparity[INNER, INNER])
        np.testing.assert_array_equal(np.rint(closed.target * 255), closed.picture)
        assert (np.rint(made(planes(), focal=0.5, aperture=1.0).target * 255) != closed.picture).any()

    def test_the_corrupted_depth_is_the_true_one_dilated_or_eroded(self) -> None:
        scene = made(planes(), focal=0.5, aperture=0.0)
        grown = {int((scene.corrupted == 0.9).any(axis).sum()) - 30 for axis in (0, 1)}
        assert len(grown) == 1
        assert abs(grown.pop()) in (2, 4, 6, 8)
        photo, disparity = photographed(planes())
        again = [
            make_scene(photo, disparity, focal=0.5, aperture=0.0, radius=RADIUS, seed=seed, points=1).corrupted
            for seed in (1, 1, 2, 3, 4)
        ]
        np.testing.assert_array_equal(again[0], again[1])
        assert any((other != again[0]).any() for other in again[2:])


class TestLayers:
    @settings(max_examples=25)
    @given(npst.arrays(np.float32, st.tuples(*[st.integers(1, 9)] * 2), elements=st.floats(0, 1, width=32)))
    def test_composited_they_are_the_picture(self, disparity: Array) -> None:
        light = np.random.default_rng(0).random((*disparity.shape, 3), dtype=np.float32)
        np.testing.assert_allclose(composite(layers(light, disparity, focal=0.3, radius=6.0)), light, atol=1e-6)

    @pytest.mark.parametrize("focal", [0.0, 0.4, 1.0])
    def test_no_hole_opens_between_them(self, focal: float) -> None:
        """Steps, a slope and noise: seen from any point of the aperture, something is everywhere."""
        rows, columns = np.indices((70, 70)) / 70
        disparity = np.where(columns < 0.5, rows, 0.2).astype(np.float32)
        disparity[20:40, 20:50] = 0.9
        disparity[50:54] = np.random.default_rng(0).random((4, 70))
        white = np.ones((70, 70, 3), np.float32)
        found = layers(white, disparity, focal=focal, radius=8.0)
        covered = render_facing(found, focal=focal, radius=8.0, margin=margin(8.0), points=48)
        np.testing.assert_allclose(covered, 1, atol=1e-5)

    def test_hidden_parts_take_the_colour_behind(self) -> None:
        """Not that of a rim which the photo mixed from both."""
        photo, disparity = photographed(planes())
        light = srgb_to_linear(photo.astype(np.float32) / np.float32(255))
        top = (SIZE - 30) // 2
        light[top : top + 30, top - 1] = 1.0  # a column of mixed colour, left of the square
        back = layers(light, disparity, focal=0.1, radius=RADIUS)[0]
        np.testing.assert_allclose(back.light[SIZE // 2, top : top + 4], light[SIZE // 2, [top - 2] * 4], atol=1e-6)
        assert back.coverage[SIZE // 2, top + 3] == 1
        assert back.coverage[SIZE // 2, SIZE // 2] == 0, "farther than the blur uncovers"

    @pytest.mark.parametrize("tile", [16, 128])
    def test_shifting_whole_planes_is_the_exact_renderer(self, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rgbd, "TILE", tile)
        scene = [*planes(front=0.6), Plane(planes()[1].light, planes()[1].coverage, (0.75, 0.0, 0.0))]
        found = render_facing(scene, focal=0.3, radius=RADIUS, margin=BORDER, points=24)
        expected = render_exact(scene, focal=0.3, radius=RADIUS, points=24)[INNER, INNER]
        np.testing.assert_allclose(found, expected, atol=1e-5)


class TestReading:
    def test_unknown_depth_is_filled_from_the_farther_side(self) -> None:
        gap, nothing = np.inf, np.nan
        measured = np.array(
            [[gap, 1, gap, 3, -gap], [gap, gap, gap, gap, gap], [5, nothing, nothing, 2, 2]], np.float32
        )
        expected = [[1, 1, 1, 3, 3], [1, 1, 1, 3, 3], [5, 2, 2, 2, 2]]
        np.testing.assert_array_equal(fill_from_behind(measured), expected)

    def test_no_depth_arises_between_two(self) -> None:
        disparity = np.where(np.indices((40, 60))[1] < 31, np.float32(0.2), np.float32(0.8))
        photo, smaller = resized(textured(40, 60, seed=3), disparity, 45)
        assert photo.shape == (30, 45, 3)
        assert smaller.shape == (30, 45)
        assert set(np.unique(smaller)) == {np.float32(0.2), np.float32(0.8)}


class TestFiles:
    @pytest.fixture
    def data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A data folder with a photo of two planes, and the settings small."""
        photo, disparity = photographed(planes())
        (tmp_path / "rgbd").mkdir()
        write_photo(tmp_path / "rgbd" / "square.png", photo)
        np.savez(tmp_path / "rgbd" / "square.npz", disparity)
        config = PhotoConfig(size=60, steps=1)
        monkeypatch.setattr(rgbd, "TEST_CONFIG", config)
        focus = {"square": (0.5, 0.5), "wall": (0.1, 0.1)}
        square = Picture("square", ("square.png", "square.npz"), rgbd.read_motorcycle, focus)
        monkeypatch.setattr(rgbd, "PICTURES", (square,))
        monkeypatch.setattr(rgbd, "make_scene", partial(make_scene, points=4))
        return tmp_path

    def test_the_command_writes_scenes_and_keeps_them(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        main(data)
        found = dict(rgbd_scenes(data / "rgbd"))
        assert list(found) == ["square/square-0.5", "square/square-1", "square/wall-0.5", "square/wall-1"]
        assert [scene.aperture for scene in found.values()] == [0.5, 1.0, 0.5, 1.0]
        assert {(name.split("-")[0], round(scene.focal, 6)) for name, scene in found.items()} == {
            ("square/square", 1.0), ("square/wall", 0.0)
        }  # fmt: skip
        for scene in found.values():
            assert max(scene.picture.shape[:2]) == 60
            assert scene.picture.dtype == np.uint8
            assert scene.picture.shape == scene.target.shape
            for field in fields(Scene)[1:4]:
                values = getattr(scene, field.name)
                assert values.dtype == np.float32
                assert values.shape[:2] == scene.picture.shape[:2]
                assert 0 <= values.min() <= values.max() <= 1

        def no_scene(*_arguments: object, **_options: object) -> None:
            raise AssertionError

        monkeypatch.setattr(rgbd, "make_scene", no_scene)
        main(data)

    def test_what_is_missing_is_named(self, data: Path, tmp_path: Path) -> None:
        with pytest.raises(MissingError, match=r"evaluation\.rgbd"):
            list(rgbd_scenes(data / "rgbd"))
        (data / "rgbd" / "square.png").unlink()
        with pytest.raises(MissingError, match=r"square\.png does not exist.*make data"):
            main(data)
        assert not (tmp_path / "rgbd" / "scenes").exists()
