"""People in rooms and landscapes, without Blender: how many, where, what they sit on, and the cameras before them."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from math import cos, hypot, sin

import numpy as np
import pytest

from deeplens.scenes.room_cameras import clear_view, sample_camera
from deeplens.scenes.room_layout import sample_scene
from deeplens.scenes.room_people import DARK, LIGHT, draw_look, seats
from deeplens.scenes.room_scene import Camera, Item, Person, Scene
from tests.scenes.test_room_layout import STOCK, scenes
from tests.scenes.tiny_people import PIECES, a_person

PEOPLE = (
    *(a_person(f"adult{number}", height=1.5 + 0.05 * number, facing=0.1 * number) for number in range(8)),
    a_person("child", height=1.0),
    *(a_person(f"sitter{number}", height=1.3, stance="sit") for number in range(3)),
)
CROWD = replace(STOCK, people=PEOPLE)


def crowded(count: int = 80) -> Iterator[Scene]:
    for seed in range(count):
        yield sample_scene(CROWD, np.random.default_rng(seed))


def those_of(scene: Scene) -> list[Item]:
    return [item for item in scene.items if isinstance(item.what, Person)]


def person_of(item: Item) -> Person:
    assert isinstance(item.what, Person)
    return item.what


def test_half_of_the_scenes_have_people() -> None:
    numbers = [len(those_of(scene)) for scene in crowded(160)]
    assert np.mean(np.greater(numbers, 0)) == pytest.approx(0.5, abs=0.12)
    assert max(numbers) >= 4
    for share in (0.0, 1.0):
        asked = [sample_scene(replace(CROWD, crowded=share), np.random.default_rng(seed)) for seed in range(30)]
        assert np.mean([bool(those_of(scene)) for scene in asked]) == pytest.approx(share, abs=0.1)
    for scene in crowded():
        assert len({person_of(item).path for item in those_of(scene)}) == len(those_of(scene)), "nobody twice"


def test_without_people_scenes_are_as_they_were() -> None:
    """Who has made no people gets the scenes and the cameras that there were before there were any."""
    for scene in scenes(20):
        assert not those_of(scene)
        assert sample_camera(scene, np.random.default_rng(1)) == sample_camera(scene, np.random.default_rng(1))
    empty = replace(STOCK, people=())
    for seed in range(10):
        assert sample_scene(empty, np.random.default_rng(seed)) == sample_scene(STOCK, np.random.default_rng(seed))


def test_a_seed_is_a_crowd() -> None:
    assert list(crowded(12)) == list(crowded(12))


def test_people_stand_on_the_ground_and_nowhere_else() -> None:
    distances = []
    for scene in crowded():
        for item in those_of(scene):
            x, y, z = item.position
            assert scene.waves(x, y) - 0.15 < z <= scene.waves(x, y) + 1e-9
            assert item.size == person_of(item).size
            if scene.room is not None:
                assert max(abs(x) - scene.room[0] / 2, abs(y) - scene.room[1] / 2) < 0
            else:
                distances.append(hypot(x, y))
        for one, other in combinations(scene.items, 2):
            if isinstance(one.what, Person) and isinstance(other.what, Person):
                apart = hypot(one.position[0] - other.position[0], one.position[1] - other.position[1])
                assert apart > 0.8 * (one.radius + other.radius)
    assert np.percentile(distances, 10) < 5
    assert np.percentile(distances, 90) > 15


def test_who_sits_sits_on_something() -> None:
    checked = 0
    for scene in crowded():
        for item in those_of(scene):
            person = person_of(item)
            if person.seat is None:
                assert seats(item, scene.ground) == []
                continue
            x, y, z = item.position
            hips = (
                x + cos(item.yaw) * person.hips[0] - sin(item.yaw) * person.hips[1],
                (y + sin(item.yaw) * person.hips[0] + cos(item.yaw) * person.hips[1]),
            )
            under = [
                box
                for box in scene.boxes
                if box.position[2] + box.size[2] == pytest.approx(z + person.seat)
                and hypot(box.position[0] - hips[0], box.position[1] - hips[1]) < 0.5 * box.size[1]
            ]
            assert len(under) == 1
            assert under[0].yaw == item.yaw
            checked += 1
    assert checked > 5


def test_portraits_show_a_person() -> None:
    """Portraits are a good part of the views; the eyes are in the picture, at the distance that is focused on."""
    portraits, views = [], 0
    for scene in crowded():
        if not those_of(scene):
            continue
        for seed in range(10):
            camera = sample_camera(scene, np.random.default_rng([5, seed]))
            views += 1
            if camera.subject is not None and isinstance(scene.items[camera.subject].what, Person):
                portraits.append((scene, camera))
    assert len(portraits) / views > 0.35
    seen = []
    for scene, camera in portraits:
        assert camera.subject is not None
        item = scene.items[camera.subject]
        across, up, ahead = projected(camera, eyes_of(item))
        assert ahead > 0
        seen.append(max(abs(across), abs(up)) < 1)
        assert 0.3 < camera.focus < 8
    assert np.mean(seen) > 0.85
    sides = [abs(projected(camera, eyes_of(scene.items[camera.subject or 0]))[0]) for scene, camera in portraits]
    assert np.percentile(sides, 75) > 0.25, "often off-centre"


def eyes_of(item: Item) -> np.ndarray:
    x, y, z = person_of(item).eyes
    turn = np.array([[cos(item.yaw), -sin(item.yaw), 0], [sin(item.yaw), cos(item.yaw), 0], [0, 0, 1]])
    return np.asarray(turn @ (x, y, z) + item.position)


def projected(camera: Camera, point: np.ndarray) -> tuple[float, float, float]:
    """Where a point is in the picture, −1 to 1 across and up, and how far ahead in metres; the roll is left out."""
    x, y, z = point - camera.position
    across, along = cos(camera.yaw) * x + sin(camera.yaw) * y, -sin(camera.yaw) * x + cos(camera.yaw) * y
    ahead = cos(camera.pitch) * along + sin(camera.pitch) * z
    up = -sin(camera.pitch) * along + cos(camera.pitch) * z
    width, height = camera.sensor
    return 2 * camera.focal * across / ahead / width, 2 * camera.focal * up / ahead / height, ahead


def test_who_is_hidden_is_no_subject() -> None:
    scene = next(scene for scene in crowded() if those_of(scene))
    look = those_of(scene)[0].look
    far, near = (Item(PEOPLE[0], (0.0, y, 0.0), 0.0, PEOPLE[0].size, look) for y in (6.0, 3.0))
    eye, target = (0.0, 0.0, 1.2), (0.0, 6.0, 1.2)
    assert clear_view(replace(scene, items=(far,)), 0, eye, target)
    assert not clear_view(replace(scene, items=(far, near)), 0, eye, target)
    assert clear_view(replace(scene, items=(far, replace(near, position=(2.0, 3.0, 0.0)))), 0, eye, target)
    assert clear_view(replace(scene, items=(far, near)), 0, (0.0, 0.0, 3.0), (0.0, 6.0, 3.0)), "over its head"


def test_colours() -> None:
    rng = np.random.default_rng(0)
    tones = []
    for fair in np.linspace(0, 1, 300):
        look = draw_look(CROWD, replace(PEOPLE[0], fair=float(fair)), rng)
        assert {name for name, _ in look.cloth} == set(PIECES) - {"skin", "hair"}
        for colour in (look.skin, look.hair, look.iris):
            assert all(0 < value < 1 for value in colour)
        assert look.skin[0] > look.skin[2], "redder than blue"
        tones.append(look.skin[0])
    assert min(tones) < 1.5 * DARK[0]
    assert max(tones) > 0.9 * LIGHT[0]
    grey = [max(draw_look(CROWD, replace(PEOPLE[0], fair=0.1, old=1.0), rng).hair) for _ in range(50)]
    dark = [max(draw_look(CROWD, replace(PEOPLE[0], fair=0.1, old=0.0), rng).hair) for _ in range(50)]
    assert np.median(grey) > 5 * np.median(dark)
