"""FP32 graph → INT8 by Q/DQ nodes, in the form that TensorRT's parser and ONNX Runtime both take.

Explicit and symmetric: QuantizeLinear and DequantizeLinear with zero point 0 around the input of each chosen
convolution, its weight stored as INT8 with a scale for each output channel, its bias left in FP32. What a chosen
convolution gives is quantised too, before its activation: what is negative there becomes 0 anyway, and ONNX Runtime can
then run convolution and activation on integers, TensorRT write eight bits.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from deeplens.console.errors import MismatchError

if TYPE_CHECKING:
    import onnx

    from deeplens.export.layers import Layer

LEVELS = 127
"""The largest quantised magnitude: symmetric, so that −128 is not used."""

CLIPS = np.linspace(0.6, 1.0, 41)
"""Shares of a channel's largest weight at which its scale may end; the one with the least squared error is taken."""


def weight_scales(weight: np.ndarray) -> np.ndarray:
    """The scale of each output channel (axis 0) of a weight: float32, above 0.

    Of the scales that end at a share in `CLIPS` of the channel's largest |weight|, the one whose rounding has the least
    squared error.
    """
    rows = np.abs(weight.reshape(weight.shape[0], -1).astype(np.float64))
    largest = rows.max(1)
    # A channel of zeros, or of less than float32 has a scale for: any scale will do.
    largest[largest * min(CLIPS) / LEVELS < np.finfo(np.float32).tiny] = 1.0
    best, least = largest / LEVELS, np.full(len(rows), np.inf)
    for share in CLIPS[::-1]:
        scale = share * largest / LEVELS
        rounded = np.minimum(np.rint(rows / scale[:, None]), LEVELS) * scale[:, None]
        error = np.square(rounded - rows).sum(1)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best.astype(np.float32)


def quantised_weight(weight: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The INT8 numbers of a weight: round half to even, clipped to ±`LEVELS`."""
    shape = (-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(weight / scales.reshape(shape)), -LEVELS, LEVELS).astype(np.int8)


def quantise(
    model: "onnx.ModelProto",
    layers: "Sequence[Layer]",
    scales: Mapping[str, tuple[float, float]],
    *,
    biases: Mapping[str, np.ndarray] | None = None,
) -> "onnx.ModelProto":
    """The graph with the layers in `scales` in INT8; `model` is not changed.

    Args:
        layers: all of the graph (`export.layers.layers`).
        scales: path of a layer → scale of its input and of its (activated) output.
        biases: path → what is added to the bias of that layer (`calibration.correction`).

    Raises:
        MismatchError: a path that no layer has, or a scale that is no positive number.
    """
    import onnx

    unknown = sorted(scales.keys() - {each.path for each in layers})
    if unknown:
        raise MismatchError(f"the graph has no layer {unknown[0]}: the scales belong to another network")
    for path, pair in scales.items():
        if not all(np.isfinite(scale) and scale > 0 for scale in pair):
            raise MismatchError(f"the scales of {path} are {pair}: calibrate on photos with more than one colour")
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _Rewrite(result, layers, scales, biases or {}).run()
    onnx.checker.check_model(result, full_check=True)
    return result


class _Rewrite:
    """One pass over the nodes, in order."""

    def __init__(
        self,
        model: "onnx.ModelProto",
        layers: "Sequence[Layer]",
        scales: Mapping[str, tuple[float, float]],
        biases: Mapping[str, np.ndarray],
    ) -> None:
        import onnx

        self._graph = model.graph
        self._node, self._arrays = onnx.helper.make_node, onnx.numpy_helper
        self._scales, self._biases = scales, biases
        self._chosen = {each.raw: each for each in layers if each.path in scales}
        self._weights = {each.name: each for each in model.graph.initializer}
        self._new: list[onnx.NodeProto] = []
        # What a chosen convolution gives is read by its activation, or by all that read it, after quantisation.
        self._outputs: dict[str, str] = {}
        self._numbers: dict[str, float] = {}  # what comes out of a pair → its scale
        self._kept = {value.name for value in model.graph.output}

    def run(self) -> None:
        graph = self._graph
        self._constant("int8_zero", np.int8(0))
        for node in graph.node:
            for position, name in enumerate(node.input):
                node.input[position] = self._outputs.get(name, name)
            layer = self._chosen.get(node.output[0])
            if layer is not None:
                self._convolution(node, layer)
            self._new.append(node)
            if layer is not None and layer.raw not in self._kept:
                self._outputs[layer.raw] = self._pair(layer.raw, self._scales[layer.path][1], f"{layer.path}.output")
            elif node.op_type == "Clip" and node.input[0] in self._numbers:
                self._opened(node)
        del graph.node[:]
        graph.node.extend(self._new)
        used = {name for node in graph.node for name in node.input}
        weights = [each for each in graph.initializer if each.name in used]
        del graph.initializer[:]
        graph.initializer.extend(weights)
        del graph.value_info[:]

    def _convolution(self, node: "onnx.NodeProto", layer: "Layer") -> None:
        weight = self._arrays.to_array(self._weights[layer.weight])
        by_channel = weight_scales(weight)
        numbers = self._constant(f"{layer.path}.weight_int8", quantised_weight(weight, by_channel))
        scale = self._constant(f"{layer.path}.weight_scale", by_channel)
        zeros = self._constant(f"{layer.path}.weight_zero", np.zeros(len(by_channel), np.int8))
        self._new.append(
            self._node(
                "DequantizeLinear", [numbers, scale, zeros], [f"{numbers}_dq"], name=f"{layer.path}/weight", axis=0
            )
        )
        node.input[0] = self._pair(node.input[0], self._scales[layer.path][0], f"{layer.path}.input")
        node.input[1] = f"{numbers}_dq"
        if layer.path in self._biases:
            shift = self._biases[layer.path].astype(np.float32)
            bias = self._arrays.to_array(self._weights[node.input[2]]) if len(node.input) > 2 else 0
            name = self._constant(f"{layer.path}.bias_corrected", (bias + shift).astype(np.float32))
            del node.input[2:]
            node.input.append(name)

    def _opened(self, node: "onnx.NodeProto") -> None:
        """A clip at 0 and above what its quantised input can hold is a ReLU, which runs on integers."""
        low, high = (float(self._arrays.to_array(self._weights[name])) for name in node.input[1:3])
        step = self._numbers[node.input[0]]
        if low == 0 and high >= LEVELS * step * (1 - 1e-6):
            node.op_type = "Relu"
            del node.input[1:]

    def _pair(self, tensor: str, scale: float, name: str) -> str:
        """Quantise and dequantise `tensor`; the name of what comes out."""
        step = self._constant(f"{name}_scale", np.float32(scale))
        self._new.append(
            self._node("QuantizeLinear", [tensor, step, "int8_zero"], [f"{name}_int8"], name=f"{name}/quantise")
        )
        self._new.append(
            self._node("DequantizeLinear", [f"{name}_int8", step, "int8_zero"], [f"{name}_dq"], name=f"{name}/back")
        )
        self._numbers[f"{name}_dq"] = float(np.float32(scale))
        return f"{name}_dq"

    def _constant(self, name: str, value: "np.ndarray | np.generic") -> str:
        self._graph.initializer.append(self._arrays.from_array(np.asarray(value), name))
        return name
