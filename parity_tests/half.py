"""PyTorch as it rounds in FP16: what the model itself loses there, which is the measure of what a runtime may lose.

PyTorch's own half-precision kernels take up to a minute a network on a CPU. So each operation computes in float32 and
its result is rounded to FP16, as on a device that sums in float32; weights and inputs are rounded too.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens.runtimes.contract import Arrays, Runtime, Session
from deeplens.runtimes.wrapped import WrappedRuntime, WrappedSession

if TYPE_CHECKING:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode


def in_half(runtime: Runtime) -> Runtime:
    """A `runtimes.pytorch.TorchRuntime` in float32, from now on with every tensor rounded to FP16.

    It rounds the weights of its modules in place: give it a runtime of its own.
    """
    from deeplens.runtimes.pytorch import TorchSession

    rounding = rounding_mode()

    def wrap(_network: str, session: Session) -> Session:
        assert isinstance(session, TorchSession)
        round_weights(session.module)

        def run(inputs: Mapping[str, np.ndarray]) -> Arrays:
            rounded = {name: array.astype(np.float16).astype(np.float32) for name, array in inputs.items()}
            with rounding:
                return session.run(rounded)

        return WrappedSession(session, run, session.describe())

    return WrappedRuntime(runtime, wrap)


def round_weights(module: "torch.nn.Module") -> None:
    """Weights and buffers to the nearest that FP16 has, in place; they stay float32."""
    import torch

    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.dtype == torch.float32:
                tensor.copy_(tensor.half().float())


def rounding_mode() -> "TorchDispatchMode":
    """A context in which the result of every operation on float32 tensors is rounded to FP16 and stays float32."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_map

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
