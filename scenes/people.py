"""People for the rendered scenes: posed bodies with clothes and hair, as plain meshes.

$ python -m deeplens.scenes.people --out data/people --split train --count 400 --seed 0

needs the dependency group `people`. Person n is a function of (seed, split, n) and of the version of `anny`. Shapes are
parted into cells, and a cell belongs to one split, so that no two splits share a body. A file SPLIT/SEED_NUMBER.npz holds

- NAME.points: int16, tenths of a millimetre; (n, 3) of a mesh, or (locks, n, 3) of hair, glasses and such lines;
- NAME.faces (m, 3 or 4) uint16, NAME.uv (n, 2) int16, millimetres, and at times NAME.tint (n, 3) uint8, of a mesh;
- NAME.radii: uint16, in hundredths of a millimetre, (locks, n) of lines;
- about: JSON text: shape, pose, clothes, hair, and where things are.

The person stands on z = 0 around the origin and looks along −y. Reading (`load_person`, `people_of`) needs numpy alone.
"""

import json
import os
import sys
import time
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from deeplens.console.errors import InputError
from deeplens.console.guard import guarded
from deeplens.scenes.furniture import split_of
from deeplens.scenes.room_plan import HDRIS, Person

if TYPE_CHECKING:
    from deeplens.scenes.figure_hair import Locks
    from deeplens.scenes.figure_clothes import Part
    from deeplens.scenes.figure_rig import Rig

Array = NDArray[np.float32]

SPLITS = tuple(HDRIS)
CELL = 0.05
"""Side of a cell of shapes, in the units of anny's values."""


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


def make_people(*, out: Path, split: str, count: int, seed: int) -> int:
    """Make people until `count` of `split` are under `out`; returns how many were made now.

    Raises MissingError without anny, InputError for an unknown split.
    """
    from deeplens.scenes.figure_rig import load_rig

    if split not in SPLITS:
        raise InputError(f"unknown split '{split}': choose one of {', '.join(SPLITS)}")
    folder = out / split
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [path for number in range(count) if not (path := folder / f"{seed}_{number:05d}.npz").is_file()]
    if not wanted:
        return 0
    rig, start = load_rig(), time.monotonic()
    for done, path in enumerate(wanted, 1):
        _make(rig, path, split, np.random.default_rng([seed, SPLITS.index(split), int(path.stem.split("_")[1])]))
        if done % 20 == 0 or done == len(wanted):
            print(
                f"{split}: {done} of {len(wanted)} people, {(time.monotonic() - start) / done:.1f} s each", flush=True
            )
    return len(wanted)


def sample_phenotype(split: str, rng: np.random.Generator) -> dict[str, float]:
    """anny's values of a body that `split` may have: ages from a year on, all statures."""
    while True:
        kind = rng.random()
        age = (
            rng.uniform(0.02, 0.15) if kind < 0.05 else rng.uniform(0.15, 0.5) if kind < 0.24 else rng.uniform(0.5, 1.0)
        )
        race = rng.dirichlet((0.7, 0.7, 0.7))
        found = {
            "gender": float(rng.beta(0.35, 0.35)),
            "age": float(age),
            "muscle": float(rng.beta(2.5, 2.5)),
            "weight": float(rng.beta(2.0, 2.2)),
            "height": float(rng.beta(3.0, 3.0)),
            "proportions": float(rng.uniform(0.3, 0.9)),
            "cupsize": float(rng.beta(2.0, 2.5)),
            "firmness": float(rng.uniform(0.3, 0.8)),
            **{name: float(value) for name, value in zip(("african", "asian", "caucasian"), race, strict=True)},
        }
        if split_of(shape_cell(found)) == split:
            return found


def shape_cell(phenotype: dict[str, float]) -> str:
    """What names the cell of shapes that a body is in."""
    names = ("gender", "age", "muscle", "weight", "height")
    return "person " + " ".join(f"{name}{int(phenotype[name] / CELL)}" for name in names)


def _make(rig: "Rig", path: Path, split: str, rng: np.random.Generator) -> None:
    from deeplens.scenes.figure_dress import dressed

    pieces, about = dressed(rig, sample_phenotype(split, rng), rng)
    save_person(path, pieces, about)


def save_person(path: Path, pieces: "Sequence[Part | Locks]", about: dict[str, Any]) -> None:
    """Write a person, moved onto z = 0 and around the origin."""
    points = [np.reshape(piece.points, (-1, 3)) for piece in pieces]
    solid = np.concatenate([at for at, piece in zip(points, pieces, strict=True) if hasattr(piece, "faces")])
    lower, upper = (np.percentile(np.concatenate(points), share, axis=0) for share in (0.1, 99.9))
    shift = np.array([(lower[0] + upper[0]) / 2, (lower[1] + upper[1]) / 2, solid[:, 2].min()])
    arrays: dict[str, NDArray[Any]] = {}
    for piece in pieces:
        arrays[f"{piece.name}.points"] = np.rint((piece.points - shift) * 1e4).astype(np.int16)
        if hasattr(piece, "faces"):
            arrays[f"{piece.name}.faces"] = piece.faces.astype(np.uint16)
            arrays[f"{piece.name}.uv"] = np.rint(piece.uv * 1e3).astype(np.int16)
            if piece.tint is not None:
                arrays[f"{piece.name}.tint"] = np.rint(piece.tint * 255).astype(np.uint8)
        else:
            arrays[f"{piece.name}.radii"] = np.rint(piece.radii * 1e5).astype(np.uint16)
    told = about | {name: [round(float(v), 4) for v in about[name] - shift] for name in ("eyes", "hips")}
    told["size"] = [round(float(v), 4) for v in (*(upper - lower)[:2], upper[2] - shift[2])]
    if about["seat"] is not None:
        told["seat"] = round(float(about["seat"] - shift[2]), 4)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as stream:
            np.savez_compressed(stream, **arrays, about=np.array(json.dumps(told)))  # type: ignore[arg-type]
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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


def main(
    out: Annotated[Path, typer.Option(help="Folder to write to, one folder a split.")] = Path("data/people"),
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    count: Annotated[int, typer.Option(min=1, help="People that the seed shall have given the split.")] = 400,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Make posed, dressed people, until the seed has given the split COUNT."""
    typer.echo(f"{make_people(out=out, split=split, count=count, seed=seed)} people made in {out / split}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(main)
    sys.exit(guarded(lambda: app(standalone_mode=False)))
