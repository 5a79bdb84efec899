"""Tensors of many channels that are joined only to be parted or summed again, left apart.

An accelerator likes few operations on many channels, and the networks are written so. A CPU moves all channels through
memory each time that they are joined, parted or put in blocks of 16. Measured on ONNX Runtime 1.32, one thread, at
192×256: the lens blur of `edge` takes 0.93, 0.93 and 0.98 of the time with these passes, in their order below
(`python -m deeplens.benchmarks.graph_forms`). OpenVINO, which joins operations by itself, takes 1.1 to 1.2 times as
long with them.
"""

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from deeplens.export.onnx_links import Links, Writer, channel_window, exchange, over_channels
from deeplens.export.onnx_rewrite import channels_of
from deeplens.export.onnx_taps import one_hot, slices, weighed

if TYPE_CHECKING:
    import onnx

CHANNELWISE = ("AveragePool", "Resize")
"""Operations that treat each channel alone, and that are done part by part."""

Change = Callable[["onnx.ModelProto", Links], "tuple[set[int], list[onnx.NodeProto]] | None"]
"""Finds nodes that are written in another way: their places and what comes instead; None: there are none."""


def choose_slices(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Softmax-weighted sums of one-hot taps of one plane: the largest logit by parts, slices, one division at the end.

    Σ_k softmax(x)_k · p_k = Σ_k e_k p_k / Σ_k e_k with e_k = exp(x_k − max x).
    """
    return _changed(model, _choice)


def weigh_groups(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Sums of products over groups of channels, group by group, without joining what is multiplied.

    With groups of O·f channels, each times f weights that are repeated O times, and a 1×1 convolution of ones and zeros
    that adds the f products of each of O outputs over all groups.
    """
    return _changed(model, _grouped_sum)


def leave_apart(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Channel-wise operations on joined tensors that are parted again: each part by itself."""
    return _changed(model, _parts)


def _changed(model: "onnx.ModelProto", change: Change) -> "onnx.ModelProto":
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    while (found := change(result, Links(result.graph))) is not None:
        exchange(result.graph, *found)
    return result


def _choice(model: "onnx.ModelProto", links: Links) -> "tuple[set[int], list[onnx.NodeProto]] | None":
    for place, node in enumerate(links.nodes):
        if node.op_type != "Softmax" or links.options(place).get("axis") != 1:
            continue
        product = links.only_reader(node.output[0], "Mul")
        total = None if product is None else links.only_reader(links.nodes[product].output[0], "ReduceSum")
        if product is None or total is None or not over_channels(links.nodes[total], links.constants):
            continue
        others = [name for name in links.nodes[product].input if name != node.output[0]]
        copies = links.maker(others[0], "Conv") if others else None
        if copies is None or len(links.readers(others[0])) != 1 or links.groups(copies) != 1:
            continue
        taps = links.kernel(copies)
        offsets = None if taps is None or taps.shape[1] != 1 or taps.shape[2] != taps.shape[3] else one_hot(taps, 1)
        if taps is None or offsets is None:
            continue
        write, base, count = Writer(model.graph), links.nodes[total].output[0], len(offsets)
        logits = [f"{base}_logit_{tap}" for tap in range(count)]
        write.add("Split", [node.input[0]], logits, axis=1, num_outputs=count)
        largest = write.add("Max", logits, [f"{base}_largest"])
        lowered = write.add("Sub", [node.input[0], largest], [f"{base}_lowered"])
        powers = write.add("Exp", [lowered], [f"{base}_powers"])
        ones = write.constant(f"ones_{count}", np.ones((1, count, 1, 1), np.float32))
        everything = write.add("Conv", [powers, ones], [f"{base}_everything"])
        weights = [f"{base}_weight_{tap}" for tap in range(count)]
        write.add("Split", [powers], weights, axis=1, num_outputs=count)
        moved = slices(write, links.nodes[copies].input[0], offsets, taps.shape[2] - 1, base)
        chosen = weighed(write, [(moved[at], weight) for at, weight in zip(offsets, weights, strict=True)], base)
        write.add("Div", [chosen, everything], [base])
        return {place, product, total, copies}, write.nodes
    return None


def _grouped_sum(model: "onnx.ModelProto", links: Links) -> "tuple[set[int], list[onnx.NodeProto]] | None":
    channels = channels_of(model)
    for place, node in enumerate(links.nodes):
        weights = links.kernel(place)
        product = links.maker(node.input[0], "Mul") if weights is not None and links.groups(place) == 1 else None
        if weights is None or product is None or weights.shape[2:] != (1, 1):
            continue
        joined = [each for name in links.nodes[product].input if (each := links.joined(name)) is not None]
        if len(joined) != 2 or len(links.readers(node.input[0])) != 1:
            continue
        for one, other in (joined, joined[::-1]):
            pairs = _pairs(list(links.nodes[one].input), list(links.nodes[other].input), weights, channels)
            if pairs is not None:
                write = Writer(model.graph)
                _write_sums(write, pairs, len(weights), node.output[0])
                return {place, product, *joined}, write.nodes
    return None


def _pairs(
    groups: list[str], repeated: list[str], weights: np.ndarray, channels: dict[str, int]
) -> list[tuple[str, str, int]] | None:
    """Each group, the weights that it is multiplied by and how many they are; None: it is no sum of groups."""
    outputs, found, column = len(weights), [], 0
    for group in groups:
        own, repeated = repeated[:outputs], repeated[outputs:]
        count = channels.get(own[0]) if len(own) == outputs and set(own) == {own[0]} else None
        if count is None or channels.get(group) != outputs * count:
            return None
        pattern = np.kron(np.eye(outputs), np.ones(count))
        if not np.array_equal(weights[:, column : column + outputs * count, 0, 0], pattern):
            return None
        found.append((group, own[0], count))
        column += outputs * count
    return found if column == weights.shape[1] and not repeated else None


def _write_sums(write: Writer, pairs: list[tuple[str, str, int]], outputs: int, target: str) -> None:
    """Each product with the rows of a group's channels one below the other, so that its weights need no copies."""
    sums = []
    for index, (group, weight, count) in enumerate(pairs):
        name = f"{target}_group_{index}"
        if count > 1:
            below = write.constant(f"rows_of_{outputs}", np.array([0, outputs, -1, 0], np.int64))
            group = write.add("Reshape", [group, below], [f"{name}_rows"])
            one = write.constant("rows_of_1", np.array([0, 1, -1, 0], np.int64))
            weight = write.add("Reshape", [weight, one], [f"{name}_weight"])
        product = write.add("Mul", [group, weight], [f"{name}_product"])
        if count > 1:
            shape = write.constant(f"rows_of_{outputs * count}", np.array([0, outputs * count, -1, 0], np.int64))
            product = write.add("Reshape", [product, shape], [f"{name}_channels"])
            ones = write.constant(f"ones_{outputs}_{count}", np.ones((outputs, count, 1, 1), np.float32))
            product = write.add("Conv", [product, ones], [f"{name}_sum"], group=outputs)
        sums.append(product)
    write.add("Sum", sums, [target])


def _parts(model: "onnx.ModelProto", links: Links) -> "tuple[set[int], list[onnx.NodeProto]] | None":
    from onnx import NodeProto

    channels = channels_of(model)
    for place, node in enumerate(links.nodes):
        joined = links.joined(node.input[0]) if node.op_type in CHANNELWISE else None
        if joined is None:
            continue
        names = list(links.nodes[joined].input)
        if any(name not in channels for name in names):
            continue
        ends = list(accumulate((channels[name] for name in names), initial=0))
        readers = links.readers(node.output[0])
        windows = [channel_window(links.nodes[reader], ends[-1], links.constants) for reader in readers]
        if not readers or any(each is None or not {*each} <= {*ends} for each in windows):
            continue
        write = Writer(model.graph)
        for reader, window in zip(readers, windows, strict=True):
            (target,) = links.nodes[reader].output
            own = [
                name for name, (start, end) in zip(names, pairwise(ends), strict=True) if _inside(start, end, window)
            ]
            source = write.add("Concat", own, [f"{target}_joined"], axis=1) if len(own) > 1 else own[0]
            made = NodeProto()
            made.CopyFrom(node)
            made.name, made.input[0], made.output[0] = target, source, target
            write.nodes.append(made)
        return {place, joined, *readers}, write.nodes
    return None


def _inside(start: int, end: int, window: tuple[int, int] | None) -> bool:
    return window is not None and window[0] <= start and end <= window[1]
