"""Draws rooms and landscapes: what they are made of, and what stands where. Without Blender."""

from collections.abc import Collection
from math import cos, hypot, pi, sin
from pathlib import Path

import numpy as np

from deeplens.scenes.furniture import Model
from deeplens.scenes.room_growth import drawn_growth
from deeplens.scenes.room_people import drawn_people, posed_item, seats
from deeplens.scenes.room_scene import (
    HDRIS,
    PATTERNS,
    Box,
    Colour,
    Item,
    Lamp,
    Person,
    Picture,
    Point,
    Scene,
    Shape,
    Sky,
    Stock,
    Surface,
    Waves,
    choice,
    log_uniform,
    turned,
)


def sample_scene(stock: Stock, rng: np.random.Generator) -> Scene:
    """A scene: 55 % indoors, the others outdoors."""
    return _indoor(stock, rng) if rng.random() < 0.55 else _outdoor(stock, rng)


def _indoor(stock: Stock, rng: np.random.Generator) -> Scene:
    width, depth, height = (float(rng.uniform(*span)) for span in ((3, 8), (3.5, 10), (2.3, 3.6)))
    room = (width, depth, height)
    open_wall = int(rng.integers(4)) if rng.random() < 0.25 else None
    walls = set(range(4)) - {open_wall}
    windows = []
    for wall in rng.permutation(4)[: int(rng.integers(1, 4))]:
        half = (width if wall % 2 == 0 else depth) / 2
        left, lower = rng.uniform(-0.8, 0.1) * half, rng.uniform(0.0, 1.1)
        right, upper = min(left + rng.uniform(0.8, 2.5), 0.95 * half), min(lower + rng.uniform(0.9, 2.0), height - 0.1)
        windows.append((int(wall), float(left), float(right), float(lower), float(upper)))
    stands = [model for model in stock.models if _is_indoor(model) and model.elevation == 0 and not model.opening]
    hangs = [model for model in stock.models if (model.elevation > 0.2 or model.opening) and model.size[2] < height]
    few = [stands[int(index)] for index in rng.permutation(len(stands))[:14]]
    large = [model for model in few if max(model.size) > 0.45]
    small = [model for model in few if max(model.size) <= 0.45]
    items: list[Item] = []
    boxes: list[Box] = []
    for person in drawn_people(stock, rng):
        if _stand(items, person, room, rng, size=person.size):
            items[-1] = posed_item(stock, items[-1], (0.0, 0.0), rng)
            boxes += seats(items[-1], _surface(stock, rng, photos=0.2))
    for shape, size in drawn_growth(stock, lambda: _surface(stock, rng, photos=0.2), rng, indoor=True):
        _stand(items, shape, room, rng, size=size)
    for _ in range(int(rng.integers(5, 16))):
        if large:
            model = choice(large, rng)
            _stand(items, model, room, rng, size=model.size, walls=walls if rng.random() < 0.55 else ())
    for _ in range(int(rng.integers(1, 5))):
        path = choice(stock.sources.cutouts, rng)
        _stand(items, path, room, rng, size=_card(stock, path, float(log_uniform(rng, 0.35, 1.9))))
    supports = [item for item in items if isinstance(item.what, Model) and _is_support(item.what)]
    for _ in range(int(rng.integers(3, 14))):
        if rng.random() < 0.2:
            path = choice(stock.sources.cutouts, rng)
            what: Model | Path = path
            size = _card(stock, path, float(rng.uniform(0.12, 0.5)))
        elif small:
            model = choice(small, rng)
            what, size = model, model.size
        else:
            continue
        if supports and rng.random() < 0.75:
            _put_on(items, what, size, choice(supports, rng), rng)
        else:
            _stand(items, what, room, rng, size=size)
    for _ in range(int(rng.integers(0, 4))):
        if hangs:
            model = choice(hangs, rng)
            _stand(items, model, room, rng, size=model.size, walls=walls)
    blank = sorted(walls - {window[0] for window in windows})
    pictures = []
    for _ in range(int(rng.integers(0, 4)) if blank else 0):
        pictures.append(_on_wall(choice(stock.sources.backgrounds, rng), room, choice(blank, rng), rng))
    lamps = []
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(-0.4, 0.4, 2) * (width, depth)
        warm = float(rng.uniform(0.55, 1.0))
        lamps.append(
            Lamp(
                position=(float(x), float(y), height - 0.06),
                power=float(log_uniform(rng, 15, 150)),
                colour=(1.0, (1 + warm) / 2, warm),
                size=float(rng.uniform(0.1, 1.2)),
            )
        )
    return Scene(
        kind="indoor",
        room=room,
        ground=_surface(stock, rng, photos=0.35),
        walls=_surface(stock, rng, photos=0.25),
        ceiling=Surface("plain", ((0.75, 0.75, 0.73), (0.6, 0.6, 0.6)), 1.0, 0.9),
        outside=_surface(stock, rng, photos=0.5),
        windows=tuple(windows),
        open_wall=open_wall,
        waves=Waves(),
        sky=_sky(stock, rng, clear=0.3),
        boxes=tuple(boxes),
        pictures=tuple(pictures),
        items=tuple(items),
        lamps=tuple(lamps),
    )


def _outdoor(stock: Stock, rng: np.random.Generator) -> Scene:
    waves = Waves()
    if rng.random() < 0.45:
        terms = []
        for _ in range(4):
            length, heading = log_uniform(rng, 8, 60), rng.uniform(0, 2 * pi)
            turn = 2 * pi / length
            height = float(rng.uniform(0.004, 0.02) * length)
            terms.append((height, turn * cos(heading), turn * sin(heading), float(rng.uniform(0, 2 * pi))))
        waves = Waves(tuple(terms))
    stands = [model for model in stock.models if model.elevation == 0 and not model.opening]
    weights = np.array([4.0 if model.category in ("Exterior", "Vehicles", "Characters") else 1.0 for model in stands])
    few = rng.choice(len(stands), min(10, len(stands)), replace=False, p=weights / weights.sum())
    items: list[Item] = []
    boxes: list[Box] = []
    for person in drawn_people(stock, rng):
        if _scatter(items, person, person.size, waves, rng, together=rng.random() < 0.35):
            items[-1] = posed_item(stock, items[-1], (0.0, 0.0), rng)
            boxes += seats(items[-1], _surface(stock, rng, photos=0.2))
    for shape, size in drawn_growth(stock, lambda: _surface(stock, rng, photos=0.2), rng, indoor=False):
        _scatter(items, shape, size, waves, rng, far=4 + 8 * size[2])
    for _ in range(int(rng.integers(14, 45))):
        if rng.random() < 0.35:
            path = choice(stock.sources.cutouts, rng)
            what: Model | Path = path
            size = _card(stock, path, float(log_uniform(rng, 0.3, 4.0)))
        else:
            what = stands[int(rng.choice(few))]
            size = _scaled(what.size, float(rng.uniform(0.8, 1.4)))
        _scatter(items, what, size, waves, rng)
    if rng.random() < 0.4:  # a wall or a fence
        away, heading, height = log_uniform(rng, 3, 30), float(rng.normal(0, 0.5)), float(rng.uniform(0.6, 3.0))
        size = (float(rng.uniform(4, 60)), float(rng.uniform(0.08, 0.4)), height)
        place = float(rng.normal(0, 4)), float(away)
        boxes.append(Box((*place, waves(*place) - 0.3), size, heading, _surface(stock, rng, photos=0.3)))
    for _ in range(int(rng.integers(0, 7)) if rng.random() < 0.6 else 0):  # houses
        away, aside = float(log_uniform(rng, 12, 110)), float(rng.uniform(-0.7, 0.7))
        place = away * sin(aside), away * cos(aside)
        size = (float(rng.uniform(4, 18)), float(rng.uniform(4, 14)), float(log_uniform(rng, 3, 25)))
        if away > 1.2 * hypot(size[0], size[1]):
            boxes.append(
                Box((*place, waves(*place) - 1), size, float(rng.uniform(0, pi)), _surface(stock, rng, photos=0.4))
            )
    pictures: tuple[Picture, ...] = ()
    if rng.random() < 0.35:  # a landscape far away
        away = float(log_uniform(rng, 50, 180))
        wide = float(rng.uniform(1.7, 2.6)) * away
        photo = choice(stock.sources.backgrounds, rng)
        pictures = (Picture(photo, (0.0, away, -0.03 * away), (wide, wide * float(rng.uniform(0.4, 0.7))), pi),)
    ground = _surface(stock, rng, photos=0.5)
    return Scene(
        kind="outdoor",
        room=None,
        ground=ground,
        walls=ground,
        ceiling=ground,
        outside=ground,
        windows=(),
        open_wall=None,
        waves=waves,
        sky=_sky(stock, rng, clear=0.4),
        boxes=tuple(boxes),
        pictures=pictures,
        items=tuple(items),
    )


def _surface(stock: Stock, rng: np.random.Generator, *, photos: float) -> Surface:
    photo = choice(stock.sources.backgrounds, rng) if rng.random() < photos else None
    first = rng.uniform(0.03, 0.85) * (1 + rng.normal(0, 0.18, 3))
    side = float(rng.uniform(0.12, 0.5))
    left, top = float(rng.uniform(0, 1 - side)), float(rng.uniform(0, 1 - side))
    second = np.clip(first * rng.uniform(0.3, 1.8) * (1 + rng.normal(0, 0.1, 3)), 0.01, 0.9)
    return Surface(
        pattern="photo" if photo else choice(PATTERNS, rng),
        colours=(_colour(np.clip(first, 0.01, 0.9)), _colour(second)),
        scale=log_uniform(rng, 0.3, 4.0),
        roughness=float(rng.uniform(0.25, 1.0)),
        photo=photo,
        part=(left, top, left + side, top + side),
    )


def _sky(stock: Stock, rng: np.random.Generator, *, clear: float) -> Sky:
    hdri = None if rng.random() < clear else choice(HDRIS[stock.split], rng)
    return Sky(hdri, float(rng.uniform(0, 2 * pi)), float(rng.uniform(0.1, 1.2)))


def _stand(
    items: list[Item],
    what: Model | Person | Shape | Path,
    room: Point,
    rng: np.random.Generator,
    *,
    size: Point,
    walls: Collection[int] = (),
) -> bool:
    """Put something on the floor where nothing stands, its back to one of `walls` if given; give up after 20 tries.

    Whether it was put there.
    """
    elevation = what.elevation if isinstance(what, Model) else 0.0
    if max(size[:2]) > 0.8 * min(room[:2]) or elevation + size[2] > room[2]:
        return False
    for _ in range(20):
        wall = choice(sorted(walls) or range(4), rng)
        yaw = wall * pi / 2 if walls else float(rng.choice([wall * pi / 2, rng.uniform(0, 2 * pi)]))
        halves = abs(cos(yaw)) * size[0] + abs(sin(yaw)) * size[1], abs(sin(yaw)) * size[0] + abs(cos(yaw)) * size[1]
        free = room[0] / 2 - halves[0] / 2 - 0.02, room[1] / 2 - halves[1] / 2 - 0.02
        if min(free) <= 0:
            continue
        x, y = float(rng.uniform(-1, 1) * free[0]), float(rng.uniform(-1, 1) * free[1])
        if walls:  # turned by yaw, the back of a thing faces (sin yaw, −cos yaw)
            x = free[0] * round(sin(yaw)) if wall % 2 else x
            y = -free[1] * round(cos(yaw)) if wall % 2 == 0 else y
        item = Item(what, (x, y, elevation), yaw, size)
        if not any(_overlap(item, other) for other in items):
            items.append(item)
            return True
    return False


def _put_on(items: list[Item], what: Model | Path, size: Point, support: Item, rng: np.random.Generator) -> None:
    """Put something on a table or shelf, where there is room."""
    assert isinstance(support.what, Model)
    room = [support.size[axis] / 2 - hypot(size[0], size[1]) / 2 for axis in (0, 1)]
    if min(room) <= 0 or support.what.top is None:
        return
    for _ in range(6):
        across, along = turned(float(rng.uniform(-1, 1)) * room[0], float(rng.uniform(-1, 1)) * room[1], support.yaw)
        x, y, z = support.position
        yaw = float(rng.uniform(0, 2 * pi))
        item = Item(what, (x + across, y + along, z + support.what.top), yaw, size)
        if not any(_overlap(item, other) for other in items if other is not support):
            items.append(item)
            return


def _scatter(
    items: list[Item],
    what: Model | Person | Shape | Path,
    size: Point,
    waves: Waves,
    rng: np.random.Generator,
    *,
    together: bool = False,
    far: float = 60,
) -> bool:
    """Put something on the ground from 1.5 m to `far` away where nothing stands, or `together` with what was put last.

    Whether it was put there, within 10 tries.
    """
    last = items[-1].position if together and items else None
    for _ in range(10):
        away, aside = float(log_uniform(rng, 1.5, far)), float(rng.uniform(-0.7, 0.7))
        x, y = away * sin(aside), away * cos(aside)
        if last is not None:
            x, y = last[0] + float(rng.normal(0, 0.8)), last[1] + float(rng.normal(0, 0.8))
            away = hypot(x, y)
        steps = (-0.2, 0.0, 0.2) if isinstance(what, Person) else (0.0,)
        level = min(waves(x + dx, y + dy) for dx in steps for dy in steps)
        item = Item(
            what, (x, y, level - (0.0 if isinstance(what, Person) else 0.02)), float(rng.uniform(0, 2 * pi)), size
        )
        if away > item.radius + 0.8 and not any(_overlap(item, other) for other in items):
            items.append(item)
            return True
    return False


def _on_wall(photo: Path, room: Point, wall: int, rng: np.random.Generator) -> Picture:
    """A photo, 1 cm before a wall."""
    half, away = (room[0] / 2, room[1] / 2) if wall % 2 == 0 else (room[1] / 2, room[0] / 2)
    width = float(rng.uniform(0.3, 1.4))
    across, yaw = float(rng.uniform(-0.8, 0.8) * (half - width / 2)), wall * pi / 2
    x, y = turned(across, -(away - 0.01), yaw)
    return Picture(photo, (x, y, float(rng.uniform(0.8, 1.5))), (width, width * float(rng.uniform(0.6, 1.2))), yaw)


def _card(stock: Stock, path: Path, height: float) -> Point:
    return (height * stock.shape(path), 0.1 * height, height)


def _overlap(one: Item, other: Item) -> bool:
    apart = hypot(one.position[0] - other.position[0], one.position[1] - other.position[1])
    above = one.position[2] > other.position[2] + other.size[2] - 0.01
    below = other.position[2] > one.position[2] + one.size[2] - 0.01
    return not (above or below) and apart < 0.85 * (one.radius + other.radius)


def _is_indoor(model: Model) -> bool:
    return model.category not in ("Exterior", "Vehicles", "Staircases")


def _is_support(model: Model) -> bool:
    return (
        model.top is not None and 0.3 < model.top < 1.1 and min(model.size[:2]) > 0.3 and model.category != "Characters"
    )


def _scaled(size: Point, factor: float) -> Point:
    return (size[0] * factor, size[1] * factor, size[2] * factor)


def _colour(values: np.ndarray) -> Colour:
    red, green, blue = map(float, values)
    return red, green, blue
