"""Versions of TensorRT that compute attention wrongly are refused for graphs that have it."""

from typing import Any

import pytest
from onnx import TensorProto, helper

from deeplens.console.errors import MismatchError
from deeplens.export.trt_guard import check_version, has_attention


def graph(*nodes: Any) -> Any:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])
    return helper.make_model(helper.make_graph(list(nodes), "g", [value], [helper.make_empty_tensor_value_info("y")]))


ATTENTION = graph(
    helper.make_node("MatMul", ["x", "x"], ["a"]),
    helper.make_node("Mul", ["a", "a"], ["b"]),
    helper.make_node("Softmax", ["b"], ["y"]),
)
CHANNELS = graph(helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Softmax", ["a"], ["y"], axis=1))
FUSED = graph(helper.make_node("Attention", ["x", "x", "x"], ["y"]))


def test_attention_is_found() -> None:
    assert has_attention(ATTENTION)
    assert has_attention(FUSED)
    assert not has_attention(CHANNELS)


def told(version: str, **more: Any) -> str | None:
    return check_version(ATTENTION, library="tensorrt", version=version, precision="fp16", **more)


@pytest.mark.parametrize("version", ["10.3.0.30", "10.4.0", "10.5.0", "8.6.1"])
def test_old_versions_are_refused_unless_forced(version: str) -> None:
    with pytest.raises(MismatchError, match=r"use TensorRT 10\.12 or later"):
        told(version)
    assert "reported for 10.3, 10.4 and 10.7" in str(told(version, forced=True))


def test_versions_in_doubt_and_good_ones() -> None:
    assert "deeplens parity" in str(told("10.7.0"))
    for good in ("10.12.0.36", "10.13", "11.1.0"):
        assert told(good) is None


def test_what_is_not_doubted() -> None:
    old: dict[str, Any] = {"version": "10.3.0"}
    assert check_version(CHANNELS, library="tensorrt", precision="fp16", **old) is None
    assert check_version(ATTENTION, library="tensorrt", precision="fp32", **old) is None
    assert check_version(ATTENTION, library="tensorrt_rtx", precision="fp16", version="1.7.1") is None


def test_the_export_asks() -> None:
    """Taken out of the export, the check would be of no use: it is asked before a build."""
    from deeplens.export.trt_guard import guard

    doubted: dict[str, Any] = {"library": "tensorrt", "version": "10.3.0", "precision": "fp16"}
    with pytest.raises(MismatchError, match="--force"):
        guard(ATTENTION.SerializeToString(), **doubted, forced=False)
    with pytest.warns(UserWarning, match="deeplens parity"):
        guard(ATTENTION.SerializeToString(), **doubted, forced=True)
