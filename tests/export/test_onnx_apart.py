"""Channels that are left apart give the same numbers as channels that are joined and parted again."""

from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from deeplens.export.onnx_apart import choose_slices, leave_apart, weigh_groups
from tests.support.one_graph import graph, kinds, run

HEIGHT, WIDTH = 6, 8
END = 1 << 31


def parts_of(ends: list[int]) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Nodes that cut x along channels into part_0, part_1 and so on, and their constants."""
    constants: dict[str, np.ndarray] = {"channel": np.array([1])}
    nodes = []
    for index, (start, end) in enumerate(pairwise(ends)):
        constants |= {f"from_{index}": np.array([start]), f"to_{index}": np.array([end])}
        nodes.append(helper.make_node("Slice", ["x", f"from_{index}", f"to_{index}", "channel"], [f"part_{index}"]))
    return nodes, constants


def numbers(channels: int, seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, channels, height, width)).astype(np.float32)


def choice(offsets: list[tuple[int, int]], side: int, **changes: Any) -> onnx.ModelProto:
    """x holds the logits of all taps and, as its last channel, the plane that the taps are of."""
    taps = len(offsets)
    kernel = np.zeros((taps, 1, side, side), np.float32)
    for tap, (row, column) in enumerate(offsets):
        kernel[tap, 0, row, column] = changes.get("height", 1.0)
    nodes, constants = parts_of([0, taps, taps + 1])
    around = np.array([0, 0, side // 2, side // 2] * 2)
    constants |= {"kernel": kernel, "around": around, "axes": np.array([changes.get("axis", 1)])}
    nodes += [
        helper.make_node("Softmax", ["part_0"], ["shares"], axis=1),
        helper.make_node("Pad", ["part_1", "around"], ["plane"], mode="reflect"),
        helper.make_node("Conv", ["plane", "kernel"], ["copies"]),
        helper.make_node("Mul", ["copies", "shares"] if changes.get("swapped") else ["shares", "copies"], ["products"]),
        helper.make_node("ReduceSum", ["products", "axes"], ["y"], keepdims=changes.get("keepdims", 1)),
    ]
    return graph(taps + 1, *nodes, constants=constants)


@settings(max_examples=20)
@given(
    st.sampled_from([1, 3, 5]), st.integers(1, 9), st.booleans(), st.sampled_from([0.1, 1.0, 60.0]), st.integers(0, 99)
)
def test_a_choice_among_neighbours_by_float64(side: int, taps: int, swapped: bool, size: float, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    offsets = [(int(row), int(column)) for row, column in drawn.integers(0, side, (taps, 2))]
    model, x = choice(offsets, side, swapped=swapped), numbers(taps + 1, seed) * np.float32(size)
    powers = np.exp(x[0, :taps].astype(np.float64) - x[0, :taps].max(0))
    plane = np.pad(x[0, taps].astype(np.float64), side // 2, mode="reflect")
    copies = [plane[row : row + HEIGHT, column : column + WIDTH] for row, column in offsets]
    made = choose_slices(model)
    assert not {"Softmax", "ReduceSum"} & kinds(made).keys()
    assert kinds(made)["Div"] == 1
    expected = (powers / powers.sum(0) * copies).sum(0)
    np.testing.assert_allclose(run(made, x)[0, 0], expected, rtol=0, atol=2e-6 * max(1, size))
    np.testing.assert_allclose(run(made, x), run(model, x), rtol=0, atol=2e-6 * max(1, size))


@pytest.mark.parametrize("changes", [{"height": 2.0}, {"axis": 2}, {"keepdims": 0}])
def test_what_is_no_choice_stays(changes: dict[str, Any]) -> None:
    model = choice([(0, 0), (1, 2), (2, 1)], 3, **changes)
    assert choose_slices(model).SerializeToString() == model.SerializeToString()


def test_a_choice_that_something_else_reads_stays() -> None:
    model = choice([(0, 0), (1, 2)], 3)
    model.graph.output[0].name = "shares"
    assert kinds(choose_slices(model))["Softmax"] == 1


def weighed(counts: list[int], outputs: int, *, swapped: bool = False, spoilt: bool = False) -> onnx.ModelProto:
    """x holds the weights of all groups, then the groups."""
    ends = list(accumulate([*counts, *(outputs * count for count in counts)], initial=0))
    nodes, constants = parts_of(ends)
    total = np.concatenate([np.kron(np.eye(outputs), np.ones(count)) for count in counts], 1).astype(np.float32)
    if spoilt:
        total[0, -1] = 1.0
    constants["total"] = total[:, :, None, None]
    n = len(counts)
    repeated = [f"part_{index}" for index in range(n) for _ in range(outputs)]
    pair = ["features", "weights"][:: -1 if swapped else 1]
    nodes += [
        helper.make_node("Concat", [f"part_{n + index}" for index in range(n)], ["features"], axis=1),
        helper.make_node("Concat", repeated, ["weights"], axis=1),
        helper.make_node("Mul", pair, ["products"]),
        helper.make_node("Conv", ["products", "total"], ["y"]),
    ]
    return graph(ends[-1], *nodes, constants=constants)


@settings(max_examples=20)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.integers(2, 4), st.booleans(), st.integers(0, 99))
def test_groups_weighed_apart_by_float64(counts: list[int], outputs: int, swapped: bool, seed: int) -> None:
    model = weighed(counts, outputs, swapped=swapped)
    x = numbers(sum(counts) * (1 + outputs), seed)
    values = x[0].astype(np.float64)
    expected, weight, feature = np.zeros((outputs, HEIGHT, WIDTH)), 0, sum(counts)
    for count in counts:
        own = values[feature : feature + outputs * count].reshape(outputs, count, HEIGHT, WIDTH)
        expected += (own * values[weight : weight + count]).sum(1)
        weight, feature = weight + count, feature + outputs * count
    made = weigh_groups(model)
    assert "Concat" not in kinds(made)
    np.testing.assert_allclose(run(made, x)[0], expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(run(made, x), run(model, x), rtol=0, atol=1e-5)


def test_a_sum_over_more_than_its_group_stays() -> None:
    model = weighed([2, 1], 3, spoilt=True)
    assert weigh_groups(model).SerializeToString() == model.SerializeToString()


@pytest.mark.parametrize("read", ["features", "weights"])
def test_groups_that_something_else_reads_stay_joined(read: str) -> None:
    model = weighed([2, 1], 3)
    model.graph.node[-1].output[0] = "sum"
    model.graph.node.append(helper.make_node("Concat", ["sum", read], ["y"], axis=1))
    assert weigh_groups(model).SerializeToString() == model.SerializeToString()


def test_parts_that_something_else_reads_stay_joined() -> None:
    model = joined("Resize", [2, 2], [(0, 2), (2, 4)])
    model.graph.node[-1].output[0] = "cuts"
    model.graph.node.extend(
        [
            helper.make_node("Resize", ["all", "", "scales"], ["again"], mode="nearest"),
            helper.make_node("Concat", ["cuts", "again"], ["y"], axis=1),
        ]
    )
    assert leave_apart(model).SerializeToString() == model.SerializeToString()


POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}
GROW = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}


def joined(kind: str, counts: list[int], windows: list[tuple[int, int]], *, whole: bool = False) -> onnx.ModelProto:
    """The parts of x, joined, through an operation, cut into windows of channels, and all of these joined as y."""
    nodes, constants = parts_of(list(accumulate(counts, initial=0)))
    constants |= {"scales": np.array([1, 1, 2, 2], np.float32)}
    own = ["all", "", "scales"] if kind == "Resize" else ["all"]
    nodes += [
        helper.make_node("Concat", [f"part_{index}" for index in range(len(counts))], ["all"], axis=1),
        helper.make_node(kind, own, ["made"], **(GROW if kind == "Resize" else POOL)),
    ]
    for index, (start, end) in enumerate(windows):
        constants |= {f"begin_{index}": np.array([start]), f"end_{index}": np.array([end])}
        nodes.append(helper.make_node("Slice", ["made", f"begin_{index}", f"end_{index}", "channel"], [f"cut_{index}"]))
    cuts = [f"cut_{index}" for index in range(len(windows))] + ["made"] * whole
    nodes.append(helper.make_node("Concat", cuts, ["y"], axis=1))
    return graph(sum(counts), *nodes, constants=constants)


def ways(end: int, total: int) -> list[int]:
    """Other ways to write the end of a window in ONNX: counted from the end, or far beyond it."""
    return [END] if end == total else [end - total]


@settings(max_examples=20)
@given(
    st.sampled_from(["AveragePool", "Resize"]), st.lists(st.integers(1, 3), min_size=2, max_size=5), st.data(),
    st.integers(0, 99),
)  # fmt: skip
def test_parts_that_are_treated_apart_give_the_same(
    kind: str, counts: list[int], data: st.DataObject, seed: int
) -> None:
    ends = list(accumulate(counts, initial=0))
    total = ends[-1]
    windows = data.draw(
        st.lists(
            st.tuples(st.sampled_from(ends), st.sampled_from(ends)).filter(lambda pair: pair[0] < pair[1]),
            min_size=1, max_size=4,
        )
    )  # fmt: skip
    spelt = [
        data.draw(st.tuples(st.sampled_from([start, start - total]), st.sampled_from([end, *ways(end, total)])))
        for start, end in windows
    ]
    model, x = joined(kind, counts, spelt), numbers(total, seed)
    made = leave_apart(model)
    assert kinds(made)[kind] == len(windows)
    np.testing.assert_array_equal(run(made, x), run(model, x))


@pytest.mark.parametrize(
    ("windows", "whole"),
    [([(0, 3)], False), ([(0, 2)], True), ([(0, 2), (2, -1)], False)],
    ids=["across", "read", "from the end"],
)
def test_parts_that_are_not_cut_as_they_were_joined_stay(windows: list[tuple[int, int]], whole: bool) -> None:
    model = joined("Resize", [2, 2], windows, whole=whole)
    assert leave_apart(model).SerializeToString() == model.SerializeToString()


def test_a_part_of_unknown_size_stays_joined() -> None:
    model = joined("Resize", [2, 2], [(0, 2), (2, 4)])
    model.opset_import.append(helper.make_opsetid("test", 1))
    (place,) = (at for at, node in enumerate(model.graph.node) if node.output[0] == "all")
    odd = helper.make_node("Odd", [model.graph.node[place].input[0]], ["odd"], domain="test")
    model.graph.node[place].input[0] = "odd"
    model.graph.node.insert(place, odd)
    assert leave_apart(model).SerializeToString() == model.SerializeToString()
