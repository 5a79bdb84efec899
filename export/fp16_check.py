"""What FP16 does to a network: magnitudes against its range, and its rounding after every operation, on the CPU.

ONNX Runtime computes FP16 graphs on the CPU in FP32 and leaves out the rounding between two operations, so that neither
an overflow nor a lost digit shows. `rounded` puts both back: FP32 arithmetic, each tensor rounded to FP16.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.export.onnx_check import CHECK_SIZES, random_inputs
from deeplens.model.contract import CONTRACTS, Contract

if TYPE_CHECKING:
    import onnx
    import torch

LARGEST = 65504.0
"""The largest FP16 number."""

SMALLEST_NORMAL = 2.0**-14
"""FP16 numbers below this lose digits: they are subnormal."""

SMALLEST = 2.0**-25
"""Numbers up to this become 0 in FP16."""

TOLERANCE = 2e-3
"""Largest root mean square error of an FP16 output on random inputs, as a share of the output's spread."""


@dataclass
class Range:
    """What one tensor of an FP32 graph holds, over all runs.

    Attributes:
        tensor, operation: its name, and what makes it.
        largest: the largest |value|.
        subnormal: the share of values that are not 0 and below `SMALLEST_NORMAL`.
        zeroed: the share of values that are not 0 and become 0.
    """

    tensor: str
    operation: str
    largest: float = 0.0
    subnormal: float = 0.0
    zeroed: float = 0.0
    values: int = 0

    def add(self, array: np.ndarray) -> None:
        """Take the values of one run into account."""
        size = np.abs(array)
        largest = float(size.max(initial=0.0))
        self.largest = largest if not largest <= self.largest else self.largest  # NaN stays
        counts = self.values + array.size
        tiny, gone = (size > 0) & (size < SMALLEST_NORMAL), (size > 0) & (size <= SMALLEST)
        self.subnormal = (self.subnormal * self.values + int(tiny.sum())) / counts
        self.zeroed = (self.zeroed * self.values + int(gone.sum())) / counts
        self.values = counts


class Meter:
    """An FP32 graph with all its tensors as outputs.

    Attributes:
        ranges: of each FP32 tensor that a node makes, in the order of the graph.
    """

    def __init__(self, model: "onnx.ModelProto") -> None:
        import onnx

        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        typed = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        known = {each.name: each for each in (*typed.value_info, *typed.output)}
        single = onnx.TensorProto.FLOAT
        made = [(name, node.op_type) for node in model.graph.node for name in node.output]
        self.ranges = [
            Range(name, operation) for name, operation in made if known[name].type.tensor_type.elem_type == single
        ]
        del watched.graph.output[:]
        watched.graph.output.extend(known[each.tensor] for each in self.ranges)
        self._session = session(watched)
        self._result = model.graph.output[0].name

    def run(self, feed: Mapping[str, np.ndarray]) -> np.ndarray:
        """Run the graph, take its tensors into account and return its output."""
        names = [each.tensor for each in self.ranges]
        found: dict[str, np.ndarray] = dict(zip(names, self._session.run(names, dict(feed)), strict=True))
        for each in self.ranges:
            each.add(found[each.tensor])
        return found[self._result]


def check_ranges(ranges: Sequence[Range], *, what: str, kept: Iterable[str] = ()) -> None:
    """Refuse a graph one of whose tensors FP16 can't hold.

    Args:
        what: the network, for the message.
        kept: names of tensors that stay FP32.

    Raises:
        MismatchError: naming the tensor that left the range first.
    """
    kept = set(kept)
    for each in ranges:
        if each.tensor not in kept and not each.largest <= LARGEST:
            raise MismatchError(
                f"{what}: the tensor {each.tensor} ({each.operation}) reaches {each.largest:.3g}, but FP16 ends at "
                f"{LARGEST:.0f}: scale it down in the network, or keep it in FP32 with `--precision mixed`"
            )


def rounded(half: "onnx.ModelProto") -> "onnx.ModelProto":
    """An FP32 graph that gives what an FP16 graph gives when FP16 operations accumulate in FP32.

    Args:
        half: as `export.fp16.convert` makes it.
    """
    import onnx
    from onnx import helper, numpy_helper

    half_type, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    typed = onnx.shape_inference.infer_shapes(half, strict_mode=True).graph
    halves = {
        each.name
        for each in (*typed.input, *typed.output, *typed.value_info)
        if each.type.tensor_type.elem_type == half_type
    }
    model = onnx.ModelProto()
    model.CopyFrom(half)
    graph = model.graph
    nodes = []
    for node in graph.node:
        exact = list(node.output)
        if node.op_type == "Cast":
            node = helper.make_node("Identity", node.input, exact, name=node.name)
        for position, name in enumerate(exact):
            if name in halves:
                node.output[position] = f"{name}_exact"
        nodes.append(node)
        for name in halves.intersection(exact):
            nodes.append(helper.make_node("Cast", [f"{name}_exact"], [f"{name}_half"], to=half_type))
            nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], to=single))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]  # the types there are the old ones
    for index, weight in enumerate(graph.initializer):
        if weight.data_type == half_type:
            values = numpy_helper.to_array(weight).astype(np.float32)
            graph.initializer[index].CopyFrom(numpy_helper.from_array(values, weight.name))
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = single
    return model


def check(
    model: "onnx.ModelProto",
    half: "onnx.ModelProto",
    *,
    network: str,
    module: "torch.nn.Module | None" = None,
    kept: Iterable[str] = (),
    seed: int = 0,
) -> dict[str, float]:
    """Hold an FP16 graph, run in ONNX Runtime with its rounding, against PyTorch on random inputs.

    Args:
        model: the FP32 graph that it was made from.
        module: the network in PyTorch; None, where PyTorch is not installed: `model` stands for it, which was held
            against PyTorch within 1e-5 when it was exported.
        kept: tensors that stay FP32.
        seed: of the inputs (`export.onnx_check.random_inputs`).

    Returns:
        the largest magnitude of a tensor that becomes FP16, and the error of the output: its root mean square over the
        spread of the output.

    Raises:
        MismatchError: a tensor left the range of FP16, or the error is above `TOLERANCE`.
    """
    contract = CONTRACTS[network]
    generator = np.random.default_rng(seed)
    feeds = [random_inputs(contract, size, generator) for size in check_sizes(model, contract)]
    kept = set(kept)
    meter, halved = Meter(model), session(rounded(half))
    outputs = [meter.run(feed) for feed in feeds]
    check_ranges(meter.ranges, what=network, kept=kept)
    worst = 0.0
    for feed, output in zip(feeds, outputs, strict=True):
        expected = output if module is None else _torch(module, feed)
        (found,) = halved.run(None, feed)
        error = float(np.sqrt(np.square(found - expected, dtype=np.float64).mean())) / max(
            float(np.ptp(expected)), 1e-3
        )
        if not error <= TOLERANCE:
            raise MismatchError(
                f"{network}: rounding to FP16 changes the output by {error:.2g} of its spread (at most "
                f"{TOLERANCE:.2g}): find the weak tensor with export/fp16_report.py and keep it in FP32"
            )
        worst = max(worst, error)
    # A network that is kept whole has no FP16 tensor.
    largest = max((each.largest for each in meter.ranges if each.tensor not in kept), default=0.0)
    return {"largest": round(largest, 3), "error_of_spread": round(worst, 7)}


def _torch(module: "torch.nn.Module", feed: Mapping[str, np.ndarray]) -> np.ndarray:
    import torch

    with torch.inference_mode():
        result: np.ndarray = module(*(torch.from_numpy(array) for array in feed.values())).numpy()
    return result


def check_sizes(model: "onnx.ModelProto", contract: Contract) -> tuple[tuple[int, int], ...]:
    """Low-resolution sizes at which a graph is checked: its only one, or `CHECK_SIZES` where it is free."""
    sides = model.graph.input[0].type.tensor_type.shape.dim
    if any(each.dim_param for each in sides):
        return CHECK_SIZES
    scale = contract.inputs[0].scale
    return ((sides[2].dim_value // scale, sides[3].dim_value // scale),)


def session(model: "onnx.ModelProto") -> Any:
    """An ONNX Runtime session of a graph in memory."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
