"""What a head has beside hair: eyes, the colours of the skin, glasses, hats."""

import numpy as np

from deeplens.scenes.figure_clothes import cut_part
from deeplens.scenes.figure_files import Piece
from deeplens.scenes.figure_hair import STEPS, Head
from deeplens.scenes.figure_rig import Array, Rig, Shape, normals, smoothed

HATS = ("beanie", "cap", "brim")


def eyes(rig: Rig, shape: Shape, head: Head, rng: np.random.Generator) -> Piece:
    """Both eyeballs; tint: (iris, pupil, 0)."""
    aside, up = rng.normal(0, (0.18, 0.08))
    polar = np.array([0.0, 0.16, 0.17, 0.44, 0.46, 0.9, 1.4, 2.0, 2.6, np.pi])
    around = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    rings = np.stack(
        [
            np.outer(np.sin(polar), np.cos(around)),
            -np.outer(np.cos(polar), np.ones(24)),
            np.outer(np.sin(polar), np.sin(around)),
        ],
        -1,
    )
    look = _turn(up, 0) @ _turn(aside, 2)
    points: list[Array] = []
    faces = []
    for side in "lr":
        there = shape.vertices[np.unique(rig.faces[f"helper-{side}-eye"])]
        middle = (there.max(0) + there.min(0)) / 2
        radius = 0.5 * float(np.ptp(there, axis=0)[[0, 2]].mean())
        start = sum(len(each) for each in points)
        points.append((middle + radius * rings.reshape(-1, 3) @ look.T).astype(np.float32))
        row, column = np.meshgrid(np.arange(len(polar) - 1), np.arange(24), indexing="ij")
        here, ahead = row * 24 + column, row * 24 + (column + 1) % 24
        faces.append(np.stack([here, ahead, ahead + 24, here + 24], -1).reshape(-1, 4) + start)
    tint = np.zeros((len(polar), 24, 3), np.float32)
    tint[:4, :, 0], tint[:2, :, 1] = 1, 1
    rest = np.concatenate(points)
    return Piece("eyes", head.place(rest), np.concatenate(faces), rest[:, [0, 2]], np.tile(tint.reshape(-1, 3), (2, 1)))


def skin_tint(rig: Rig, shape: Shape, head: Head, field: Array, rng: np.random.Generator, *, stubble: float) -> Array:
    """Colours of the skin (vertices, 3) in [0, 1]: lips, redness, and shade of shaved hair."""
    aside, back, up = head.local(shape.vertices)
    face = rig.weight("head") > 0.5
    cheeks = np.exp(-(((np.abs(aside) - 0.42) / 0.2) ** 2) - ((up + 0.42) / 0.22) ** 2) * (back < 0.5)
    nose = np.exp(-((aside / 0.14) ** 2) - ((up + 0.38) / 0.12) ** 2) * (back < 0.1)
    fingers = rig.weight("finger")
    red = face * np.clip(0.7 * cheeks + 0.6 * nose + 0.5 * (rig.masks["ears"] > 0.5), 0, 1) + 0.4 * fingers
    jaw = face & (up < -0.5) & (back < 0.8)
    shade = (
        0.75 * np.clip(field / 0.01, 0, 1)
        + stubble * smoothed(jaw[:, None].astype(np.float32), rig.faces["body"], rounds=2)[:, 0]
    )
    blotch = smoothed(rng.normal(0, 1, (len(red), 1)), rig.faces["body"], rounds=6)[:, 0]
    lips = rig.masks["lips"] * face
    return np.clip(np.stack([lips, red + 0.25 * blotch, np.where(lips > 0.3, 0, shade)], 1), 0, 1).astype(np.float32)


def glasses(head: Head, rng: np.random.Generator) -> Piece:
    """Two rings, a bridge and two temples, of wire."""
    k = head.unit
    corner, wide, high = rng.choice([1.0, 0.6, 0.45]), rng.uniform(0.20, 0.24), rng.uniform(0.13, 0.22)
    lines = []
    for sign in (-1, 1):
        angle = np.linspace(0, 2 * np.pi, STEPS * 3 - 2)
        x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** corner * wide + sign * 0.285
        z = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** corner * high - 0.06
        ring = np.stack([x, -0.24 + 0.10 * np.abs(x), z], 1)
        lines += [ring[start : start + STEPS] for start in range(0, len(ring) - 1, STEPS - 1)]
        hinge = np.array([sign * (0.285 + wide), -0.24 + 0.10 * (0.285 + wide), 0.0])
        ear = np.array([sign * 0.66, 0.85, 0.02])
        lines.append(np.linspace(hinge, ear, STEPS))
    lines.append(np.linspace((-0.285 + wide, -0.235, 0.02), (0.285 - wide, -0.235, 0.02), STEPS))
    placed = head.place((head.eyes + np.array(lines) * k).astype(np.float32))
    wire = float(rng.choice([0.0008, 0.0016, 0.0024])) * k / 0.11
    return Piece("glasses", placed, radii=np.full(placed.shape[:2], wire, np.float32))


def hat(rig: Rig, shape: Shape, head: Head, kind: str, rng: np.random.Generator) -> list[Piece]:
    """A hat of one of HATS: a dome over the head, at times with a peak or a brim."""
    faces = rig.faces["body"]
    _, back, up = head.local(shape.vertices)
    level = float(rng.uniform(0.42, 0.6)) - 0.22 * back * (1.0 if kind == "beanie" else 0.35)
    on_head = (rig.weight("head") > 0.5) & (rig.masks["ears"] < 0.5)
    field = np.where(on_head, (up - level) * head.unit, -0.05).astype(np.float32)
    rest = smoothed(shape.vertices, faces, rounds=6)
    out = smoothed(normals(rest, faces), faces, rounds=6)
    thick = (0.015 if kind == "cap" else 0.020) * head.unit / 0.11
    tall = float(rng.uniform(0.0, 0.05)) * np.clip(up - 0.7, 0, 1) if kind != "cap" else 0.0 * up
    rest = rest + out * thick + np.stack([0 * up, 0 * up, tall], 1)
    parts = [cut_part("hat", head.place(rest), faces, field, shape.vertices)]
    if kind == "beanie":
        return parts
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    edge = rest[np.abs(field) < 0.012]
    middle, half = (edge.max(0) + edge.min(0)) / 2, np.ptp(edge, axis=0) / 2
    ahead = np.clip(-np.sin(angle), 0, 1)
    wide = 0.075 * ahead**0.6 * (ahead > 0.15) if kind == "cap" else np.full(48, float(rng.uniform(0.05, 0.11)))
    level_at = np.interp(half[1] * np.sin(angle), *_edge_line(edge - middle))
    rings = []
    for share in (0.0, 0.5, 1.0):
        radius = 1.0 + wide * share * (head.unit / 0.11) / half[:2].mean()
        drop = 0.012 * share**2 * (2 if kind == "cap" else rng.uniform(-1, 1.5)) + (
            0.02 * share * np.cos(angle) ** 2 if kind == "cap" else 0
        )
        rings.append(
            np.stack([half[0] * np.cos(angle) * radius, half[1] * np.sin(angle) * radius, level_at - drop], 1) + middle
        )
    brim = np.concatenate(rings).astype(np.float32)
    here = np.arange(48)
    quads = [
        np.stack(
            [row * 48 + here, row * 48 + (here + 1) % 48, (row + 1) * 48 + (here + 1) % 48, (row + 1) * 48 + here], 1
        )
        for row in (0, 1)
    ]
    kept = np.concatenate(quads)
    if kind == "cap":
        kept = kept[(ahead[kept % 48] > 0.15).all(1)]
    return [*parts, Piece("brim", head.place(brim), kept, brim[:, :2])]


def _edge_line(edge: Array) -> tuple[Array, Array]:
    """Height by how far back along the edge of a dome, for np.interp."""
    slope, offset = np.polyfit(edge[:, 1], edge[:, 2], 1)
    ends = np.array([edge[:, 1].min(), edge[:, 1].max()], np.float32)
    return ends, (slope * ends + offset).astype(np.float32)


def _turn(angle: float, axis: int) -> Array:
    cosine, sine = np.cos(angle), np.sin(angle)
    one, other = [number for number in range(3) if number != axis]
    matrix = np.eye(3)
    matrix[one, one] = matrix[other, other] = cosine
    matrix[one, other], matrix[other, one] = -sine, sine
    return matrix.astype(np.float32)
