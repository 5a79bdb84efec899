"""Clothes, shoes and hats: parts of the mesh's own tights and skirt, cut to length, moved outwards and folded.

A cut is a field on the vertices of the body at rest, in metres: what is above 0 is kept. Each vertex of a garment is a
mean of vertices of the mesh, so that it can be placed on the body at rest as well as on the posed one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack
from scipy.spatial import cKDTree

from deeplens.scenes.figure_files import Piece
from deeplens.scenes.figure_rig import Array, Faces, Posed, Rig, Shape, normals, smoothed, triangles

FAR = 1.0
"""Metres: a field that never cuts."""


@dataclass(frozen=True)
class Cut:
    """A garment: what it is called, its field (vertices,), and how it hangs."""

    name: str
    source: str  # helper-tights or helper-skirt
    field: Array
    away: float  # metres from the skin
    loose: float  # metres more towards the hem, and of its folds a part
    hem: Array  # (vertices,) from 0 to 1 at the hem


@dataclass(frozen=True)
class Measures:
    """Where things are on a body at rest; lengths in metres."""

    arm: Array  # along the arm from the shoulder; −FAR elsewhere
    leg: Array  # along the leg from the hip, negative above
    upper_arm: float
    fore_arm: float
    thigh: float
    shin: float
    waist: float  # z
    neck: float  # z
    scale: float  # of the body to one of 1.7 m


def measure(rig: Rig, shape: Shape) -> Measures:
    """The measures that garments are cut by."""
    vertices, head = shape.vertices, lambda label: shape.heads[rig.bone(label)]
    arm, leg = np.full(len(vertices), -FAR, np.float32), (head("root")[2] - vertices[:, 2]).astype(np.float32)
    lengths = {}
    for side in "LR":
        reach, lengths["upper_arm"], lengths["fore_arm"] = _along(
            vertices, head(f"upperarm01.{side}"), head(f"lowerarm01.{side}"), head(f"wrist.{side}")
        )
        names = [f"{bone}.{side}" for bone in ("upperarm01", "upperarm02", "lowerarm01", "lowerarm02", "wrist")]
        on_arm = rig.weight(*names, *(f"finger{n}" for n in range(1, 6)), "metacarpal") > 0.5
        on_arm &= (vertices[:, 0] > 0) == (side == "L")
        arm[on_arm] = reach[on_arm]
        reach, lengths["thigh"], lengths["shin"] = _along(
            vertices, head(f"upperleg01.{side}"), head(f"lowerleg01.{side}"), head(f"foot.{side}")
        )
    leg = np.maximum(leg, -FAR)
    return Measures(
        arm=arm,
        leg=leg,
        waist=float(0.45 * head("root")[2] + 0.55 * head("spine03")[2]),
        neck=float(head("neck01")[2]),
        scale=float(np.ptp(vertices[:13380, 2]) / 1.7),
        **lengths,
    )


def cut_shirt(
    rig: Rig, shape: Shape, body: Measures, rng: np.random.Generator, *, sleeve: float, below: float, jacket: bool
) -> Cut:
    """A shirt or jacket. `sleeve`: arm lengths that it covers, 0 to 2; `below`: metres from the waist to its hem."""
    x, y, z = shape.vertices.T
    k = body.scale
    end = min(sleeve, 1) * body.upper_arm + max(sleeve - 1, 0) * body.fore_arm
    arms = body.arm > -FAR
    dip = float(rng.choice([0.0, 0.02, 0.05, 0.11])) * k
    neck = shape.heads[rig.bone("neck01")]
    front = np.clip((neck[1] + 0.02 * k - y) / (0.08 * k), 0, 1)
    collar = body.neck + float(rng.uniform(-0.005, 0.03)) * k
    shape_of_dip = np.clip(1 - np.abs(x) / (0.09 * k), 0, 1) ** float(rng.choice([0.6, 1.0]))
    top = collar - front * (dip * shape_of_dip + 0.018 * k)
    field = np.where(arms, FAR, np.minimum(z - (body.waist - below), np.maximum(top - z, -FAR)))
    field = np.where(arms, np.minimum(field, end - body.arm), field)
    if jacket and rng.random() < 0.7:
        gap = np.interp(z, [body.waist - below, body.waist, body.neck], rng.uniform(0.02, 0.10, 3) * k)
        field = np.where(~arms & (y < 0.0 * k) & (z < body.neck + 0.05 * k), np.minimum(field, np.abs(x) - gap), field)
    hem = np.where(
        arms, np.clip(body.arm / max(end, 1e-3), 0, 1), np.clip((body.neck - z) / (body.neck - body.waist), 0, 1)
    )
    away, loose = (
        (0.016, float(rng.uniform(0.006, 0.02))) if jacket else (0.006, float(rng.choice([0.002, 0.008, 0.018])))
    )
    return Cut("jacket" if jacket else "shirt", "helper-tights", field.astype(np.float32), away * k, loose * k, hem**2)


def cut_trousers(shape: Shape, body: Measures, rng: np.random.Generator, *, length: float) -> Cut:
    """Trousers or shorts. `length`: leg lengths that they cover, 0 to 2."""
    _, _, z = shape.vertices.T
    end = min(length, 1) * body.thigh + max(length - 1, 0) * body.shin
    field = np.where(body.arm > -FAR, -FAR, np.minimum(body.waist - z, end - body.leg))
    hem = np.clip(body.leg / max(end, 1e-3), 0, 1)
    loose = float(rng.choice([0.001, 0.008, 0.02, 0.035])) * body.scale
    return Cut("trousers", "helper-tights", field.astype(np.float32), 0.005 * body.scale, loose, hem)


def cut_skirt(shape: Shape, body: Measures, rng: np.random.Generator, *, length: float) -> Cut:
    """A skirt. `length`: leg lengths that it covers, 0.3 to 2."""
    end = min(length, 1) * body.thigh + max(length - 1, 0) * body.shin
    field = np.minimum(end - body.leg, body.waist + 0.03 * body.scale - shape.vertices[:, 2])
    hem = np.clip(body.leg / max(end, 1e-3), 0, 1)
    loose = float(rng.uniform(-0.01, 0.05)) * body.scale
    return Cut("skirt", "helper-skirt", field.astype(np.float32), 0.004 * body.scale, loose, hem)


def sew(rig: Rig, shape: Shape, posed: Posed, cut: Cut, under: Array, rng: np.random.Generator) -> Piece:
    """A garment on the posed body. `under`: points (n, 6), with their normals, that it must stay outside of."""
    faces = triangles(rig.faces[cut.source])
    field = smoothed(np.clip(cut.field, -0.04, 0.04)[:, None], rig.faces[cut.source], rounds=2)[:, 0]
    means, faces = _finer(_one_each(len(shape.vertices)), faces)
    means, faces = _clipped(means, faces, field)
    used, faces = np.unique(faces, return_inverse=True)
    means, faces = means[used], faces.reshape(-1, 3)
    rest = np.asarray(means @ shape.vertices, np.float32)
    points: Array = np.asarray(means @ posed.vertices, np.float32)
    hem = np.clip(np.asarray(means @ cut.hem), 0, 1)[:, None]
    points = smoothed(points, faces, rounds=3) if cut.loose > 0.01 else points
    out = normals(points, faces)
    folds = _waves(rest, rng, shortest=0.05, longest=0.16)[:, None]
    fold = 0.0012 + 0.22 * max(cut.loose, 0) * (0.4 + hem)
    points = points + out * (cut.away + max(cut.loose, 0) * hem + fold * folds)
    if cut.source == "helper-skirt":
        middle = posed.joints[rig.bone("root")]
        level = (points - middle) * (1, 1, 0)
        swing = (
            1.0
            + 2.2 * cut.loose * hem
            + 0.05 * hem * np.sin(rng.integers(6, 13) * np.arctan2(level[:, 1:2], level[:, :1]))
        )
        points = points + level * (swing - 1)
    for _ in range(2):
        points = pushed_out(points, under, by=0.8 * cut.away)
        points = smoothed(points, faces, rounds=2, share=0.4)
    points = pushed_out(points, under, by=0.6 * cut.away)
    return Piece(cut.name, points.astype(np.float32), faces, _spread(rest))


def shoes(
    rig: Rig, shape: Shape, body: Measures, turns: dict[str, Array], rng: np.random.Generator
) -> tuple[Piece, Array]:
    """Both shoes, and the field of what they cover."""
    k = body.scale
    ankle = float(np.mean([shape.heads[rig.bone(f"foot.{side}")][2] for side in "LR"]))
    top = ankle + float(rng.choice([-0.035, -0.02, 0.03, 0.12, 0.22], p=[0.3, 0.3, 0.2, 0.12, 0.08])) * k
    field = (top - shape.vertices[:, 2]).astype(np.float32)
    faces = rig.faces["helper-tights"]
    out = normals(shape.vertices, faces)
    points = shape.vertices + out * (0.007 * k)
    floor = shape.vertices[rig.faces["body"].ravel(), 2].min()
    sole = float(rng.choice([0.012, 0.02, 0.035])) * k
    low = np.clip((floor + 0.028 * k - points[:, 2]) / (0.02 * k), 0, 1)
    points[:, 2] += low * (floor - sole - points[:, 2])
    placed = rig.posed(Shape(points.astype(np.float32), shape.heads), turns)
    means, cut_faces = _clipped(_one_each(len(points)), triangles(faces), field)
    used, cut_faces = np.unique(cut_faces, return_inverse=True)
    means = means[used]
    at = np.asarray(means @ placed.vertices, np.float32)
    return Piece("shoes", at, cut_faces.reshape(-1, 3), _spread(np.asarray(means @ shape.vertices, np.float32))), field


def pushed_out(points: Array, under: Array, *, by: float) -> Array:
    """Points (n, 3), each at least `by` metres outside of the nearest of `under` (m, 6: points and unit normals)."""
    distance, nearest = cKDTree(under[:, :3]).query(points, workers=1)
    out = under[nearest, 3:]
    depth = ((points - under[nearest, :3]) * out).sum(1)
    lacking = np.where(distance < 0.12, np.maximum(by - depth, 0), 0)
    return np.asarray(points + lacking[:, None] * out, np.float32)


def surface_of(vertices: Array, faces: Faces) -> Array:
    """The used vertices with their normals, (n, 6)."""
    used = np.unique(faces)
    return np.concatenate([vertices[used], normals(vertices, faces)[used]], 1)


def cut_part(name: str, points: Array, faces: Faces, field: Array, rest: Array, tint: Array | None = None) -> Piece:
    """The part of a mesh where a field on its vertices is above 0."""
    means, kept = _clipped(_one_each(len(points)), faces if faces.shape[1] == 3 else triangles(faces), field)
    used, kept = np.unique(kept, return_inverse=True)
    means = means[used]
    return Piece(
        name,
        np.asarray(means @ points, np.float32),
        kept.reshape(-1, 3),
        _spread(np.asarray(means @ rest, np.float32)),
        None if tint is None else np.asarray(means @ tint, np.float32),
    )


def _along(vertices: Array, start: Array, middle: Array, end: Array) -> tuple[NDArray[np.float32], float, float]:
    """How far along a limb each vertex is, in metres from `start`; and the lengths of the two halves."""
    first, second = middle - start, end - middle
    one, other = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    upper, lower = (vertices - start) @ first / one, (vertices - middle) @ second / other
    return np.where(lower > 0, one + lower, np.minimum(upper, one)).astype(np.float32), one, other


def _one_each(count: int) -> csr_array:
    return csr_array((np.ones(count, np.float32), (np.arange(count), np.arange(count))), shape=(count, count))


def _finer(means: csr_array, faces: Faces) -> tuple[csr_array, Faces]:
    """Each triangle as four."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    unique, place = np.unique(edges, axis=0, return_inverse=True)
    one, two, three = (place.reshape(3, -1) + means.shape[0]).astype(np.int64)
    a, b, c = faces.T
    more = (means[unique[:, 0]] + means[unique[:, 1]]) * 0.5
    parts: Sequence[tuple[NDArray[np.int64], ...]] = (
        (a, one, three),
        (one, b, two),
        (three, two, c),
        (one, two, three),
    )
    return csr_array(vstack([means, more])), np.concatenate([np.stack(part, 1) for part in parts])


def _clipped(means: csr_array, faces: Faces, field: Array) -> tuple[csr_array, Faces]:
    """The triangles where a field is above 0, those across its edge cut along it. field: on what `means` is of."""
    values = np.asarray(means @ field, np.float64)
    inside = values[faces] > 0
    kept = [faces[inside.all(1)]]
    more: list[csr_array] = []
    count = means.shape[0]
    for alone_is_in in (True, False):
        chosen = np.flatnonzero(inside.sum(1) == (1 if alone_is_in else 2))
        if not len(chosen):
            continue
        alone = np.argmax(inside[chosen] == alone_is_in, 1)
        a, b, c = (faces[chosen, (alone + turn) % 3] for turn in range(3))
        cuts = []
        for other in (b, c):
            share = values[a] / (values[a] - values[other])
            left = csr_array((1 - share, (np.arange(len(a)), a)), shape=(len(a), means.shape[0]))
            right = csr_array((share, (np.arange(len(a)), other)), shape=(len(a), means.shape[0]))
            more.append(csr_array((left + right) @ means))
            cuts.append(np.arange(count, count + len(a)))
            count += len(a)
        p, q = cuts
        kept += [np.stack([a, p, q], 1)] if alone_is_in else [np.stack([p, b, c], 1), np.stack([p, c, q], 1)]
    return csr_array(vstack([means, *more])) if more else means, np.concatenate(kept)


def _waves(points: Array, rng: np.random.Generator, *, shortest: float, longest: float) -> Array:
    """A smooth noise (n,) of about unit size: eight plane waves of lengths in metres."""
    total = np.zeros(len(points))
    for _ in range(8):
        heading = rng.normal(0, 1, 3) * (1, 1, 0.45)
        turn = 2 * np.pi / rng.uniform(shortest, longest) / np.linalg.norm(heading)
        total += np.sin(points @ heading * turn + rng.uniform(0, 2 * np.pi))
    return (total / 2).astype(np.float32)


def _spread(rest: Array) -> Array:
    """Where a pattern's metres are on a garment: the body at rest, flattened askew so that its sides have width."""
    return np.stack([rest[:, 0] + 0.7 * rest[:, 1], rest[:, 2] + 0.3 * rest[:, 1]], 1).astype(np.float32)
