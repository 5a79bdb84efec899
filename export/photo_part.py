"""Cuts an ONNX graph in two, for the web page: what depends on the photo alone, and the rest.

When only focus or aperture change, a network makes the same of the photo's pixels as before. The page keeps what its
convolutions have made of them, and runs the rest: the numbers are the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

PHOTO_INPUTS = frozenset(("picture", "picture_high"))
"""The inputs of the contract that are the photo."""


@dataclass(frozen=True)
class Parts:
    """Two graphs that are one.

    Attributes:
        photo: takes the photo's inputs, gives `features`; serialised.
        rest: takes the inputs that it needs and `features`, gives the network's outputs; serialised.
        features: names of the tensors where the graph is cut.
    """

    photo: bytes
    rest: bytes
    features: tuple[str, ...]


def cut(graph: bytes) -> Parts | None:
    """Cut a serialised graph where convolutions have worked on the photo alone; None: none does.

    Raises:
        ImportError: onnx is not installed.
    """
    import onnx

    model = onnx.load_from_string(graph)
    nodes = list(model.graph.node)
    constants = {each.name for each in model.graph.initializer}
    alone = {each.name for each in model.graph.input if each.name in PHOTO_INPUTS} | constants
    worked: set[str] = set()  # of these, what a dense convolution has had a part in
    photo: list[onnx.NodeProto] = []
    for node in nodes:
        if all(name in alone for name in node.input if name):
            photo.append(node)
            alone.update(node.output)
            if _is_dense(node) or worked.intersection(node.input):
                worked.update(node.output)
    placed = {id(node) for node in photo}
    needed = {name for node in nodes if id(node) not in placed for name in node.input}
    features = tuple(name for node in photo for name in node.output if name in worked and name in needed)
    if not features:
        return None
    outputs = [each.name for each in model.graph.output]
    return Parts(_part(model, features, ()), _part(model, outputs, features), features)


def _is_dense(node: "onnx.NodeProto") -> bool:
    """Whether a node is a convolution that mixes channels."""
    from onnx import helper

    groups = [helper.get_attribute_value(each) for each in node.attribute if each.name == "group"]
    return node.op_type == "Conv" and groups in ([], [1])


def _part(model: "onnx.ModelProto", targets: Iterable[str], given: tuple[str, ...]) -> bytes:
    """The part of a graph that makes `targets` from its inputs and the tensors `given`, as a model of its own."""
    import onnx
    from onnx import TensorProto, helper

    wanted, kept = set(targets), []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output) - set(given):
            kept.append(node)
            wanted.update(node.input)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for field in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        del field[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(each for each in model.graph.initializer if each.name in wanted)
    graph.input.extend(each for each in model.graph.input if each.name in wanted)
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, None, None]) for name in given)
    known = {each.name: each for each in model.graph.output}
    graph.output.extend(
        known.get(name) or helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, None, None])
        for name in targets
    )
    return result.SerializeToString()
