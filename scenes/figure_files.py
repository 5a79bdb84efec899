"""Files of people: the meshes and lines that a person consists of, and what is told of it. Needs numpy alone.

A file holds

- NAME.points: int16, tenths of a millimetre; (n, 3) of a mesh, or (locks, n, 3) of hair, glasses and such lines;
- NAME.faces (m, 3 or 4) uint16, NAME.uv (n, 2) int16, millimetres, and at times NAME.tint (n, 3) uint8, of a mesh;
- NAME.radii: uint16, in hundredths of a millimetre, (locks, n) of lines;
- about: JSON text: shape, pose, clothes, hair, and where things are.

The person stands on z = 0 around the origin and looks along −y.
"""

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens.console.errors import InputError
from deeplens.console.files import staged
from deeplens.scenes.room_scene import Person

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Piece:
    """A mesh or, without faces, lines of one material. Lengths in metres."""

    name: str
    points: Array  # (n, 3), or (lines, n, 3)
    faces: NDArray[np.int64] | None = None  # (m, 3 or 4)
    uv: Array | None = None  # (n, 2)
    tint: Array | None = None  # (n, 3) in [0, 1]
    radii: Array | None = None  # (lines, n)


def people_of(split: str, folder: Path) -> tuple[Person, ...]:
    """The people of a split, sorted by name; none where the folder has none. Raises InputError for a bad file."""
    return tuple(_describe(path) for path in sorted((folder / split).glob("*.npz")))


def load_person(path: Path) -> list[Piece]:
    """What a person consists of. Raises InputError when the file is not one of `python -m deeplens.scenes.people`."""
    try:
        with np.load(path) as file:
            names = [key.removesuffix(".points") for key in file.files if key.endswith(".points")]
            stored = {key: file[key] for key in file.files if key != "about"}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is no person ({error}): remove it and make it again") from error
    scales = {"points": 1e-4, "uv": 1e-3, "tint": 1 / 255, "radii": 1e-5}

    def values(key: str, kind: str) -> Array | None:
        found = stored.get(f"{key}.{kind}")
        return None if found is None else found.astype(np.float32) * np.float32(scales[kind])

    pieces = []
    for name in names:
        points, faces = values(name, "points"), stored.get(f"{name}.faces")
        assert points is not None
        faces = None if faces is None else faces.astype(np.int64)
        pieces.append(Piece(name, points, faces, values(name, "uv"), values(name, "tint"), values(name, "radii")))
    return pieces


def save_person(path: Path, pieces: Sequence[Piece], about: dict[str, Any]) -> None:
    """Write a person, moved onto z = 0 and around the origin."""
    points = [np.reshape(piece.points, (-1, 3)) for piece in pieces]
    solid = np.concatenate([piece.points for piece in pieces if piece.faces is not None])
    lower, upper = (np.percentile(np.concatenate(points), share, axis=0) for share in (0.1, 99.9))
    shift = np.array([(lower[0] + upper[0]) / 2, (lower[1] + upper[1]) / 2, solid[:, 2].min()])
    arrays: dict[str, NDArray[Any]] = {}
    for piece in pieces:
        arrays[f"{piece.name}.points"] = np.rint((piece.points - shift) * 1e4).astype(np.int16)
        if piece.faces is not None:
            arrays[f"{piece.name}.faces"] = piece.faces.astype(np.uint16)
            if piece.uv is not None:
                arrays[f"{piece.name}.uv"] = np.rint(piece.uv * 1e3).astype(np.int16)
            if piece.tint is not None:
                arrays[f"{piece.name}.tint"] = np.rint(piece.tint * 255).astype(np.uint8)
        if piece.radii is not None:
            arrays[f"{piece.name}.radii"] = np.rint(piece.radii * 1e5).astype(np.uint16)
    told = about | {name: [round(float(v), 4) for v in about[name] - shift] for name in ("eyes", "hips")}
    told["size"] = [round(float(v), 4) for v in (*(upper - lower)[:2], upper[2] - shift[2])]
    if about["seat"] is not None:
        told["seat"] = round(float(about["seat"] - shift[2]), 4)
    with staged(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, about=np.array(json.dumps(told)), **arrays)


def _describe(path: Path) -> Person:
    try:
        with np.load(path) as file:
            about = json.loads(str(file["about"]))
            names = tuple(key.removesuffix(".points") for key in file.files if key.endswith(".points"))
        width, depth, height = about["size"]
        return Person(
            path=path,
            size=(width, depth, height),
            stance=about["stance"],
            eyes=tuple(about["eyes"]),
            facing=float(about["facing"]),
            hips=tuple(about["hips"]),
            seat=about["seat"],
            pieces=names,
            fair=float(about["fair"]),
            old=float(about["old"]),
        )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is no person ({error}): remove it and make it again") from error
