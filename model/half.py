"""Rounding to FP16 on a machine that computes in float32: values stay float32 and are those that FP16 has."""

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


def round_weights(module: nn.Module) -> None:
    """Weights and buffers to the nearest that FP16 has, in place; they stay float32."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.dtype == torch.float32:
                tensor.copy_(tensor.half().float())


def rounding_mode() -> TorchDispatchMode:
    """A context in which the result of every operation on float32 tensors is rounded to FP16 and stays float32."""

    def rounded(value: Any) -> Any:
        return value.half().float() if isinstance(value, torch.Tensor) and value.dtype == torch.float32 else value

    class Rounding(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            del types
            result = func(*args, **(kwargs or {}))
            if any(each.alias_info is not None for each in func._schema.returns):
                return result  # a view of what is rounded already
            return tree_map(rounded, result)

    return Rounding()
