"""Draws cameras for a scene. Without Blender."""

from math import atan2, cos, hypot, pi, sin, tan

import numpy as np

from deeplens.scenes.furniture import Model
from deeplens.scenes.room_scene import Camera, Item, Person, Point, Scene, choice, log_uniform, turned

ASPECTS = (4 / 3, 3 / 2, 3 / 4, 2 / 3, 16 / 9, 9 / 16, 1.0)
PORTRAITS = 0.6
"""Share of the cameras that are a portrait's, where there are people."""


def sample_camera(scene: Scene, rng: np.random.Generator) -> Camera:
    """A camera for `scene`: half look at the whole, half are close to one thing, which is often off-centre.

    Where there are people, PORTRAITS of them first are portraits: one person, or its head and shoulders.
    """
    people = any(isinstance(item.what, Person) for item in scene.items)
    portrait = people and rng.random() < PORTRAITS
    for attempt in range(200):
        if portrait and attempt < 60:
            camera = _portrait(scene, rng)
        else:
            camera = _close(scene, rng) if rng.random() < 0.5 else _wide(scene, rng)
        if camera is not None and _is_free(scene, camera.position):
            return camera
    return _camera(scene, (0.0, 0.0, 1.6), (0.0, 5.0, 1.0), rng)


def card_yaw(item: Item, camera: Camera) -> float:
    """How a cut-out turns to a camera: to face it, but for up to 0.35 rad of its own (from `item.yaw`)."""
    x, y, _ = camera.position
    return atan2(y - item.position[1], x - item.position[0]) - pi / 2 + 0.35 * sin(item.yaw)


def _wide(scene: Scene, rng: np.random.Generator) -> Camera | None:
    height = float(np.clip(log_uniform(rng, 0.4, 2.5), 0.3, 2.5))
    if scene.room is None:
        x, y = rng.normal(0, 0.6, 2)
        yaw, away = float(rng.normal(0, 0.3)), 10.0
        target = (float(x - away * sin(yaw)), float(y + away * cos(yaw)))
    else:
        width, depth, top = scene.room
        x, y = rng.uniform(-0.5, 0.5, 2) * (width - 0.6, depth - 0.6)
        target = (float(rng.uniform(-0.45, 0.45) * width), float(rng.uniform(-0.45, 0.45) * depth))
        height = min(height, top - 0.3)
        if hypot(target[0] - x, target[1] - y) < 0.45 * min(width, depth):
            return None
    height += scene.waves(float(x), float(y))
    away = hypot(target[0] - x, target[1] - y)
    pitch = float(np.clip(rng.normal(-0.12, 0.16), -0.61, 0.17))
    return _camera(scene, (float(x), float(y), height), (*target, height + away * tan(pitch)), rng)


def _close(scene: Scene, rng: np.random.Generator) -> Camera | None:
    """Near one of the things, which takes a third of the view or more."""
    things = [item for item in scene.items if scene.room is not None or hypot(*item.position[:2]) < 15]
    if not things:
        return None
    alive = [item for item in things if not isinstance(item.what, Model) or item.what.category == "Characters"]
    item = choice(alive if alive and rng.random() < 0.4 else things, rng)
    extent = max(item.size[2], item.size[0])
    focal = log_uniform(rng, 24, 70)
    away = float(np.clip(extent * focal / (27 * rng.uniform(0.35, 1.1)), 0.45, 4.0)) + item.radius * 0.5
    x, y, z = item.position
    side = float(rng.uniform(-pi, pi) if scene.room is not None else rng.normal(0, 0.5))
    middle = z + item.size[2] * float(rng.uniform(0.3, 0.8))
    eye = (x + away * sin(side), y - away * cos(side), max(0.15, middle + away * float(rng.normal(0.15, 0.2))))
    if scene.room is not None:
        width, depth, height = scene.room
        if abs(eye[0]) > width / 2 - 0.15 or abs(eye[1]) > depth / 2 - 0.15 or eye[2] > height - 0.15:
            return None
    else:
        eye = (*eye[:2], max(eye[2], scene.waves(*eye[:2]) + 0.2))
    aside = float(rng.normal(0, 0.22)) * 30 / focal * away
    target = (x + aside * cos(side), y + aside * sin(side), middle + float(rng.normal(0, 0.1)) * away * 30 / focal)
    if not -0.75 < atan2(target[2] - eye[2], away) < 0.3:
        return None
    return _camera(scene, eye, target, rng, focal=focal, focus=away, subject=scene.items.index(item))


def _portrait(scene: Scene, rng: np.random.Generator) -> Camera | None:
    """One person, from 0.6 to 6 m: head and shoulders, half of it or all of it, mostly seen from where it looks."""
    people = [
        number
        for number, item in enumerate(scene.items)
        if isinstance(item.what, Person) and (scene.room is not None or hypot(*item.position[:2]) < 25)
    ]
    if not people:
        return None
    number = choice(people, rng)
    item = scene.items[number]
    person = item.what
    assert isinstance(person, Person)
    x, y, z = item.position
    across, along = turned(*person.eyes[:2], item.yaw)
    head = (x + across, y + along, z + person.eyes[2])
    framing = rng.choice(["head", "half", "whole"], p=[0.45, 0.30, 0.25])
    extent, below = {"head": (0.50, 0.09), "half": (0.55 * person.eyes[2] + 0.15, 0.22 * person.eyes[2])}.get(
        str(framing), (1.1 * person.size[2], person.eyes[2] - 0.5 * person.size[2])
    )
    aspect, focal = float(rng.choice(ASPECTS)), log_uniform(rng, 24, 70)
    away = extent * focal / (36 / max(1.0, aspect) * float(rng.uniform(0.5, 1.15)))
    if not 0.6 <= away <= 6:
        return None
    look = item.yaw + person.facing + float(rng.normal(0, 0.6) if rng.random() < 0.85 else rng.uniform(-pi, pi))
    middle = head[2] - below
    eye = (head[0] + away * sin(look), head[1] - away * cos(look), middle + away * float(rng.normal(0.04, 0.12)))
    if scene.room is not None:
        width, depth, height = scene.room
        if abs(eye[0]) > width / 2 - 0.15 or abs(eye[1]) > depth / 2 - 0.15 or not 0.15 < eye[2] < height - 0.15:
            return None
    elif eye[2] < scene.waves(*eye[:2]) + 0.2:
        return None
    if not clear_view(scene, number, eye, (head[0], head[1], middle)):
        return None
    wide, high = float(rng.normal(0, 0.17)), float(rng.normal(0, 0.06))
    aside = wide * away * min(1.0, aspect) * 36 / focal
    target = (head[0] + aside * cos(look), head[1] + aside * sin(look), middle + high * away * 30 / focal)
    if not -0.75 < atan2(target[2] - eye[2], away) < 0.3:
        return None
    return _camera(scene, eye, target, rng, focal=focal, focus=away, aspect=aspect, subject=number)


def clear_view(scene: Scene, subject: int, eye: Point, target: Point) -> bool:
    """Whether no other item is between a camera and the item that it is to show."""
    across, along = target[0] - eye[0], target[1] - eye[1]
    length = max(hypot(across, along), 1e-6)
    for number, item in enumerate(scene.items):
        x, y = item.position[0] - eye[0], item.position[1] - eye[1]
        ahead, aside = (x * across + y * along) / length, abs(x * along - y * across) / length
        if number == subject or not 0 < ahead < length or aside > item.radius:
            continue
        level = eye[2] + (target[2] - eye[2]) * ahead / length
        if item.position[2] < level < item.position[2] + item.size[2]:
            return False
    return True


def _camera(
    scene: Scene,
    eye: Point,
    target: Point,
    rng: np.random.Generator,
    *,
    focal: float | None = None,
    focus: float | None = None,
    aspect: float | None = None,
    subject: int | None = None,
) -> Camera:
    """A camera at `eye` that looks at `target`; a tenth have a wide aperture."""
    x, y, z = (target[axis] - eye[axis] for axis in range(3))
    aspect = aspect or float(rng.choice(ASPECTS))
    shallow = rng.random() < (0.2 if focus else 0.03)
    return Camera(
        position=eye,
        yaw=atan2(-x, y),
        pitch=atan2(z, hypot(x, y)),
        roll=float(rng.normal(0, 0.03)),
        focal=focal or log_uniform(rng, 24, 60 if scene.room is None else 40),
        aspect=aspect,
        f_number=float(log_uniform(rng, 1.2, 4.0)) if shallow else None,
        focus=focus or float(log_uniform(rng, 1.5, 5)),
        subject=subject,
    )


def _is_free(scene: Scene, eye: Point) -> bool:
    """Whether nothing stands within 25 cm of a camera, but what is less high than it by that."""
    for item in scene.items:
        x, y, z = item.position
        radius = min(item.radius, 0.3) if isinstance(item.what, Person) else item.radius  # arms reach further
        if hypot(eye[0] - x, eye[1] - y) < radius + 0.25 and z - 0.25 < eye[2] < z + item.size[2] + 0.25:
            return False
    for box in scene.boxes:
        across, along = turned(eye[0] - box.position[0], eye[1] - box.position[1], -box.yaw)
        if abs(across) < box.size[0] / 2 + 0.3 and abs(along) < box.size[1] / 2 + 0.3:
            return False
    return True
