"""Scenes as an endless, stateless stream of training batches.

`python -m deeplens.scenes.stream --split test --count 500 --out DIR` writes scenes as files instead.

Batch b holds scenes b·batch … b·batch + batch − 1 of the seed; every fourth batch is of larger scenes with one more ×2
step, so that the step sees more levels. Where a run stands is one number, and any process can make any batch.
"""

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor
from torch.utils.data import Dataset

from deeplens.console.errors import InputError, MissingError
from deeplens.console.files import replacing
from deeplens.console.script import run_script
from deeplens.scenes.planes import TEST_CONFIG, TEST_SCENES, TEST_SEED, Scene, SceneConfig, make_scene
from deeplens.scenes.predicted_errors import like_predicted
from deeplens.scenes.renderer import Array
from deeplens.scenes.sources import Sources, shipped

Sample = dict[str, Tensor]
"""A training sample, or a batch of them, by name."""

LARGE_EVERY = 4
DEPTHS = ("true", "corrupted", "predicted")

MAPS = ("target", "disparity", "corrupted")
"""Fields of a scene that a file holds with 16 bits."""


class SceneStream(Dataset[Sample]):
    """Item i of batch i // batch, as tensors.

    Each sample: picture, target (3, S, S) in [0, 1]; signed_depth (1, S, S) in [-1, 1], the one a network gets; steps,
    the number of ×2 steps.
    Half of the scenes have their foreground depths dilated or eroded; the share `errors` has a depth network's errors
    (`scenes.predicted_errors`); a third have the resolution of the base only.
    """

    def __init__(
        self,
        sources: Sources,
        *,
        seed: int,
        batch: int,
        small: SceneConfig,
        large: SceneConfig,
        errors: float = 0.0,
    ) -> None:
        self.sources, self.seed, self.batch, self.small, self.large = sources, seed, batch, small, large
        self.errors = errors

    def config(self, index: int) -> SceneConfig:
        """The kind of scene that item `index` is."""
        return self.large if (index // self.batch) % LARGE_EVERY == LARGE_EVERY - 1 else self.small

    def __getitem__(self, index: int) -> Sample:
        config = self.config(index)
        scene = make_scene(self.sources, seed=self.seed, index=index, config=config)
        rng = np.random.default_rng([self.seed, index, 1])
        values = scene.corrupted if rng.random() < 0.5 else scene.disparity
        wrong = np.random.default_rng([self.seed, index, 4])
        if wrong.random() < self.errors:
            values = like_predicted(values, wrong, pixel=2**config.steps)
        disparity = torch.from_numpy(values)[None, None]
        if rng.random() < 1 / 3:
            base = config.size // 2**config.steps
            coarse = torch.nn.functional.interpolate(disparity, size=(base, base), mode="area")
            disparity = torch.nn.functional.interpolate(coarse, size=disparity.shape[2:], mode="bilinear")
        return {
            "picture": torch.from_numpy(scene.picture).permute(2, 0, 1).float() / 255,
            "target": torch.from_numpy(scene.target).permute(2, 0, 1),
            "signed_depth": (disparity[0] - scene.focal) * scene.aperture,
            "steps": torch.tensor(config.steps),
        }


class StoredScenes(Dataset[Sample]):
    """The scenes that `write_scenes` wrote to a folder, as an endless stream, each pass in another order.

    Samples are those of `SceneStream`, with one kind of depth: `true`, `corrupted`, or `predicted`, for which the
    folder holds `predicted.npy`, a disparity (count, S, S) in [0, 1] for each scene.

    Args:
        config: what the scenes were made with.
        seed: of the order; None: as they are stored.
    """

    def __init__(self, folder: Path, *, config: SceneConfig, depth: str, seed: int | None = None) -> None:
        if depth not in DEPTHS:
            raise InputError(f"unknown depth '{depth}': choose one of {', '.join(DEPTHS)}")
        self.config, self.depth, self.seed = config, depth, seed
        self.paths = sorted(folder.glob("?????.npz"))
        if not self.paths:
            raise MissingError(f"{folder} has no scenes: write them with python -m deeplens.scenes.stream")
        self.predicted: np.ndarray | None = None
        if depth == "predicted":
            if not (folder / "predicted.npy").is_file():
                raise MissingError(
                    f"{folder} has no predicted depth: write it with python -m deeplens.research.ablations"
                )
            self.predicted = np.load(folder / "predicted.npy", mmap_mode="r")

    def scene(self, index: int) -> Scene:
        """Scene `index` as it is stored, from 0."""
        return load_scene(self.paths[index])

    def place(self, index: int) -> int:
        """Which of the stored scenes sample `index` is."""
        rounds, place = divmod(index, len(self.paths))
        if self.seed is None:
            return place
        return int(np.random.default_rng([self.seed, rounds]).permutation(len(self.paths))[place])

    def __getitem__(self, index: int) -> Sample:
        place = self.place(index)
        scene = self.scene(place)
        disparity, focal = scene.disparity, scene.focal
        if self.depth == "corrupted":
            disparity = scene.corrupted
        elif self.predicted is not None:
            disparity = np.array(self.predicted[place])
            focal = refocused(scene.disparity, disparity, focal=focal)
        return {
            "picture": torch.from_numpy(scene.picture).permute(2, 0, 1).float() / 255,
            "target": torch.from_numpy(scene.target).permute(2, 0, 1),
            "signed_depth": torch.from_numpy((disparity - np.float32(focal)) * np.float32(scene.aperture))[None],
            "steps": torch.tensor(self.config.steps),
        }


def refocused(true: Array, estimate: Array, *, focal: float, within: float = 1e-3) -> float:
    """The focal plane in an estimate's terms, as a click sets it: its median where the truth is nearest to `focal`.

    Args:
        true, estimate: disparities, (H, W).
        within: disparities this much farther from `focal` than the nearest one count, too.
    """
    distance = np.abs(true - np.float32(focal))
    return float(np.median(estimate[distance <= distance.min() + within]))


def write_scenes(sources: Sources, out: Path, *, seed: int, count: int, config: SceneConfig) -> None:
    """Write scenes as `00000.npz` … as `save_scene` does; those that are there are kept."""
    out.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        path = out / f"{index:05d}.npz"
        if path.exists():
            continue
        save_scene(path, make_scene(sources, seed=seed, index=index, config=config))


def save_scene(path: Path, scene: Scene) -> None:
    """Write a scene: picture uint8; target and disparities uint16 (65535 = 1); focal and aperture float64."""
    values = {field.name: getattr(scene, field.name) for field in fields(Scene)}
    for name in MAPS:
        values[name] = np.rint(np.clip(values[name], 0, 1) * 65535).astype(np.uint16)
    with replacing(path) as file:
        np.savez_compressed(file, **values)


def load_scene(path: Path) -> Scene:
    """What `save_scene` wrote."""
    with np.load(path) as stored:
        values = {field.name: stored[field.name] for field in fields(Scene)}
    for name in MAPS:
        values[name] = values[name].astype(np.float32) / np.float32(65535)
    return Scene(**{**values, "focal": float(values["focal"]), "aperture": float(values["aperture"])})


def main(
    out: Annotated[Path, typer.Option(help="Output folder of the set; scenes that are already there are kept.")],
    split: Annotated[
        str, typer.Option(help="Split whose photos and cut-outs are used: train, val, test or calibration.")
    ] = "test",
    count: Annotated[int, typer.Option(min=1, help="Number of scenes.")] = TEST_SCENES,
    seed: Annotated[int, typer.Option(help="Seed of the random scenes.")] = TEST_SEED,
    data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data"),
) -> None:
    """Write scenes of the test split's kind (640 pixels, one step, photographic cut-outs) as a set of files."""
    write_scenes(shipped(split, data), out, seed=seed, count=count, config=TEST_CONFIG)


if __name__ == "__main__":
    run_script(main)
