"""The outside truth: its optics against Mitsuba itself, what is shipped of it, and what the command writes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplens.console.errors import InputError, MissingError
from deeplens.evaluation import lens_shapes as shapes
from deeplens.evaluation.lens_render import PLAIN, Renderer
from deeplens.evaluation.lens_scenes import SCENES, LensScene, surfaces
from deeplens.evaluation.lens_shapes import Mesh, Surface, board, facing, grid
from deeplens.evaluation.lens_textures import LONG, Textures, folder_textures
from deeplens.evaluation.lens_truth import (
    APERTURES,
    SHARE,
    Settings,
    Truth,
    corrupt,
    disparity_of,
    lens_truth,
    main,
    optics,
    picture_names,
    shown,
    two_seed_psnr,
)
from deeplens.evaluation.metrics import depth_edge_band, psnr
from deeplens.scenes.planes import Scene
from deeplens.scenes.renderer import Array
from tests.conftest import ROOT

SAMPLES = ROOT / "samples"
SHIPPED = SAMPLES / "lens"
ROOM = LensScene(lambda _of, _rng: [], near=1.25, far=9.0, focal=(0.9, 0.4, 0.1))
TINY = Settings(long_side=64, samples=16)
ONE = "focus0-aperture0"


def of_samples(folder: Path, *scenes: str, **changed: object) -> None:
    """Run the command on the shipped photos, small."""
    options = {"samples": 16, "long_side": 64, "variant": PLAIN, "picture": [ONE], "scene": list(scenes), "threads": 1}
    main(folder, photos=SAMPLES, **(options | changed))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shipped() -> dict[str, Scene]:
    return dict(lens_truth(SHIPPED))


# What needs no Mitsuba.


@given(
    near=st.floats(0.3, 5),
    depth=st.floats(2, 40),
    focal=st.floats(0, 1),
    aperture=st.floats(0.01, 1),
    at=st.floats(0, 1),
)
def test_a_thin_lens_gives_the_harness_its_circles(
    near: float, depth: float, focal: float, aperture: float, at: float
) -> None:
    """A ray through the rim of the lens, followed to the plane in focus and back to the picture."""
    scene = LensScene(ROOM.build, near, near * depth, (0, 0, 0))
    lens = optics(scene, focal=focal, aperture=aperture)
    z = 1 / (1 / scene.far + at * (1 / scene.near - 1 / scene.far))
    met = lens.radius * (1 - lens.focus / z)  # from the rim at the lens to the point on the axis at z
    pixels = met / lens.focus * 640 / (2 * np.tan(np.radians(45 / 2)))
    assert abs(pixels) == pytest.approx(aperture * 640 * 8 / 320 * abs(at - focal), abs=1e-6)


def test_disparity_is_1_near_and_0_far_and_no_depth_lies_outside() -> None:
    found = disparity_of(np.array([[1.25, 9.0], [2.0, 2.25]]), ROOM)
    assert found == pytest.approx(np.array([[1, 0], [(1 / 2 - 1 / 9) / (0.8 - 1 / 9), 0.48387]]), abs=1e-4)
    for depth in (1.2, 9.2, np.inf):
        with pytest.raises(InputError, match="near and far"):
            disparity_of(np.array([[2.0, depth]]), ROOM)


def test_corrupting_moves_edges_by_whole_pixels_and_makes_no_new_depth() -> None:
    disparity = np.zeros((480, 640), np.float32)
    disparity[200:280, 300:380] = 0.75
    reaches = set()
    for seed in range(40):
        changed = corrupt(disparity, seed=seed)
        assert changed.shape == disparity.shape
        assert set(np.unique(changed)) == {0, np.float32(0.75)}
        reaches.add((int((changed > 0).any(axis=1).sum()) - 80) // 2)
    assert reaches == set(range(-4, 5))
    assert np.array_equal(corrupt(disparity, seed=3), corrupt(disparity, seed=3))


def test_samples_fill_a_grid_and_do_not_fall_with_the_aperture() -> None:
    """Errors fall faster than the noise does: rays in proportion to α left noise 6 dB below the errors they judged."""
    counts = [Settings().samples_for(aperture) for aperture in APERTURES]
    assert counts == [900, 1225, 900]
    assert Settings().samples_for(0) == 441
    assert all(round(count**0.5) ** 2 == count for count in counts)


def test_every_scene_is_named_with_three_focal_planes_inside_its_range() -> None:
    assert len(SCENES) >= 13
    assert [name for name, scene in SCENES.items() if scene.highlights] == ["lamps"]
    for scene in SCENES.values():
        assert 0 < scene.near < scene.far
        assert 1 >= scene.focal[0] > scene.focal[1] > scene.focal[2] >= 0
    assert len(set(picture_names())) == 9
    assert shown(ROOM, "focus2-aperture1") == (0.1, 0.5)


@pytest.mark.parametrize("name", ["dunes", "leaves"])
def test_surfaces_face_the_camera_and_stay_below_the_clip_level(name: str) -> None:
    parts = surfaces(name, folder_textures(SAMPLES))
    for part in parts:
        a, b, c = (part.mesh.vertices[part.mesh.faces[:, k]].astype(np.float64) for k in range(3))
        assert (np.einsum("ij,ij->i", np.cross(b - a, c - a), a) <= 1e-9).all()
        assert part.radiance.min() >= 0
        assert part.radiance.max() <= 1


def test_a_silhouette_covers_what_is_opaque() -> None:
    alpha = np.zeros((60, 40), np.uint8)
    alpha[10:50, 5:30] = 255
    alpha[20:30, 10:20] = 127  # a hole: less than half
    mesh = shapes.silhouette(alpha, (0, 0, 2), (4, 0, 0), (0, 6, 0))
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    assert area == pytest.approx((40 * 25 - 100) * 0.01, rel=0.03)  # strips overlap by 2 %
    assert mesh.vertices.min(axis=0) == pytest.approx([0.5, 1, 2])
    assert mesh.vertices.max(axis=0)[:2] == pytest.approx([3, 5], abs=0.01)


def test_what_is_shipped_is_a_photo_that_a_lens_has_blurred(shipped: dict[str, Scene]) -> None:
    assert {name.split("/")[0] for name in shipped} == {"dunes", "leaves"}
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*")) < 1.5e6
    for name, scene in shipped.items():
        height, width = scene.disparity.shape
        assert (height, width) == (192, 256)
        assert scene.picture.dtype == np.uint8
        assert {str(each.dtype) for each in (scene.target, scene.disparity, scene.corrupted)} == {"float32"}
        assert scene.picture.shape == scene.target.shape == (height, width, 3)
        assert 0 <= scene.disparity.min() < 0.05 < 0.6 < scene.disparity.max() <= 1
        radius = scene.aperture * SHARE * width * np.abs(scene.disparity - scene.focal)
        near_edges = depth_edge_band(scene.disparity, SHARE * width)
        photo = scene.picture.astype(np.float32) / 255
        sharp, blurred = (radius < 0.3) & ~near_edges, radius > 2
        assert psnr(photo, scene.target, mask=sharp) > 38, name
        assert psnr(photo, scene.target, mask=blurred) < 30, name


def test_the_optics_that_are_shipped_are_those_of_the_equations(shipped: dict[str, Scene]) -> None:
    for name, scene in shipped.items():
        place, picture = name.split("/")
        made = json.loads((SHIPPED / place / "scene.json").read_text(encoding="utf-8"))
        lens = made["pictures"][picture]
        assert (lens["focal"], lens["aperture"]) == (scene.focal, scene.aperture)
        span = 1 / made["near"] - 1 / made["far"]
        focal_px = 256 / (2 * np.tan(np.radians(made["fov"] / 2)))
        assert lens["radius"] * focal_px * span == pytest.approx(scene.aperture * 256 / 40)
        assert (1 / lens["focus"] - 1 / made["far"]) / span == pytest.approx(scene.focal)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"evaluation\.lens_truth --out"):
        next(lens_truth(tmp_path))
    with pytest.raises(MissingError, match="'coffee'"):
        surfaces("fence", folder_textures(SAMPLES))
    with pytest.raises(MissingError, match="'owl'"):
        Textures({}, {}).cutout("owl", 1.0, (0, 0, 2))


# What Mitsuba says.


@pytest.fixture(scope="module")
def rendering() -> Callable[..., Renderer]:
    pytest.importorskip("mitsuba", reason="Mitsuba (extra `truth`) is not installed")

    def make(*parts: Surface, long_side: int, portrait: bool = False) -> Renderer:
        return Renderer(parts, long_side=long_side, portrait=portrait, variant=PLAIN)

    return make


def white(mesh: Mesh, value: float = 1.0) -> Surface:
    return Surface(facing(mesh), np.full((2, 2, 3), value, np.float32))


def moments(light: Array) -> tuple[float, float, float, float]:
    """Flux, centre (x, y) and mean squared distance from it, in pixels."""
    plane = light[..., 0].astype(np.float64)
    y, x = np.indices(plane.shape) + 0.5
    flux = plane.sum()
    centre_x, centre_y = (plane * x).sum() / flux, (plane * y).sum() / flux
    return flux, centre_x, centre_y, float((plane * ((x - centre_x) ** 2 + (y - centre_y) ** 2)).sum() / flux)


@pytest.mark.parametrize(("focal", "aperture"), [(1.0, 2.0), (0.0, 2.0), (0.1, 4.0)])
def test_a_bright_ball_opens_to_the_predicted_disc(
    rendering: Callable[..., Renderer], focal: float, aperture: float
) -> None:
    """The lens convolves with its disc, which adds half its radius squared to the mean squared distance.

    Apertures above 1 stand for a larger picture: the same radii in pixels from fewer rays.
    """
    at = 0.55
    z = 1 / (1 / ROOM.far + at * (1 / ROOM.near - 1 / ROOM.far))
    renderer = rendering(white(grid(shapes.ball((0.1 * z, -0.05 * z, z), 0.012 * z, parts=16))), long_side=128)
    lens = optics(ROOM, focal=focal, aperture=aperture)
    flux, x, y, spread = moments(renderer.photo(samples=100, seed=1))
    blurred = moments(renderer.picture(radius=lens.radius, focus=lens.focus, samples=100, seed=2))
    focal_px = 64 / LONG
    assert (x, y) == pytest.approx((64 + 0.1 * focal_px, 48 - 0.05 * focal_px), abs=0.05)
    assert blurred[:3] == pytest.approx((flux, x, y), rel=0.03)
    radius = np.sqrt(2 * (blurred[3] - spread))
    assert radius == pytest.approx(aperture * 128 / 40 * abs(at - focal), rel=0.03)
    wrong = optics(ROOM, focal=focal, aperture=0.9 * aperture).radius / lens.radius
    assert radius != pytest.approx(wrong * aperture * 128 / 40 * abs(at - focal), rel=0.03)


def test_what_is_in_focus_is_what_the_pinhole_sees(rendering: Callable[..., Renderer]) -> None:
    rng = np.random.default_rng(0)
    texture = rng.uniform(0, 1, (12, 16, 3)).astype(np.float32)
    z, half = 3.0, 3.3 * LONG
    renderer = rendering(
        Surface(facing(board((-half, -half, z), (2 * half, 0, 0), (0, 2 * half, 0))), texture), long_side=64
    )
    photo = renderer.photo(samples=64, seed=1)
    focused = renderer.picture(radius=0.2, focus=z, samples=64, seed=2)
    elsewhere = renderer.picture(radius=0.2, focus=1.5, samples=64, seed=2)
    assert psnr(focused, photo) > 40 > 30 > psnr(elsewhere, photo)


def test_nothing_adds_or_takes_light(rendering: Callable[..., Renderer]) -> None:
    wall = white(board((-4, -4, 4), (8, 0, 0), (0, 8, 0)), 0.6)
    bar = white(board((-0.1, -4, 2), (0.2, 0, 0), (0, 8, 0)), 0.6)
    renderer = rendering(wall, bar, long_side=32)
    for light in (renderer.photo(samples=16, seed=0), renderer.picture(radius=0.1, focus=3, samples=16, seed=0)):
        assert light == pytest.approx(np.full((24, 32, 3), 0.6), abs=1e-5)


@pytest.mark.parametrize("portrait", [False, True])
def test_depth_is_that_along_the_axis_at_the_pixels_centres(rendering: Callable[..., Renderer], portrait: bool) -> None:
    """A slanted plane z = 4 + x / 2 − y / 4, by hand."""
    plane = white(board((-6, -6, 4 - 3 + 1.5), (12, 0, 6), (0, 12, -3)))
    depth = rendering(plane, long_side=32, portrait=portrait).depth()
    assert depth.shape == ((32, 24) if portrait else (24, 32))
    y, x = np.indices(depth.shape) + 0.5
    x, y = ((each - size / 2) * 2 * LONG / 32 for each, size in ((x, depth.shape[1]), (y, depth.shape[0])))
    assert depth == pytest.approx(4 / (1 - x / 2 + y / 4), rel=1e-5)
    assert np.isinf(rendering(white(board((5, 5, 1), (1, 0, 0), (0, 1, 0))), long_side=32).depth()).all()


@pytest.mark.usefixtures("rendering")
def test_the_command_renders_only_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_samples(tmp_path, "leaves", picture=[ONE, "focus2-aperture1"])
    assert capsys.readouterr().out.count("leaves/focus") == 2
    path = tmp_path / "leaves" / f"{ONE}.npz"
    first = path.read_bytes()
    of_samples(tmp_path, "leaves")
    assert capsys.readouterr().out == ""
    path.unlink()
    of_samples(tmp_path, "leaves")
    assert capsys.readouterr().out.count("leaves/focus") == 1
    assert path.read_bytes() == first
    assert [name for name, _ in lens_truth(tmp_path)] == [f"leaves/{ONE}", "leaves/focus2-aperture1"]

    of_samples(tmp_path, "leaves", seed=1)  # another noise: what was there is not of this set
    assert path.read_bytes() != first
    assert [name for name, _ in lens_truth(tmp_path)] == [f"leaves/{ONE}"]
    assert not list(tmp_path.rglob(".part-*"))

    capsys.readouterr()
    monkeypatch.setattr("deeplens.evaluation.lens_truth.RAYS", (1.0, 2.0, 1.0))  # so is what other rays made
    of_samples(tmp_path, "leaves", seed=1)
    assert capsys.readouterr().out.count("leaves/focus") == 1


@pytest.mark.usefixtures("rendering")
def test_two_seeds_differ_by_noise_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_samples(tmp_path, "leaves", noise=1)
    assert f"leaves/{ONE}" in capsys.readouterr().out.splitlines()[-1]

    def noise(samples: int) -> float:
        settings = Settings(long_side=64, samples=samples)
        truth = Truth("leaves", folder_textures(SAMPLES), tmp_path / str(samples), settings=settings, variant=PLAIN)
        assert list(truth.write([ONE])) == [ONE]
        whole, band = two_seed_psnr(f"leaves/{ONE}", truth, tmp_path / str(samples), settings=settings)
        assert band is not None
        return whole

    assert noise(144) > noise(16) + 6


def test_bad_names_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("mitsuba", reason="Mitsuba (extra `truth`) is not installed")
    wrong: dict[str, object] = {"scene": ["nowhere"], "picture": ["focus9-aperture0"], "variant": "gpu"}
    for name, value in wrong.items():
        with pytest.raises(InputError, match="unknown name '"):
            of_samples(tmp_path, "leaves", **{name: value})


def test_the_shipped_folder_can_be_read_where_it_is_copied(tmp_path: Path, shipped: dict[str, Scene]) -> None:
    """A corrupted depth hangs on the picture's name, not on where the folder lies."""
    copy = tmp_path / "elsewhere"
    shutil.copytree(SHIPPED, copy)
    for name, scene in lens_truth(copy):
        assert np.array_equal(scene.corrupted, shipped[name].corrupted)
