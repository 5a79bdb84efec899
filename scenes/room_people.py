"""Puts people into rooms and landscapes, and draws their colours. Without Blender."""

from dataclasses import replace
from math import atan2, cos, pi

import numpy as np

from deeplens.scenes.room_scene import Box, Colour, Item, Look, Person, Stock, Surface, choice, log_uniform, turned

LIGHT, MEDIUM, DARK = (0.66, 0.42, 0.31), (0.36, 0.19, 0.115), (0.045, 0.022, 0.013)
"""Skin in linear light: from the palest to the darkest."""

HAIRS: tuple[Colour, ...] = (
    (0.008, 0.006, 0.005),
    (0.012, 0.009, 0.008),
    (0.03, 0.016, 0.009),
    (0.07, 0.036, 0.018),
    (0.14, 0.075, 0.035),
    (0.32, 0.21, 0.10),
    (0.48, 0.36, 0.20),
    (0.20, 0.055, 0.018),
)
IRISES: tuple[Colour, ...] = (
    (0.03, 0.014, 0.006),
    (0.06, 0.03, 0.012),
    (0.09, 0.08, 0.03),
    (0.08, 0.14, 0.20),
    (0.12, 0.15, 0.13),
)

CLOTH = ("plain", "plain", "plain", "noise", "checker", "cells", "wood")


def drawn_people(stock: Stock, rng: np.random.Generator) -> list[Person]:
    """Who is in a scene: 1 to 5 people, or nobody; nobody twice. Draws nothing where the stock has nobody."""
    if not stock.people or rng.random() >= stock.crowded:
        return []
    count = int(rng.choice([1, 2, 3, 4, 5], p=[0.35, 0.27, 0.18, 0.12, 0.08]))
    return [stock.people[int(number)] for number in rng.permutation(len(stock.people))[:count]]


def posed_item(stock: Stock, item: Item, target: tuple[float, float], rng: np.random.Generator) -> Item:
    """A person that was put somewhere, turned more or less to `target`, with its colours."""
    assert isinstance(item.what, Person)
    x, y, _ = item.position
    away = target[0] - x, target[1] - y
    yaw = atan2(away[1], away[0]) + pi / 2 + float(rng.normal(0, 0.9))
    return replace(item, yaw=yaw, look=draw_look(stock, item.what, rng))


def seats(item: Item, surface: Surface) -> list[Box]:
    """What a sitting person sits on: nothing for who does not sit."""
    person = item.what
    if not isinstance(person, Person) or person.seat is None or person.seat < 0.05:
        return []
    x, y, z = item.position
    back = person.size[1] / 2 - 0.01
    front = person.hips[1] - 0.42 * person.seat
    across, along = turned(person.hips[0], (back + front) / 2, item.yaw)
    size = (max(0.36, 0.8 * person.seat), back - front, person.seat)
    return [Box((x + across, y + along, z), size, item.yaw, surface)]


def draw_look(stock: Stock, person: Person, rng: np.random.Generator) -> Look:
    """The colours of a person's skin, hair and eyes, and what its clothes are of."""
    tone = float(np.clip(0.9 * person.fair + rng.normal(0.05, 0.16), 0, 1))
    skin = np.array([np.interp(tone, [0, 0.5, 1], each) for each in zip(DARK, MEDIUM, LIGHT, strict=True)])
    skin = np.clip(skin * rng.uniform(0.88, 1.12) * (1 + rng.normal(0, 0.03, 3)), 0.008, 0.8)
    number = int(rng.integers(len(HAIRS))) if tone > 0.55 else int(rng.integers(3))
    hair = np.array(HAIRS[number]) * rng.uniform(0.7, 1.3)
    if rng.random() < 0.04:
        hair = rng.uniform(0.02, 0.5, 3)  # dyed
    grey = float(np.clip(person.old * 1.6 + rng.normal(-0.35, 0.3), 0, 1)) if person.old > 0 else 0.0
    hair = (1 - grey) * hair + grey * np.array([0.42, 0.41, 0.40])
    iris = choice(IRISES, rng) if tone > 0.6 else IRISES[int(rng.integers(2))]
    cloth = tuple(
        (name, _cloth(stock, name, rng))
        for name in person.pieces
        if name in ("shirt", "jacket", "trousers", "skirt", "shoes", "hat", "brim")
    )
    table = dict(cloth)
    if "brim" in table:
        cloth = tuple((name, table["hat"] if name == "brim" else surface) for name, surface in cloth)
    return Look(_colour(skin), _colour(hair), iris, cloth)


def _cloth(stock: Stock, name: str, rng: np.random.Generator) -> Surface:
    kind = rng.random()
    if kind < 0.3:  # nearly black, white or grey
        first = np.full(3, float(rng.choice([rng.uniform(0.01, 0.06), rng.uniform(0.5, 0.8), rng.uniform(0.06, 0.4)])))
        first = first * (1 + rng.normal(0, 0.04, 3))
    elif kind < 0.5 and name in ("trousers", "jacket", "skirt"):  # denim
        first = np.array([0.05, 0.09, 0.2]) * rng.uniform(0.4, 2.4)
    else:
        hue = rng.uniform(0, 2 * pi)
        first = log_uniform(rng, 0.03, 0.5) * (
            1 + rng.uniform(0.05, 0.75) * np.array([cos(hue), cos(hue - 2.1), cos(hue + 2.1)])
        )
    if name == "shoes" and rng.random() < 0.75:
        first = first * 0.25 + rng.choice([0.0, 0.02, 0.5], p=[0.5, 0.3, 0.2])
    first = np.clip(first, 0.008, 0.85)
    second = np.clip(first * rng.uniform(0.4, 2.0) * (1 + rng.normal(0, 0.15, 3)), 0.008, 0.85)
    shoe = name in ("shoes", "brim")
    photo = choice(stock.sources.backgrounds, rng) if rng.random() < 0.12 and not shoe else None
    side = float(rng.uniform(0.1, 0.4))
    left, top = float(rng.uniform(0, 1 - side)), float(rng.uniform(0, 1 - side))
    return Surface(
        pattern="photo" if photo else "plain" if shoe else choice(CLOTH, rng),
        colours=(_colour(first), _colour(second)),
        scale=float(rng.uniform(0.08, 0.5)),
        roughness=float(rng.uniform(0.3, 0.6) if shoe else rng.uniform(0.7, 1.0)),
        photo=photo,
        part=(left, top, left + side, top + side),
    )


def _colour(values: np.ndarray) -> Colour:
    red, green, blue = map(float, values)
    return red, green, blue
