"""Stand-ins for people: a box with a head-high lock of hair, and descriptions of people without files."""

from pathlib import Path
from typing import Any

import numpy as np

from deeplens.scenes.figure_files import Piece, save_person
from deeplens.scenes.room_scene import Person

PIECES = ("skin", "shirt", "trousers", "hair")


def a_person(
    name: str, *, height: float = 1.7, stance: str = "stand", wide: float = 0.5, facing: float = 0.0
) -> Person:
    """A person without a file, its eyes 10 cm below the top."""
    return Person(
        path=Path(f"{name}.npz"),
        size=(wide, 0.4, height),
        stance=stance,
        eyes=(0.0, -0.1, height - 0.1),
        facing=facing,
        hips=(0.0, 0.05, 0.5 * height),
        seat=0.45 if stance == "sit" else None,
        pieces=PIECES,
        fair=0.5,
        old=0.0,
    )


def a_box_of_a_person(path: Path, *, name: str = "skin") -> None:
    """A file of one: 0.4 × 0.3 × 1.5 m, and over it an upright lock, 2 cm across, from 1.5 to 1.8 m."""
    corners = np.array(
        [(x, y, z) for z in (0.0, 1.5) for x, y in ((-0.2, -0.15), (0.2, -0.15), (0.2, 0.15), (-0.2, 0.15))]
    )
    faces = np.array([(0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7), (4, 5, 6, 7), (3, 2, 1, 0)])
    lock = np.stack([np.zeros(9), np.zeros(9), np.linspace(1.5, 1.8, 9)], 1)[None]
    pieces = [
        Piece(name, corners, faces, corners[:, [0, 2]], np.zeros((8, 3))),
        Piece("hair", lock, radii=np.full((1, 9), 0.01)),
    ]
    about: dict[str, Any] = {
        "stance": "stand",
        "eyes": np.array([0.0, -0.15, 1.4]),
        "hips": np.array([0.0, 0.0, 0.8]),
        "seat": None,
        "facing": 0.0,
        "fair": 1.0,
        "old": 0.0,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_person(path, pieces, about)
