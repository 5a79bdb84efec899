"""Sums and means of an ONNX graph, written as operations that ONNX Runtime's CPU provider computes fast.

Measured on ONNX Runtime 1.32, one thread: a softmax over channels, for which ONNX Runtime moves them to the last axis
and back, takes a quarter as maximum, exponential and a convolution that sums. A mean of 2×2 pixels takes less than half
as a convolution of each channel alone. One of 5×5 around each pixel takes a twentieth as a convolution and divisions
(8 channels, 160×160), since AveragePool of opset 19 and later is slow. A sum of fewer than 16 channels takes a third as
a sum of parts, since convolutions compute 16 outputs at once.
"""

from typing import TYPE_CHECKING

import numpy as np

from deeplens.export.onnx_links import Links, Writer, constant, exchange, merely_weighs, options_of, over_channels
from deeplens.export.onnx_rewrite import shapes_of

if TYPE_CHECKING:
    import onnx

FEW = 8
"""Sums over fewer channels than this stay as they are."""
BLOCK = 16
"""As many channels of a convolution ONNX Runtime computes at once (AVX-512)."""


def softmax_by_convolution(
    node: "onnx.NodeProto", channels: int, constants: "dict[str, onnx.TensorProto]"
) -> "list[onnx.NodeProto] | None":
    """exp(x − max x) / Σ exp(x − max x) over channels."""
    from onnx import helper

    if options_of(node).get("axis") != 1:
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
    if channels < FEW or not over_channels(node, constants):
        return None
    return [_sum_of(node.input[0], node.output[0], channels, constants)]


def sum_by_parts(
    node: "onnx.NodeProto", channels: int, constants: "dict[str, onnx.TensorProto]"
) -> "list[onnx.NodeProto] | None":
    """A sum of some of fewer than `BLOCK` channels, as ReduceSum or as a 1×1 convolution of ones and zeros.

    With fewer input channels than a block, ONNX Runtime computes all 16 outputs of one.
    """
    from onnx import helper, numpy_helper

    if channels >= BLOCK or len(node.input) != 2 or node.input[1] not in constants:
        return None
    if node.op_type == "ReduceSum":
        if channels < FEW or not over_channels(node, constants):
            return None
        chosen = list(range(channels))
    else:
        weights = numpy_helper.to_array(constants[node.input[1]])
        if weights.shape != (1, channels, 1, 1) or not merely_weighs(node) or not {*weights.flat} <= {0.0, 1.0}:
            return None
        chosen = np.flatnonzero(weights).tolist()
        if not chosen:
            return None
    (target,) = node.output
    parts = [f"{target}_channel_{index}" for index in range(channels)]
    return [
        helper.make_node("Split", [node.input[0]], parts, name=parts[0], axis=1, num_outputs=channels),
        helper.make_node("Sum", [parts[index] for index in chosen], [target], name=node.name),
    ]


def line_by_product(
    node: "onnx.NodeProto", channels: int, constants: "dict[str, onnx.TensorProto]"
) -> "list[onnx.NodeProto] | None":
    """A 1×1 convolution of one channel: the channel times the weights, and the bias."""
    from onnx import helper, numpy_helper

    if channels != 1 or any(name not in constants for name in node.input[1:]) or not merely_weighs(node):
        return None
    weights, *bias = (numpy_helper.to_array(constants[name]) for name in node.input[1:])
    if weights.shape[1:] != (1, 1, 1):
        return None
    (target,) = node.output
    row = constant(constants, f"{target}_weights", weights.reshape(1, -1, 1, 1))
    product = f"{target}_product" if bias else target
    made = [helper.make_node("Mul", [node.input[0], row], [product], name=product)]
    if bias:
        offset = constant(constants, f"{target}_bias", bias[0].reshape(1, -1, 1, 1))
        made.append(helper.make_node("Add", [product, offset], [target], name=node.name))
    return made


def pool_by_convolution(
    node: "onnx.NodeProto", channels: int, constants: "dict[str, onnx.TensorProto]"
) -> "list[onnx.NodeProto] | None":
    """AveragePool of squares that neither overlap nor leave gaps: a convolution of each channel alone."""
    from onnx import helper

    options = options_of(node)
    side = options.get("kernel_shape", [0])[0]
    plain = {
        "kernel_shape": [side, side], "strides": [side, side], "pads": [0] * 4, "dilations": [1, 1], "ceil_mode": 0,
        "auto_pad": b"NOTSET", "count_include_pad": options.get("count_include_pad"),
    }  # fmt: skip
    if side < 2 or "strides" not in options or any(plain.get(name) != value for name, value in options.items()):
        return None
    weights = np.full((channels, 1, side, side), 1 / side**2, np.float32)
    name = constant(constants, f"mean_{side}_of_{channels}", weights)
    return [
        helper.make_node(
            "Conv", [node.input[0], name], list(node.output), name=node.name, strides=[side, side], group=channels
        )
    ]


def windows_by_convolution(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """AveragePool over a square around each pixel, of known size: a sum by a convolution of each channel, divided.

    The divisors are how many rows and columns of the square count at a pixel: all, or those that lie inside. Numbers of
    pixels are exact in FP16 too, and one of them as a weight would not be.
    """
    import onnx

    result, sizes = onnx.ModelProto(), shapes_of(model)
    result.CopyFrom(model)
    for node in [each for each in result.graph.node if each.op_type == "AveragePool"]:
        _, channels, height, width = sizes.get(node.input[0], (0, 0, 0, 0))
        side = options_of(node).get("kernel_shape", [0])[0]
        if not (channels and height and width) or not _around_each_pixel(node, side):
            continue
        write, (target,) = Writer(result.graph), node.output
        ones = write.constant(f"window_{side}_of_{channels}", np.ones((channels, 1, side, side), np.float32))
        sums = write.add("Conv", [node.input[0], ones], [f"{target}_sums"], group=channels, pads=[side // 2] * 4)
        whole = bool(options_of(node).get("count_include_pad"))
        rows = write.constant(f"rows_{side}_{whole:d}_of_{height}", _counted(height, side, whole=whole)[:, None])
        columns = write.constant(f"columns_{side}_{whole:d}_of_{width}", _counted(width, side, whole=whole)[None])
        write.add("Div", [write.add("Div", [sums, rows], [f"{target}_rows"]), columns], [target])
        place = Links(result.graph).maker(target, node.op_type)
        assert place is not None
        exchange(result.graph, {place}, write.nodes)
    return result


def _around_each_pixel(node: "onnx.NodeProto", side: int) -> bool:
    usual = {
        "kernel_shape": [side, side], "strides": [1, 1], "pads": [side // 2] * 4, "dilations": [1, 1], "ceil_mode": 0,
        "auto_pad": b"NOTSET",
    }  # fmt: skip
    options = {name: value for name, value in options_of(node).items() if name != "count_include_pad"}
    return side % 2 == 1 and side > 1 and "pads" in options and all(usual[name] == options[name] for name in options)


def _counted(length: int, side: int, *, whole: bool) -> np.ndarray:
    """How many of the `side` pixels around each of `length` count: all, or those that lie inside."""
    at = np.arange(length)
    inside = np.minimum(at + side // 2, length - 1) - np.maximum(at - side // 2, 0) + 1
    return np.where(whole, side, inside).astype(np.float32)


def _sum_of(source: str, target: str, channels: int, constants: "dict[str, onnx.TensorProto]") -> "onnx.NodeProto":
    from onnx import helper

    ones = constant(constants, f"ones_{channels}", np.ones((1, channels, 1, 1), np.float32))
    return helper.make_node("Conv", [source, ones], [target], name=f"{target}_of_channels")
