"""What is rendered for the depth network, as data: rooms, landscapes, what stands in them, cameras. Without Blender.

Everything is drawn from a random generator, so that a seed and a number give the same scene everywhere. Lengths in
metres, angles in radians, z up. A scene of kind `indoor` is a room around the origin; one of kind `outdoor` is a ground
that extends from the origin towards +y. Cameras look from anywhere in a room, or from near the origin of a landscape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import cos, hypot, sin
from pathlib import Path
from typing import TypeVar

import numpy as np

from deeplens.scenes.furniture import Model
from deeplens.scenes.sources import Sources

T = TypeVar("T")
Point = tuple[float, float, float]
Colour = tuple[float, float, float]
Part = tuple[float, float, float, float]

WHOLE: Part = (0.0, 0.0, 1.0, 1.0)
"""Left, top, right and bottom of a part of a photo, as shares of its sides."""

PATTERNS = ("noise", "checker", "brick", "wood", "cells", "plain")
HDRIS = {
    "train": ("city", "forest", "interior", "night", "studio", "sunrise"),
    "val": ("courtyard",),
    "test": ("sunset",),
}
"""The environments that come with Blender (CC0, by Greg Zaal, Poly Haven), by the one split that each belongs to."""


@dataclass(frozen=True)
class Surface:
    """What covers a wall, a ground or a box: a part of a photo, mirrored side by side, or a pattern of two colours."""

    pattern: str  # one of PATTERNS, or photo
    colours: tuple[Colour, Colour]
    scale: float  # metres a repetition
    roughness: float
    photo: Path | None = None
    part: Part = WHOLE


@dataclass(frozen=True)
class Box:
    """A wall, fence, house or pedestal. `position` is the middle of its lower side."""

    position: Point
    size: Point
    yaw: float
    surface: Surface


@dataclass(frozen=True)
class Picture:
    """A photo hung up or standing far away, lit like everything else. `position` is the middle of its lower edge."""

    photo: Path
    position: Point
    size: tuple[float, float]  # width, height
    yaw: float  # it is seen from the side that faces +y when the yaw is 0


@dataclass(frozen=True)
class Person:
    """A posed, dressed body (`scenes.people`). Metres, in its own axes: it looks along −y and stands on z = 0."""

    path: Path
    size: Point  # of the box around it
    stance: str
    eyes: Point  # the point between them
    facing: float  # where the head looks: the angle from −y towards +x
    hips: Point
    seat: float | None  # height of what it sits on
    pieces: tuple[str, ...]  # what it consists of
    fair: float  # from 0 to 1: how light its skin tends to be
    old: float  # from 0 to 1: how grey its hair tends to be


@dataclass(frozen=True)
class Shape:
    """A plant, a fence or another thin or round thing, as `scenes.room_growth` builds it of a number."""

    kind: str
    seed: int
    surfaces: tuple[Surface, Surface]


@dataclass(frozen=True)
class Look:
    """The colours of a person, linear, and what its clothes are of, by the name of the piece."""

    skin: Colour
    hair: Colour
    iris: Colour
    cloth: tuple[tuple[str, Surface], ...]


@dataclass(frozen=True)
class Item:
    """Something that stands: a model, a person, a shape, or a cut-out on an upright card that turns to each camera."""

    what: Model | Person | Shape | Path
    position: Point
    yaw: float
    size: Point  # of the box around it, before it is turned
    look: Look | None = None  # of a person

    @property
    def radius(self) -> float:
        """Of the upright cylinder around it."""
        return hypot(self.size[0], self.size[1]) / 2


@dataclass(frozen=True)
class Lamp:
    """A light: an area that shines downwards."""

    position: Point
    power: float  # watts
    colour: Colour
    size: float


@dataclass(frozen=True)
class Sky:
    """The environment: an HDRI by its name, or a clear sky with the sun where `hdri` is None."""

    hdri: str | None
    turn: float
    sun_elevation: float


@dataclass(frozen=True)
class Waves:
    """A rolling ground: the sum of `height` · sin(x·fx + y·fy + phase), flat near the origin."""

    terms: tuple[tuple[float, float, float, float], ...] = ()  # height, fx, fy, phase

    def __call__(self, x: float, y: float) -> float:
        near = min(1.0, hypot(x, y) / 12)
        return near * sum(height * sin(fx * x + fy * y + phase) for height, fx, fy, phase in self.terms)


@dataclass(frozen=True)
class Camera:
    """A pinhole or, with an f-number, a thin lens. Yaw 0 looks along +y, pitch is positive upwards."""

    position: Point
    yaw: float
    pitch: float
    roll: float
    focal: float  # millimetres for a longer side of 36 mm
    aspect: float  # width / height of what it sees; the picture is squeezed to a square
    f_number: float | None = None
    focus: float = 2.0  # metres
    subject: int | None = None  # the item of the scene that it is close to

    @property
    def sensor(self) -> tuple[float, float]:
        """Width and height in millimetres; the longer is 36."""
        return (36.0, 36.0 / self.aspect) if self.aspect >= 1 else (36.0 * self.aspect, 36.0)


@dataclass(frozen=True)
class Scene:
    """One scene; `room` is the (width, depth, height) of a room around the origin, None for a landscape."""

    kind: str
    room: Point | None
    ground: Surface
    walls: Surface
    ceiling: Surface
    outside: Surface  # the ground around a room
    windows: tuple[tuple[int, float, float, float, float], ...]  # wall 0–3, then left, right, lower, upper on it
    open_wall: int | None
    waves: Waves
    sky: Sky
    boxes: tuple[Box, ...] = ()
    pictures: tuple[Picture, ...] = ()
    items: tuple[Item, ...] = ()
    lamps: tuple[Lamp, ...] = field(default=())


@dataclass(frozen=True)
class Stock:
    """What scenes of one split are made of."""

    split: str
    models: Sequence[Model]
    sources: Sources
    shape: Callable[[Path], float]  # width / height of a cut-out
    people: Sequence[Person] = ()
    crowded: float = 0.5  # share of the scenes that have people in them
    grown: float = 0.0  # share of the scenes that have plants, fences, poles or balls in them


def turned(x: float, y: float, yaw: float) -> tuple[float, float]:
    """A point of the ground, turned about the origin."""
    return cos(yaw) * x - sin(yaw) * y, sin(yaw) * x + cos(yaw) * y


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def choice(options: Sequence[T], rng: np.random.Generator) -> T:
    """One of the options, all alike likely."""
    return options[int(rng.integers(len(options)))]
