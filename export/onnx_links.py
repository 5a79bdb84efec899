"""Who makes and who reads the tensors of an ONNX graph: what passes over several nodes look at."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx

TO_THE_END = 1 << 31
"""Where a Slice ends that takes all that is left."""


class Links:
    """A view of a graph; it does not follow changes.

    Attributes:
        nodes: of the graph, in order; a node's place is its number here.
        constants: by name.
    """

    def __init__(self, graph: "onnx.GraphProto") -> None:
        self.nodes = list(graph.node)
        self.constants = {each.name: each for each in graph.initializer}
        self._makers = {name: place for place, node in enumerate(self.nodes) for name in node.output}
        self._readers: dict[str, list[int]] = defaultdict(list)
        for place, node in enumerate(self.nodes):
            for name in set(node.input):
                self._readers[name].append(place)
        self._outputs = {each.name for each in graph.output}

    def options(self, place: int) -> dict[str, Any]:
        """The attributes of a node by name."""
        return options_of(self.nodes[place])

    def values(self, name: str) -> "np.ndarray | None":
        """A constant's numbers; None: `name` is no constant."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def maker(self, name: str, kind: str) -> int | None:
        """The place of the node that makes a tensor; None: it is of another kind."""
        place = self._makers.get(name)
        return place if place is not None and self.nodes[place].op_type == kind else None

    def readers(self, name: str) -> list[int]:
        """The places of the nodes that read a tensor; none if it is an output of the graph."""
        return [] if name in self._outputs else self._readers[name]

    def only_reader(self, name: str, kind: str) -> int | None:
        """The place of the one node that reads a tensor; None: there are others, or it is of another kind."""
        places = self.readers(name)
        return places[0] if len(places) == 1 and self.nodes[places[0]].op_type == kind else None

    def joined(self, name: str) -> int | None:
        """The place of the Concat along channels that makes a tensor which one node reads; None: it is none."""
        place = self.maker(name, "Concat")
        alone = place is not None and len(self.readers(name)) == 1 and self.options(place).get("axis") == 1
        return place if alone else None

    def kernel(self, place: int) -> "np.ndarray | None":
        """The weights of a convolution that does nothing but weigh: no bias, stride, dilation or padding."""
        node = self.nodes[place]
        trivial = node.op_type == "Conv" and len(node.input) == 2 and merely_weighs(node)
        return self.values(node.input[1]) if trivial else None

    def groups(self, place: int) -> int:
        """The groups of a convolution."""
        return int(self.options(place).get("group", 1))


def options_of(node: "onnx.NodeProto") -> dict[str, Any]:
    """The attributes of a node by name."""
    from onnx import helper

    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def merely_weighs(node: "onnx.NodeProto") -> bool:
    """Whether a convolution has no strides, dilations or padding; it may have groups and a bias."""
    options = options_of(node)
    ones = all(each == 1 for key in ("strides", "dilations") for each in options.get(key, []))
    return ones and not any(options.get("pads", [])) and options.get("auto_pad", b"NOTSET") == b"NOTSET"


def over_channels(node: "onnx.NodeProto", constants: "Mapping[str, onnx.TensorProto]") -> bool:
    """Whether a reduction is over channels and keeps their axis."""
    from onnx import numpy_helper

    axes = constants.get(node.input[1]) if len(node.input) > 1 else None
    along = axes is not None and numpy_helper.to_array(axes).tolist() in ([1], [-3])
    return along and options_of(node).get("keepdims", 1) == 1


def channel_window(
    node: "onnx.NodeProto", channels: int, constants: "Mapping[str, onnx.TensorProto]"
) -> tuple[int, int] | None:
    """First channel and end of what a Slice along channels takes; None where it takes none, or a node is another."""
    from onnx import numpy_helper

    if node.op_type != "Slice" or len(node.input) < 4 or any(name not in constants for name in node.input[1:]):
        return None
    begin, end, axes, *steps = (numpy_helper.to_array(constants[name]).tolist() for name in node.input[1:])
    if axes not in ([1], [-3]) or steps not in ([], [[1]]):
        return None
    first, last, _ = slice(begin[0], end[0]).indices(channels)
    return (first, last) if first < last else None


def constant(constants: "dict[str, onnx.TensorProto]", name: str, values: "np.ndarray") -> str:
    """The name of a constant, added if it is not there."""
    from onnx import numpy_helper

    name = f"rewrite.{name}"
    constants.setdefault(name, numpy_helper.from_array(values, name))
    return name


def exchange(graph: "onnx.GraphProto", places: Collection[int], made: "Sequence[onnx.NodeProto]") -> None:
    """Put `made` in the place of the last of some nodes, and take all of these out."""
    last = max(places)
    before = [node for place, node in enumerate(graph.node) if place <= last and place not in places]
    after = list(graph.node)[last + 1 :]
    del graph.node[:]
    graph.node.extend([*before, *made, *after])
    used = {name for node in graph.node for name in node.input}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


class Writer:
    """Makes nodes that are named like what they give, and constants of the graph."""

    def __init__(self, graph: "onnx.GraphProto") -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._graph = graph
        self._constants = {each.name: each for each in graph.initializer}

    def constant(self, name: str, values: "np.ndarray") -> str:
        """The name of a constant, added if it is not there."""
        known = len(self._constants)
        name = constant(self._constants, name, values)
        if len(self._constants) > known:
            self._graph.initializer.append(self._constants[name])
        return name

    def add(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> str:
        """The name of the node's first output."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]
