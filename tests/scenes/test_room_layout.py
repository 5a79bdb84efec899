"""Rooms, landscapes and cameras as they are drawn, without Blender: many of each, against what must hold for all."""

from collections.abc import Iterator
from itertools import combinations
from math import atan2, cos, hypot, pi, sin
from pathlib import Path

import numpy as np
import pytest

from deeplens.scenes.furniture import Model
from deeplens.scenes.room_cameras import card_yaw, sample_camera
from deeplens.scenes.room_layout import sample_scene
from deeplens.scenes.room_scene import HDRIS, Camera, Item, Scene, Stock, Waves
from deeplens.scenes.sources import Sources


def a_model(name: str, size: tuple[float, float, float], **values: object) -> Model:
    fields = {"category": "Office", "elevation": 0.0, "top": None, "opening": False} | values
    return Model(Path("tiny.sh3f"), f"{name}.obj", licence="CC0-1.0", creator="", size=size, rotation=(), **fields)  # type: ignore[arg-type]


MODELS = [
    a_model("table", (1.4, 0.8, 0.75), top=0.75),
    a_model("sofa", (1.9, 0.9, 0.8)),
    a_model("chair", (0.5, 0.5, 0.9)),
    a_model("cup", (0.1, 0.1, 0.1)),
    a_model("lamp", (0.2, 0.2, 0.4)),
    a_model("clock", (0.3, 0.05, 0.3), elevation=1.6),
    a_model("door", (0.9, 0.1, 2.0), opening=True),
    a_model("tree", (3.0, 3.0, 6.0), category="Exterior"),
    a_model("woman", (0.5, 0.4, 1.7), category="Characters"),
]
SOURCES = Sources(
    backgrounds=tuple(Path(f"photo{number}.jpg") for number in range(4)),
    cutouts=tuple(Path(f"cutout{number}.png") for number in range(4)),
)
STOCK = Stock("train", MODELS, SOURCES, lambda path: 0.5 + int(path.stem[-1]) / 2)


def scenes(count: int = 60, kind: str | None = None) -> Iterator[Scene]:
    for seed in range(count):
        scene = sample_scene(STOCK, np.random.default_rng(seed))
        if kind in (None, scene.kind):
            yield scene


def cameras(scene: Scene, count: int = 10) -> list[Camera]:
    return [sample_camera(scene, np.random.default_rng([7, seed])) for seed in range(count)]


def test_a_seed_is_a_scene() -> None:
    first, again = list(scenes(20)), list(scenes(20))
    assert first == again
    assert len({repr(scene) for scene in first}) == 20
    assert {scene.kind for scene in first} == {"indoor", "outdoor"}
    assert cameras(first[0]) == cameras(again[0])


def test_only_what_the_split_has() -> None:
    for scene in scenes():
        surfaces = [scene.ground, scene.walls, scene.outside, *(box.surface for box in scene.boxes)]
        photos = {surface.photo for surface in surfaces} | {picture.photo for picture in scene.pictures}
        assert photos <= {None, *SOURCES.backgrounds}
        assert {item.what for item in scene.items if isinstance(item.what, Path)} <= set(SOURCES.cutouts)
        assert scene.sky.hdri in (None, *HDRIS["train"])
    names = [name for split in HDRIS.values() for name in split]
    assert len(set(names)) == len(names) == 8


def test_things_do_not_stand_in_each_other() -> None:
    checked = 0
    for scene in scenes():
        for one, other in combinations(scene.items, 2):
            level = one.position[2] < other.position[2] + other.size[2] - 0.02
            level &= other.position[2] < one.position[2] + one.size[2] - 0.02
            if level:
                apart = hypot(one.position[0] - other.position[0], one.position[1] - other.position[1])
                assert apart > 0.8 * (one.radius + other.radius)
                checked += 1
    assert checked > 1000


def test_everything_stands_on_something() -> None:
    on_tables = 0
    for scene in scenes():
        for item in scene.items:
            x, y, z = item.position
            ground = scene.waves(x, y)
            if isinstance(item.what, Model) and item.what.elevation:
                assert z == item.what.elevation
            elif abs(z - ground) > 0.03:
                tables = [each for each in scene.items if isinstance(each.what, Model) and each.what.top == z]
                assert any(_inside(item, table) for table in tables), item
                on_tables += 1
    assert on_tables > 20


def _inside(item: Item, table: Item) -> bool:
    """Whether an item's foot is wholly above a table, whichever way the two are turned."""
    dx, dy = item.position[0] - table.position[0], item.position[1] - table.position[1]
    x, y = cos(table.yaw) * dx + sin(table.yaw) * dy, -sin(table.yaw) * dx + cos(table.yaw) * dy
    return abs(x) + item.radius <= table.size[0] / 2 + 1e-9 and abs(y) + item.radius <= table.size[1] / 2 + 1e-9


def test_rooms_hold_their_things() -> None:
    backs = 0
    for scene in scenes(kind="indoor"):
        assert scene.room is not None
        width, depth, height = scene.room
        for item in scene.items:
            x, y, z = item.position
            assert z + item.size[2] <= height + 0.5  # what stands on a table may reach beyond
            corners = [
                (cos(item.yaw) * a - sin(item.yaw) * b, sin(item.yaw) * a + cos(item.yaw) * b)
                for a in (-item.size[0] / 2, item.size[0] / 2)
                for b in (-item.size[1] / 2, item.size[1] / 2)
            ]
            assert all(abs(x + a) <= width / 2 + 1e-6 and abs(y + b) <= depth / 2 + 1e-6 for a, b in corners)
            if isinstance(item.what, Model) and (item.what.opening or item.what.elevation):
                back = x + sin(item.yaw) * item.size[1] / 2, y - cos(item.yaw) * item.size[1] / 2
                from_wall = min(width / 2 - abs(back[0]), depth / 2 - abs(back[1]))
                assert from_wall == pytest.approx(0.02, abs=1e-6)
                wall = round(item.yaw / (pi / 2)) % 4
                assert wall != scene.open_wall
                backs += 1
        for wall, left, right, lower, upper in scene.windows:
            half = (width if wall % 2 == 0 else depth) / 2
            assert -half < left < right < half
            assert 0 <= lower < upper < height
        for picture in scene.pictures:
            x, y, _ = picture.position
            wall = round(picture.yaw / (pi / 2))
            assert wall not in {scene.open_wall, *(window[0] for window in scene.windows)}
            away = {0: depth / 2 + y, 1: width / 2 - x, 2: depth / 2 - y, 3: width / 2 + x}[wall]
            assert away == pytest.approx(0.01)
    assert backs > 10


def test_landscapes_reach_from_near_to_far() -> None:
    distances = [hypot(*item.position[:2]) for scene in scenes(kind="outdoor") for item in scene.items]
    assert np.percentile(distances, 10) < 5
    assert np.percentile(distances, 90) > 25
    assert any(scene.waves.terms for scene in scenes(kind="outdoor"))
    assert Waves(((1.0, 0.0, 1.0, pi / 2),))(30, 0) == pytest.approx(1.0)  # 12 m away, the waves are in full
    assert Waves(((1.0, 0.0, 1.0, pi / 2),))(0, 0) == 0


def test_cameras_are_where_one_can_be() -> None:
    found = [(scene, camera) for scene in scenes() for camera in cameras(scene)]
    for scene, camera in found:
        x, y, z = camera.position
        if scene.room is not None:
            assert abs(x) < scene.room[0] / 2
            assert abs(y) < scene.room[1] / 2
            assert 0.1 < z < scene.room[2]
        assert 24 <= camera.focal <= 70
        assert max(camera.sensor) == 36
        assert camera.sensor[0] / camera.sensor[1] == pytest.approx(camera.aspect)
        assert -0.8 < camera.pitch < 0.35
        assert abs(camera.roll) < 0.2
    assert len({camera.aspect for _, camera in found}) == 7
    shallow = [camera.f_number for _, camera in found if camera.f_number is not None]
    assert len(shallow) / len(found) == pytest.approx(0.11, abs=0.05)
    assert all(1.2 <= f_number <= 4 for f_number in shallow)
    near = [min(hypot(c.position[0] - i.position[0], c.position[1] - i.position[1]) for i in s.items) for s, c in found]
    assert np.mean(np.less(near, 2)) > 0.4, "many pictures shall have a subject"


def test_no_camera_is_inside_a_thing() -> None:
    for scene in scenes(30):
        for camera in cameras(scene):
            if camera.position == (0.0, 0.0, 1.6):
                continue  # the last resort; its picture is thrown away if it is in something
            for item in scene.items:
                x, y, z = (camera.position[axis] - item.position[axis] for axis in range(3))
                assert hypot(x, y) > item.radius or not 0 <= z <= item.size[2]


@pytest.mark.parametrize("yaw", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("eye", [(0.0, 5.0), (3.0, -2.0), (-4.0, 0.5)])
def test_cards_face_the_camera(yaw: float, eye: tuple[float, float]) -> None:
    item = Item(Path("cutout0.png"), (1.0, 1.0, 0.0), yaw, (1.0, 0.1, 1.0))
    turn = card_yaw(item, Camera((*eye, 1.0), 0, 0, 0, 35, 1))
    normal = -sin(turn), cos(turn)  # +y, turned
    towards = atan2(eye[1] - 1, eye[0] - 1)
    assert normal[0] * cos(towards) + normal[1] * sin(towards) >= cos(0.36)
