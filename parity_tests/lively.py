"""Weights under which every layer shows in the output, for checks of networks that have not been trained.

With initial weights and untouched batch norms a signal fades layer by layer: the output hardly varies, most layers
could be changed by 0.1 % without a trace beyond rounding, and agreement to 1e-5 proves little.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deeplens.export.onnx_check import random_inputs
from deeplens.model import build
from deeplens.model.contract import CONTRACTS
from deeplens.model.depth import ResNetBlock
from deeplens.model.layers import Bottleneck

SIZE = (96, 128)
"""Low-resolution size of the inputs on which the layers are scaled."""

STD = 0.1
"""Standard deviation of a convolution's output that no batch norm follows: keeps pictures near [0, 1]."""

RESIDUAL = 0.25
"""Scale of a ResNet's residual branches. At 1 random ones blow float32's own rounding up beyond 1e-5."""

FEW = 64
"""Fewer pixels than this don't make a variance."""


def lively(variant: str, network: str, *, seed: int = 0) -> nn.Module:
    """The network with random weights, each layer scaled on random inputs so that its output has one variance.

    Layer-sequential unit variance (Mishkin 2016) in one pass: a convolution's weights are divided by the standard
    deviation of its output, whose mean is made its bias; a batch norm takes its statistics from its input. Convolutions
    that begin at zero are drawn first. Deterministic; in evaluation mode.
    """
    contract = CONTRACTS[network]
    module = build.build(variant, network)
    drawing = torch.Generator().manual_seed(seed)
    handles = []
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                if not layer.weight.any():
                    layer.weight.normal_(generator=drawing)
                handles.append(layer.register_forward_hook(_scale))
            elif isinstance(layer, nn.BatchNorm2d):
                handles.append(layer.register_forward_pre_hook(_take_statistics))
            elif isinstance(layer, ResNetBlock | Bottleneck):
                norm = layer.body[-1]
                assert isinstance(norm, nn.BatchNorm2d)
                norm.weight.fill_(RESIDUAL)
        feed = random_inputs(contract, contract.fixed_size or SIZE, np.random.default_rng(seed))
        module(*(torch.from_numpy(array) for array in feed.values()))
    for handle in handles:
        handle.remove()
    return module


def _scale(layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    assert isinstance(layer, nn.Conv2d)
    factor = STD / math.sqrt(_variance(output))
    layer.weight.mul_(factor)
    if layer.bias is None:
        return output * factor
    # The mean over the pixels stays what the bias was: the networks' own start, such as bilinear weights, is kept.
    mean = output.mean(dim=(0, 2, 3))
    bias = layer.bias.clone()
    layer.bias.add_((bias - mean) * factor)
    return (output - mean.view(-1, 1, 1)) * factor + bias.view(-1, 1, 1)


def _take_statistics(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    assert isinstance(layer, nn.BatchNorm2d)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(inputs[0].mean(dim=(0, 2, 3)))
    layer.running_var.fill_(_variance(inputs[0]))


def _variance(x: Tensor) -> float:
    """Over the pixels, the mean of the channels; over channels and pixels where the pixels are few.

    One number for all channels: to divide one that is almost constant by its own would blow rounding up.
    """
    if x.shape[2] * x.shape[3] < FEW:
        return float(x.var())
    return float(x.var(dim=(0, 2, 3)).mean())
