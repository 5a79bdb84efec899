"""A precision plan in PyTorch: the same rounding, by other code, to check exported graphs and to tune weights.

Batch norms are folded into their convolutions, as the exporter folds them. A layer in INT8 has its input, its weight
and what it gives rounded to the plan's scales; one in FP16 has all three rounded to FP16.
"""

import copy
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from deeplens.console.errors import MismatchError
from deeplens.export.int8 import LEVELS, weight_scales
from deeplens.export.precision_plan import Choice


def folded(module: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode whose batch norms are folded into the convolutions before them."""
    result = copy.deepcopy(module).eval()
    for parent in list(result.modules()):
        if not isinstance(parent, nn.Sequential):
            continue
        names = list(parent._modules)
        for first, second in pairwise(names):
            conv, norm = parent._modules[first], parent._modules[second]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                parent._modules[first] = fuse_conv_bn_eval(conv, norm)
                parent._modules[second] = nn.Identity()
    return result


def planned(module: nn.Module, choices: Mapping[str, Choice], *, outputs: bool = True) -> nn.Module:
    """A copy of a network that computes as a plan says; layers that `choices` leaves out stay FP32.

    Args:
        outputs: round what INT8 layers give, too.

    Raises:
        MismatchError: a path that is no convolution of the network.
    """
    result = folded(module)
    for path, choice in choices.items():
        if path.startswith("("):  # `export.layers.REST`: no convolution
            continue
        try:
            layer = result.get_submodule(path)
        except AttributeError:
            layer = None
        if not isinstance(layer, nn.Conv2d):
            raise MismatchError(f"the network has no convolution {path}: the plan belongs to another network")
        if choice.precision == "int8":
            assert choice.scales is not None
            _to_int8(layer, choice, outputs=outputs)
        elif choice.precision == "fp16":
            _to_fp16(layer)
    return result


def fake_quantised(x: Tensor, scale: "float | Tensor") -> Tensor:
    """x rounded to INT8 and back: half to even, clipped to the INT8 range of QuantizeLinear."""
    return torch.clamp(torch.round(x / scale), -LEVELS - 1, LEVELS) * scale


def _to_int8(layer: nn.Conv2d, choice: Choice, *, outputs: bool) -> None:
    assert choice.scales is not None
    taken, given = (float(np.float32(scale)) for scale in choice.scales)
    with torch.no_grad():
        scales = torch.from_numpy(weight_scales(layer.weight.numpy())).view(-1, 1, 1, 1)
        layer.weight.copy_(torch.clamp(torch.round(layer.weight / scales), -LEVELS, LEVELS) * scales)
        if choice.bias:
            shift = torch.tensor(choice.bias, dtype=torch.float32)
            layer.bias = nn.Parameter(shift if layer.bias is None else layer.bias + shift)
    layer.register_forward_pre_hook(_on_input(lambda x: fake_quantised(x, taken)))
    if outputs:
        layer.register_forward_hook(lambda _module, _inputs, result: fake_quantised(result, given))


def _to_fp16(layer: nn.Conv2d) -> None:
    def half(x: Tensor) -> Tensor:
        return x.half().float()

    with torch.no_grad():
        layer.weight.copy_(half(layer.weight))
        if layer.bias is not None:
            layer.bias.copy_(half(layer.bias))
    layer.register_forward_pre_hook(_on_input(half))
    layer.register_forward_hook(lambda _module, _inputs, result: half(result))


def _on_input(change: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    return lambda _module, inputs: (change(inputs[0]), *inputs[1:])
