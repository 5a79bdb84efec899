"""Operations that join or part many tensors, written as several that take a few each.

A shader of WebGPU may bind ten buffers. An operation that joins or parts more tensors than that at once can't run.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from deeplens.export.onnx_links import options_of

if TYPE_CHECKING:
    import onnx


def narrowed(model: "onnx.ModelProto", *, most: int) -> "onnx.ModelProto":
    """A graph of the same inputs, outputs and numbers, whose Concat and Split have at most `most` inputs or outputs."""
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "Concat" and len(node.input) > most:
            nodes += _joined(node, most)
        elif node.op_type == "Split" and len(node.output) > most:
            nodes += _parted(node, most, graph)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return result


def widest(node: "onnx.NodeProto") -> int:
    """How many tensors a node joins or parts; 1 for all other operations."""
    return {"Concat": len(node.input), "Split": len(node.output)}.get(node.op_type, 1)


def _groups(names: list[str], most: int) -> Iterator[list[str]]:
    """The names in their order, in as few groups of at most `most` as possible, all of about the same length."""
    count = -(-len(names) // most)
    for index in range(count):
        yield names[index * len(names) // count : (index + 1) * len(names) // count]


def _joined(node: "onnx.NodeProto", most: int) -> "list[onnx.NodeProto]":
    from onnx import helper

    options = options_of(node)
    names = list(node.input)
    made: list[onnx.NodeProto] = []
    target = node.output[0]
    while len(names) > most:
        joined = []
        for group in _groups(names, most):
            name = f"{target}_joined_{len(made)}"
            made.append(helper.make_node("Concat", group, [name], name=name, **options))
            joined.append(name)
        names = joined
    made.append(helper.make_node("Concat", names, [target], name=node.name, **options))
    return made


def _parted(node: "onnx.NodeProto", most: int, graph: "onnx.GraphProto") -> "list[onnx.NodeProto]":
    """A Split of known sizes, in two or more steps."""
    from onnx import helper, numpy_helper

    options = options_of(node)
    axis = options.get("axis", 0)
    sizes = _sizes(node, axis, graph)
    names = list(node.output)
    by_name = dict(zip(names, sizes, strict=True))
    levels: list[list[list[str]]] = []  # from the finest up: the groups whose parts have one source
    while len(names) > most:
        groups = list(_groups(names, most))
        names = [f"{node.output[0]}_part_{len(levels)}_{index}" for index in range(len(groups))]
        by_name |= {name: sum(by_name[each] for each in group) for name, group in zip(names, groups, strict=True)}
        levels.append(groups)
    made = []

    def split(source: str, targets: list[str]) -> None:
        lengths = np.array([by_name[each] for each in targets], np.int64)
        constant = f"rewrite.split_{targets[0]}"
        graph.initializer.append(numpy_helper.from_array(lengths, constant))
        made.append(helper.make_node("Split", [source, constant], targets, name=targets[0], axis=axis))

    split(node.input[0], names)
    for groups in reversed(levels):
        for source, group in zip(names, groups, strict=True):
            split(source, group)
        names = [name for group in groups for name in group]
    return made


def _sizes(node: "onnx.NodeProto", axis: int, graph: "onnx.GraphProto") -> list[int]:
    """The lengths of the parts of a Split.

    Raises:
        ValueError: they do not stand in the graph: a fault of the rewriting before.
    """
    import onnx
    from onnx import numpy_helper

    if len(node.input) > 1 and node.input[1]:
        return [
            int(length)
            for each in graph.initializer
            if each.name == node.input[1]
            for length in numpy_helper.to_array(each)
        ]
    holder = onnx.ModelProto(ir_version=10, graph=graph)
    holder.opset_import.add(domain="", version=20)
    inferred = onnx.shape_inference.infer_shapes(holder).graph
    shapes = {each.name: each.type.tensor_type.shape.dim for each in (*inferred.value_info, *inferred.output)}
    lengths = [shapes[name][axis].dim_value if name in shapes else 0 for name in node.output]
    if all(lengths):
        return lengths
    raise ValueError(f"the lengths of the parts of {node.name} do not stand in the graph")
