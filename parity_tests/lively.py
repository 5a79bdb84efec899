"""Weights under which every layer shows in the output, for checks of networks that have not been trained.

With initial weights and untouched batch norms a signal fades layer by layer: the output hardly varies, most layers
could be changed by 0.1 % without a trace beyond rounding, and agreement to 1e-5 proves little.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from export.onnx_check import random_inputs
from model import build
from model.contract import CONTRACTS

SIZE = (96, 128)
"""Low-resolution size of the inputs on which the layers are scaled."""

OUTPUT_STD = 0.15
"""Standard deviation of an output with one channel (disparity, about 0 to 1 after training)."""


def lively(variant: str, network: str, *, seed: int = 0) -> nn.Module:
    """The network with random weights, each layer scaled on random inputs so that its output has unit variance.

    Layer-sequential unit variance (Mishkin 2016) in one pass: a convolution's weights are divided by the standard
    deviation of its output, a batch norm takes its statistics from its input. Convolutions that begin at zero are drawn
    first. Deterministic; in evaluation mode.
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
        feed = random_inputs(contract, contract.fixed_size or SIZE, np.random.default_rng(seed))
        module(*(torch.from_numpy(array) for array in feed.values()))
    for handle in handles:
        handle.remove()
    return module


def _scale(layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    assert isinstance(layer, nn.Conv2d)
    variance = _statistics(output)[1].mean()
    factor = (OUTPUT_STD if layer.out_channels == 1 else 1.0) / math.sqrt(float(variance))
    layer.weight.mul_(factor)
    if layer.bias is None:
        return output * factor
    bias = layer.bias.view(-1, 1, 1)
    return (output - bias) * factor + bias


def _take_statistics(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    assert isinstance(layer, nn.BatchNorm2d)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    mean, variance = _statistics(inputs[0])
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel over the pixels; of all channels together where there is a single pixel."""
    axes = (0, 2, 3) if x.shape[2] * x.shape[3] > 1 else (0, 1, 2, 3)
    return x.mean(dim=axes), x.var(dim=axes)
