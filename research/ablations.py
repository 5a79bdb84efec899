"""The paper's findings re-measured: each arm is one small fit that differs from the standard arm in one thing.

$ python -m deeplens.research.ablations --out runs/ablations [--only NAME …]

Arms run one after another. What is finished is skipped and what was cut off goes on, so that the same command can be
given again at any time. `python -m deeplens.research.findings` makes tables and figures of the results.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from deeplens.console.errors import InputError
from deeplens.console.files import replacing
from deeplens.console.script import run_script
from deeplens.evaluation.metrics import depth_edge_band, scores
from deeplens.model.build import load, read_weights
from deeplens.model.lens_blur import EdgeLensBlur, PaperLensBlur
from deeplens.model.upsampler import EdgeUpsampler, PaperUpsampler
from deeplens.research.arms import ARMS, EDGE, Arm
from deeplens.research.tried import EasyFirst, TriedBlurAndStep, Ways
from deeplens.runtimes import open_runtime
from deeplens.runtimes.harness import Harness
from deeplens.scenes.planes import TEST_SEED, SceneConfig
from deeplens.scenes.sources import shipped
from deeplens.scenes.stream import DEPTHS, Sample, StoredScenes, write_scenes
from deeplens.training.direct import DirectWithLoss
from deeplens.training.fit import Machine, fit
from deeplens.training.fit_blur import BlurAndStep, step_inputs
from deeplens.training.known_start import start_step
from deeplens.training.loop import halve, pyramid
from deeplens.training.losses import LOSSES, Loss

TRAIN_SCENES = SceneConfig(size=96, steps=1)
TEST_SCENES = SceneConfig(size=96, steps=1, cutout_only=True)
TRAIN_COUNT, TEST_COUNT = 600, 48

SEEDS = 2
"""Of each arm, unless more are asked for."""

EDGE_BAND = 4.0
"""Pixels on both sides of a true depth edge that count as at the edge: as far as a corrupted depth is dilated."""

STEP = "guided step"

UPSAMPLING = "upsampling"
"""The result that trains nothing: the step of the arm `loop` beside other ways to double its lens blur."""


REFERENCE = "reference"
"""The result that needs no fit at all: see `references`."""


Scores = dict[str, dict[str, float]]
"""What was tested, for a fit the kind of depth it was given → metric → mean over the test scenes."""


class LensBlurAlone(nn.Module):
    """The lens blur at the base of the scenes, one level below their full size; forward is the loss there."""

    def __init__(self, lens_blur: nn.Module, *, loss: Loss) -> None:
        super().__init__()
        self.lens_blur, self.loss = lens_blur, loss

    def output(self, sample: Sample) -> Tensor:
        """The blurred picture (N, 3, S/2, S/2) of a batch."""
        picture = halve(sample["picture"]).contiguous(memory_format=torch.channels_last)
        return self.lens_blur(picture, F.avg_pool2d(sample["signed_depth"], 2))

    def forward(self, batch: Sample) -> Tensor:
        return self.loss(self.output(batch), halve(batch["target"]))


ArmModule = LensBlurAlone | BlurAndStep | DirectWithLoss


class ArmTask:
    """One arm on stored scenes; its scores are those of the averaged weights on the test scenes."""

    def __init__(self, arm: Arm, *, train: Path, test: Path) -> None:
        self.config, self.train, self.test = arm, train, test

    def module(self) -> ArmModule:
        arm = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(arm.seed)
            loss = LOSSES[arm.loss]
            if arm.network == "direct":
                return DirectWithLoss(loss=loss)
            lens_blur = EdgeLensBlur() if arm.variant == "edge" else PaperLensBlur(features=arm.features)
            if arm.network == "lens_blur":
                return LensBlurAlone(lens_blur, loss=loss)
            upsample = EdgeUpsampler() if arm.variant == "edge" else PaperUpsampler()
            if isinstance(upsample, PaperUpsampler):
                start_step(upsample, step_inputs(default_collate([self.dataset()[index] for index in range(8)])))
            ways = Ways(arm.edges, arm.apertures, arm.distilled, radius=TRAIN_SCENES.radius)
            if ways != Ways(radius=TRAIN_SCENES.radius):
                teacher = (load("paper", "lens_blur"), load("paper", "upsample")) if arm.distilled else None
                return TriedBlurAndStep(lens_blur, upsample, ways=ways, teacher=teacher)
            return BlurAndStep(lens_blur, upsample, beta=1.0, loss=loss)

    def dataset(self) -> Dataset[Sample]:
        arm = self.config
        if arm.easy_first:
            until = round(arm.easy_first * arm.steps) * arm.batch
            return EasyFirst(self.train, config=TRAIN_SCENES, depth=arm.depth, seed=arm.seed, until=until)
        return StoredScenes(self.train, config=TRAIN_SCENES, depth=arm.depth, seed=arm.seed)

    def networks(self, average: ArmModule) -> dict[str, nn.Module]:
        if isinstance(average, DirectWithLoss):
            return {"unet": average.network}
        if isinstance(average, LensBlurAlone):
            return {"lens_blur": average.lens_blur}
        return {"lens_blur": average.lens_blur, "upsample": average.upsample}

    def validate(self, average: ArmModule) -> dict[str, float]:
        """`DEPTH METRIC` → mean over the test scenes."""
        return {
            f"{depth} {metric}": value
            for depth in DEPTHS
            for metric, value in mean_scores(
                partial(_output, average), StoredScenes(self.test, config=TEST_SCENES, depth=depth)
            ).items()
        }


def _output(module: ArmModule, sample: Sample) -> Tensor:
    if isinstance(module, BlurAndStep):
        return module.outputs(sample["picture"], sample["signed_depth"], steps=TEST_SCENES.steps)[-1]
    return module.output(sample)


@torch.no_grad()
def mean_scores(output: Callable[[Sample], Tensor], scenes: StoredScenes) -> dict[str, float]:
    """Mean scores over all `scenes` of `output`(sample), at their full size or at the base.

    See `evaluation.metrics.scores`; the band is `EDGE_BAND` wide.
    """
    found: dict[str, list[float]] = {}
    for index in range(len(scenes.paths)):
        sample = {name: value[None] for name, value in scenes[index].items()}
        picture = output(sample)
        scale = sample["target"].shape[-1] // picture.shape[-1]
        target = sample["target"] if scale == 1 else halve(sample["target"])
        band = depth_edge_band(scenes.scene(index).disparity[::scale, ::scale], EDGE_BAND / scale)
        for metric, value in scores(_picture(picture), _picture(target), band=band).items():
            if value is not None:
                found.setdefault(metric, []).append(value)
    return {metric: fmean(values) for metric, values in found.items()}


def _picture(batch: Tensor) -> np.ndarray:
    """(1, 3, H, W) → H×W×3."""
    return batch[0].permute(1, 2, 0).numpy()


def upsampling(arm: Arm, run: Path, *, test: Path) -> Scores:
    """The trained step of `run` beside `evaluation.baselines.UPSAMPLERS`, on true depth.

    Each doubles the lens blur's own picture of the base, and the true one. Row → scores, as in `Scores`.
    """
    from deeplens.evaluation.baselines import UPSAMPLERS

    scenes = StoredScenes(test, config=TEST_SCENES, depth="true")
    module = ArmTask(arm, train=test, test=test).module().eval()
    assert isinstance(module, BlurAndStep)
    for network in ("lens_blur", "upsample"):
        path = run / f"{arm.variant}_{network}.safetensors"
        read_weights(getattr(module, network), path, what=f"the {network} network of this arm")

    def doubled(sample: Sample, *, source: str, name: str) -> Tensor:
        low, high = pyramid(sample["picture"], 1)
        depth = F.avg_pool2d(sample["signed_depth"], 2)
        base = module.lens_blur(low, depth).clamp(0.0, 1.0) if source == "own base" else halve(sample["target"])
        if name == STEP:
            return module.upsample(high, low, base, depth)
        return torch.from_numpy(UPSAMPLERS[name](base.numpy(), high.numpy(), low.numpy()))

    result: Scores = {}
    for source in ("own base", "true base"):
        for name in (STEP, *UPSAMPLERS):
            result[f"{name}, {source}"] = mean_scores(partial(doubled, source=source, name=name), scenes)
    return result


def references(test: Path) -> Scores:
    """What no seed changes: the unblurred photo at both sizes, and the `edge` networks before training on each depth.

    Row → scores, as in `Scores`; the latter rows are `untrained edge, DEPTH`.
    """
    scenes = StoredScenes(test, config=TEST_SCENES, depth="true")
    result = {
        "unblurred photo": mean_scores(lambda sample: sample["picture"], scenes),
        "unblurred photo at the base": mean_scores(lambda sample: halve(sample["picture"]), scenes),
    }
    untrained = ArmTask(EDGE, train=test, test=test).module().eval()
    for depth in DEPTHS:
        result[f"untrained edge, {depth}"] = mean_scores(
            partial(_output, untrained), StoredScenes(test, config=TEST_SCENES, depth=depth)
        )
    return result


def write_predicted(folder: Path, *, config: SceneConfig, harness: Harness) -> None:
    """Write `predicted.npy` beside stored scenes: the harness's disparity of each photo; kept if it is there.

    As the estimate has no scale of its own, it is put into the range of the scene's true disparity.
    """
    path = folder / "predicted.npy"
    if path.exists():
        return
    scenes = StoredScenes(folder, config=config, depth="true")
    maps = np.empty((len(scenes.paths), config.size, config.size), np.float32)
    for index in range(len(maps)):
        scene = scenes.scene(index)
        estimate = Image.fromarray(harness.disparity(scene.picture))
        low, high = scene.disparity.min(), scene.disparity.max()
        shares = np.asarray(estimate.resize((config.size, config.size), Image.Resampling.BOX))
        maps[index] = low + (high - low) * shares
    with replacing(path) as file:
        np.save(file, maps)


def prepare(out: Path, *, data: Path) -> tuple[Path, Path]:
    """Write the scenes that all arms share, where they are not there yet. Returns their folders: training, test."""
    train, test = out / "train", out / "test"
    write_scenes(shipped("train", data), train, seed=0, count=TRAIN_COUNT, config=TRAIN_SCENES)
    write_scenes(shipped("test", data), test, seed=TEST_SEED, count=TEST_COUNT, config=TEST_SCENES)
    with open_runtime("torch", variant="edge", threads=1) as runtime:
        harness = Harness(runtime)
        write_predicted(train, config=TRAIN_SCENES, harness=harness)
        write_predicted(test, config=TEST_SCENES, harness=harness)
    return train, test


def jobs(seeds: int, only: Sequence[str] = ()) -> Iterator[tuple[str, int]]:
    """(name, seed) of all that is to run: `REFERENCE`, the names of `ARMS` seed by seed, `UPSAMPLING` for each seed.

    Raises:
        InputError: a name in `only` that there is not.
    """
    names = [REFERENCE, *ARMS, UPSAMPLING]
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise InputError(f"unknown arm '{unknown[0]}': choose from {', '.join(names)}")
    order = [(REFERENCE, 0)]
    order += [(name, seed) for seed in range(seeds) for name in ARMS]
    order += [(UPSAMPLING, seed) for seed in range(seeds)]
    for name, seed in order:
        if not only or name in only:
            yield name, seed


def read_results(path: Path) -> list[dict[str, Any]]:
    """The finished runs, a JSON line each: name, seed, scores."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run_job(name: str, seed: int, *, out: Path, train: Path, test: Path) -> Scores:
    """Fit and test one arm, with what of it is there already, or test what needs no fit of its own."""
    if name == REFERENCE:
        return references(test)
    if name == UPSAMPLING:
        return upsampling(ARMS["loop"], out / f"loop-{seed}", test=test)
    arm = replace(ARMS[name], seed=seed)
    folder = out / f"{name}-{seed}"
    machine = Machine(accelerator="cpu", workers=0, threads=1, validate_every=arm.steps, progress=False)
    fit(ArmTask(arm, train=train, test=test), out=folder, resume=True, machine=machine)
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return {
        depth: {key.removeprefix(f"{depth} "): value for key, value in last.items() if key.startswith(f"{depth} ")}
        for depth in DEPTHS
    }


def main(
    out: Annotated[Path, typer.Option(help="Folder of the runs; the results go to results.jsonl in it.")] = Path(
        "runs/ablations"
    ),
    data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data"),
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Run only these arms.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds for each arm; they count from 0.")] = SEEDS,
) -> None:
    """Run what is not finished of the arms, one after another."""
    todo = list(jobs(seeds, only or []))
    out.mkdir(parents=True, exist_ok=True)
    train, test = prepare(out, data=data)
    path = out / "results.jsonl"
    for name, seed in todo:
        if any((each["name"], each["seed"]) == (name, seed) for each in read_results(path)):
            continue
        found = run_job(name, seed, out=out, train=train, test=test)
        results = [*read_results(path), {"name": name, "seed": seed, "scores": found}]
        with replacing(path) as file:
            file.write("".join(json.dumps(each) + "\n" for each in results).encode())
        typer.echo(f"{name}, seed {seed}: " + ", ".join(f"{row} {each['psnr']:.2f} dB" for row, each in found.items()))


if __name__ == "__main__":
    run_script(main)
