"""Rewritten graphs give the same numbers, and what is not meant stays as it is."""

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export.onnx_rewrite import rewrite


def graph(channels: int, *nodes: onnx.NodeProto, constants: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """x (1, channels, h, w) through `nodes` to y."""
    made = helper.make_graph(
        list(nodes), "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "H", "W"])],
        [numpy_helper.from_array(values, name) for name, values in (constants or {}).items()],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, x: np.ndarray) -> Any:
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


SHUFFLE = helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2, mode="CRD")


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_a_shuffle_is_the_same_bit_by_bit(channels: int, height: int, width: int, seed: int) -> None:
    model = graph(4 * channels, SHUFFLE)
    x = np.random.default_rng(seed).normal(size=(1, 4 * channels, height, width)).astype(np.float32)
    cells = x.reshape(channels, 2, 2, height, width).transpose(0, 3, 1, 4, 2)  # by its definition
    made = rewrite(model)
    assert kinds(made) == {"ConvTranspose": 1}
    np.testing.assert_array_equal(run(made, x)[0], cells.reshape(channels, 2 * height, 2 * width))
    np.testing.assert_array_equal(run(made, x), run(model, x))


def test_a_kernel_in_another_order_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    eye = np.eye(4, dtype=np.float32)
    monkeypatch.setattr("numpy.eye", lambda *_, **__: eye[[0, 2, 1, 3]])
    x = np.random.default_rng(0).normal(size=(1, 8, 5, 6)).astype(np.float32)
    assert np.abs(run(rewrite(graph(8, SHUFFLE)), x) - run(graph(8, SHUFFLE), x)).max() > 0.1


@pytest.mark.parametrize("size", [1.0, 100.0])
def test_a_softmax_over_channels_by_float64(size: float) -> None:
    model = graph(25, helper.make_node("Softmax", ["x"], ["y"], axis=1))
    x = (size * np.random.default_rng(0).normal(size=(1, 25, 6, 7))).astype(np.float32)
    powers = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    made = rewrite(model)
    assert kinds(made) == {"ReduceMax": 1, "Sub": 1, "Exp": 1, "Conv": 1, "Div": 1}
    np.testing.assert_allclose(run(made, x), powers / powers.sum(1, keepdims=True), rtol=0, atol=3e-7)


def test_a_sum_over_many_channels_is_a_convolution() -> None:
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)
    x = np.random.default_rng(0).normal(size=(1, 25, 6, 7)).astype(np.float32)
    made = rewrite(graph(25, node, constants={"axes": np.array([1])}))
    assert kinds(made) == {"Conv": 1}
    assert [each.name for each in made.graph.initializer] == ["rewrite.ones_25"]  # the axes are not needed any more
    np.testing.assert_allclose(run(made, x), x.astype(np.float64).sum(1, keepdims=True), rtol=0, atol=1e-5)


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
    assert rewrite(model).SerializeToString() == model.SerializeToString()
