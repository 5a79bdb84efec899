"""Rewritten graphs give the same numbers, and what is not meant stays as it is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from deeplens.console.errors import MismatchError
from deeplens.export.onnx_forms import in_form
from deeplens.export.onnx_rewrite import by_node, enlarge_by_convolution
from tests.support.one_graph import graph, kinds, run

SHUFFLE = helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2, mode="CRD")


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_a_shuffle_is_the_same_bit_by_bit(channels: int, height: int, width: int, seed: int) -> None:
    model = graph(4 * channels, SHUFFLE)
    x = np.random.default_rng(seed).normal(size=(1, 4 * channels, height, width)).astype(np.float32)
    cells = x.reshape(channels, 2, 2, height, width).transpose(0, 3, 1, 4, 2)  # by its definition
    made = in_form(model)
    assert kinds(made) == {"ConvTranspose": 1}
    np.testing.assert_array_equal(run(made, x)[0], cells.reshape(channels, 2 * height, 2 * width))
    np.testing.assert_array_equal(run(made, x), run(model, x))


def test_a_kernel_in_another_order_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    eye = np.eye(4, dtype=np.float32)
    monkeypatch.setattr("numpy.eye", lambda *_, **__: eye[[0, 2, 1, 3]])
    x = np.random.default_rng(0).normal(size=(1, 8, 5, 6)).astype(np.float32)
    assert np.abs(run(in_form(graph(8, SHUFFLE)), x) - run(graph(8, SHUFFLE), x)).max() > 0.1


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(2, 4), st.booleans(), st.integers(0, 99)
)  # fmt: skip
def test_a_transposed_convolution_without_overlap_by_float64(
    groups: int, inside: int, outside: int, side: int, biased: bool, seed: int
) -> None:
    """The form for WebGPU has none: each pixel times the kernel is a cell of the output."""
    numbers = np.random.default_rng(seed)
    kernel = numbers.normal(size=(groups * inside, outside, side, side)).astype(np.float32)
    bias = numbers.normal(size=groups * outside).astype(np.float32) * biased
    node = helper.make_node(
        "ConvTranspose", ["x", "w", "b"][: 2 + biased], ["y"], strides=[side, side], kernel_shape=[side, side],
        group=groups, pads=[0] * 4, dilations=[1, 1],
    )  # fmt: skip
    model = graph(groups * inside, node, constants={"w": kernel, **({"b": bias} if biased else {})})
    x = numbers.normal(size=(1, groups * inside, 3, 5)).astype(np.float32)
    expected = np.einsum(
        "gihw,gioab->gohawb", x[0].reshape(groups, inside, 3, 5).astype(np.float64),
        kernel.reshape(groups, inside, outside, side, side),
    ).reshape(groups * outside, 3 * side, 5 * side)  # fmt: skip
    made = in_form(model, "webgpu")
    assert kinds(made) == {"Conv": 1, "DepthToSpace": 1}
    np.testing.assert_allclose(run(made, x)[0], expected + bias[:, None, None], rtol=0, atol=2e-5)
    np.testing.assert_allclose(run(made, x), run(model, x), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"strides": [1, 1]},
        {"strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"strides": [2, 2], "output_padding": [1, 1]},
        {"strides": [2, 2], "dilations": [2, 2]},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 1]},
    ],
)
def test_other_transposed_convolutions_are_refused_for_webgpu(options: dict[str, Any]) -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="up", **options)
    model = graph(2, node, constants={"w": np.ones((2, 3, 2, 2), np.float32)})
    with pytest.raises(MismatchError, match="up is a ConvTranspose, which the form webgpu refuses"):
        in_form(model, "webgpu")


@pytest.mark.parametrize(
    ("channels", "node"),
    [
        (8, helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2, mode="DCR")),
        (9, helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=3, mode="CRD")),
        (8, helper.make_node("Softmax", ["x"], ["y"], axis=-1)),
        (3, helper.make_node("ReduceSum", ["x", "channel"], ["y"], keepdims=1)),
        (9, helper.make_node("ReduceSum", ["x", "channel"], ["y"], keepdims=0)),
        (9, helper.make_node("ReduceSum", ["x", "rows"], ["y"], keepdims=1)),
    ],
)
def test_what_is_not_meant_stays(channels: int, node: onnx.NodeProto) -> None:
    constants = {"channel": np.array([1]), "rows": np.array([2])}
    model = graph(channels, node, constants={name: constants[name] for name in constants if name in node.input})
    assert in_form(model).SerializeToString() == model.SerializeToString()


def taps_graph(groups: int, added: int, offsets: list[tuple[int, int]], *, divide: bool) -> onnx.ModelProto:
    """x (1, groups + T + T / added, h, w): planes, weights, totals; y = Σ weight · plane moved by a tap."""
    taps, sums = len(offsets), len(offsets) // added
    kernel = np.zeros((taps, 1, 3, 3), np.float32)
    for tap, (row, column) in enumerate(offsets):
        kernel[tap, 0, row, column] = 1.0
    nodes = [
        helper.make_node("Split", ["x", "parts"], ["inner", "w", "t"], axis=1),
        helper.make_node("Pad", ["inner", "border"], ["planes"], mode="reflect"),
        helper.make_node("Conv", ["planes", "taps"], ["copies"], group=groups),
        helper.make_node("Concat", ["w"] * groups, ["weights"], axis=1),
        helper.make_node("Mul", ["weights", "copies"] if divide else ["copies", "weights"], ["products"]),
        helper.make_node("Conv", ["products", "ones"], ["sums" if divide else "y"], group=groups * sums),
    ]
    if divide:
        nodes.append(helper.make_node("Concat", ["t"] * groups, ["totals"], axis=1))
        nodes.append(helper.make_node("Div", ["sums", "totals"], ["y"]))
    else:
        nodes[0] = helper.make_node("Split", ["x", "parts"], ["inner", "w"], axis=1)
    parts = [groups, taps, sums] if divide else [groups, taps]
    return graph(
        sum(parts), *nodes,
        constants={
            "parts": np.array(parts, np.int64),
            "border": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
            "taps": np.tile(kernel, (groups, 1, 1, 1)),
            "ones": np.ones((groups * sums, added, 1, 1), np.float32),
        },
    )  # fmt: skip


def weighed(x: np.ndarray, groups: int, added: int, offsets: list[tuple[int, int]], *, divide: bool) -> np.ndarray:
    """The same in float64, pixel by pixel, by its definition."""
    taps = len(offsets)
    planes, weights, totals = x[:groups].astype(float), x[groups : groups + taps], x[groups + taps :]
    padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    height, width = x.shape[1:]
    rows = []
    for plane in padded:
        for index in range(taps // added):
            total = np.zeros((height, width))
            for tap in range(index * added, (index + 1) * added):
                row, column = offsets[tap]
                total += weights[tap] * plane[row : row + height, column : column + width]
            rows.append(total / totals[index] if divide else total)
    return np.stack(rows)


places = st.tuples(st.integers(0, 2), st.integers(0, 2))


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 4), st.integers(1, 4), st.data(), st.booleans(), st.integers(2, 9), st.integers(2, 9))
def test_weighted_taps_become_slices_of_the_same_numbers(
    groups: int, added: int, data: st.DataObject, divide: bool, height: int, width: int
) -> None:
    sums = data.draw(st.integers(1, 3))
    offsets = data.draw(st.lists(places, min_size=added * sums, max_size=added * sums))
    model = taps_graph(groups, added, offsets, divide=divide)
    made = in_form(model)
    found = kinds(made)
    if groups * sums == 1 or added * sums == 1:  # products of one plane alone: nothing to gain, but right all the same
        assert found["Conv"] in (0, 2)
    else:
        assert found["Conv"] == 0
        assert found["Slice"] == len(set(offsets))
    rng = np.random.default_rng(height * width)
    x = rng.uniform(0.5, 2.0, size=(1, model.graph.input[0].type.tensor_type.shape.dim[1].dim_value, height, width))
    x = x.astype(np.float32)
    expected = weighed(x[0], groups, added, offsets, divide=divide)
    np.testing.assert_allclose(run(made, x)[0], expected, rtol=1e-6)
    np.testing.assert_allclose(run(made, x), run(model, x), rtol=1e-6)


CORNERS = [(0, 0), (0, 2), (2, 0), (2, 2)]


def spoilt_kernel(model: onnx.ModelProto) -> None:
    """One group copies another pixel than the others: no one-hot taps that all planes share."""
    (taps,) = [each for each in model.graph.initializer if each.name == "taps"]
    values = numpy_helper.to_array(taps).copy()
    values[0, 0, 0, 0], values[0, 0, 1, 1] = 0.0, 1.0
    taps.CopyFrom(numpy_helper.from_array(values, "taps"))


def spoilt_sum(model: onnx.ModelProto) -> None:
    """The products are weighed once more when they are added."""
    (ones,) = [each for each in model.graph.initializer if each.name == "ones"]
    ones.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(ones), "ones"))


def spoilt_border(model: onnx.ModelProto) -> None:
    """The taps see zeros past the border."""
    (node,) = [each for each in model.graph.node if "taps" in each.input]
    node.attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
    (pad,) = [each for each in model.graph.initializer if each.name == "border"]
    pad.CopyFrom(numpy_helper.from_array(np.zeros(8, np.int64), "border"))


def spoilt_by_another_user(model: onnx.ModelProto) -> None:
    """The copies are an output as well."""
    model.graph.output.append(helper.make_tensor_value_info("copies", TensorProto.FLOAT, None))


@pytest.mark.parametrize("spoil", [spoilt_kernel, spoilt_sum, spoilt_border, spoilt_by_another_user])
def test_other_sums_stay_as_they_are(spoil: Callable[[onnx.ModelProto], None]) -> None:
    model = taps_graph(3, 2, CORNERS, divide=True)
    assert kinds(in_form(model))["Slice"] == 4
    spoil(model)
    assert in_form(model) == model


SCALES = {"scales": np.array([1, 1, 2, 2], np.float32)}


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_twice_the_size_by_convolution(channels: int, height: int, width: int, seed: int) -> None:
    resize = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear")
    model = graph(channels, resize, constants=SCALES)
    x = np.random.default_rng(seed).normal(size=(1, channels, height, width)).astype(np.float32)
    made = by_node(model, {"Resize": enlarge_by_convolution})
    assert kinds(made) == {"Pad": 1, "Conv": 1, "ConvTranspose": 1}
    np.testing.assert_allclose(run(made, x), run(model, x), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "scales"),
    [
        ({"mode": "nearest"}, [1, 1, 2, 2]),
        ({"mode": "linear"}, [1, 1, 4, 4]),
        ({"mode": "linear", "coordinate_transformation_mode": "align_corners"}, [1, 1, 2, 2]),
        ({"mode": "linear", "antialias": 1}, [1, 1, 2, 2]),
    ],
)
def test_another_resize_stays_as_it_is(options: dict[str, Any], scales: list[int]) -> None:
    resize = helper.make_node("Resize", ["x", "", "scales"], ["y"], **options)
    model = graph(2, resize, constants={"scales": np.array(scales, np.float32)})
    assert kinds(by_node(model, {"Resize": enlarge_by_convolution})) == {"Resize": 1}
