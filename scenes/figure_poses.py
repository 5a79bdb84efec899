"""Poses: how people stand, walk and sit, and what their arms, hands and heads do.

Limbs are given by where they point, so that a pose fits every body: (aside, back, up), aside away from the body, for
the left as for the right. Angles in radians.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from deeplens.scenes.figure_rig import Posed, Rig, Shape, normals

Vector = NDArray[np.float64]

ARMS: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "hang": ((0.20, 0.05, -1.0), (0.14, -0.18, -1.0)),
    "pocket": ((0.34, 0.18, -0.95), (-0.10, -0.30, -0.95)),
    "hip": ((0.80, 0.25, -0.66), (-0.50, -0.36, -0.52)),
    "hold": ((0.24, -0.25, -0.95), (-0.22, -0.92, 0.25)),
    "phone": ((0.30, -0.45, -0.85), (-0.45, -0.55, 0.80)),
    "chin": ((0.25, -0.60, -0.75), (-0.32, -0.20, 0.95)),
    "hair": ((0.85, -0.15, 0.45), (-0.62, 0.10, 0.78)),
    "wave": ((0.90, -0.20, 0.05), (0.20, -0.25, 1.0)),
    "up": ((0.45, -0.10, 1.0), (0.10, -0.15, 1.0)),
    "point": ((0.45, -0.80, -0.20), (0.25, -0.95, 0.0)),
    "aside": ((1.0, -0.10, -0.05), (0.95, -0.30, 0.10)),
    "back": ((0.30, 0.38, -0.88), (-0.55, 0.30, -0.62)),
    "lap": ((0.26, -0.30, -0.92), (-0.18, -0.93, -0.20)),
    "crossed": ((0.22, -0.42, -0.90), (-0.92, -0.42, 0.12)),
    "swing": ((0.16, 0.0, -1.0), (0.10, -0.25, -1.0)),
}
"""Where upper arm and forearm point."""

TOGETHER = ("crossed", "up", "hold", "hip", "back")
"""What both arms do at once at times."""

HANDS: Mapping[str, float] = {"relaxed": 0.3, "open": -0.1, "fist": 1.25, "grip": 0.75, "point": 1.2}
"""By how much fingers curl at each joint."""

WITH: Mapping[str, tuple[str, ...]] = {
    "wave": ("open",),
    "point": ("point",),
    "phone": ("grip",),
    "hold": ("grip", "relaxed", "open"),
    "pocket": ("fist",),
    "up": ("open", "fist", "relaxed"),
}

REACHING = (
    *("lowerarm01", "lowerarm02", "wrist"),
    *(f"metacarpal{number}" for number in range(1, 5)),
    *(f"finger{finger}-{joint}" for finger in range(1, 6) for joint in range(1, 4)),
)

STANCES = ("stand", "lean", "walk", "sit", "floor")
SEATED = ("sit", "floor")


@dataclass(frozen=True)
class Pose:
    """What a body does."""

    stance: str  # one of STANCES
    arms: tuple[str, str]  # of ARMS, left and right
    hands: tuple[str, str]  # of HANDS
    noise: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)  # added to where a limb points
    head: tuple[float, float, float] = (0.0, 0.0, 0.0)  # nod, tilt, turn
    spine: tuple[float, float, float] = (0.0, 0.0, 0.0)  # forwards, aside, turn
    stride: float = 0.0  # of who walks: from −1 to 1


def sample_pose(rng: np.random.Generator, *, small: bool = False) -> Pose:
    """A pose; `small` ones (infants) mostly sit on the floor."""
    shares = (0.15, 0.0, 0.05, 0.2, 0.6) if small else (0.40, 0.17, 0.16, 0.20, 0.07)
    stance = str(rng.choice(STANCES, p=shares))
    if rng.random() < 0.3 and stance not in SEATED:
        arms = (str(rng.choice(TOGETHER)),) * 2
    else:
        kinds = {
            "walk": ("swing", "swing", "swing", "wave", "phone", "pocket", "hold"),
            "sit": ("lap", "lap", "lap", "phone", "chin", "hold", "wave", "hair"),
            "floor": ("lap", "lap", "lap", "chin", "phone"),
        }.get(stance, ("hang", "hang", "hang", *(name for name in ARMS if name not in ("lap", "swing", "crossed"))))
        arms = str(rng.choice(kinds)), str(rng.choice(kinds))
    hands = tuple(str(rng.choice(WITH.get(arm, ("relaxed", "relaxed", "open", "grip")))) for arm in arms)
    limbs = [f"{limb}.{side}" for limb in ("upperarm", "lowerarm", "upperleg", "lowerleg") for side in "LR"]
    spread = {"upperarm": 0.07, "lowerarm": 0.10, "upperleg": 0.03, "lowerleg": 0.03}
    noise = {limb: _three(rng.normal(0, spread[limb[:8]], 3)) for limb in limbs}
    return Pose(
        stance=stance,
        arms=(arms[0], arms[1]),
        hands=(hands[0], hands[1]),
        noise=noise,
        head=_three(np.clip(rng.normal((0.03, 0, 0), (0.13, 0.09, 0.32)), -0.8, 0.8)),
        spine=_three(rng.normal((0.04, 0, 0), (0.06, 0.03, 0.08))),
        stride=float(rng.choice([-1, 1]) * rng.uniform(0.5, 1.0)),
    )


def is_clear(rig: Rig, posed: Posed, *, by: float) -> bool:
    """Whether no hand or forearm reaches more than `by` metres into the head, the trunk, a thigh or the other arm."""
    skin = np.unique(rig.faces["body"])
    arms = [rig.weight(*(f"{bone}.{side}" for bone in REACHING)) > 0.7 for side in "LR"]
    out = normals(posed.vertices, rig.faces["body"])
    rest = rig.weight("upperarm", "shoulder", "clavicle") < 0.3
    for own, other in (arms, arms[::-1]):
        around = skin[(rest & ~own)[skin]]
        inner = skin[own[skin]][::3]
        distance, nearest = cKDTree(posed.vertices[around]).query(posed.vertices[inner], distance_upper_bound=0.1)
        near = np.isfinite(distance)
        place = around[nearest[near]]
        depth = ((posed.vertices[inner[near]] - posed.vertices[place]) * out[place]).sum(1)
        if len(depth) and (depth < -np.where(other[place], 1.5 * by, by)).sum() > 4:
            return False
    return True


def turns(rig: Rig, shape: Shape, pose: Pose) -> dict[str, NDArray[np.float32]]:
    """A pose as the rotations that `Rig.posed` takes."""
    made: dict[str, Vector] = {}
    forwards, aside, around = pose.spine
    for bone in ("spine04", "spine03", "spine02", "spine01"):
        made[bone] = _about((1, 0, 0), forwards / 4) @ _about((0, 1, 0), aside / 4) @ _about((0, 0, 1), around / 4)
    nod, tilt, turn = pose.head
    for bone, share in (("neck01", 0.25), ("neck02", 0.2), ("head", 0.55)):
        made[bone] = _about((0, 0, 1), share * turn) @ _about((1, 0, 0), share * nod) @ _about((0, 1, 0), share * tilt)
    chest = np.linalg.multi_dot([made[bone] for bone in ("spine04", "spine03", "spine02", "spine01")])
    thighs, shins, pitch = _legs(pose)
    for number, side in enumerate("LR"):
        sign = 1 if side == "L" else -1
        upper, fore = (
            chest @ _aimed(pose, f"{limb}.{side}", ARMS[pose.arms[number]][part], sign)
            for part, limb in enumerate(("upperarm", "lowerarm"))
        )
        if pose.stance == "walk" and pose.arms[number] == "swing":
            back = -sign * pose.stride
            upper, fore = upper + np.array([0, 0.35 * back, 0]), fore + np.array([0, 0.35 * back - 0.15, 0])
        if pose.arms[number] == "crossed" and side == "R":
            fore = fore + np.array([0, 0.12, -0.28])
        _arm(made, rig, shape, side, chest, upper, fore)
        made |= _hand(rig, shape, side, pose.hands[number])
        thigh = _aimed(pose, f"upperleg.{side}", thighs[number], sign)
        shin = _aimed(pose, f"lowerleg.{side}", shins[number], sign)
        first = _between(_along(rig, shape, f"upperleg01.{side}", f"lowerleg01.{side}"), thigh)
        second = _between(first @ _along(rig, shape, f"lowerleg01.{side}", f"foot.{side}"), shin) @ first
        made[f"upperleg01.{side}"], made[f"lowerleg01.{side}"] = first, first.T @ second
        if pose.stance != "floor":  # the feet of who sits on it lie as they come
            out = _about((0, 0, 1), sign * 0.06)
            made[f"foot.{side}"] = second.T @ out @ _about((1, 0, 0), pitch[number])
    return {bone: matrix.astype(np.float32) for bone, matrix in made.items()}


def _legs(pose: Pose) -> tuple[list[tuple[float, float, float]], list[tuple[float, float, float]], list[float]]:
    """Where thighs and shins point, and by how much the toes are turned down, left and right."""
    if pose.stance == "walk":
        ahead, behind = abs(pose.stride), abs(pose.stride)
        front = (0.03, -0.42 * ahead, -0.92), (0.02, 0.02, -1.0), -0.15 * ahead
        rear = (0.03, 0.25 * behind, -0.95), (0.02, 0.62 * behind, -0.85), 0.62 * behind
        order = (front, rear) if pose.stride > 0 else (rear, front)
        return [leg[0] for leg in order], [leg[1] for leg in order], [leg[2] for leg in order]
    if pose.stance == "sit":
        return [(0.16, -1.0, -0.06)] * 2, [(0.04, 0.02, -1.0)] * 2, [0.0, 0.0]
    if pose.stance == "floor":
        return [(0.72, -0.72, 0.02), (0.76, -0.66, 0.02)], [(-0.92, -0.34, -0.10), (-0.95, 0.06, -0.06)], [0.0, 0.0]
    if pose.stance == "lean":
        bent = (0.14, -0.24, -0.95), (0.06, 0.20, -1.0)
        straight = (0.02, 0.0, -1.0), (0.0, 0.02, -1.0)
        legs = (bent, straight) if pose.stride > 0 else (straight, bent)
        return [leg[0] for leg in legs], [leg[1] for leg in legs], [0.0, 0.0]
    return [(0.07, 0.0, -1.0)] * 2, [(0.04, 0.03, -1.0)] * 2, [0.0, 0.0]


def _aimed(pose: Pose, limb: str, to: tuple[float, float, float], sign: int) -> Vector:
    aside, back, up = np.add(to, pose.noise.get(limb, (0.0, 0.0, 0.0)))
    return np.array([sign * aside, back, up])


def _arm(
    made: dict[str, Vector], rig: Rig, shape: Shape, side: str, chest: Vector, upper: Vector, fore: Vector
) -> None:
    """Turn an arm; the shoulder takes part of what lifts it."""
    at_rest = _along(rig, shape, f"upperarm01.{side}", f"lowerarm01.{side}")
    lift = chest.T @ _between(chest @ at_rest, upper)
    part = _power(lift, 0.22 if upper[2] > -0.3 * np.linalg.norm(upper) else 0.08)
    made[f"clavicle.{side}"] = part
    shoulder = chest @ part
    first = _between(shoulder @ at_rest, upper) @ shoulder
    second = _between(first @ _along(rig, shape, f"lowerarm01.{side}", f"wrist.{side}"), fore) @ first
    made[f"upperarm01.{side}"], made[f"lowerarm01.{side}"] = shoulder.T @ first, first.T @ second


def _hand(rig: Rig, shape: Shape, side: str, hand: str) -> dict[str, Vector]:
    """The fingers' joints, turned about the axis that they are a little bent about at rest."""
    made = {}
    for finger in range(1, 6):
        bones = [f"finger{3 if finger > 1 else 1}-{joint}.{side}" for joint in (1, 2, 3)]
        first, second, third = (shape.heads[rig.bone(bone)].astype(np.float64) for bone in bones)
        axis = np.cross(second - first, third - second)
        curl = HANDS["open"] if hand == "point" and finger == 2 else HANDS[hand]
        for joint in (1, 2, 3):
            angle = curl * (0.35 if finger == 1 else 1.0) * (0.8 if joint == 3 else 1.0)
            made[f"finger{finger}-{joint}.{side}"] = _about(axis, angle)
    return made


def _along(rig: Rig, shape: Shape, start: str, end: str) -> Vector:
    return np.asarray(shape.heads[rig.bone(end)] - shape.heads[rig.bone(start)], np.float64)


def _about(axis: object, angle: float) -> Vector:
    """The rotation by an angle about an axis."""
    x, y, z = np.asarray(axis, np.float64) / np.linalg.norm(np.asarray(axis, np.float64))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _between(start: Vector, end: Vector) -> Vector:
    """The least rotation that takes one direction to another."""
    one, other = start / np.linalg.norm(start), end / np.linalg.norm(end)
    axis = np.cross(one, other)
    if np.linalg.norm(axis) < 1e-9:
        return np.eye(3)
    return _about(axis, float(np.arctan2(np.linalg.norm(axis), one @ other)))


def _power(turn: Vector, share: float) -> Vector:
    """A share of a rotation."""
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    if np.linalg.norm(axis) < 1e-9:
        return np.eye(3)
    return _about(axis, share * float(np.arctan2(np.linalg.norm(axis), np.trace(turn) - 1)))


def _three(values: NDArray[np.float64]) -> tuple[float, float, float]:
    one, two, three = map(float, values)
    return one, two, three
