"""Go on with `edge` depth so that it is sharp at outlines, its order kept: `training.outline_data`, `outline_loss`.

$ python -m deeplens.training.fit_outlines --start model/weights/edge_depth.safetensors --out runs/outlines [--resume]

Norms keep the statistics of the start, and the first stages of the encoder keep their weights: what they give is good
enough for outlines, and without them a step takes half the time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from deeplens.console.script import run_script
from deeplens.model.build import load
from deeplens.model.contract import DEPTH_SIZE
from deeplens.model.depth import EdgeDepth
from deeplens.model.layers import FrozenNorm
from deeplens.scenes.fine_mattes import load_fine
from deeplens.scenes.renderer import Array
from deeplens.scenes.rooms import load_room
from deeplens.scenes.sources import Sources, load_background, shipped
from deeplens.scenes.stream import Sample
from deeplens.training.depth_labels import load_label
from deeplens.training.fit import PRECISIONS, FitConfig, Machine, as_precision, fit
from deeplens.training.fit_depth import gradient_loss, normalise, rendered
from deeplens.training.outline_data import OutlineStream, composed_outlines, layered_outlines, matted
from deeplens.training.outline_loss import anchor_loss, matte_loss, pair_loss, weighted_loss
from deeplens.training.outlines import Outline, at_matte, at_steps

VALIDATION_SEED = 79
COMPOSED = 24
"""Composed pictures, and as many layered ones, of a validation."""


@dataclass(frozen=True)
class OutlineConfig(FitConfig):
    """A fit of the depth network to outlines.

    Attributes:
        start: weights (.safetensors) of an earlier fit.
        held: how many stages of the encoder, after the stem, keep their weights with it.
        gradient, pairs, gamma, anchor: weights of the terms beside the weighted L1.
        order: weight of the coarse map where the whole disparity is known: near and far count beside outlines.
    """

    steps: int = 3000
    batch: int = 8
    learning_rate: float = 5e-4
    warmup: int = 50
    ema: float = 0.997
    precision: str = "bf16-mixed"  # type: ignore[assignment]
    start: str = "model/weights/edge_depth.safetensors"
    held: int = 2
    gradient: float = 1.0
    pairs: float = 0.25
    gamma: float = 0.25
    anchor: float = 1.0
    order: float = 2.0


class OutlinesWithLoss(nn.Module):
    """The network as a module whose forward is the loss."""

    def __init__(self, config: OutlineConfig) -> None:
        super().__init__()
        network = load("edge", "depth", Path(config.start))
        assert isinstance(network, EdgeDepth)
        self.network, self.config = network, config
        for each in network.modules():
            if type(each) is nn.BatchNorm2d:
                each.__class__ = FrozenNorm
        for part in (network.stem, *network.stages[: config.held]):
            part.requires_grad_(False)

    def forward(self, batch: Sample) -> Tensor:
        """The loss of a batch of `OutlineStream`."""
        config = self.config
        picture = batch["picture"].contiguous(memory_format=torch.channels_last)
        disparity, segmentation = (maps.float() for maps in self.network.heads(picture))
        truth, valid = batch["disparity"], batch["valid"]
        known, anchored, cut = (
            valid * batch[f"has_{label}"].view(-1, 1, 1, 1) for label in ("disparity", "anchor", "segmentation")
        )
        loss = weighted_loss(disparity, truth, known)
        loss = loss + config.gradient * gradient_loss(disparity, truth, known)
        loss = loss + config.pairs * pair_loss(disparity, truth, known)
        loss = loss + config.anchor * anchor_loss(disparity, truth, anchored)
        loss = loss + config.order * anchor_loss(disparity, truth, known)
        return loss + config.gamma * matte_loss(segmentation, batch["segmentation"], cut)


class OutlineTask:
    """`edge` depth, fitted to outlines."""

    def __init__(
        self,
        config: OutlineConfig,
        *,
        train: Sources,
        validation: Sources,
        data: Path,
        rooms: tuple[Path, ...] = (),
        validation_rooms: tuple[Path, ...] = (),
    ) -> None:
        self.config, self.train, self.validation, self.data = config, train, validation, data
        self.rooms, self.validation_rooms = rooms, validation_rooms

    def module(self) -> OutlinesWithLoss:
        return OutlinesWithLoss(self.config)

    def dataset(self) -> Dataset[Sample]:
        return OutlineStream(self.train, seed=self.config.seed, data=self.data, rooms=self.rooms)

    def networks(self, average: OutlinesWithLoss) -> dict[str, nn.Module]:
        return {"depth": average.network}

    @torch.no_grad()
    def validate(self, average: OutlinesWithLoss) -> dict[str, float]:
        """Order and outlines of held-out pictures.

        mae_rooms, mae_composed, mae_layered: mean absolute error of normalised disparity.
        {real,composed,layered,rooms}_{width,offset}: of `training.outlines`, means over pictures; {…}_found: the share
        of outlines with a step. kept: how far the low-passed map is from the label of the real photos, before it was
        snapped.
        """
        network, device = average.network, next(average.parameters()).device

        def predicted(pixels: NDArray[np.uint8]) -> Array:
            small = Image.fromarray(pixels).resize((DEPTH_SIZE, DEPTH_SIZE), Image.Resampling.BOX)
            picture = torch.from_numpy(np.array(small)).permute(2, 0, 1).float()[None] / 255
            return normalise(network(picture.to(device)).cpu().float())[0, 0].numpy()

        scores: dict[str, list[float]] = {}

        def add(name: str, found: Outline | None) -> None:
            if found is None:
                return
            scores.setdefault(f"{name}_found", []).append(found.found)
            if found.width is not None and found.offset is not None:
                scores.setdefault(f"{name}_width", []).append(found.width)
                scores.setdefault(f"{name}_offset", []).append(found.offset)

        for path in self.validation_rooms:
            pixels, truth = load_room(path)
            disparity = predicted(pixels)
            scores.setdefault("mae_rooms", []).append(float(np.abs(disparity - truth).mean()))
            add("rooms", at_steps(disparity, truth))
        layered = layered_outlines(self.validation, seed=VALIDATION_SEED, count=COMPOSED, data=self.data)
        composed = composed_outlines(self.validation, seed=VALIDATION_SEED, count=COMPOSED)
        for name, pairs in (("composed", composed), ("layered", layered)):
            for picture, truth in pairs:
                disparity = predicted(np.rint(picture * 255).astype(np.uint8))
                scores.setdefault(f"mae_{name}", []).append(float(np.abs(disparity - truth).mean()))
                add(name, at_steps(disparity, truth))
        for path in matted(self.validation.subjects + self.validation.backgrounds, self.data):
            disparity, matte = predicted(load_background(path)), load_fine(path, self.data)
            label = load_label(path, self.data)
            low = [F.avg_pool2d(torch.from_numpy(each)[None, None], 32) for each in (disparity, label)]
            scores.setdefault("kept", []).append(float((low[0] - low[1]).abs().mean()))
            size = matte.shape[1], matte.shape[0]
            add("real", at_matte(np.asarray(Image.fromarray(disparity).resize(size)), matte))
        return {name: round(sum(values) / len(values), 4) for name, values in scores.items()}


def main(
    start: Annotated[Path, typer.Option(help="Weights of an earlier fit.")] = Path(OutlineConfig.start),
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps in all.")] = OutlineConfig.steps,
    batch: Annotated[int, typer.Option(min=1, help="Samples a step.")] = OutlineConfig.batch,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = OutlineConfig.learning_rate,
    held: Annotated[int, typer.Option(min=0, help="Encoder stages that keep their weights.")] = OutlineConfig.held,
    gradient: Annotated[float, typer.Option(help="Weight of the gradient term.")] = OutlineConfig.gradient,
    ema: Annotated[float, typer.Option(help="Decay a step of the averaged weights.")] = OutlineConfig.ema,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
    precision: Annotated[str, typer.Option(help=f"{' or '.join(PRECISIONS)}.")] = OutlineConfig.precision,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/edge_outlines"),
    data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make samples.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads on a CPU.")] = None,
    accelerator: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "auto",
    validate_every: Annotated[int, typer.Option(min=1, help="Steps from one validation to the next.")] = 250,
) -> None:
    """Fit `edge` depth to outlines."""
    config = OutlineConfig(
        steps=steps, batch=batch, learning_rate=learning_rate, seed=seed, precision=as_precision(precision),
        start=str(start), held=held, gradient=gradient, ema=ema,
    )  # fmt: skip
    task = OutlineTask(
        config, train=shipped("train", data), validation=shipped("val", data), data=data,
        rooms=rendered("train", data), validation_rooms=rendered("val", data),
    )  # fmt: skip
    machine = Machine(
        workers=workers, threads=threads, accelerator=accelerator, validate_every=validate_every, keep=True
    )
    fit(task, out=out, resume=resume, machine=machine)


if __name__ == "__main__":
    run_script(main)
