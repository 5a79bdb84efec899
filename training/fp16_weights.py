"""Weights that FP16 holds exactly: what rounding them costs is paid once, before a network is shipped.

$ python -m training.fp16_weights runs/edge_depth/edge_depth.safetensors --out model/weights

Exporters fold each batch norm into the convolution before it and round the product to FP16. Errors of rounded weights
do not average out as those of activations do: every picture meets the same ones. In `edge` depth they were most of what
FP16 did to the disparity. So the norm is folded here, the folded weights are rounded, and the norm becomes the
identity: whatever is exported in FP16 has the very weights of the PyTorch network in float32. The file is stored in
FP16, half as large, and loses nothing by it. The layers of `paper`'s step are scaled first (`into_range`).

Several files of one name, each from a fit that began where another ended, are averaged first: the mean of their weights
is often better on unseen pictures than any of them (Wortsman et al. 2022, "Model soups").
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from safetensors.torch import save
from torch import nn

from deeplens.guard import guarded
from export.fp16 import LARGEST
from model.build import load
from model.contract import NETWORKS, VARIANTS
from model.errors import InputError, MismatchError
from model.upsampler import PaperUpsampler
from runtimes.image_file import replacing

PHOTO = Path(__file__).resolve().parents[1] / "samples" / "drum.jpg"

AIM = 4096.0
"""Largest value between the layers of a scaled step: far below FP16's 65504, and what is added to it is not lost."""

ROOM = 1 / 2
"""The weight maps aim for this share of it: 32 of them are summed."""


@torch.no_grad()
def fold(module: nn.Module) -> None:
    """Fold batch norms into the convolutions before them, in place.

    A norm that stood behind a convolution keeps the folded bias; its scale is 1, its mean 0, its variance 1.
    """
    for name, layers in module.named_modules():
        if not isinstance(layers, nn.Sequential):
            continue
        for convolution, norm in zip(list(layers)[:-1], list(layers)[1:], strict=True):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _fold(convolution, norm, name)


@torch.no_grad()
def round_weights(module: nn.Module) -> None:
    """Round all weights and biases of convolutions and folded norms to FP16, in place.

    Raises:
        MismatchError: a weight is larger than FP16 can hold; the message names the layer.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            for values in (layer.weight, layer.bias) if isinstance(layer, nn.Conv2d) else (layer.bias,):
                if values is not None:
                    _round(values, name)


def fold_and_round(module: nn.Module) -> None:
    """`fold`, then `round_weights`."""
    fold(module)
    round_weights(module)


def seen_by_steps() -> list[torch.Tensor]:
    """A photo's part as a step sees it: sharp on the left, out of focus on the right, its depth a ramp."""
    pixels = np.asarray(Image.open(PHOTO).convert("RGB").resize((512, 320), Image.Resampling.LANCZOS), np.float32)
    high = torch.from_numpy(pixels / 255).permute(2, 0, 1)[None]
    low = F.avg_pool2d(high, 2)
    blurred = F.avg_pool2d(F.pad(low, (4, 4, 4, 4), mode="reflect"), 9, stride=1)
    depth = torch.linspace(0, 1, low.shape[3]).expand(1, 1, *low.shape[2:])
    return [high, low, torch.lerp(low, blurred, depth), depth]


@torch.no_grad()
def into_range(step: PaperUpsampler, inputs: Sequence[torch.Tensor]) -> None:
    """Scale the layers of a folded step so that FP16 holds what passes between them, in place.

    Its layers are positively homogeneous and its weight maps are divided by their sum, so that a layer's output may be
    any multiple if the next one's weights make up for it; a fit leaves the multiples to chance. What is too large is
    lowered by powers of two: nothing is rounded, and the floor under the weight maps counts for a little more.

    Args:
        inputs: picture_high, picture, blurred and signed_depth, on which the layers are looked at.
    """
    largest: dict[nn.Module, float] = {}

    def look(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        largest[module] = float(output.abs().max())

    low = [step.down0, step.down1, step.down2, *step.down3, step.up2, step.up1, step.up0, step.out_low, step.out_high]
    layers = [*low, *step.weigh]
    handles = [layer.register_forward_hook(look) for layer in layers]
    step(*inputs)
    for handle in handles:
        handle.remove()
    scale = {layer: min(1.0, 2.0 ** round(math.log2(AIM / largest[layer]))) for layer in layers}
    for down, up in ((step.down0, step.up0), (step.down1, step.up1), (step.down2, step.up2)):  # they are added
        scale[down] = scale[up] = min(scale[down], scale[up])
    last = step.weigh[-1]
    scale[last] = min(1.0, 2.0 ** round(math.log2(ROOM * AIM / largest[last])))

    before = [None, *low[:5], step.up2, step.up1, step.up0, step.out_low]
    for layer, source in zip(low, before, strict=True):
        _scale(layer, scale[layer], 1.0 if source is None else scale[source])
    first, *others = list(step.weigh)
    weight = _scale(first, scale[first], 1.0)
    weight[:, 3:] /= scale[step.out_high]  # behind the three channels of the high picture
    for layer, source in zip(others, list(step.weigh)[:-1], strict=True):
        _scale(layer, scale[layer], scale[source])


def _scale(layer: nn.Module, outgoing: float, incoming: float) -> torch.Tensor:
    """Multiply what a folded layer, or a convolution with bias, gives for inputs that were multiplied; its weights."""
    convolution, norm = (layer, None) if isinstance(layer, nn.Conv2d) else (layer[0], layer[1])  # type: ignore[index]
    convolution.weight.mul_(outgoing / incoming)
    bias = (convolution if norm is None else norm).bias
    assert bias is not None
    bias.mul_(outgoing)
    return convolution.weight


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d, name: str) -> None:
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise MismatchError(f"{name}: a batch norm without running statistics can't be folded")
    scale = norm.weight.double() / torch.sqrt(variance.double() + norm.eps)
    bias = norm.bias - mean * scale
    if convolution.bias is not None:
        bias = bias + convolution.bias * scale
        convolution.bias.zero_()
    convolution.weight.copy_(convolution.weight.double() * scale.view(-1, 1, 1, 1))
    mean.zero_()
    variance.fill_(1.0)
    norm.weight.fill_((1.0 + norm.eps) ** 0.5)
    norm.bias.copy_(bias)


def _round(values: torch.Tensor, name: str) -> None:
    largest = float(values.abs().max())
    if largest > LARGEST:
        raise MismatchError(f"{name} has a weight of {largest:g}, more than FP16 can hold: train with weight decay")
    values.copy_(values.half())


def stored(module: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict of a module after `fold_and_round`, with FP16 wherever that is exact."""
    state = {}
    for name, value in module.state_dict().items():
        exact = value.dtype == torch.float32 and torch.equal(value.half().float(), value)
        state[name] = (value.half() if exact else value).contiguous()
    return state


@torch.no_grad()
def averaged(modules: Sequence[nn.Module]) -> nn.Module:
    """The first module with the mean of all modules' weights and statistics, which must be of one network."""
    states = [module.state_dict() for module in modules]
    for name, value in states[0].items():
        if value.dtype.is_floating_point:
            value.copy_(sum(state[name].double() for state in states) / len(states))
    return modules[0]


def main(
    weights: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="VARIANT_NETWORK.safetensors of a fit, or of several.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the file of that name to.")],
) -> None:
    """Write weights that FP16 holds exactly."""
    name = weights[0].name
    variant, _, network = weights[0].stem.partition("_")
    if variant not in VARIANTS or network not in NETWORKS:
        raise InputError(f"{name} is not VARIANT_NETWORK.safetensors: keep the name that the fit gave it")
    if any(each.name != name for each in weights):
        raise InputError(f"only weights of one network can be averaged, not {', '.join(map(str, weights))}")
    module = averaged([load(variant, network, each) for each in weights])
    fold(module)
    if isinstance(module, PaperUpsampler):
        into_range(module, seen_by_steps())
    round_weights(module)
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / name) as file:
        file.write(save(stored(module)))
    print(f"{out / name}: {(out / name).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(main)
    sys.exit(guarded(lambda: app(standalone_mode=False)))
