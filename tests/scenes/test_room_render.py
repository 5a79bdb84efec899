"""What Blender makes of a scene: depth against geometry worked out by hand, and one small run from end to end.

Blender's Python module wants an environment of its own (the dependency group `rooms`); there, this file is run by
`python -m pytest --noconftest tests/scenes/test_room_render.py`.
"""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import deeplens.scenes.rooms as rooms
from deeplens.scenes.figure_files import people_of
from deeplens.scenes.furniture import CATALOGUE, Model, read_library
from deeplens.scenes.room_growth import extent, meshes
from deeplens.scenes.room_render import Renderer
from deeplens.scenes.room_scene import Box, Camera, Item, Look, Scene, Shape, Sky, Surface, Waves
from deeplens.scenes.rooms import load_room, render_rooms, room_files
from deeplens.scenes.sources import Sources
from tests.scenes.tiny_people import a_box_of_a_person

pytest.importorskip("bpy", reason="Blender's Python module is not installed (dependency group `rooms`)")
pytest.importorskip("OpenEXR", reason="OpenEXR is not installed (dependency group `rooms`)")

GREY = Surface("plain", ((0.4, 0.4, 0.4), (0.2, 0.2, 0.2)), 1.0, 0.8)
EMPTY = Scene("outdoor", None, GREY, GREY, GREY, GREY, (), None, Waves(), Sky(None, 0.0, 0.8))
CUBE = """mtllib cube.mtl
v 0 0 0\nv 4 0 0\nv 4 2 0\nv 0 2 0\nv 0 0 1\nv 4 0 1\nv 4 2 1\nv 0 2 1
usemtl red
f 4 3 2 1\nf 5 6 7 8\nf 1 2 6 5\nf 2 3 7 6\nf 3 4 8 7\nf 4 1 5 8
"""


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(samples=2)


@pytest.fixture
def cube(tmp_path: Path) -> Model:
    """A library of one model: a box 4 × 2 × 1 in the OBJ, 1 m wide, 2 m deep and 0.5 m high by the catalogue."""
    path = tmp_path / "furniture" / "tiny.sh3f"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as file:
        fields = "model#1=/lib/cube/cube.obj\nwidth#1=100\ndepth#1=200\nheight#1=50\n"
        file.writestr(CATALOGUE, f"license=Public domain\n{fields}")
        file.writestr("lib/cube/cube.obj", CUBE)
        file.writestr("lib/cube/cube.mtl", "newmtl red\nKd 0.8 0.1 0.1\nmap_Kd C:/not/there.jpg\n")
    (model,) = read_library(path)
    return model


def rays(camera: Camera) -> np.ndarray:
    """Directions (320, 320, 3) through the pixels' middles; their part along the optical axis is 1 long."""
    across = ((np.arange(320) + 0.5) / 320 - 0.5) * camera.sensor[0] / camera.focal
    down = ((np.arange(320) + 0.5) / 320 - 0.5) * camera.sensor[1] / camera.focal
    x, y = np.meshgrid(across, -down)
    x, y = np.cos(camera.roll) * x - np.sin(camera.roll) * y, np.sin(camera.roll) * x + np.cos(camera.roll) * y
    sine, cosine = np.sin(camera.pitch), np.cos(camera.pitch)
    ahead, up = cosine - sine * y, sine + cosine * y
    yaw = camera.yaw
    return np.stack([np.cos(yaw) * x - np.sin(yaw) * ahead, np.sin(yaw) * x + np.cos(yaw) * ahead, up], -1)


def hit(camera: Camera, normal: tuple[float, float, float], offset: float) -> np.ndarray:
    """Depth of the plane normal · p = offset; inf where a ray does not meet it."""
    with np.errstate(divide="ignore"):
        depth = (offset - np.dot(normal, camera.position)) / (rays(camera) @ normal)
    return np.where(depth > 0, depth, np.inf)


CAMERAS = [
    Camera((0.5, -1.0, 1.6), 0.0, -0.2, 0.0, 35.0, 1.0),
    Camera((0.5, -1.0, 1.6), 0.4, -0.3, 0.1, 28.0, 4 / 3),
    Camera((-2.0, 1.0, 0.7), -0.7, -0.1, -0.08, 50.0, 9 / 16),
    Camera((0.0, 0.0, 2.4), 2.0, -0.6, 0.05, 24.0, 3 / 2, f_number=1.2, focus=1.0),
]


@pytest.mark.parametrize("camera", CAMERAS)
def test_depth_of_a_floor(renderer: Renderer, tmp_path: Path, camera: Camera) -> None:
    """A level plane, seen with a turned camera of any aspect; a wide aperture must not blur its depth."""
    renderer.build(EMPTY, tmp_path)
    depth, expected = renderer.depth(camera), hit(camera, (0, 0, 1), 0.0)
    near = expected < 100
    assert near.mean() > 0.3
    np.testing.assert_allclose(1 / depth[near], 1 / expected[near], rtol=2e-3, atol=2e-5)
    above = rays(camera)[..., 2] > 0.01
    assert np.isinf(depth[above]).all()


def test_depth_of_a_ball_behind_nothing(renderer: Renderer, tmp_path: Path) -> None:
    """The nearest point of a ball is its distance less its radius; its outline is where the rays touch it."""
    renderer.build(EMPTY, tmp_path)
    renderer.bpy.ops.mesh.primitive_uv_sphere_add(segments=256, ring_count=128, radius=0.5, location=(0, 4, 5))
    camera = Camera((0, 0, 5), 0.0, 0.0, 0.0, 35.0, 4 / 3)
    depth, ray = renderer.depth(camera), rays(camera)
    length = (ray**2).sum(-1)
    along = ray[..., 1] * 4
    root = along**2 - length * (16 - 0.25)
    inside = root > 0.01
    expected = (along - np.sqrt(np.maximum(root, 0))) / length
    np.testing.assert_allclose(depth[inside], expected[inside], atol=2e-3)
    assert depth.min() == pytest.approx(3.5, abs=2e-3)
    outside = (root < -0.01) & (ray[..., 2] > 0.01)
    assert np.isinf(depth[outside]).all()


def test_a_shape_is_as_high_as_its_item_and_two_share_a_mesh(renderer: Renderer, tmp_path: Path) -> None:
    """Two balls of one number, 0.8 and 0.4 m high: discs of the radii and at the depths that geometry says."""
    round_ones = (Shape("balls", seed, (GREY, GREY)) for seed in range(100))
    ball = next(s for s in round_ones if np.allclose(extent(s), 1) and len(meshes(s)[0][0].vertices) == 325)
    items = tuple(Item(ball, (x, 3.0, 0.0), 0.3, (size,) * 3) for x, size in ((-0.6, 0.8), (0.6, 0.4)))
    renderer.build(replace(EMPTY, items=items), tmp_path)
    camera = Camera((0.0, 0.0, 0.4), 0.0, 0.0, 0.0, 35.0, 1.0)
    depth, found = renderer.surfaces(camera)
    ray = rays(camera)
    for number, (x, radius) in enumerate(((-0.6, 0.4), (0.6, 0.2))):
        middle = np.array([x, 3.0, radius]) - camera.position
        along, length = ray @ middle, (ray**2).sum(-1)
        root = along**2 - length * (middle @ middle - radius**2)
        # A ball of 24 × 12 faces lies up to 2 % of its radius inside of the round one.
        expected = (along - np.sqrt(np.maximum(root, 0))) / length
        inside = found == number
        front = inside & (root > 0.3 * radius**2)
        np.testing.assert_allclose(depth[front], expected[front], atol=0.05 * radius)
        assert inside.sum() == pytest.approx((root > 0).sum(), rel=0.05)


def test_a_model_stands_where_it_is_put(renderer: Renderer, tmp_path: Path, cube: Model) -> None:
    """A box of 1 × 2 × 0.5 m, 3 m ahead and turned by a quarter: its side, 2 m wide, is 2.5 m away."""
    item = Item(cube, (0.0, 3.0, 0.0), np.pi / 2, cube.size)
    renderer.build(replace(EMPTY, items=(item,)), tmp_path)
    camera = Camera((0.0, 0.0, 0.25), 0.0, 0.0, 0.0, 35.0, 1.0)
    depth, ray = renderer.depth(camera), rays(camera)
    at = ray * 2.5 + camera.position
    box = (np.abs(at[..., 0]) < 0.99) & (at[..., 2] > 0.01) & (at[..., 2] < 0.49)
    around = (at[..., 2] > 0.51) | (np.abs(at[..., 0]) > 1.01) & (at[..., 2] > 0)
    np.testing.assert_allclose(depth[box], 2.5, atol=1e-3)
    assert depth[around].min() > 2.51
    light = renderer.light(camera)
    red = light[box].mean(0)
    assert red[0] > 3 * red[2], "the material's colour, since its texture is missing"


def test_glass_is_a_surface(renderer: Renderer, tmp_path: Path, cube: Model) -> None:
    """Of a material that lets 70 % through, no ray may be lost or see what is behind."""
    with zipfile.ZipFile(cube.library) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    contents["lib/cube/cube.mtl"] = b"newmtl red\nKd 0.8 0.1 0.1\nd 0.3\n"
    with zipfile.ZipFile(cube.library, "w") as file:
        for name, content in contents.items():
            file.writestr(name, content)
    renderer.build(replace(EMPTY, items=(Item(cube, (0.0, 3.0, 0.0), np.pi / 2, cube.size),)), tmp_path)
    camera = Camera((0.0, 0.0, 0.25), 0.0, 0.0, 0.0, 35.0, 1.0)
    at = rays(camera) * 2.5 + camera.position
    box = (np.abs(at[..., 0]) < 0.99) & (at[..., 2] > 0.01) & (at[..., 2] < 0.49)
    np.testing.assert_allclose(renderer.depth(camera)[box], 2.5, atol=1e-3)


def test_a_cutout_is_its_opaque_part(renderer: Renderer, tmp_path: Path) -> None:
    """A card 2 m wide: its left half green, its right half transparent; it turns to the camera."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :32], pixels[:, 32:], pixels[0, 32:] = (20, 200, 20, 255), (200, 20, 20, 90), (200, 20, 20, 100)
    Image.fromarray(pixels).save(tmp_path / "half.png")
    item = Item(tmp_path / "half.png", (0.0, 3.0, 0.0), 0.0, (2.0, 0.2, 2.0))
    renderer.build(replace(EMPTY, items=(item,)), tmp_path)
    camera = Camera((0.0, 0.0, 1.0), 0.0, 0.0, 0.0, 35.0, 1.0)
    depth, at = renderer.depth(camera), rays(camera) * 3 + camera.position
    card = (at[..., 2] > 0.05) & (at[..., 2] < 1.9)
    left, right = card & (np.abs(at[..., 0] + 0.5) < 0.4), card & (np.abs(at[..., 0] - 0.5) < 0.4)
    np.testing.assert_allclose(depth[left], 3.0, atol=2e-3)
    assert depth[right].min() > 3.1
    green = renderer.light(camera)[left].mean(0)
    assert green[1] > 2 * green[0]


def a_dressed(path: Path, position: tuple[float, float, float], yaw: float = 0.0) -> Item:
    """The box and the lock of `tiny_people` as a person, its skin red."""
    a_box_of_a_person(path)
    (person,) = people_of(path.parent.name, path.parent.parent)
    look = Look((0.6, 0.05, 0.05), (0.02, 0.5, 0.02), (0.1, 0.1, 0.1), ())
    return Item(person, position, yaw, person.size, look)


def test_a_person_is_where_it_is_put(renderer: Renderer, tmp_path: Path) -> None:
    """A box 0.4 × 0.3 × 1.5 m, turned by a quarter, 3 m ahead: its near side is 2.8 m away and 0.3 m wide."""
    item = a_dressed(tmp_path / "people" / "train" / "0.npz", (0.0, 3.0, 0.0), np.pi / 2)
    behind = replace(item, position=(0.0, 6.0, 0.0))
    renderer.build(replace(EMPTY, items=(behind, item)), tmp_path)
    camera = Camera((0.0, 0.0, 1.2), 0.0, 0.0, 0.0, 35.0, 1.0)
    (depth, items), ray = renderer.surfaces(camera), rays(camera)
    np.testing.assert_array_equal(depth, renderer.depth(camera))
    at = ray * 2.8 + camera.position
    inside = (np.abs(at[..., 0]) < 0.145) & (at[..., 2] > 0.01) & (at[..., 2] < 1.495)
    outside = (np.abs(at[..., 0]) > 0.155) & (at[..., 2] < 1.49) & (at[..., 2] > 0)
    np.testing.assert_allclose(depth[inside], 2.8, atol=1e-3)
    assert depth[outside].min() > 2.81
    assert (items[inside] == 1).all()
    assert not (items[outside] == 1).any()
    light = renderer.light(camera)
    assert light[inside].mean(0)[0] > 3 * light[inside].mean(0)[2]


def test_hair_has_exact_depth(renderer: Renderer, tmp_path: Path) -> None:
    """An upright lock, 2 cm across, 1.2 m away: Cycles shows a ribbon through its axis that faces the camera."""
    item = a_dressed(tmp_path / "people" / "train" / "0.npz", (0.0, 1.2, 0.0))
    renderer.build(replace(EMPTY, items=(item,)), tmp_path)
    camera = Camera((0.0, 0.0, 1.66), 0.0, 0.0, 0.0, 60.0, 1.0)
    (depth, items), ray = renderer.surfaces(camera), rays(camera)
    at = ray * 1.2 + camera.position
    level = (at[..., 2] > 1.53) & (at[..., 2] < 1.77)
    lock, beside = level & (np.abs(at[..., 0]) < 0.0098), level & (np.abs(at[..., 0]) > 0.0102)
    assert lock.sum() > 600
    np.testing.assert_allclose(depth[lock], 1.2, atol=1e-3)
    assert depth[beside].min() > 1.5
    assert (items[lock] == 0).all()
    assert (items[beside] == -1).all()
    green = renderer.light(camera)[lock].mean(0)
    assert green[1] > 2 * green[0]


def test_walls_have_windows(renderer: Renderer, tmp_path: Path) -> None:
    """A room 4 × 6 × 2.5 m; in its far wall a window 1 m wide, from 1 to 2 m above the floor."""
    scene = replace(EMPTY, kind="indoor", room=(4.0, 6.0, 2.5), windows=((2, -0.5, 0.5, 1.0, 2.0),))
    renderer.build(scene, tmp_path)
    camera = Camera((0.0, 0.0, 1.25), 0.0, 0.0, 0.0, 24.0, 1.0)
    depth = renderer.depth(camera)
    at = rays(camera) * 3 + camera.position
    wall = (np.abs(at[..., 0]) < 1.98) & (np.abs(at[..., 2] - 1.25) < 1.23)
    window = (np.abs(at[..., 0]) < 0.48) & (at[..., 2] > 1.27) & (at[..., 2] < 1.98)
    around = (np.abs(at[..., 0]) > 0.52) | (at[..., 2] < 0.98) | (at[..., 2] > 2.02)
    assert np.isinf(depth[window]).all()
    np.testing.assert_allclose(depth[wall & around], 3.0, atol=1e-3)


def test_boxes_and_waves(renderer: Renderer, tmp_path: Path) -> None:
    waves = Waves(((0.5, 0.0, 0.3, 0.0),))
    box = Box((0.0, 8.0, 0.0), (2.0, 2.0, 3.0), 0.0, GREY)
    renderer.build(replace(EMPTY, waves=waves, boxes=(box,)), tmp_path)
    down = Camera((0.0, 40.0, 10.0), 0.0, -np.pi / 2 + 1e-4, 0.0, 35.0, 1.0)
    assert renderer.depth(down)[160, 160] == pytest.approx(10 - waves(0, 40), abs=0.05)
    ahead = Camera((0.0, 0.0, 1.5), 0.0, 0.0, 0.0, 50.0, 1.0)
    assert renderer.depth(ahead)[160, 160] == pytest.approx(7.0, abs=1e-3)


def test_from_furniture_to_files(tmp_path: Path, cube: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (80, 120, 3)).astype(np.uint8)).save(tmp_path / "photo.png")
    cutout = rng.integers(0, 256, (90, 60, 4)).astype(np.uint8)
    cutout[..., 3] = 255
    cutout[:20, :20, 3] = 0
    Image.fromarray(cutout).save(tmp_path / "cutout.png")
    sources = Sources(backgrounds=(tmp_path / "photo.png",), cutouts=(tmp_path / "cutout.png",))
    monkeypatch.setattr(rooms, "models_of", lambda *_: [cube])
    monkeypatch.setattr(rooms, "shipped", lambda *_: sources)
    assert render_rooms(out=tmp_path / "rooms", data=tmp_path, split="train", count=2, seed=1) == 2
    for path in room_files("train", tmp_path / "rooms"):
        picture, disparity = load_room(path)
        assert picture.std() > 15
        assert disparity.std() > 0.06
