"""What OpenVINO computes slowly or wrongly, written otherwise.

Slowly: it keeps pictures with their channels last, where joining many parts of one or two channels costs more than the
arithmetic around it. Measured with OpenVINO 2026.4, one thread: the parts of the lens blur that repeat each weight for
four channels took a seventh of the network's time as `Concat`, and a thirtieth as a convolution that copies.

Wrongly: a quantiser that takes negative numbers too, right behind a `Concat`, in front of a convolution in INT8.
OpenVINO 2026.4 moves it in front of the `Concat` and then takes its numbers as unsigned: half of the result is lost. It
does so on processors with AVX-512 VNNI; with AMX its result is right.
"""

from typing import TYPE_CHECKING

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.export.onnx_links import constant
from deeplens.export.onnx_rewrite import channels_of, with_nodes

if TYPE_CHECKING:
    import onnx

BROADCASTS = frozenset(("Add", "Sub", "Mul", "Div"))
"""Operations of two tensors in which one channel stands for all."""


def repeat_by_convolution(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """A graph of the same inputs, outputs and numbers in which no `Concat` takes a tensor twice along the channels.

    One channel that is repeated for operations of two tensors is given to them as it is: they broadcast it. All else is
    joined once and copied by a convolution of 1×1 pixels with one 1 in each row.
    """
    import onnx

    channels = channels_of(model)
    constants = {each.name: each for each in model.graph.initializer}
    outputs = {each.name for each in model.graph.output}
    plain: dict[str, str] = {}  # what was joined → the one channel that stands for it
    nodes: list[onnx.NodeProto] = []
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        for place, name in enumerate(node.input):
            node.input[place] = plain.get(name, name)
        target = node.output[0]
        parts = list(node.input)
        sizes = [channels.get(name, 0) for name in parts]
        if node.op_type != "Concat" or _axis(node) != 1 or len(set(parts)) == len(parts) or not all(sizes):
            nodes.append(node)
        elif sum(sizes) == len(parts) and len(set(parts)) == 1 and _broadcast(model, target, sum(sizes), channels):
            if target in outputs:
                nodes.append(node)
            plain[target] = parts[0]
        else:
            nodes += _copied(node, sizes, constants)
    return with_nodes(model, nodes, constants)


def quantise_apart(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """A graph of the same inputs, outputs and numbers in which no quantiser takes what a `Concat` gives.

    A convolution of 1×1 pixels that copies its channels stands between the two.

    Raises:
        MismatchError: how many channels are joined can't be told.
    """
    import onnx
    from onnx import helper

    channels = channels_of(model)
    constants = {each.name: each for each in model.graph.initializer}
    joins = {node.output[0] for node in model.graph.node if node.op_type == "Concat"}
    copies: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        name = node.input[0] if node.input else ""
        if node.op_type == "QuantizeLinear" and name in joins:
            if name not in copies:
                if name not in channels:
                    raise MismatchError(f"{node.name} quantises {name}, which joins an unknown number of channels")
                copies[name] = f"{name}_copied"
                kernel = constant(
                    constants, f"same_{channels[name]}", np.eye(channels[name], dtype=np.float32)[..., None, None]
                )
                nodes.append(helper.make_node("Conv", [name, kernel], [copies[name]], name=copies[name]))
            node.input[0] = copies[name]
        nodes.append(node)
    return with_nodes(model, nodes, constants)


def _axis(node: "onnx.NodeProto") -> int | None:
    return next((each.i for each in node.attribute if each.name == "axis"), None)


def _broadcast(model: "onnx.ModelProto", name: str, count: int, channels: dict[str, int]) -> bool:
    """Whether all that read a tensor take one channel in its place, since what stands beside it has all of them."""
    readers = [node for node in model.graph.node if name in node.input]
    return bool(readers) and all(
        node.op_type in BROADCASTS and any(channels.get(other) == count for other in node.input if other != name)
        for node in readers
    )


def _copied(
    node: "onnx.NodeProto", sizes: list[int], constants: "dict[str, onnx.TensorProto]"
) -> "list[onnx.NodeProto]":
    from onnx import helper

    parts = dict(zip(node.input, sizes, strict=True))
    firsts = dict(zip(parts, np.cumsum([0, *parts.values()]).tolist(), strict=False))
    rows = [firsts[name] + channel for name in node.input for channel in range(parts[name])]
    kernel = np.eye(sum(parts.values()), dtype=np.float32)[rows, :, None, None]
    once = next(iter(parts))
    made = []
    if len(parts) > 1:
        once = f"{node.output[0]}_once"
        made.append(helper.make_node("Concat", list(parts), [once], name=once, axis=1))
    copies = constant(constants, f"copies_of_{node.output[0]}", kernel)
    return [*made, helper.make_node("Conv", [once, copies], list(node.output), name=node.name)]
