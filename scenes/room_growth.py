"""Plants, fences, poles and balls for rooms and landscapes: thin and round things, as plain meshes. Without Blender.

Furniture, people and cut-outs are compact. Photos also show grass, twigs, stems, bars and wires, at all depths.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import pi

import numpy as np
from numpy.typing import NDArray

from deeplens.scenes.room_scene import Colour, Point, Shape, Stock, Surface, choice, log_uniform

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Mesh:
    """Vertices (N, 3) in metres, faces (M, 4) by their corners' numbers, corners' (u, v) in metres (M, 4, 2)."""

    vertices: Floats
    faces: NDArray[np.int64]
    uv: Floats


def drawn_growth(
    stock: Stock, surface: Callable[[], Surface], rng: np.random.Generator, *, indoor: bool
) -> list[tuple[Shape, Point]]:
    """What is to stand in a scene: shapes, each as often as it is there, and the size of each.

    Empty but in a share `stock.grown` of the scenes. `surface` draws what things are made of.
    """
    if not stock.grown or rng.random() >= stock.grown:
        return []
    found: list[tuple[Shape, Point]] = []
    kinds = ("shrub", "tree", "balls") if indoor else tuple(SHAPES)
    for kind in rng.permutation(kinds)[: 1 if indoor else int(rng.integers(1, 4))]:
        few, many, low, high = SHAPES[str(kind)].often
        shapes = []
        for _ in range(3):
            leaves = _green(surface(), rng) if kind in ("grass", "shrub", "tree", "reeds") else surface()
            shapes.append(Shape(str(kind), int(rng.integers(2**31)), (leaves, surface())))
        for _ in range(int(rng.integers(1, 7) if indoor else rng.integers(few, many + 1))):
            shape = choice(shapes, rng)
            height = log_uniform(rng, low, min(high, 1.8) if indoor else high)
            wide, deep, tall = extent(shape)
            found.append((shape, (wide * height / tall, deep * height / tall, height)))
    return found


def meshes(shape: Shape) -> list[tuple[Mesh, Surface]]:
    """A shape's parts with what each is made of. It stands on z = 0 around the origin and is 1 m high."""
    parts = SHAPES[shape.kind].build(np.random.default_rng(shape.seed))
    points = np.concatenate([part.vertices for part in parts])
    lower, upper = points.min(0), points.max(0)
    middle = np.array([(lower[0] + upper[0]) / 2, (lower[1] + upper[1]) / 2, lower[2]])
    scale = 1 / (upper[2] - lower[2])
    return [
        (Mesh((part.vertices - middle) * scale, part.faces, part.uv * scale), surface)
        for part, surface in zip(parts, shape.surfaces, strict=False)
    ]


@cache
def extent(shape: Shape) -> Point:
    """Width, depth and height of the box around what `meshes` gives."""
    points = np.concatenate([mesh.vertices for mesh, _ in meshes(shape)])
    wide, deep, tall = (float(side) for side in points.max(0) - points.min(0))
    return wide, deep, tall


def _green(surface: Surface, rng: np.random.Generator) -> Surface:
    """The surface in a plant's colours, in two of three cases."""
    if surface.photo is not None or rng.random() < 1 / 3:
        return surface
    light, warm = float(rng.uniform(0.08, 0.5)), float(rng.uniform(0.4, 1.1))
    first: Colour = (light * warm, light, 0.45 * light)
    second: Colour = (0.6 * light * warm, 0.6 * light, 0.3 * light)
    return Surface(surface.pattern, (first, second), surface.scale, surface.roughness)


def _merged(parts: list[Mesh]) -> Mesh:
    starts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)]),
        np.concatenate([part.uv for part in parts]),
    )


def _grid(points: Floats, uv: Floats) -> Mesh:
    """A sheet of (rows, columns, 3) points with (rows, columns, 2) coordinates."""
    rows, columns = points.shape[:2]
    at = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    faces = np.stack([at, at + 1, at + columns + 1, at + columns], 1)
    return Mesh(points.reshape(-1, 3), faces, uv.reshape(-1, 2)[faces])


def _across(along: Floats) -> tuple[Floats, Floats]:
    """Two unit vectors at right angles to a direction and to each other."""
    helper = np.array([1.0, 0, 0]) if abs(along[0]) < 0.8 * np.linalg.norm(along) else np.array([0, 1.0, 0])
    first = np.cross(along, helper)
    first /= np.linalg.norm(first)
    second = np.cross(along / np.linalg.norm(along), first)
    return first, second


def _tube(path: Floats, radii: Floats, sides: int = 6) -> Mesh:
    """A round rod along a path (N, 3) with a radius for each point."""
    first, second = _across(path[-1] - path[0])
    angles = np.linspace(0, 2 * pi, sides + 1)
    ring = np.cos(angles)[:, None] * first + np.sin(angles)[:, None] * second
    points = path[:, None] + radii[:, None, None] * ring
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    uv = np.stack(np.broadcast_arrays(angles * radii.max(), length[:, None]), -1)
    return _grid(points, uv)


def _strip(path: Floats, widths: Floats, side: Floats, corner: Floats) -> Mesh:
    """A flat ribbon along a path (N, 3) with a width for each point; `corner`: where on its surface it begins."""
    half = widths[:, None] / 2 * side
    points = np.stack([path - half, path + half], 1)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    uv = corner + np.stack([np.stack([-widths / 2, length], 1), np.stack([widths / 2, length], 1)], 1)
    return _grid(points, uv)


def _leaves(places: Floats, size: float, rng: np.random.Generator, *, slender: float) -> Mesh:
    """A flat leaf, pointed at both ends, at each of the places, in any direction."""
    found = []
    for place in places:
        along = rng.normal(0, 1, 3) * (1, 1, 0.7)
        along *= size * rng.uniform(0.6, 1.4) / np.linalg.norm(along)
        side, _ = _across(along + rng.normal(0, 0.3 * size, 3))
        share = np.linspace(0, 1, 4)[:, None]
        path = place + share * along - share**2 * np.array([0, 0, 0.3 * size])
        widths = slender * np.linalg.norm(along) * np.array([0.15, 1.0, 0.8, 0.02])
        found.append(_strip(path, widths, side, rng.uniform(0, 5, 2)))
    return _merged(found)


def _grass(rng: np.random.Generator) -> list[Mesh]:
    """A tuft, or a patch of them."""
    spread, droop, width = rng.uniform(0.1, 1.5), rng.uniform(0.1, 0.6), log_uniform(rng, 0.008, 0.05)
    blades = []
    for _ in range(int(rng.integers(50, 220))):
        foot = np.array([*rng.normal(0, spread, 2) * 0.5, 0])
        lean = rng.normal(0, droop, 2)
        share = np.linspace(0, 1, 6)[:, None]
        path = foot + share * (0, 0, rng.uniform(0.45, 1.0)) + share**2 * (*lean, -0.4 * np.hypot(*lean))
        side = np.array([*rng.normal(0, 1, 2), 0])
        widths = width * np.array([0.8, 1.0, 0.95, 0.8, 0.5, 0.05])
        blades.append(_strip(path, widths, side / np.linalg.norm(side), rng.uniform(0, 5, 2)))
    return [_merged(blades)]


def _reeds(rng: np.random.Generator) -> list[Mesh]:
    """Upright stems with a head each."""
    spread, radius = rng.uniform(0.05, 0.6), log_uniform(rng, 0.004, 0.012)
    stems, heads = [], []
    for _ in range(int(rng.integers(4, 26))):
        foot, lean = np.array([*rng.normal(0, spread, 2), 0]), np.array([*rng.normal(0, 0.12, 2), 0])
        share, height = np.linspace(0, 1, 6)[:, None], rng.uniform(0.6, 1.0)
        path = foot + share * (0, 0, height) + share**2 * lean
        stems.append(_tube(path, np.full(6, radius), sides=4))
        thick, long = radius * rng.uniform(2, 6), rng.uniform(0.04, 0.16)
        top = path[-1] + np.linspace(0, 1, 5)[:, None] * (0, 0, long)
        heads.append(_tube(top, thick * np.array([0.1, 0.8, 1.0, 0.7, 0.05])))
    return [_merged(stems), _merged(heads)]


def _branches(rng: np.random.Generator, *, trunk: float, radius: float) -> tuple[list[Mesh], Floats]:
    """A trunk that is bare up to `trunk`, branches from there, twigs from those; the points where leaves may be."""
    rods, tips = [], []
    share = np.linspace(0, 1, 8)[:, None]
    stem = share * (*rng.normal(0, 0.08, 2), 0.85) + 0.03 * np.sin(5 * share) * (1, 0, 0)
    rods.append(_tube(stem, radius * np.linspace(1.0, 0.3, 8)))
    for _ in range(int(rng.integers(6, 16))):
        start = stem[int(np.clip(np.round(7 * rng.uniform(trunk, 1.0)), 0, 7))]
        turn, rise, long = rng.uniform(0, 2 * pi), rng.uniform(-0.1, 1.1), rng.uniform(0.2, 0.5)
        reach = long * np.array([np.cos(turn), np.sin(turn), rise]) / np.hypot(1, rise)
        limb = start + share * reach - share**2 * (0, 0, 0.1 * long)
        rods.append(_tube(limb, radius * np.linspace(0.4, 0.08, 8), sides=5))
        for _ in range(int(rng.integers(2, 6))):
            fork = limb[int(rng.integers(2, 8))]
            twig = fork + share * rng.normal(0, 0.09, 3)
            rods.append(_tube(twig, radius * np.linspace(0.15, 0.05, 8), sides=4))
            tips.append(twig[3:])
        tips.append(limb[3:])
    return rods, np.concatenate(tips)


def _crown(rng: np.random.Generator, *, trunk: float, radius: float, leaf: float) -> list[Mesh]:
    """Leaves, unless it is bare, and wood."""
    rods, tips = _branches(rng, trunk=trunk, radius=radius)
    share = rng.choice([0.0, rng.uniform(0.2, 3.0)], p=[0.2, 0.8])
    places = tips[rng.integers(len(tips), size=int(share * 300))]
    if not len(places):
        return [_merged(rods)]
    places = places + rng.normal(0, 0.03, places.shape)
    return [_leaves(places, leaf, rng, slender=rng.uniform(0.2, 0.7)), _merged(rods)]


def _shrub(rng: np.random.Generator) -> list[Mesh]:
    return _crown(rng, trunk=0.05, radius=log_uniform(rng, 0.008, 0.025), leaf=log_uniform(rng, 0.03, 0.15))


def _tree(rng: np.random.Generator) -> list[Mesh]:
    return _crown(
        rng, trunk=float(rng.uniform(0.2, 0.6)), radius=log_uniform(rng, 0.015, 0.05), leaf=log_uniform(rng, 0.02, 0.07)
    )


def _rod(start: tuple[float, float, float], end: tuple[float, float, float], radius: float, sag: float = 0.0) -> Mesh:
    share = np.linspace(0, 1, 9)[:, None]
    path = np.array(start) + share * (np.array(end) - start) - 4 * sag * share * (1 - share) * (0, 0, 1)
    return _tube(path, np.full(9, radius))


def _fence(rng: np.random.Generator) -> list[Mesh]:
    """Upright bars between two rails, or rails between posts."""
    long, bar = rng.uniform(1.5, 6.0), log_uniform(rng, 0.008, 0.04)
    rails = [0.0, *rng.uniform(0.1, 0.9, int(rng.integers(1, 4)))]
    upright = rng.random() < 0.6
    apart = rng.uniform(0.08, 0.3) if upright else rng.uniform(0.8, 1.8)
    places = np.arange(0, long, apart).tolist()
    rods = [_rod((x, 0, 0), (x, 0, 1), bar * (1 if upright else 2)) for x in places]
    rods += [_rod((0, bar, 1 - rail), (long, bar, 1 - rail), bar * rng.uniform(0.4, 1.2)) for rail in rails]
    return [_merged(rods)]


def _poles(rng: np.random.Generator) -> list[Mesh]:
    """A pole, or a row of them with wires in between."""
    radius, apart = log_uniform(rng, 0.008, 0.03), rng.uniform(0.8, 2.0)
    count = int(rng.integers(1, 5))
    places = [number * apart for number in range(count)]
    wires = [] if count == 1 else [rng.uniform(0.6, 0.98) for _ in range(int(rng.integers(0, 4)))]
    rods = [_rod((x, 0, 0), (x, 0, 1), radius) for x in places]
    for height in wires:
        sag, thin = rng.uniform(0, 0.1), radius * rng.uniform(0.1, 0.3)
        rods += [_rod((x, radius, height), (x + apart, radius, height), thin, sag) for x in places[:-1]]
    return [_merged(rods)]


def _balls(rng: np.random.Generator) -> list[Mesh]:
    """Balls and egg-shaped stones that lie side by side."""
    found: list[Mesh] = []
    across, up = np.meshgrid(np.linspace(0, 2 * pi, 25), np.linspace(-pi / 2, pi / 2, 13))
    ball = np.stack([np.cos(up) * np.cos(across), np.cos(up) * np.sin(across), np.sin(up)], -1)
    x = 0.0
    for _ in range(int(rng.integers(1, 5))):
        radius = rng.uniform(0.1, 0.5)
        radii = radius * np.array([1, 1, rng.choice([1.0, rng.uniform(0.4, 1.3)])])
        points = ball * radii + (x + radius, rng.normal(0, 0.3), radii[2])
        found.append(_grid(points, np.stack([across * radius, up * radius], -1)))
        x += 2 * radius + rng.uniform(0, 0.3)
    return [_merged(found)]


@dataclass(frozen=True)
class Kind:
    """How a kind is built, and how often it stands in a landscape: fewest, most; its heights in metres: from, to."""

    build: Callable[[np.random.Generator], list[Mesh]]
    often: tuple[int, int, float, float]


SHAPES = {
    "grass": Kind(_grass, (30, 120, 0.1, 0.9)),
    "reeds": Kind(_reeds, (15, 60, 0.3, 2.0)),
    "shrub": Kind(_shrub, (8, 40, 0.3, 2.5)),
    "tree": Kind(_tree, (4, 25, 1.5, 9.0)),
    "fence": Kind(_fence, (2, 8, 0.6, 1.8)),
    "poles": Kind(_poles, (3, 14, 0.8, 6.0)),
    "balls": Kind(_balls, (6, 30, 0.08, 1.2)),
}
