"""Sums, means and products of channels, as a CPU computes them fast, by float64; what is something else stays."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from scipy.ndimage import uniform_filter

from deeplens.export.onnx_forms import in_form
from tests.support.one_graph import graph, kinds, run


def numbers(channels: int, seed: int, height: int = 6, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, channels, height, width)).astype(np.float32)


@settings(max_examples=15)
@given(st.integers(1, 20), st.sampled_from([2, 3]), st.sampled_from([None, 0, 1]), st.integers(0, 99))
def test_a_mean_of_squares(channels: int, side: int, counted: int | None, seed: int) -> None:
    own: dict[str, Any] = {} if counted is None else {"count_include_pad": counted}
    node = helper.make_node(
        "AveragePool", ["x"], ["y"], kernel_shape=[side] * 2, strides=[side] * 2, pads=[0] * 4, ceil_mode=0, **own
    )
    model, x = graph(channels, node), numbers(channels, seed, 7, 9)
    rows, columns = 7 // side, 9 // side
    squares = x[0, :, : rows * side, : columns * side].astype(np.float64).reshape(channels, rows, side, columns, side)
    made = in_form(model)
    assert kinds(made) == {"Conv": 1}
    np.testing.assert_allclose(run(made, x)[0], squares.mean((2, 4)), rtol=0, atol=1e-6)
    np.testing.assert_allclose(run(made, x), run(model, x), rtol=0, atol=1e-6)


def around(values: np.ndarray, side: int, *, counted: bool) -> np.ndarray:
    """The mean over a square around each pixel, in float64: of all of it with zeros outside, or of what lies inside."""
    total, inside = (
        uniform_filter(each, (1, side, side), mode="constant")
        for each in (values.astype(np.float64), np.ones(values.shape))
    )
    return total if counted else total / inside


@settings(max_examples=25)
@given(
    st.integers(1, 20), st.sampled_from([3, 5, 7]), st.sampled_from([None, 0, 1]), st.integers(1, 12),
    st.integers(1, 12), st.integers(0, 99),
)  # fmt: skip
def test_a_mean_around_each_pixel(
    channels: int, side: int, counted: int | None, height: int, width: int, seed: int
) -> None:
    own: dict[str, Any] = {} if counted is None else {"count_include_pad": counted}
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[side] * 2, pads=[side // 2] * 4, **own)
    model, x = graph(channels, node, height=height, width=width), numbers(channels, seed, height, width)
    made = in_form(model)
    assert kinds(made) == {"Conv": 1, "Div": 2}
    expected = around(x[0], side, counted=bool(counted))
    np.testing.assert_allclose(run(made, x)[0], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(run(made, x), run(model, x), rtol=0, atol=1e-6)


def test_a_mean_around_each_pixel_of_unknown_size_stays() -> None:
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[5, 5], pads=[2] * 4)
    assert kinds(in_form(graph(3, node))) == {"AveragePool": 1}


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_shape": [3, 3], "pads": [1, 1, 0, 0]},
        {"kernel_shape": [3, 5], "pads": [1, 2, 1, 2]},
        {"kernel_shape": [3, 3], "pads": [1] * 4, "strides": [2, 2]},
        {"kernel_shape": [3, 3], "pads": [1] * 4, "dilations": [2, 2]},
        {"kernel_shape": [3, 3], "pads": [1] * 4, "ceil_mode": 1},
        {"kernel_shape": [3, 3]},
        {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"},
    ],
)
def test_other_means_of_known_size_stay(options: dict[str, Any]) -> None:
    node = helper.make_node("AveragePool", ["x"], ["y"], **options)
    assert kinds(in_form(graph(3, node, height=9, width=9))) == {"AveragePool": 1}


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_shape": [2, 2]},
        {"kernel_shape": [2, 2], "strides": [1, 1]},
        {"kernel_shape": [2, 3], "strides": [2, 3]},
        {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "strides": [2, 2], "dilations": [2, 2]},
        {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [1, 1], "strides": [1, 1]},
    ],
)
def test_other_means_stay(options: dict[str, Any]) -> None:
    assert kinds(in_form(graph(3, helper.make_node("AveragePool", ["x"], ["y"], **options)))) == {"AveragePool": 1}


@pytest.mark.parametrize("size", [1.0, 100.0])
def test_a_softmax_over_channels_by_float64(size: float) -> None:
    model = graph(25, helper.make_node("Softmax", ["x"], ["y"], axis=1))
    x = (size * np.random.default_rng(0).normal(size=(1, 25, 6, 7))).astype(np.float32)
    powers = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    made = in_form(model)
    assert kinds(made) == {"ReduceMax": 1, "Sub": 1, "Exp": 1, "Conv": 1, "Div": 1}
    np.testing.assert_allclose(run(made, x), powers / powers.sum(1, keepdims=True), rtol=0, atol=3e-7)


def test_a_sum_over_many_channels_is_a_convolution() -> None:
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)
    x = np.random.default_rng(0).normal(size=(1, 25, 6, 7)).astype(np.float32)
    made = in_form(graph(25, node, constants={"axes": np.array([1])}))
    assert kinds(made) == {"Conv": 1}
    assert [each.name for each in made.graph.initializer] == ["rewrite.ones_25"]  # the axes are not needed any more
    np.testing.assert_allclose(run(made, x), x.astype(np.float64).sum(1, keepdims=True), rtol=0, atol=1e-5)


@settings(max_examples=15)
@given(st.integers(8, 15), st.integers(0, 99))
def test_a_sum_of_less_than_a_block(channels: int, seed: int) -> None:
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)
    x = numbers(channels, seed)
    made = in_form(graph(channels, node, constants={"axes": np.array([1])}))
    assert kinds(made) == {"Split": 1, "Sum": 1}
    np.testing.assert_allclose(run(made, x), x.astype(np.float64).sum(1, keepdims=True), rtol=0, atol=1e-5)


@settings(max_examples=15)
@given(st.lists(st.booleans(), min_size=2, max_size=15).filter(any), st.integers(0, 99))
def test_a_sum_of_some_channels(chosen: list[bool], seed: int) -> None:
    weights = np.array(chosen, np.float32).reshape(1, -1, 1, 1)
    model = graph(len(chosen), helper.make_node("Conv", ["x", "w"], ["y"]), constants={"w": weights})
    x = numbers(len(chosen), seed)
    made = in_form(model)
    assert kinds(made) == {"Split": 1, "Sum": 1}
    np.testing.assert_allclose(run(made, x)[0, 0], x[0, chosen].astype(np.float64).sum(0), rtol=0, atol=1e-5)


@settings(max_examples=15)
@given(st.integers(1, 20), st.booleans(), st.integers(0, 99))
def test_a_line_of_each_channel(outputs: int, biased: bool, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    weights, bias = drawn.normal(size=(outputs, 1, 1, 1)).astype("f"), drawn.normal(size=outputs).astype("f")
    node = helper.make_node("Conv", ["x", "w", "b"][: 2 + biased], ["y"], kernel_shape=[1, 1], pads=[0] * 4)
    model = graph(1, node, constants={"w": weights, **({"b": bias} if biased else {})})
    x = numbers(1, seed)
    expected = x[0].astype(np.float64) * weights[:, 0] + bias[:, None, None] * biased
    made = in_form(model)
    assert kinds(made) == {"Mul": 1, **({"Add": 1} if biased else {})}
    np.testing.assert_allclose(run(made, x)[0], expected, rtol=0, atol=1e-6)


def convolution(shape: tuple[int, ...], value: float = 1.0, **options: Any) -> onnx.ModelProto:
    groups = options.get("group", 1)
    node = helper.make_node("Conv", ["x", "w"], ["y"], **options)
    return graph(groups * shape[1], node, constants={"w": np.full(shape, value, np.float32)})


@pytest.mark.parametrize(
    "model",
    [
        convolution((1, 16, 1, 1)),
        convolution((1, 4, 1, 1), 0.5),
        convolution((1, 4, 1, 1), 0.0),
        convolution((2, 4, 1, 1)),
        convolution((1, 4, 1, 1), strides=[2, 2]),
        convolution((1, 4, 1, 1), pads=[1, 1, 1, 1]),
        convolution((1, 4, 5, 5)),
        convolution((4, 1, 1, 1), 0.5, group=4),
        convolution((4, 1, 1, 1), 0.5, strides=[2, 2]),
        convolution((4, 1, 5, 5), 0.5),
    ],
    ids=lambda model: str(list(model.graph.initializer[0].dims)),
)
def test_other_convolutions_stay(model: onnx.ModelProto) -> None:
    assert in_form(model).SerializeToString() == model.SerializeToString()
