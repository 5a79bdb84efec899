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


def enlarge_by_convolution(
    node: "onnx.NodeProto", channels: int, constants: "dict[str, onnx.TensorProto]"
) -> "list[onnx.NodeProto] | None":
    """Resize to twice the height and width, bilinear, with centres at half pixels: of each pixel four, then a shuffle.

    Measured in WebAssembly (ONNX Runtime Web 1.30, one thread): less than half of the time that Resize takes.
    """
    from onnx import helper, numpy_helper

    options = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    scales = constants.get(node.input[2]) if len(node.input) == 3 else None
    if scales is None or numpy_helper.to_array(scales).tolist() != [1, 1, 2, 2]:
        return None
    centres = options.get("coordinate_transformation_mode", b"half_pixel")
    if options.get("mode") != b"linear" or centres not in (b"half_pixel", b"pytorch_half_pixel"):
        return None
    if options.get("antialias", 0) or options.get("exclude_outside", 0):
        return None
    before, after = np.array([0.25, 0.75, 0.0], np.float32), np.array([0.0, 0.75, 0.25], np.float32)
    four = np.stack([np.outer(row, column) for row in (before, after) for column in (before, after)])
    weights = _constant(constants, f"bilinear_{channels}", np.tile(four[:, None], (channels, 1, 1, 1)))
    shuffle = _constant(
        constants,
        f"shuffle_{4 * channels}",
        np.tile(np.eye(4, dtype=np.float32).reshape(4, 1, 2, 2), (channels, 1, 1, 1)),
    )
    border = _constant(constants, "border_of_one", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    (target,) = node.output
    grown, parts = f"{target}_grown", f"{target}_parts"
    return [
        helper.make_node("Pad", [node.input[0], border], [grown], name=grown, mode="edge"),
        helper.make_node("Conv", [grown, weights], [parts], name=parts, group=channels),
        helper.make_node("ConvTranspose", [parts, shuffle], [target], name=node.name, strides=[2, 2], group=channels),
    ]


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
