"""People for the rendered scenes: posed bodies with clothes and hair, as plain meshes.

$ python -m deeplens.scenes.people --out data/people --split train --count 400 --seed 0

needs the dependency group `people`. Person n is a function of (seed, split, n) and of the version of `anny`. Shapes
are parted into cells, and a cell belongs to one split, so that no two splits share a body. Writes SPLIT/SEED_NUMBER.npz
(`figure_files`); those that are there are kept, so that an interrupted run is simply repeated.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from deeplens.console.errors import InputError
from deeplens.console.script import run_script
from deeplens.scenes.figure_files import save_person
from deeplens.scenes.furniture import split_of
from deeplens.scenes.room_scene import HDRIS

if TYPE_CHECKING:
    from deeplens.scenes.figure_rig import Rig


SPLITS = tuple(HDRIS)
CELL = 0.05
"""Side of a cell of shapes, in the units of anny's values."""


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


def main(
    out: Annotated[Path, typer.Option(help="Folder to write to, one folder a split.")] = Path("data/people"),
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    count: Annotated[int, typer.Option(min=1, help="People that the seed shall have given the split.")] = 400,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Make posed, dressed people, until the seed has given the split COUNT."""
    typer.echo(f"{make_people(out=out, split=split, count=count, seed=seed)} people made in {out / split}")


if __name__ == "__main__":
    run_script(main)
