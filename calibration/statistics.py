"""What every tensor of a network holds over the cached inputs, by level of the loop: one pass over an FP32 graph."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens.calibration.histogram import Histogram
from deeplens.calibration.inputs import Input

if TYPE_CHECKING:
    import onnx

PERCENTILES = (50.0, 90.0, 99.0, 99.9, 99.99)


@dataclass
class Held:
    """One tensor.

    Attributes:
        tensor, operation: its name, and what makes it ("input" for a network's input).
        levels: level of the loop → what it held there.
    """

    tensor: str
    operation: str
    levels: dict[int, Histogram]

    @property
    def all_levels(self) -> Histogram:
        """Over all levels together."""
        merged = Histogram()
        for held in self.levels.values():
            merged = merged.merged(held)
        return merged


class Statistics:
    """An FP32 graph with all its FP32 tensors as outputs.

    Attributes:
        tensors: name → what it held, inputs first, then in the order of the graph.
    """

    def __init__(self, model: "onnx.ModelProto", open_graph: "Callable[[onnx.ModelProto], Any]") -> None:
        """
        Args:
            model: FP32.
            open_graph: gives an ONNX Runtime session of a graph.
        """
        import onnx

        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        typed = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        known = {each.name: each for each in (*typed.value_info, *typed.output)}
        single = onnx.TensorProto.FLOAT
        self.tensors = {each.name: Held(each.name, "input", {}) for each in model.graph.input}
        for node in model.graph.node:
            for name in node.output:
                if name in known and known[name].type.tensor_type.elem_type == single:
                    self.tensors[name] = Held(name, node.op_type, {})
        self._made = [name for name, held in self.tensors.items() if held.operation != "input"]
        del watched.graph.output[:]
        watched.graph.output.extend(known[name] for name in self._made)
        self._session = open_graph(watched)

    def add(self, given: Input) -> None:
        """Run the graph on one input and take all tensors into account."""
        found = zip(self._made, self._session.run(self._made, given.arrays), strict=True)
        for name, array in (*given.arrays.items(), *found):
            self.tensors[name].levels.setdefault(given.level, Histogram()).add(array)


def measure(
    models: "dict[str, onnx.ModelProto]",
    inputs: Iterable[Input],
    open_graph: "Callable[[onnx.ModelProto], Any]",
) -> dict[str, Statistics]:
    """Statistics of several networks: network → what its tensors held on those of `inputs` that are its own."""
    found = {network: Statistics(model, open_graph) for network, model in models.items()}
    for given in inputs:
        if given.network in found:
            found[given.network].add(given)
    return found


def described(held: Histogram) -> dict[str, Any]:
    """What is told of one tensor at one level: plain numbers, for JSON."""
    return {
        "values": held.values,
        "low": _short(held.low),
        "high": _short(held.high),
        "percentiles": {f"{share:g}": _short(held.percentile(share)) for share in PERCENTILES},
        "above_fp16": held.above / max(1, held.values),
        "subnormal_fp16": _short(held.subnormal),
        "zero_fp16": _short(held.zeroed),
        "zeros": _short(held.zeros / max(1, held.values)),
        "channel_spread": _short(held.spread),
        "octaves": _octaves(held),
    }


def _octaves(held: Histogram) -> dict[str, float]:
    """The histogram, brought down to octaves: exponent e → share of the values with 2^e <= |x| < 2^(e + 1)."""
    by_exponent = held.counts.reshape(-1, 128).sum(1)
    by_exponent[0] = 0  # zeros, and what float32 itself holds as subnormal
    return {
        str(exponent - 127): _short(int(count) / held.values)
        for exponent, count in enumerate(by_exponent.tolist())
        if count
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def report(statistics: dict[str, Statistics]) -> dict[str, Any]:
    """All of it, for JSON: network → tensor → operation and levels."""
    return {
        network: {
            held.tensor: {
                "operation": held.operation,
                "levels": {str(level): described(each) for level, each in sorted(held.levels.items())},
            }
            for held in each_network.tensors.values()
        }
        for network, each_network in statistics.items()
    }


def magnitudes(statistics: Statistics) -> np.ndarray:
    """For plots: rows (largest, 99.99, 99, 50 percentile) of |x| over all levels, a column a tensor."""
    columns = []
    for held in statistics.tensors.values():
        merged = held.all_levels
        columns.append([merged.largest, merged.percentile(99.99), merged.percentile(99.0), merged.percentile(50.0)])
    return np.array(columns).T
