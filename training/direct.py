"""Direct regression, the baseline of the paper's table 2: one U-Net from photo and circle of confusion to picture.

$ python -m deeplens.training.direct --steps 1700 --out runs/direct [--resume]

Same scenes and loss as the lens blur and the step, and about as many multiplications for each pixel of the photo, but
no features, no kernels and no loop. The focal plane and the aperture enter through the signed radius of the circle of
confusion, in pixels: the network has no base size that would give a signed depth its meaning.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from deeplens.console.script import run_script
from deeplens.model.contract import R_MAX
from deeplens.model.layers import ConvBNReLU, upsample_2x
from deeplens.scenes.planes import SceneConfig
from deeplens.scenes.sources import Sources, shipped
from deeplens.scenes.stream import Sample, SceneStream
from deeplens.training.fit import FitConfig, Machine, fit
from deeplens.training.fit_blur import decibels, held_out
from deeplens.training.losses import Loss, normalised_loss

RADIUS_UNIT = 32.0
"""Pixels that an input of 1 stands for: the paper's largest kernel, k = 65."""

ALIGNMENT = 8
"""Heights and widths that the network takes are multiples of this."""


class DirectUNet(nn.Module):
    """Four levels of two 3×3 convolutions each way, with skips; predicts what to add to the photo, at first nothing.

    Input: picture (N, 3, H, W) in [0, 1]; radius (N, 1, H, W), the signed radius of the circle of confusion in units of
    `RADIUS_UNIT` pixels, near positive; H and W multiples of `ALIGNMENT`. Output: (N, 3, H, W), not clipped.
    """

    WIDTHS = (56, 64, 64, 64)

    def __init__(self) -> None:
        super().__init__()
        first, *others = self.WIDTHS
        self.down = nn.ModuleList([_pair(4, first)])
        self.up = nn.ModuleList()
        for width, finer in zip(others, self.WIDTHS, strict=False):
            self.down.append(_pair(finer, width, stride=2))
            self.up.append(_pair(width + finer, finer))
        self.last = nn.Conv2d(first, 3, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, picture: Tensor, radius: Tensor) -> Tensor:
        x = torch.cat((picture - 0.5, radius), 1)
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        for up, skip in zip(reversed(self.up), reversed(skips[:-1]), strict=True):
            x = up(torch.cat((upsample_2x(x), skip), 1))
        return picture + self.last(x)


def _pair(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(ConvBNReLU(inputs, outputs, 3, stride=stride), ConvBNReLU(outputs, outputs, 3))


@dataclass(frozen=True)
class DirectConfig(FitConfig):
    """A fit of the U-Net.

    Attributes:
        small, large: the scenes; every fourth step sees the large blur. Their radii are those of the test splits.
    """

    variant: str = "direct"
    small: SceneConfig = field(default_factory=lambda: SceneConfig(size=256, steps=1))
    large: SceneConfig = field(default_factory=lambda: SceneConfig(size=256, steps=2))


class DirectWithLoss(nn.Module):
    """The U-Net on samples of `SceneStream`; forward is the loss at the full size."""

    def __init__(self, *, loss: Loss = normalised_loss) -> None:
        super().__init__()
        self.network, self.loss = DirectUNet(), loss

    def output(self, sample: Sample) -> Tensor:
        """The picture (N, 3, S, S) of a batch."""
        radius = R_MAX * 2.0 ** int(sample["steps"][0]) / RADIUS_UNIT
        picture = sample["picture"].contiguous(memory_format=torch.channels_last)
        return self.network(picture, sample["signed_depth"] * radius)

    def forward(self, batch: Sample) -> Tensor:
        return self.loss(self.output(batch), batch["target"])


class DirectTask:
    """The U-Net on the scenes of `train`."""

    def __init__(self, config: DirectConfig, *, train: Sources, validation: Sources) -> None:
        self.config, self.train, self.validation = config, train, validation
        self._held_out: list[Sample] = []

    def module(self) -> DirectWithLoss:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return DirectWithLoss()

    def dataset(self) -> SceneStream:
        config = self.config
        return SceneStream(self.train, seed=config.seed, batch=config.batch, small=config.small, large=config.large)

    def networks(self, average: DirectWithLoss) -> dict[str, nn.Module]:
        return {"unet": average.network}

    @torch.no_grad()
    def validate(self, average: DirectWithLoss) -> dict[str, float]:
        """Mean PSNR in dB over 32 held-out scenes, half of them with the large blur; and of the unblurred picture."""
        self._held_out = self._held_out or held_out(self.validation, (self.config.small, 16), (self.config.large, 16))
        scores: dict[str, list[float]] = {"psnr": [], "psnr_unblurred": []}
        for sample in self._held_out:
            for name, output in (("psnr", average.output(sample)), ("psnr_unblurred", sample["picture"])):
                scores[name].append(decibels(output, sample["target"]))
        return {name: round(sum(values) / len(values), 3) for name, values in scores.items()}


def main(
    steps: Annotated[int, typer.Option(min=1, help="Total number of optimiser steps.")] = DirectConfig.steps,
    batch: Annotated[int, typer.Option(min=1, help="Scenes in each step.")] = DirectConfig.batch,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = DirectConfig.learning_rate,
    seed: Annotated[int, typer.Option(help="Seed of the scenes.")] = 0,
    out: Annotated[Path, typer.Option(help="Output folder of the run.")] = Path("runs/direct"),
    data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in --out.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Number of processes that make scenes.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Fit the U-Net of direct regression on synthetic scenes."""
    config = DirectConfig(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed)
    task = DirectTask(config, train=shipped("train", data), validation=shipped("val", data))
    fit(task, out=out, resume=resume, machine=Machine(workers=workers, threads=threads))


if __name__ == "__main__":
    run_script(main)
