"""A CUDA graph without a GPU: PyTorch traces the work with tensors that have no values, then runs what it traced.

What would end a recording on a GPU ends it here: whatever asks for a value, as tensors without values have none; and,
of what was traced, a copy between devices or a tensor that is not among those that lie on the device.
"""

from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from deeplens.runtimes.torch_graph import Work

WAITS = {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "lift_fresh", "lift_fresh_copy"}
"""Operations for which the host waits, or that bring a number of the host's."""


class TracedGraphs:
    """See `runtimes.torch_graph.Record`.

    Args:
        there: the tensors that lie on the device: weights, the photo, the focal plane.

    Attributes:
        made: what was recorded.
        launched: how often something was.
    """

    held_bytes = 1000

    def __init__(self, there: Iterable[Tensor] = ()) -> None:
        self.there = {each.data_ptr() for each in there}
        self.made: list[GraphModule] = []
        self.launched = 0

    def __call__(self, work: Work) -> Work:
        traced = make_fx(lambda: work(), tracing_mode="fake", _allow_non_fake_inputs=True)()
        for node in traced.graph.nodes:
            name = getattr(node.target, "__name__", str(node.target)).split(".")[0]
            if name in WAITS:
                raise RuntimeError(f"{name} waits for the device")
            if any(_is_mask(each) for each in node.all_input_nodes) and name.startswith(("index", "_unsafe_index")):
                raise RuntimeError("nonzero waits for the device: a mask chooses elements")
            if name == "_to_copy" and node.kwargs.get("device") is not None:
                raise RuntimeError("a copy to another device")
            if node.op == "get_attr" and getattr(traced, node.target).data_ptr() not in self.there:
                raise RuntimeError(f"{node.target} of {getattr(traced, node.target).shape} does not lie on the device")
        self.made.append(traced)

        def again() -> Tensor:
            self.launched += 1
            found: Tensor = traced()
            return found

        return again

    def operations(self) -> Counter[str]:
        """Kind of operation → how many the graphs have."""
        nodes = [node for traced in self.made for node in traced.graph.nodes if node.op == "call_function"]
        return Counter(str(node.target) for node in nodes)


def _is_mask(node: torch.fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.dtype == torch.bool
