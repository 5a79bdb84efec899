"""What is written otherwise for OpenVINO gives the same numbers, and is needed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from deeplens.console.errors import MismatchError
from deeplens.export.onnx_openvino import quantise_apart, repeat_by_convolution

SIZE = (5, 7)

BY_OPENVINO = """
import numpy, openvino
core = openvino.Core()
model = core.compile_model(core.read_model("made.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
numpy.save("found.npy", model(dict(numpy.load("feed.npz")))[0])
"""

VNNI = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}
"""Makes OpenVINO compute as on a processor without AMX; it is read once, when the library is loaded."""


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, int],
    outputs: list[str],
    constants: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    """A graph of inputs of so many channels and free sizes."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, count, "h", "w"])
            for name, count in inputs.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "c", "h", "w"]) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(made: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    onnx.checker.check_model(made, full_check=True)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


def kinds(made: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in made.graph.node]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=8), st.tuples(*[st.integers(1, 3)] * 3))
def test_repeated_channels_are_copied_once(parts: list[str], sizes: tuple[int, int, int]) -> None:
    inputs = dict(zip("abc", sizes, strict=True))
    plain = model([helper.make_node("Concat", parts, ["y"], name="join", axis=1)], inputs, ["y"])
    made = repeat_by_convolution(plain)
    rng = np.random.default_rng(0)
    feed = {name: rng.normal(size=(1, count, *SIZE)).astype(np.float32) for name, count in inputs.items()}
    (found,) = run(made, feed)
    np.testing.assert_array_equal(found, np.concatenate([feed[name] for name in parts], axis=1))
    joined = [list(node.input) for node in made.graph.node if node.op_type == "Concat"]
    assert all(len(set(each)) == len(each) for each in joined)
    if len(set(parts)) == len(parts):
        assert made == plain


@pytest.mark.parametrize("kind", ["Mul", "Div"])
def test_one_channel_for_all_needs_no_copy(kind: str) -> None:
    nodes = [
        helper.make_node("Concat", ["a", "a", "a"], ["all"], name="join", axis=1),
        helper.make_node(kind, ["b", "all"], ["y"], name="two"),
    ]
    made = repeat_by_convolution(model(nodes, {"a": 1, "b": 3}, ["y"]))
    assert kinds(made) == [kind]
    rng = np.random.default_rng(1)
    a, b = (rng.uniform(1, 2, (1, count, *SIZE)).astype(np.float32) for count in (1, 3))
    (found,) = run(made, {"a": a, "b": b})
    np.testing.assert_array_equal(found, b * a if kind == "Mul" else b / a)


def test_one_channel_is_copied_where_nothing_stands_beside_it() -> None:
    nodes = [
        helper.make_node("Concat", ["a", "a"], ["both"], name="join", axis=1),
        helper.make_node("Relu", ["both"], ["y"], name="last"),
    ]
    made = repeat_by_convolution(model(nodes, {"a": 1}, ["y"]))
    assert kinds(made) == ["Conv", "Relu"]


def quantised_join(channels: tuple[int, int]) -> onnx.ModelProto:
    """Two inputs, joined, quantised, and a convolution in INT8."""
    rng = np.random.default_rng(2)
    count = sum(channels)
    constants = {
        "numbers": rng.integers(-127, 128, (8, count, 3, 3), dtype=np.int8),
        "scales": rng.uniform(0.001, 0.01, 8).astype(np.float32),
        "zeros": np.zeros(8, np.int8),
        "step": np.float32(1 / 127),
        "zero": np.int8(0),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["numbers", "scales", "zeros"], ["weight"], name="weights", axis=0),
        helper.make_node("Concat", ["a", "b"], ["both"], name="join", axis=1),
        helper.make_node("QuantizeLinear", ["both", "step", "zero"], ["bytes"], name="quantise"),
        helper.make_node("DequantizeLinear", ["bytes", "step", "zero"], ["back"], name="back"),
        helper.make_node("Conv", ["back", "weight"], ["y"], name="last", pads=[1, 1, 1, 1]),
    ]
    return model(nodes, dict(zip("ab", channels, strict=True)), ["y"], constants)


@pytest.mark.parametrize("channels", [(3, 1), (16, 16)])
def test_openvino_computes_a_quantised_join_only_with_a_copy_between(channels: tuple[int, int], tmp_path: Path) -> None:
    """The control fails when OpenVINO has mended it: then `quantise_apart` is needed no more.

    It is wrong on processors with AVX-512 VNNI and without AMX, and on others that are told to compute as those do.
    """
    pytest.importorskip("openvino")
    plain = quantised_join(channels)
    rng = np.random.default_rng(3)
    feed = {
        name: rng.uniform(-1, 1, (1, count, 16, 24)).astype(np.float32)
        for name, count in zip("ab", channels, strict=True)
    }
    (due,) = run(plain, feed)

    def off(made: onnx.ModelProto, **environment: str) -> float:
        onnx.save(made, tmp_path / "made.onnx")
        np.savez(tmp_path / "feed.npz", a=feed["a"], b=feed["b"])
        subprocess.run(
            [sys.executable, "-c", BY_OPENVINO],
            cwd=tmp_path,
            env={**os.environ, **environment},
            check=True,
            timeout=120,
        )
        return float(np.abs(np.load(tmp_path / "found.npy") - due).max()) / float(np.abs(due).max())

    apart = quantise_apart(plain)
    assert kinds(apart)[1:3] == ["Concat", "Conv"]
    np.testing.assert_allclose(run(apart, feed)[0], due, atol=1e-5)
    assert off(apart) < 1e-5
    assert off(apart, **VNNI) < 1e-5
    if not Path("/proc/cpuinfo").is_file() or "avx512_vnni" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("the control needs a processor with AVX-512 VNNI, and Linux to tell")
    assert off(plain, **VNNI) > 0.1


def test_a_quantiser_elsewhere_stays() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["a", "step", "zero"], ["bytes"], name="quantise"),
        helper.make_node("DequantizeLinear", ["bytes", "step", "zero"], ["y"], name="back"),
    ]
    plain = model(nodes, {"a": 2}, ["y"], {"step": np.float32(0.1), "zero": np.int8(0)})
    assert quantise_apart(plain) == plain


def test_a_join_of_unknown_width_is_an_error_and_not_a_wrong_picture() -> None:
    plain = quantised_join((3, 1))
    for value in plain.graph.input:
        value.type.tensor_type.shape.dim[1].ClearField("dim_value")
        value.type.tensor_type.shape.dim[1].dim_param = f"c_{value.name}"
    with pytest.raises(MismatchError, match="quantises both, which joins an unknown number of channels"):
        quantise_apart(plain)
