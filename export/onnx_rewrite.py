"""Operations that runtimes run badly, written as others that give the same numbers.

Measured on ONNX Runtime 1.32, one thread: a pixel shuffle as a grouped transposed convolution with a one-hot kernel
takes a sixth of the time of DepthToSpace, bit by bit the same; a softmax over channels, for which ONNX Runtime moves
them to the last axis and back, takes a quarter as maximum, exponential and a convolution that sums. Weighted sums of
taps: see `export.onnx_taps`. Which graph gets which of these: see `export.onnx_forms`.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

FEW = 8
"""Sums over fewer channels than this stay as they are."""


NodeRule = Callable[
    ["onnx.NodeProto", int, "dict[str, onnx.TensorProto]"],
    "list[onnx.NodeProto] | None",
]
"""A node, the channels of its first input and the graph's constants, which it may add to → the nodes in its place, or
None where it does not apply."""


def by_node(model: "onnx.ModelProto", rules: Mapping[str, NodeRule]) -> "onnx.ModelProto":
    """A graph of the same inputs, outputs and numbers (sums to rounding); tensors keep their names.

    Args:
        rules: operation → what is written in its place.
    """
    import onnx

    shapes = _channels(onnx.shape_inference.infer_shapes(model))
    result = onnx.ModelProto()
    result.CopyFrom(model)
    constants = {each.name: each for each in result.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        channels = shapes.get(node.input[0]) if node.input else None
        rule = rules.get(node.op_type)
        made = rule(node, channels, constants) if rule is not None and channels is not None else None
        nodes += [node] if made is None else made
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    del result.graph.initializer[:]
    result.graph.initializer.extend(each for name, each in constants.items() if name in used)
    return result


def _channels(model: "onnx.ModelProto") -> dict[str, int]:
    """The second size of every tensor of rank 4 that has a known one."""
    found = {}
    for value in (*model.graph.input, *model.graph.value_info):
        sizes = value.type.tensor_type.shape.dim
        if len(sizes) == 4 and sizes[1].dim_value:
            found[value.name] = sizes[1].dim_value
    return found


def shuffle_by_convolution(
    node: "onnx.NodeProto", channels: int, constants: "dict[str, onnx.TensorProto]"
) -> "list[onnx.NodeProto] | None":
    """DepthToSpace of 2×2 in PyTorch's order: channel 4c + 2i + j goes to row i, column j of each cell of c."""
    from onnx import helper

    options = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if options.get("blocksize") != 2 or options.get("mode", b"DCR") != b"CRD":
        return None
    kernel = np.tile(np.eye(4, dtype=np.float32).reshape(4, 1, 2, 2), (channels // 4, 1, 1, 1))
    name = _constant(constants, f"shuffle_{channels}", kernel)
    return [
        helper.make_node(
            "ConvTranspose",
            [node.input[0], name],
            list(node.output),
            name=node.name,
            strides=[2, 2],
            group=channels // 4,
        )
    ]


def transposed_by_shuffle(
    node: "onnx.NodeProto", channels: int, constants: "dict[str, onnx.TensorProto]"
) -> "list[onnx.NodeProto] | None":
    """ConvTranspose whose steps are as long as its square kernel: each pixel gives a cell of its own.

    A 1×1 convolution makes the k·k values of each cell, channel k²c + ki + j for row i, column j of output channel c,
    and DepthToSpace lays them out.
    """
    from onnx import helper, numpy_helper

    options = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if len(node.input) < 2 or node.input[1] not in constants:
        return None
    kernel = numpy_helper.to_array(constants[node.input[1]])
    side = kernel.shape[-1]
    plain = {
        "strides": [side, side], "kernel_shape": [side, side], "dilations": [1, 1], "pads": [0] * 4,
        "output_padding": [0, 0], "auto_pad": b"NOTSET", "group": options.get("group", 1),
    }  # fmt: skip
    if kernel.ndim != 4 or kernel.shape[2] != side or side < 2 or options.get("strides") != plain["strides"]:
        return None
    if any(plain.get(name) != value for name, value in options.items()):
        return None
    groups = int(options.get("group", 1))
    # (inputs, outputs of a group, k, k) → (outputs · k², inputs of a group, 1, 1)
    parted = kernel.reshape(groups, channels // groups, -1, side, side).transpose(0, 2, 3, 4, 1)
    weights = parted.reshape(-1, channels // groups, 1, 1)
    inputs = [node.input[0], _constant(constants, f"cells_of_{node.input[1]}", np.ascontiguousarray(weights))]
    if len(node.input) > 2 and node.input[2]:
        if node.input[2] not in constants:
            return None
        added = numpy_helper.to_array(constants[node.input[2]]).repeat(side * side)
        inputs.append(_constant(constants, f"cells_of_{node.input[2]}", added))
    (target,) = node.output
    return [
        helper.make_node("Conv", inputs, [f"{target}_cells"], name=f"{target}_cells", group=groups),
        helper.make_node("DepthToSpace", [f"{target}_cells"], [target], name=node.name, blocksize=side, mode="CRD"),
    ]


def softmax_by_convolution(
    node: "onnx.NodeProto", channels: int, constants: "dict[str, onnx.TensorProto]"
) -> "list[onnx.NodeProto] | None":
    """exp(x − max x) / Σ exp(x − max x) over channels."""
    from onnx import helper

    if {each.name: helper.get_attribute_value(each) for each in node.attribute}.get("axis") != 1:
        return None
    (source,), (target,) = node.input, node.output
    largest, lowered, powers, total = (f"{target}_{each}" for each in ("max", "lowered", "exp", "sum"))
    axis = _constant(constants, "channel_axis", np.array([1], np.int64))
    return [
        helper.make_node("ReduceMax", [source, axis], [largest], name=largest, keepdims=1),
        helper.make_node("Sub", [source, largest], [lowered], name=lowered),
        helper.make_node("Exp", [lowered], [powers], name=powers),
        _sum_of(powers, total, channels, constants),
        helper.make_node("Div", [powers, total], [target], name=node.name),
    ]


def sum_by_convolution(
    node: "onnx.NodeProto", channels: int, constants: "dict[str, onnx.TensorProto]"
) -> "list[onnx.NodeProto] | None":
    """ReduceSum over channels that keeps its axis."""
    from onnx import helper, numpy_helper

    options = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    axes = constants.get(node.input[1]) if len(node.input) > 1 else None
    if channels < FEW or axes is None or options.get("keepdims", 1) != 1:
        return None
    if numpy_helper.to_array(axes).tolist() not in ([1], [-3]):
        return None
    return [_sum_of(node.input[0], node.output[0], channels, constants)]


def _sum_of(source: str, target: str, channels: int, constants: "dict[str, onnx.TensorProto]") -> "onnx.NodeProto":
    from onnx import helper

    ones = _constant(constants, f"ones_{channels}", np.ones((1, channels, 1, 1), np.float32))
    return helper.make_node("Conv", [source, ones], [target], name=f"{target}_of_channels")


def _constant(constants: "dict[str, onnx.TensorProto]", name: str, values: np.ndarray) -> str:
    """The name of a constant, added if it is not there."""
    from onnx import numpy_helper

    name = f"rewrite.{name}"
    constants.setdefault(name, numpy_helper.from_array(values, name))
    return name
