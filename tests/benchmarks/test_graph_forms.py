"""What a form gains: on a graph that one rule changes, and on a rule that changes the numbers."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
from onnx import TensorProto, helper, numpy_helper

from deeplens.benchmarks import graph_forms
from deeplens.console.errors import InputError, MismatchError
from deeplens.export import onnx_forms
from deeplens.export.onnx_forms import FORMS
from deeplens.model.contract import CONTRACTS

SIZE = (16, 24)


def pooled() -> onnx.ModelProto:
    """A graph with the inputs of the lens blur: half of the picture's size, then the same size again."""
    contract = CONTRACTS["lens_blur"]
    inputs = [
        helper.make_tensor_value_info(each.name, TensorProto.FLOAT, list(each.shape(*SIZE))) for each in contract.inputs
    ]
    picture = contract.inputs[0]
    nodes = [
        helper.make_node("AveragePool", [picture.name], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Resize", ["half", "", "scales"], ["y"], mode="nearest"),
    ]
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, list(picture.shape(*SIZE)))
    graph = helper.make_graph(nodes, "g", inputs, [made], [scales])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_each_part_of_a_form_that_changes_something_has_a_row() -> None:
    rows = graph_forms.measure(pooled(), "cpu", "lens_blur", SIZE, threads=1, rounds=3)
    assert [each.graph for each in rows] == ["as exported", "the form", "without the rule for AveragePool"]
    assert rows[1].gain.ratio == rows[1].gain.low == rows[1].gain.high == 1
    assert all(each.seconds > 0 and each.gain.rounds == 3 and each.difference < 1e-6 for each in rows)


def test_what_is_left_out_is_one_pass_or_one_rule() -> None:
    passes = FORMS["webgpu"].passes
    left = dict(graph_forms.without(passes))
    assert list(left) == [
        "without used_channels", "without weigh_slices", "without the rule for ConvTranspose",
        "without the rule for Softmax", "without the rule for ReduceSum", "without narrowed",
    ]  # fmt: skip
    assert left["without used_channels"] == passes[1:]
    assert left["without narrowed"] == passes[:-1]
    fewer = left["without the rule for Softmax"][2]
    assert isinstance(fewer, partial)
    assert set(fewer.keywords["rules"]) == {"ConvTranspose", "ReduceSum"}


def test_a_form_that_changes_the_numbers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: onnx.ModelProto) -> onnx.ModelProto:
        made = onnx.ModelProto()
        made.CopyFrom(model)
        made.graph.node[0].op_type = "MaxPool"
        return made

    monkeypatch.setitem(onnx_forms.FORMS, "cpu", onnx_forms.Form(runs_on="a test", passes=(wrong,)))
    with pytest.raises(MismatchError, match="lens_blur, the form: the outputs differ"):
        graph_forms.measure(pooled(), "cpu", "lens_blur", SIZE, threads=1, rounds=1)


@pytest.mark.slow
def test_the_command_measures_the_shipped_networks(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="graphs are exported by PyTorch")
    target = tmp_path / "forms.json"
    graph_forms.main(form="openvino", networks=["upsample"], size="64x32", rounds=1, json=target)
    rows = json.loads(target.read_text())["graphs"]
    assert {each["network"] for each in rows} == {"upsample"}
    assert [each["graph"] for each in rows][:2] == ["as exported", "the form"]
    with pytest.raises(InputError, match="unknown form 'tflite'"):
        graph_forms.main(form="tflite")
    with pytest.raises(InputError, match="size 65x32: give multiples of 8"):
        graph_forms.main(networks=["upsample"], size="65x32")
