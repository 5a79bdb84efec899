"""Hair: a cap on the scalp, and over it locks that grow, hang and curl, so that an outline has fine detail.

A lock is a line of points with a radius of 0.4 to 3 mm: a picture of 320 pixels has no room for single hairs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from deeplens.scenes.figure_clothes import cut_part
from deeplens.scenes.figure_files import Piece
from deeplens.scenes.figure_rig import Array, Posed, Rig, Shape, normals, smoothed


@dataclass(frozen=True)
class Style:
    """How hair grows. Lengths in metres for a head of an adult."""

    name: str
    length: float
    cap: float  # the cap's thickness
    locks: int
    lift: float  # of a lock's first direction: 1 stands on end
    weight: float  # what gravity bends in a step
    comb: tuple[float, float, float]  # aside from the parting, back, up
    curl: float = 0.0  # radius of a curl
    turns: float = 0.0  # curls on a lock
    stray: float = 0.25  # how far locks part from one another
    radius: float = 0.0016
    gathered: str = ""  # bun or tail


STYLES = (
    Style("shaved", 0.004, 0.002, 300, 1.0, 0.0, (0, 0, 0), radius=0.0005),
    Style("buzz", 0.012, 0.005, 1400, 0.9, 0.0, (0, 0.2, 0), radius=0.0008),
    Style("short", 0.035, 0.010, 1700, 0.55, 0.03, (0.5, -0.2, 0), stray=0.35),
    Style("back", 0.07, 0.014, 1500, 0.35, 0.03, (0.15, 1.0, 0)),
    Style("spiky", 0.042, 0.010, 1300, 0.8, 0.0, (0, -0.3, 0.5), stray=0.4, radius=0.0017),
    Style("fringe", 0.075, 0.013, 1700, 0.3, 0.16, (0.25, -0.5, -0.1)),
    Style("bob", 0.19, 0.016, 2500, 0.25, 0.25, (0.8, 0.25, -0.1), radius=0.0016),
    Style("long", 0.40, 0.016, 2900, 0.2, 0.28, (0.8, 0.3, -0.1), radius=0.0017),
    Style("wavy", 0.33, 0.018, 2600, 0.3, 0.24, (0.8, 0.2, 0), curl=0.011, turns=2.4, stray=0.4, radius=0.0016),
    Style("curly", 0.20, 0.022, 2200, 0.7, 0.16, (0.4, 0, 0.1), curl=0.012, turns=3.2, stray=0.6, radius=0.0015),
    Style("afro", 0.055, 0.040, 2600, 1.6, 0.0, (0, 0.1, 0.1), curl=0.008, turns=2.5, stray=0.6, radius=0.0014),
    Style("bun", 0.10, 0.014, 1200, 0.1, 0.0, (0, 1.0, 0.25), stray=0.2, gathered="bun"),
    Style("tail", 0.10, 0.013, 1200, 0.1, 0.0, (0, 1.0, 0.2), stray=0.2, gathered="tail"),
)
STEPS = 15


@dataclass(frozen=True)
class Head:
    """A head at rest and how it is turned."""

    eyes: Array  # between the eyes, at rest
    unit: float  # metres from the eyes' level to the top
    pivot: Array
    turn: Array  # (3, 3)
    joint: Array

    def place(self, rest: Array) -> Array:
        """Points (…, 3) at rest, where the pose has them."""
        return np.asarray((rest - self.pivot) @ self.turn.T + self.joint, np.float32)

    def local(self, rest: Array) -> tuple[Array, Array, Array]:
        """Aside, back and up from between the eyes, in units."""
        aside, back, up = ((rest - self.eyes) / self.unit).T
        return aside, back, up


def head_of(rig: Rig, shape: Shape, posed: Posed) -> Head:
    """The head of a body."""
    bone = rig.bone("head")
    eyes = np.mean([shape.vertices[np.unique(rig.faces[f"helper-{side}-eye"])].mean(0) for side in "lr"], 0)
    top = shape.vertices[np.unique(rig.faces["body"]), 2].max()
    return Head(eyes, float(top - eyes[2]), shape.heads[bone], posed.turns[bone], posed.joints[bone])


def scalp_field(rig: Rig, shape: Shape, head: Head, *, receding: float = 0.0) -> Array:
    """Where hair grows, on the mesh's vertices in metres: above 0 behind the hairline."""
    aside, back, up = head.local(shape.vertices)
    line = np.interp(back, [0.0, 0.5, 0.72, 0.95, 1.05, 1.35], [0.66, 0.52, -0.05, 0.12, 0.0, -0.72])
    line = line + receding * np.clip(1.3 - back, 0, 1) * np.exp(-((aside / 0.5) ** 2)) + 0.03 * np.sin(9 * aside)
    field = (up - line) * head.unit
    on_head = rig.weight("head", "neck03", "neck02") > 0.5
    return np.where(on_head & (rig.masks["ears"] < 0.3), field, -0.05).astype(np.float32)


def cap(
    rig: Rig, shape: Shape, posed: Posed, field: Array, style: Style, rng: np.random.Generator, *, flat: bool = False
) -> Piece:
    """A cap over the scalp, thin at the hairline; `flat` under a hat."""
    faces = rig.faces["body"]
    scale = 0.08 if flat else 1.0
    rough = smoothed(rng.normal(0, 1, (len(field), 1)), faces, rounds=3 if style.curl else 4)[:, 0]
    thick = style.cap * scale * np.clip(field / 0.03, 0, 1) ** 0.6 * (1 + 0.5 * rough)
    out = _away(rig, posed, field)
    points = posed.vertices + out * (0.0006 + np.maximum(thick, 0))[:, None]
    return cut_part("cap", points.astype(np.float32), faces, field, shape.vertices)


def locks(
    rig: Rig,
    posed: Posed,
    head: Head,
    field: Array,
    style: Style,
    under: Array,
    rng: np.random.Generator,
    *,
    scale: float,
    name: str = "hair",
) -> Piece:
    """Piece on the scalp. `under`: points (n, 6), with normals, that they stay outside of; `scale` of the head."""
    roots, out = _roots(rig, posed, field, style.locks, rng)
    local = (roots - head.joint) @ head.turn + head.pivot
    aside, back, up = head.local(local)
    part = float(rng.choice([0.0, 0.25, -0.25]))
    sides = np.tanh(6 * (aside - part))
    forward = np.where(back < 0.5, 1.0, 0.4) if style.name == "fringe" else 1.0
    comb = np.stack(
        [style.comb[0] * sides, style.comb[1] * forward * np.ones_like(aside), np.full_like(aside, style.comb[2])], 1
    )
    if style.gathered:
        goal = np.array([0.0, 1.75, float(rng.choice([0.1, 0.5, 0.9]))])
        comb = goal - np.stack([aside, back, up], 1)
    comb = comb @ head.turn.T
    way = style.lift * out + comb / np.maximum(np.linalg.norm(comb, axis=1, keepdims=True), 1e-6)
    way = way if style.length > 0.02 else style.lift * out + 0.4 * comb
    way = way + style.stray * 0.5 * np.clip(rng.normal(0, 1, way.shape), -1.8, 1.8)
    long = style.length * scale * rng.uniform(0.75, 1.1, (len(roots), 1))
    if style.gathered:
        distance = np.linalg.norm(goal - np.stack([aside, back, up], 1), axis=1, keepdims=True) * head.unit
        long = np.maximum(distance, 0.01)
    knot = head.place(head.eyes + goal * head.unit) if style.gathered else None
    points = _grown(roots + out * (0.5 * style.cap * scale), way, long, style, under, knot)
    lines = _curled(points, style, scale, rng)
    if style.name not in ("fringe", "beard"):  # hardly any lock hangs over the face
        aside, back, up = head.local((lines.reshape(-1, 3) - head.joint) @ head.turn + head.pivot)
        over = (back < 0.25) & (np.abs(aside) < 0.6) & (up < 0.35) & (up > -1.4)
        lines = lines[~over.reshape(lines.shape[:2]).any(1) | (rng.random(len(lines)) < 0.03)]
    if style.gathered:
        assert knot is not None
        extra = _gathered(knot, style, scale, under, rng)
        lines = np.concatenate([lines, extra])
    taper = np.linspace(1.0, 0.25, STEPS) ** 0.7
    radii = style.radius * scale * rng.uniform(0.6, 1.3, (len(lines), 1)) * taper
    return Piece(name, lines.astype(np.float32), radii=radii.astype(np.float32))


def beard(rig: Rig, shape: Shape, posed: Posed, head: Head, under: Array, rng: np.random.Generator) -> Piece:
    """A beard or a moustache."""
    aside, back, up = head.local(shape.vertices)
    lips = smoothed(rig.masks["lips"][:, None], rig.faces["body"], rounds=1)[:, 0] > 0.15
    kind = str(rng.choice(["full", "goatee", "moustache"]))
    lower = np.where(kind == "moustache", -0.72, -1.35)
    width = {"full": 1.0, "goatee": 0.22, "moustache": 0.3}[kind]
    upper = -0.52 - 0.1 * (np.abs(aside) < 0.3) + 0.25 * np.clip(np.abs(aside) - 0.45, 0, 0.5)
    inside = (up > lower) & (up < upper) & (np.abs(aside) < width) & (back < 0.85) & ~lips
    field = np.where(inside & (rig.weight("head") > 0.5), 0.01, -0.01).astype(np.float32)
    style = Style(
        "beard", float(rng.choice([0.006, 0.015, 0.04])), 0.0, 900, 0.7, 0.12, (0, 0, -0.6), stray=0.4, radius=0.0009
    )
    return locks(rig, posed, head, field, style, under, rng, scale=1.0, name="beard")


def brows(shape: Shape, rig: Rig, head: Head, rng: np.random.Generator) -> Piece:
    """Two eyebrows."""
    body = shape.vertices[np.unique(rig.faces["body"])]
    front = body[body[:, 1] < head.eyes[1] + 0.03]
    tree = cKDTree(front[:, [0, 2]])
    raised, thick = rng.uniform(-0.02, 0.04), rng.uniform(0.5, 1.2)
    lines = []
    for sign in (-1, 1):
        for share in np.linspace(0, 1, 26):
            aside = sign * (0.12 + 0.36 * share)
            up = 0.165 + raised + 0.07 * np.sin(2.2 * share) + rng.normal(0, 0.012)
            at = head.eyes[[0, 2]] + np.array([aside, up]) * head.unit
            ahead = at + np.array([sign * 0.075, 0.03 * (1 - 1.6 * share)]) * head.unit
            ends = [(each[0], front[tree.query(each, k=4)[1], 1].min() - 0.0004, each[1]) for each in (at, ahead)]
            lines.append(np.linspace(np.array(ends[0]), np.array(ends[1]), STEPS))
    placed = head.place(np.array(lines, np.float32))
    radii = np.full(placed.shape[:2], 0.0011 * thick * head.unit / 0.11, np.float32)
    return Piece("brows", placed, radii=radii)


def _away(rig: Rig, posed: Posed, field: Array) -> Array:
    """Unit directions (vertices, 3) out of the head: between its normals and the rays from its middle."""
    faces = rig.faces["body"]
    there = posed.vertices[field > 0]
    rays = posed.vertices - (there.max(0) + there.min(0)) / 2
    rays = rays / np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-6)
    out = smoothed(normals(posed.vertices, faces), faces, rounds=3) + rays
    return np.asarray(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6), np.float32)


def _roots(rig: Rig, posed: Posed, field: Array, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Points on the scalp, even by area, with normals: two (count, 3)."""
    faces = rig.faces["body"]
    faces = faces[(field[faces] > 0).all(1)]
    if not len(faces):
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)
    corners = posed.vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]), axis=1)
    chosen = rng.choice(len(faces), count, p=area / area.sum())
    u, v = rng.random((2, count, 1))
    shares = np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v], 1)
    out = _away(rig, posed, field)[faces[chosen]]
    normal = (out * shares).sum(1)
    return (corners[chosen] * shares).sum(1), normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)


def _grown(
    start: Array, way: Array, long: Array, style: Style, under: Array, knot: Array | None = None
) -> NDArray[np.float64]:
    """Lines that go their way, or to a knot, bend down and stay outside: (locks, STEPS, 3)."""
    tree = cKDTree(under[:, :3])
    points: list[NDArray[np.float64]] = [np.asarray(start, np.float64)]
    step = long / (STEPS - 1)
    clear = 0.6 * style.cap * np.minimum(1, long / 0.1)[:, 0] + 0.002
    for _ in range(STEPS - 1):
        way = way if knot is None else knot - points[-1]
        way = way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-6)
        way = way - np.array([0, 0, 2.2 * style.weight])
        way = way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-6)
        there = points[-1] + way * step
        distance, nearest = tree.query(there, workers=1)
        out = under[nearest, 3:]
        depth = ((there - under[nearest, :3]) * out).sum(1)
        push = np.where(distance < 0.08, np.maximum(clear - depth, 0), 0)[:, None] * out
        there = there + push
        moved = there - points[-1]
        way = moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-6)
        points.append(there)
    return np.stack(points, 1)


def _curled(points: NDArray[np.float64], style: Style, scale: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Lines with waves and curls about themselves, more towards their ends."""
    along = np.linspace(0, 1, STEPS)[None, :, None]
    apart = rng.normal(0, 0.05 * style.stray * style.length * scale, (len(points), 1, 3)) * along
    if not style.curl:
        return points + apart
    phase = rng.uniform(0, 2 * np.pi, (len(points), 1, 1)) + 2 * np.pi * style.turns * along
    one = rng.normal(0, 1, (len(points), 1, 3))
    one /= np.linalg.norm(one, axis=2, keepdims=True)
    other = np.cross(one, points[:, -1:] - points[:, :1] + 1e-6)
    other /= np.linalg.norm(other, axis=2, keepdims=True)
    return (
        points + apart + style.curl * scale * np.minimum(1, 3 * along) * (np.cos(phase) * one + np.sin(phase) * other)
    )


def _gathered(at: Array, style: Style, scale: float, under: Array, rng: np.random.Generator) -> NDArray[np.float64]:
    """A bun: rings about a point; or a tail that falls from there."""
    if style.gathered == "tail":
        count = 420
        start = at + rng.normal(0, 0.007 * scale, (count, 3))
        way = np.array([0.0, 0.8, 0.25]) + rng.normal(0, 0.14, (count, 3))
        long = scale * rng.uniform(0.6, 1.0, (count, 1)) * float(rng.uniform(0.15, 0.4))
        return _grown(start, way, long, Style("tail", 0.3, 0.01, count, 0, 0.16, (0, 0, 0)), under)
    count, size = 300, float(rng.uniform(0.025, 0.042)) * scale
    axis = rng.normal(0, 1, (count, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    one = np.cross(axis, rng.normal(0, 1, (count, 3)))
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    other = np.cross(axis, one)
    angle = np.linspace(0, 1.6 * np.pi, STEPS)[None, :, None]
    radius = size * rng.uniform(0.55, 1.05, (count, 1, 1))
    return at + (0, 0.4 * size, 0) + radius * (np.cos(angle) * one[:, None] + np.sin(angle) * other[:, None])
