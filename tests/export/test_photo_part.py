"""A network that is cut in two gives what it gives whole, and its first part sees the photo alone."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from deeplens.export.onnx_graph import export
from deeplens.export.photo_part import PHOTO_INPUTS, cut
from deeplens.model.contract import CONTRACTS
from tests.support.device import needs_torch

Given = dict[str, np.ndarray]


def run(graph: bytes, given: Given) -> Given:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    wanted = {each.name: given[each.name] for each in session.get_inputs()}
    return dict(zip(names, map(np.asarray, session.run(names, wanted)), strict=True))


@needs_torch
@pytest.mark.slow
def test_the_parts_give_what_the_whole_gives(tmp_path: Path) -> None:
    export("edge", "upsample", out=tmp_path)
    whole = (tmp_path / "onnx" / "edge_upsample.onnx").read_bytes()
    inputs = {
        tensor.name: np.random.default_rng(tensor.channels).random(tensor.shape(64, 96), np.float32)
        for tensor in CONTRACTS["upsample"].inputs
    }
    parts = cut(whole)
    assert parts is not None
    photo = onnx.load_from_string(parts.photo).graph
    assert {each.name for each in photo.input} <= PHOTO_INPUTS
    features = run(parts.photo, inputs)
    expected, found = run(whole, inputs), run(parts.rest, {**inputs, **features})
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=2e-5)


def test_what_depends_on_more_than_the_photo_is_no_feature() -> None:
    """Two convolutions, of the photo and of its blurred version: only the first one's result may be kept."""
    names = ("picture_high", "blurred")
    parts = cut(added(*names))
    assert parts is not None
    assert parts.features == ("seen_picture_high",)
    rest = onnx.load_from_string(parts.rest).graph
    assert [each.name for each in rest.input] == ["blurred", "seen_picture_high"]


def test_a_network_that_sees_no_photo_alone_has_no_part() -> None:
    assert cut(added("blurred", "signed_depth")) is None


def added(*names: str) -> bytes:
    """The sum of a convolution of each input, serialised."""
    graph = helper.make_graph(
        [*(helper.make_node("Conv", [name, "kernel"], [f"seen_{name}"]) for name in names),
         helper.make_node("Add", [f"seen_{name}" for name in names], ["y"])],
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"]) for name in names],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, "h", "w"])],
        [numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "kernel")],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(made.SerializeToString())
