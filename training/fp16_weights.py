"""Weights that FP16 holds exactly: what rounding them costs is paid once, before a network is shipped.

$ python -m deeplens.training.fp16_weights runs/edge_depth/edge_depth.safetensors --out model/weights

Exporters fold each batch norm into the convolution before it and round the product to FP16. Errors of rounded weights
do not average out as those of activations do: every picture meets the same ones. In `edge` depth they were most of what
FP16 did to the disparity. So the norm is folded here, the folded weights are rounded, and the norm becomes the
identity: whatever is exported in FP16 has the very weights of the PyTorch network in float32. The file is stored in
FP16, half as large, and loses nothing by it.

Several files of one name, each from a fit that began where another ended, are averaged first: the mean of their weights
is often better on unseen pictures than any of them (Wortsman et al. 2022, "Model soups").
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save
from torch import nn

from deeplens.console.errors import InputError, MismatchError
from deeplens.console.files import replacing
from deeplens.console.script import run_script
from deeplens.export.fp16_check import LARGEST
from deeplens.model.build import load
from deeplens.model.contract import NETWORKS, VARIANTS


@torch.no_grad()
def fold_and_round(module: nn.Module) -> None:
    """Fold batch norms into the convolutions before them and round all convolutions' weights and biases, in place.

    A norm that stood behind a convolution keeps the folded bias, rounded; its scale is 1, its mean 0, its variance 1.

    Raises:
        MismatchError: a folded weight is larger than FP16 can hold; the message names the layer.
    """
    for name, layers in module.named_modules():
        if not isinstance(layers, nn.Sequential):
            continue
        for convolution, norm in zip(list(layers)[:-1], list(layers)[1:], strict=True):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _fold(convolution, norm, name)
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            for values in (layer.weight, layer.bias) if isinstance(layer, nn.Conv2d) else (layer.bias,):
                if values is not None:
                    _round(values, name)


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d, name: str) -> None:
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise MismatchError(
            f"{name}: a batch norm without running statistics can't be folded into the convolution before it"
        )
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
        raise MismatchError(f"{name} has a weight of {largest:g}, which is too large for FP16: train with weight decay")
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
        list[Path],
        typer.Argument(metavar="FILE…", help="One or more files VARIANT_NETWORK.safetensors, each written by a fit."),
    ],
    out: Annotated[Path, typer.Option(help="Output folder; the file keeps its name.")],
) -> None:
    """Write weights that FP16 holds exactly."""
    name = weights[0].name
    variant, _, network = weights[0].stem.partition("_")
    if variant not in VARIANTS or network not in NETWORKS:
        raise InputError(f"{name} is not VARIANT_NETWORK.safetensors: keep the name that the fit gave it")
    if any(each.name != name for each in weights):
        raise InputError(f"only weights of the same network can be averaged, not {', '.join(map(str, weights))}")
    module = averaged([load(variant, network, each) for each in weights])
    fold_and_round(module)
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / name) as file:
        file.write(save(stored(module)))
    print(f"{out / name}: {(out / name).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_script(main)
