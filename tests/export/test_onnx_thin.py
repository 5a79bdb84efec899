"""Convolutions to few channels, and to channels that nothing reads: less work for the same numbers."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from deeplens.export.onnx_forms import in_form
from tests.support.one_graph import graph, kinds, run


def convolution(kernel: np.ndarray, *, bias: np.ndarray | None = None, **options: Any) -> onnx.ModelProto:
    """x through a convolution, by default one that keeps the size, to y."""
    node = helper.make_node("Conv", ["x", "kernel", *(["bias"] if bias is not None else [])], ["y"],
                            **{"pads": [1] * 4, **options})  # fmt: skip
    constants = {"kernel": kernel, **({} if bias is None else {"bias": bias})}
    return graph(kernel.shape[1] * options.get("group", 1), node, constants=constants)


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 20), outputs=st.integers(1, 3), height=st.integers(1, 9), width=st.integers(1, 9),
    biased=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_thin_convolution_is_a_sum_over_its_taps(
    channels: int, outputs: int, height: int, width: int, biased: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    kernel, x = (random.normal(size=(count, channels, *size)).astype(np.float32)
                 for count, size in ((outputs, (3, 3)), (1, (height, width))))  # fmt: skip
    bias = random.normal(size=outputs).astype(np.float32) if biased else None
    made = in_form(convolution(kernel, bias=bias))
    assert kinds(made)["Slice"] == 9
    assert [len(each.dims) == 4 and each.dims[2] for each in made.graph.initializer if "taps" in each.name] == [1]
    wide = np.pad(x[0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    expected = np.zeros((outputs, height, width)) if bias is None else np.tile(bias.reshape(-1, 1, 1), (height, width))
    for row in range(3):
        for column in range(3):
            window = wide[:, row : row + height, column : column + width]
            expected = expected + np.einsum("oc,chw->ohw", kernel[:, :, row, column].astype(np.float64), window)
    np.testing.assert_allclose(run(made, x)[0], expected, atol=2e-5)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((4, 3, 3, 3), {}),
        ((1, 3, 5, 5), {"pads": [2] * 4}),
        ((1, 3, 3, 3), {"strides": [2, 2]}),
        ((1, 3, 3, 3), {"pads": [2] * 4, "dilations": [2, 2]}),
        ((1, 3, 3, 3), {"pads": [0] * 4}),
        ((2, 1, 3, 3), {"group": 2}),
    ],
)
def test_other_convolutions_stay(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    model = convolution(np.ones(shape, np.float32), **options)
    assert kinds(in_form(model)) == {"Conv": 1}


def sliced(*, first: int, last: int, axis: int = 1, group: int = 1, also: bool = False) -> onnx.ModelProto:
    """x (1, 4, h, w) through a convolution to six channels, of which y has some; `also`: y has all added to them."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"], ["all"], name="convolution", pads=[1] * 4, group=group),
        helper.make_node("Slice", ["all", "first", "last", "axis"], ["some" if also else "y"]),
    ]
    if also:
        nodes += [helper.make_node("ReduceMax", ["all", "axis"], ["largest"]),
                  helper.make_node("Add", ["some", "largest"], ["y"])]  # fmt: skip
    constants: dict[str, np.ndarray] = {
        "kernel": random.normal(size=(6, 4 // group, 3, 3)).astype(np.float32),
        "bias": random.normal(size=6).astype(np.float32),
        **{name: np.array([value], np.int64) for name, value in (("first", first), ("last", last), ("axis", axis))},
    }
    return graph(4, *nodes, constants=constants)


@pytest.mark.parametrize(("first", "last"), [(0, 4), (1, 6), (2, 1 << 31), (-4, 6)])
def test_channels_that_a_slice_drops_are_not_computed(first: int, last: int) -> None:
    model = sliced(first=first, last=last)
    made, x = in_form(model), np.random.default_rng(1).normal(size=(1, 4, 5, 6)).astype(np.float32)
    assert kinds(made) == {"Conv": 1}
    (kernel,) = (each for each in made.graph.initializer if len(each.dims) == 4)
    assert kernel.dims[0] == len(range(6)[first:last])
    np.testing.assert_allclose(run(made, x), run(model, x), atol=1e-6)


@pytest.mark.parametrize("model", [sliced(first=0, last=4, also=True), sliced(first=1, last=3, axis=2),
                                   sliced(first=0, last=4, group=2)])  # fmt: skip
def test_channels_that_others_read_stay(model: onnx.ModelProto) -> None:
    made, x = in_form(model), np.random.default_rng(1).normal(size=(1, 4, 5, 6)).astype(np.float32)
    assert next(each for each in made.graph.initializer if each.name == "kernel").dims[0] == 6
    np.testing.assert_allclose(run(made, x), run(model, x), atol=1e-6)
