"""Operations that runtimes run badly, written as others that give the same numbers.

Measured on ONNX Runtime 1.32, one thread: a pixel shuffle as a grouped transposed convolution with a one-hot kernel
takes a sixth of the time of DepthToSpace, bit by bit the same; a softmax over channels, for which ONNX Runtime moves
them to the last axis and back, takes a quarter as maximum, exponential and a convolution that sums. Weighted sums of
taps: see `export.onnx_taps`. Which graph gets which of these: see `export.onnx_forms`.
"""

from collections.abc import Callable, Mapping, Sequence
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
    shapes = channels_of(model)
    constants = {each.name: each for each in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        channels = shapes.get(node.input[0]) if node.input else None
        rule = rules.get(node.op_type)
        made = rule(node, channels, constants) if rule is not None and channels is not None else None
        nodes += [node] if made is None else made
    return with_nodes(model, nodes, constants)


def with_nodes(
    model: "onnx.ModelProto", nodes: "Sequence[onnx.NodeProto]", constants: "Mapping[str, onnx.TensorProto]"
) -> "onnx.ModelProto":
    """The graph with other nodes, and those of the constants that they use; `model` stays as it is."""
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    del result.graph.initializer[:]
    result.graph.initializer.extend(each for name, each in constants.items() if name in used)
    return result


def channels_of(model: "onnx.ModelProto") -> dict[str, int]:
    """The second size of every tensor of rank 4 that has a known one."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    found = {}
    for value in (*graph.input, *graph.value_info):
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
    name = constant(constants, f"shuffle_{channels}", kernel)
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


def softmax_by_convolution(
    node: "onnx.NodeProto", channels: int, constants: "dict[str, onnx.TensorProto]"
) -> "list[onnx.NodeProto] | None":
    """exp(x − max x) / Σ exp(x − max x) over channels."""
    from onnx import helper

    if {each.name: helper.get_attribute_value(each) for each in node.attribute}.get("axis") != 1:
        return None
    (source,), (target,) = node.input, node.output
    largest, lowered, powers, total = (f"{target}_{each}" for each in ("max", "lowered", "exp", "sum"))
    axis = constant(constants, "channel_axis", np.array([1], np.int64))
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

    ones = constant(constants, f"ones_{channels}", np.ones((1, channels, 1, 1), np.float32))
    return helper.make_node("Conv", [source, ones], [target], name=f"{target}_of_channels")


def constant(constants: "dict[str, onnx.TensorProto]", name: str, values: np.ndarray) -> str:
    """The name of a constant, added if it is not there."""
    from onnx import numpy_helper

    name = f"rewrite.{name}"
    constants.setdefault(name, numpy_helper.from_array(values, name))
    return name
