"""A sum of shifted copies with a weight for each pixel, written without the copies that it is made of.

PyTorch (and compilers for an accelerator) take the products of all taps at once: a convolution with a one-hot kernel
makes T copies of each of G planes, the T weights are repeated for each plane, and a convolution with ones adds the
products by groups of m. Measured on ONNX Runtime 1.32, one thread, G = 6, T = 16, m = 4, 256×256: 12 ms, most of it for
moving G·T planes through memory. As slices, products of one weight with all planes at once, and sums that stay in the
cache it takes half, and the numbers are the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deeplens.export.onnx_links import TO_THE_END, Links, Writer, exchange

if TYPE_CHECKING:
    import onnx


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
    while (match := next(_matches(Links(graph)), None)) is not None:
        exchange(graph, match.nodes, _sliced(match, graph))
    return result


def _matches(links: Links) -> Iterator[_Match]:
    def repeated(name: str, times: int) -> tuple[str, int] | None:
        """The tensor that `name` holds `times` times along the channels, and the place of what repeats it."""
        place = links.joined(name)
        sources = [] if place is None else list(links.nodes[place].input)
        return (sources[0], place) if place is not None and sources == [sources[0]] * times else None

    for place, node in enumerate(links.nodes):
        if node.op_type != "Conv" or (groups := links.groups(place)) == 1:
            continue
        taps = links.kernel(place)
        product = links.only_reader(node.output[0], "Mul")
        if taps is None or product is None or taps.shape[1] != 1 or taps.shape[2] != taps.shape[3]:
            continue
        offsets = one_hot(taps, groups)
        (other,) = [name for name in links.nodes[product].input if name != node.output[0]] or [""]
        weights = repeated(other, groups)
        total = links.only_reader(links.nodes[product].output[0], "Conv")
        if offsets is None or weights is None or total is None:
            continue
        ones = links.kernel(total)
        if ones is None or not (ones == 1).all() or ones.shape[2:] != (1, 1):
            continue
        added = ones.shape[1]
        if links.groups(total) * added != groups * len(offsets) or len(offsets) % added:
            continue
        used, target, totals = [place, weights[1], product, total], links.nodes[total].output[0], ""
        quotient = links.only_reader(target, "Div")
        if quotient is not None and links.nodes[quotient].input[0] == target:
            divisor = repeated(links.nodes[quotient].input[1], groups)
            if divisor is not None:
                totals, target = divisor[0], links.nodes[quotient].output[0]
                used += [divisor[1], quotient]
        yield _Match(node.input[0], weights[0], totals, offsets, taps.shape[2] - 1, groups, added, target, used)


def one_hot(taps: "np.ndarray", groups: int) -> list[tuple[int, int]] | None:
    """Row and column of each tap, if every group copies the same pixels as they are."""
    per_group = taps.reshape(groups, -1, taps.shape[2] * taps.shape[3])
    same = (per_group == per_group[0]).all() and (np.sort(per_group[0], 1)[:, :-1] == 0).all()
    if not (same and (per_group[0].max(1) == 1).all()):
        return None
    return [divmod(int(place), taps.shape[3]) for place in per_group[0].argmax(1)]


def slices(
    write: Writer, planes: str, offsets: list[tuple[int, int]], reach: int, base: str
) -> dict[tuple[int, int], str]:
    """Row and column of a tap → the planes moved by it, of the size that all taps have in common.

    Args:
        reach: of the taps: (N, C, h + reach, w + reach) → (N, C, h, w).
        base: what the names begin with.
    """

    def end(offset: int) -> int:
        return offset - reach if offset < reach else TO_THE_END

    axes = write.constant("height_width", np.array([2, 3], np.int64))
    found = {}
    for row, column in sorted(set(offsets)):
        first = write.constant(f"first_{row}_{column}", np.array([row, column], np.int64))
        last = write.constant(f"last_{row}_{column}_of_{reach}", np.array([end(row), end(column)], np.int64))
        found[row, column] = write.add("Slice", [planes, first, last, axes], [f"{base}_at_{row}_{column}"])
    return found


def _sliced(match: _Match, graph: "onnx.GraphProto") -> "list[onnx.NodeProto]":
    write, base = Writer(graph), match.target
    moved = slices(write, match.planes, match.offsets, match.reach, base)
    taps = len(match.offsets)
    weights = [f"{base}_weight_{tap}" for tap in range(taps)]
    write.add("Split", [match.weights], weights, axis=1, num_outputs=taps)
    totals = [f"{base}_total_{index}" for index in range(taps // match.added)]
    if match.totals:
        write.add("Split", [match.totals], totals, axis=1, num_outputs=len(totals))
    parts = []
    for index, total in enumerate(totals):
        own = range(index * match.added, (index + 1) * match.added)
        sums = weighed(write, [(moved[match.offsets[tap]], weights[tap]) for tap in own], base, own.start)
        parts.append(write.add("Div", [sums, total], [f"{base}_quotient_{index}"]) if match.totals else sums)
    # Stacked by rows, the parts of a plane lie one after the other: as channels, if the shape says so.
    rows = write.add("Concat", parts, [f"{base}_rows"], axis=2)
    channels = match.groups * len(parts)
    shape = write.constant(f"channels_{channels}", np.array([0, channels, -1, 0], np.int64))
    write.add("Reshape", [rows, shape], [base])
    return write.nodes


def weighed(write: Writer, pairs: list[tuple[str, str]], base: str, first: int = 0) -> str:
    """Σ of the products of some pairs, one added after the other; `first` numbers them."""
    sums = ""
    for tap, pair in enumerate(pairs, first):
        product = write.add("Mul", pair, [f"{base}_product_{tap}"])
        sums = write.add("Add", [sums, product], [f"{base}_sum_{tap}"]) if sums else product
    return sums
