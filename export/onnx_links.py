"""Who makes and who reads the tensors of an ONNX graph: what passes over several nodes look at."""

from collections import defaultdict
from collections.abc import Collection, Sequence
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
    """

    def __init__(self, graph: "onnx.GraphProto") -> None:
        self.nodes = list(graph.node)
        self._constants = {each.name: each for each in graph.initializer}
        self._makers = {name: place for place, node in enumerate(self.nodes) for name in node.output}
        self._readers: dict[str, list[int]] = defaultdict(list)
        for place, node in enumerate(self.nodes):
            for name in set(node.input):
                self._readers[name].append(place)
        self._outputs = {each.name for each in graph.output}

    def options(self, place: int) -> dict[str, Any]:
        """The attributes of a node by name."""
        from onnx import helper

        return {each.name: helper.get_attribute_value(each) for each in self.nodes[place].attribute}

    def values(self, name: str) -> "np.ndarray | None":
        """A constant's numbers; None: `name` is no constant."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self._constants[name]) if name in self._constants else None

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
        node, plain = self.nodes[place], self.options(place)
        trivial = (
            node.op_type == "Conv"
            and len(node.input) == 2
            and all(each == 1 for key in ("strides", "dilations") for each in plain.get(key, []))
            and not any(plain.get("pads", []))
            and plain.get("auto_pad", b"NOTSET") == b"NOTSET"
        )
        return self.values(node.input[1]) if trivial else None

    def groups(self, place: int) -> int:
        """The groups of a convolution."""
        return int(self.options(place).get("group", 1))


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
        self._names = {each.name for each in graph.initializer}

    def constant(self, name: str, values: "np.ndarray") -> str:
        """The name of a constant, added if it is not there."""
        from onnx import numpy_helper

        name = f"rewrite.{name}"
        if name not in self._names:
            self._names.add(name)
            self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def add(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> str:
        """The name of the node's first output."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]
