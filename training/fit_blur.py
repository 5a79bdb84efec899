"""Fit the lens blur and the ×2 step jointly on synthetic scenes (section 3.2.4, equations 5 and 6).

$ python -m deeplens.training.fit_blur --variant edge --out runs/edge_blur [--resume]
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn
from torch.utils.data import default_collate

from deeplens.console.errors import InputError
from deeplens.console.script import run_script
from deeplens.model.build import load
from deeplens.model.contract import VARIANTS
from deeplens.model.lens_blur import PaperLensBlur
from deeplens.model.shipped import Weights
from deeplens.model.upsampler import PaperUpsampler
from deeplens.scenes.planes import SceneConfig, make_scene
from deeplens.scenes.predicted_errors import like_predicted
from deeplens.scenes.sources import Sources, folder, shipped
from deeplens.scenes.stream import Sample, SceneStream
from deeplens.training.fit import PRECISIONS, FitConfig, Machine, as_precision, fit
from deeplens.training.known_start import start_lens_blur, start_step
from deeplens.training.loop import halve, pyramid, run_loop
from deeplens.training.losses import LOSSES, Loss, normalised_loss

VALIDATION_SEED = 77


@dataclass(frozen=True)
class BlurConfig(FitConfig):
    """A fit of lens blur and step.

    Attributes:
        beta: weight of the high-resolution terms in equation 6.
        small, large: the scenes; every fourth step sees the large ones.
        loss: one of `training.losses.LOSSES`.
        start: folder with the weights of an earlier fit (VARIANT_NETWORK.safetensors) to start from.
        lens_blur: weights (.safetensors) of a lens blur that stays as it is: the step alone is fitted.
        errors: share of the scenes whose depth is wrong as a network's is (`scenes.predicted_errors`).
        known_start: `paper` without `start` begins with `training.known_start`, not with PyTorch's initial weights.
    """

    beta: float = 1.0
    small: SceneConfig = field(default_factory=lambda: SceneConfig(size=256, steps=1, narrow=0.35))
    large: SceneConfig = field(default_factory=lambda: SceneConfig(size=384, steps=2, narrow=0.35))
    loss: str = "l1"
    start: str | None = None
    lens_blur: str | None = None
    errors: float = 0.0
    known_start: bool = True


class BlurAndStep(nn.Module):
    """The two networks as one module whose forward is equation 6: J_f(L) + β · mean over levels of J_f(H)."""

    def __init__(
        self,
        lens_blur: nn.Module,
        upsample: nn.Module,
        *,
        beta: float,
        loss: Loss = normalised_loss,
        by_level: bool = False,
    ) -> None:
        super().__init__()
        self.lens_blur, self.upsample = lens_blur, upsample
        self.beta, self.loss, self.by_level = beta, loss, by_level

    def outputs(self, picture: Tensor, signed_depth: Tensor, *, steps: int) -> list[Tensor]:
        """Blurred pictures at all levels, base first."""
        pictures = [level.contiguous(memory_format=torch.channels_last) for level in pyramid(picture, steps)]
        return run_loop(self.lens_blur, self.upsample, pictures, signed_depth, by_level=self.by_level)

    def forward(self, batch: Sample) -> Tensor:
        steps = int(batch["steps"][0])
        outputs = self.outputs(batch["picture"], batch["signed_depth"], steps=steps)
        low, *high = (
            self.loss(white_at_most(output, target), target)
            for output, target in zip(outputs, pyramid(batch["target"], steps), strict=True)
        )
        return low + self.beta * torch.stack(high).mean()


class StepAlone(BlurAndStep):
    """The step after a lens blur that is no part of the module: not trained, averaged or stored.

    The loss is equation 6, but what it has of the base is constant.
    """

    def __init__(
        self, lens_blur: nn.Module, upsample: nn.Module, *, beta: float, loss: Loss, by_level: bool = False
    ) -> None:
        super().__init__(nn.Identity(), upsample, beta=beta, loss=loss, by_level=by_level)
        self.before = (lens_blur.eval().requires_grad_(False),)

    def outputs(self, picture: Tensor, signed_depth: Tensor, *, steps: int) -> list[Tensor]:
        """Blurred pictures at all levels, base first; without gradient in the base."""
        self.before[0].to(picture.device)
        pictures = [level.contiguous(memory_format=torch.channels_last) for level in pyramid(picture, steps)]
        return run_loop(self.before[0], self.upsample, pictures, signed_depth, by_level=self.by_level)


def white_at_most(output: Tensor, target: Tensor) -> Tensor:
    """`output` with what is above 1 taken as 1 where `target` is 1: there the true light was clipped, too."""
    return torch.where(target >= 1, output.clamp(max=1), output)


class BlurTask:
    """Lens blur and step of one variant, on the scenes of `train`."""

    def __init__(self, config: BlurConfig, *, train: Sources, validation: Sources) -> None:
        self.config, self.train, self.validation = config, train, validation
        self._held_out: list[Sample] = []

    def module(self) -> BlurAndStep:
        config = self.config
        start: Weights = "initial" if config.start is None else Path(config.start)
        stays = config.lens_blur is not None
        lens_blur = load(config.variant, "lens_blur", start if config.lens_blur is None else Path(config.lens_blur))
        upsample = load(config.variant, "upsample", start)
        if start == "initial" and config.known_start and isinstance(lens_blur, PaperLensBlur):
            assert isinstance(upsample, PaperUpsampler)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                if not stays:
                    start_lens_blur(lens_blur)
                first = default_collate([self.dataset()[index] for index in range(config.batch)])
                start_step(upsample, step_inputs(first))
        kind = StepAlone if stays else BlurAndStep
        return kind(
            lens_blur,
            upsample,
            beta=config.beta,
            loss=LOSSES[config.loss],
            by_level=VARIANTS[config.variant].depth_by_level,
        )

    def dataset(self) -> SceneStream:
        config = self.config
        return SceneStream(
            self.train,
            seed=config.seed,
            batch=config.batch,
            small=config.small,
            large=config.large,
            errors=config.errors,
        )

    def networks(self, average: BlurAndStep) -> dict[str, nn.Module]:
        if isinstance(average, StepAlone):
            return {"upsample": average.upsample}
        return {"lens_blur": average.lens_blur, "upsample": average.upsample}

    @torch.no_grad()
    def validate(self, average: BlurAndStep) -> dict[str, float]:
        """Mean PSNR in dB over 32 scenes: of the output at full and at base size, and of the unblurred picture.

        psnr_errors: of the output at full size for depth with a network's errors.
        """
        self._held_out = self._held_out or held_out(self.validation, (self.config.small, 24), (self.config.large, 8))
        device = next(average.parameters()).device
        scores: dict[str, list[float]] = {"psnr": [], "psnr_low": [], "psnr_unblurred": [], "psnr_errors": []}
        for kept in self._held_out:
            sample = {name: values.to(device) for name, values in kept.items()}
            steps = int(sample["steps"][0])
            outputs = average.outputs(sample["picture"], sample["signed_depth"], steps=steps)
            targets = pyramid(sample["target"], steps)
            wrong = average.outputs(sample["picture"], sample["wrong"], steps=steps)
            for name, output, target in (
                ("psnr_errors", wrong[-1], targets[-1]),
                ("psnr", outputs[-1], targets[-1]),
                ("psnr_low", outputs[0], targets[0]),
                ("psnr_unblurred", sample["picture"], targets[-1]),
            ):
                scores[name].append(decibels(output, target))
        return {name: round(sum(values) / len(values), 3) for name, values in scores.items()}


def step_inputs(batch: Sample) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """picture_high, picture, blurred and signed_depth of the last step of a batch, from the true blurred picture."""
    low, high = pyramid(batch["picture"], 1)
    return high, low, halve(batch["target"]), F.avg_pool2d(batch["signed_depth"], 2)


def held_out(sources: Sources, *kinds: tuple[SceneConfig, int]) -> list[Sample]:
    """So many scenes of each kind as batches of one: with true depth and the paper's kind of foregrounds."""
    samples = []
    for scenes, count in kinds:
        wanted = SceneConfig(size=scenes.size, steps=scenes.steps, cutout_only=True)
        for index in range(count):
            scene = make_scene(sources, seed=VALIDATION_SEED, index=index, config=wanted)
            rng = np.random.default_rng([VALIDATION_SEED, index, 4])
            wrong = like_predicted(scene.disparity, rng, pixel=2**scenes.steps)
            samples.append(
                {
                    "picture": torch.from_numpy(scene.picture).permute(2, 0, 1)[None].float() / 255,
                    "target": torch.from_numpy(scene.target).permute(2, 0, 1)[None],
                    "signed_depth": torch.from_numpy((scene.disparity - scene.focal) * scene.aperture)[None, None],
                    "wrong": torch.from_numpy((wrong - scene.focal) * scene.aperture)[None, None],
                    "steps": torch.tensor([scenes.steps]),
                }
            )
    return samples


def decibels(output: Tensor, target: Tensor) -> float:
    """PSNR of a batch clipped to [0, 1], peak 1."""
    error = (output.clamp(0, 1) - target).square().mean()
    return float(-10 * torch.log10(error + 1e-10))


def main(
    variant: Annotated[str, typer.Option(help="Variant of the networks: paper or edge.")] = "edge",
    steps: Annotated[int, typer.Option(min=1, help="Total number of optimiser steps.")] = BlurConfig.steps,
    batch: Annotated[int, typer.Option(min=1, help="Scenes in each step.")] = BlurConfig.batch,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = BlurConfig.learning_rate,
    seed: Annotated[int, typer.Option(help="Seed of the scenes.")] = 0,
    loss: Annotated[str, typer.Option(help=f"Loss to train with: {', '.join(LOSSES)}.")] = BlurConfig.loss,
    lights: Annotated[float, typer.Option(min=0, max=1, help="Share of the scenes with lamps.")] = 0.0,
    start: Annotated[Path | None, typer.Option(help="Folder of an earlier fit to start from.")] = None,
    lens_blur: Annotated[
        Path | None, typer.Option(help="Fixed weights of the lens blur: only the step is trained.")
    ] = None,
    errors: Annotated[float, typer.Option(min=0, max=1, help="Share of scenes with a depth network's errors.")] = 0.0,
    size: Annotated[int, typer.Option(min=64, help="Side of the small scenes in pixels; large ones: 1.5 times.")] = 256,
    precision: Annotated[
        str, typer.Option(help=f"Precision of the arithmetic: {' or '.join(PRECISIONS)}.")
    ] = BlurConfig.precision,
    out: Annotated[Path, typer.Option(help="Output folder of the run.")] = Path("runs/edge_blur"),
    data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data"),
    backgrounds: Annotated[Path | None, typer.Option(help="Folder of your own sharp photos; needs --cutouts.")] = None,
    cutouts: Annotated[Path | None, typer.Option(help="Folder of your own cut-outs, with alpha or masks.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in --out.")] = False,
    devices: Annotated[int, typer.Option(min=1, help="Training processes on each machine.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Number of machines.")] = 1,
    accelerator: Annotated[str, typer.Option(help="Where to train: cpu, cuda, mps or auto.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Number of processes that make scenes.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each process.")] = None,
    validate_every: Annotated[int, typer.Option(min=1, help="Number of steps between validations.")] = 200,
) -> None:
    """Fit the lens blur and the ×2 step jointly on synthetic scenes."""
    if (backgrounds is None) != (cutouts is None):
        raise InputError("--backgrounds and --cutouts must be used together: give both, or neither")
    train = folder(backgrounds, cutouts) if backgrounds and cutouts else shipped("train", data)
    if loss not in LOSSES:
        raise InputError(f"unknown loss '{loss}': choose {', '.join(LOSSES)}")
    config = BlurConfig(
        variant=variant, steps=steps, batch=batch, learning_rate=learning_rate, seed=seed,
        loss=loss, precision=as_precision(precision), start=str(start) if start else None,
        lens_blur=str(lens_blur) if lens_blur else None, errors=errors,
    )  # fmt: skip
    small, large = (replace(each, lights=lights) for each in (config.small, config.large))
    config = replace(config, small=replace(small, size=size), large=replace(large, size=size * 3 // 2))
    task = BlurTask(config, train=train, validation=shipped("val", data))
    machine = Machine(
        devices=devices, nodes=nodes, accelerator=accelerator, workers=workers, threads=threads,
        validate_every=validate_every,
    )  # fmt: skip
    fit(task, out=out, resume=resume, machine=machine)


if __name__ == "__main__":
    run_script(main)
