from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.files import file_sha256
from deeplens.export import fp16
from deeplens.export.fp16_check import Meter, check, check_ranges, rounded
from deeplens.export.fp16_report import command as report
from deeplens.runtimes import manifest

SHAPE = (1, 2, 8, 8)


def graph(nodes: Sequence[onnx.NodeProto], weights: dict[str, np.ndarray], *, outputs: int = 2) -> onnx.ModelProto:
    """x (1, 2, 8, 8) → y (1, `outputs`, 8, 8)."""
    shape = [*SHAPE[:1], outputs, *SHAPE[2:]]
    made = helper.make_graph(
        list(nodes), "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def scaled(factor: float, offset: float) -> onnx.ModelProto:
    """y = x · factor + offset, with the product as a tensor of its own."""
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["product"]),
        helper.make_node("Add", ["product", "offset"], ["y"]),
    ]
    return graph(nodes, {"factor": np.array([factor], np.float32), "offset": np.array([offset], np.float32)})


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": x})
    return result


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, SHAPE).astype(np.float32)


def types(model: onnx.ModelProto) -> dict[str, str]:
    """Tensor → its type, as ONNX infers it."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    found = {each.name: each.type.tensor_type.elem_type for each in values}
    found |= {each.name: each.data_type for each in inferred.initializer}
    return {name: TensorProto.DataType.Name(kind) for name, kind in found.items()}


def test_every_tensor_has_its_type_and_every_change_a_cast() -> None:
    half = fp16.convert(scaled(2.5, 1.0))
    assert [node.op_type for node in half.graph.node] == ["Cast", "Mul", "Add", "Cast"]
    found = types(half)
    assert found["x"] == found["y"] == "FLOAT"
    assert {kind for name, kind in found.items() if name not in ("x", "y")} == {"FLOAT16"}


def test_with_its_rounding_it_is_numpys_half_precision(x: np.ndarray) -> None:
    half = fp16.convert(scaled(2.5, 1.3))
    expected = x.astype(np.float16) * np.float16(2.5) + np.float16(1.3)
    found = run(rounded(half), x)
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    assert np.abs(found - (x * np.float32(2.5) + np.float32(1.3))).max() > 1e-4


def test_without_it_onnx_runtime_hides_an_overflow(x: np.ndarray) -> None:
    """Why `rounded` is there: the product leaves the range of FP16 and comes back."""
    half = fp16.convert(scaled(60000.0, 0.5))
    assert np.isfinite(run(half, 2 + x)).all()
    assert np.isinf(run(rounded(half), 2 + x)).all()


def test_a_resize_keeps_its_scales_and_clips_get_half_bounds(x: np.ndarray) -> None:
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["clipped"]),
        helper.make_node("Resize", ["clipped", "", "scales"], ["large"], mode="linear"),
        helper.make_node("AveragePool", ["large"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    weights = {
        "low": np.array(0.25, np.float32),
        "high": np.array(0.75, np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    half = fp16.convert(graph(nodes, weights))
    found = types(half)
    assert found["scales"] == "FLOAT"
    assert found["low_fp16"] == found["high_fp16"] == found["large"] == "FLOAT16"
    assert "low" not in {each.name for each in half.graph.initializer}
    assert np.abs(run(rounded(half), x) - run(graph(nodes, weights), x)).max() < 1e-3


def differences() -> onnx.ModelProto:
    """Two convolutions with a clip between them; the second takes the difference of its two large channels."""
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["large"]),
        helper.make_node("Clip", ["large", "low", "high"], ["clipped"]),
        helper.make_node("Conv", ["clipped", "net.stages.0.0.body.0.weight"], ["small"]),
        helper.make_node("Relu", ["small"], ["y"]),
    ]
    weights = {
        "first": np.array([[3.0, 0.1], [3.0, 0.0]], np.float16).astype(np.float32)[..., None, None],
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
        "net.stages.0.0.body.0.weight": np.array([[28.0, -28.0]], np.float32)[..., None, None],
    }
    return graph(nodes, weights, outputs=1)


def test_differences_of_large_activations_stay_in_fp32(x: np.ndarray) -> None:
    """28 · ((3 a + 0.1 b) − 3 a): the sums before it, rounded to FP16, are off by up to 0.001, the result by 0.03."""
    model = differences()
    assert fp16.sensitive(model) == {"large", "clipped", "small"}
    half = fp16.convert(model)
    assert {name: types(half)[name] for name in ("large", "clipped", "small")} == dict.fromkeys(
        ("large", "clipped", "small"), "FLOAT"
    )
    renamed = differences()
    renamed.graph.node[2].input[1] = renamed.graph.initializer[3].name = "other"
    assert fp16.sensitive(renamed) == set()
    exact, x = run(model, x.astype(np.float16).astype(np.float32)), x.astype(np.float16).astype(np.float32)
    assert np.abs(run(rounded(half), x) - exact).max() < 2e-3
    assert np.abs(run(rounded(fp16.convert(renamed)), x) - exact).max() > 1e-2


def test_edge_depth_has_such_a_layer_and_its_filters_stay_in_fp32() -> None:
    """What the network gives to its filters, and all that they make, but nothing before it."""
    pytest.importorskip("torch")
    from deeplens.export.onnx_graph import traced_module
    from deeplens.model.build import build
    from deeplens.model.contract import CONTRACTS, DEPTH_SIZE

    network = build("edge", "depth")
    assert fp16.DIFFERENCES in network.state_dict()
    model = traced_module(network, CONTRACTS["depth"], (DEPTH_SIZE, DEPTH_SIZE))
    kept = fp16.of_filters(model)
    made = [name for node in model.graph.node for name in node.output]
    assert kept == set(made[len(made) - len(kept) :])
    assert model.graph.output[0].name in kept
    first = next(node for node in model.graph.node if node.output[0] in kept)
    assert first.op_type == "Add"
    assert {node.op_type for node in model.graph.node if node.output[0] not in kept}.isdisjoint({"MaxPool", "Div"})
    assert fp16.of_filters(scaled(1.0, 0.0)) == set()


def test_a_tensor_that_is_kept_in_fp32(x: np.ndarray) -> None:
    model = scaled(60000.0, 0.5)
    half = fp16.convert(model, keep=["product"])
    assert [node.op_type for node in half.graph.node] == ["Mul", "Cast", "Add", "Cast"]
    assert types(half)["product"] == "FLOAT"
    assert np.abs(run(rounded(half), x) - run(model, x)).max() <= 16  # one rounding of 60000, no overflow before it


def test_an_output_that_is_read_again_is_cast_once(x: np.ndarray) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Exp", ["y"], ["unused"])]
    half = fp16.convert(graph(nodes, {}))
    assert [node.op_type for node in half.graph.node] == ["Cast", "Relu", "Cast", "Exp"]
    np.testing.assert_array_equal(run(rounded(half), x), x.astype(np.float16).astype(np.float32))


def test_half_inputs_and_outputs() -> None:
    half = fp16.convert(scaled(2.5, 1.0), fp16_io=True)
    assert [node.op_type for node in half.graph.node] == ["Mul", "Add"]
    assert set(types(half).values()) == {"FLOAT16"}


def test_a_weight_beyond_the_range_is_named() -> None:
    with pytest.raises(MismatchError, match=r"the weight factor reaches 7e\+04, but FP16 ends at 65504"):
        fp16.convert(scaled(70000.0, 0.0))


def test_ranges_by_hand() -> None:
    meter = Meter(scaled(2.0, 0.0))
    x = np.zeros(SHAPE, np.float32)
    x.flat[:4] = -100.0, 2.0**-16, 2.0**-28, 1.0
    meter.run({"x": x})
    meter.run({"x": np.zeros(SHAPE, np.float32)})
    product, y = meter.ranges
    assert (product.tensor, product.operation, y.tensor) == ("product", "Mul", "y")
    assert product.largest == 200.0
    assert product.subnormal == pytest.approx(2 / 256)
    assert product.zeroed == pytest.approx(1 / 256)


def test_the_tensor_that_left_the_range_is_named() -> None:
    meter = Meter(scaled(60000.0, 0.5))
    meter.run({"x": np.full(SHAPE, 2.0, np.float32)})
    with pytest.raises(
        MismatchError, match=r"depth: the tensor product \(Mul\) reaches 1.2e\+05, but FP16 ends at 65504"
    ):
        check_ranges(meter.ranges, what="depth")
    check_ranges([each for each in meter.ranges if each.tensor != "y"], what="depth", kept=["product"])
    meter.run({"x": np.full(SHAPE, np.nan, np.float32)})
    with pytest.raises(MismatchError, match="reaches nan"):
        check_ranges(meter.ranges, what="depth")


def fp32_entry(artifacts: Path, network: str) -> manifest.Entry:
    return manifest.find(artifacts, network=network, variant="edge", runtime="onnx")


def copied(artifacts: Path, folder: Path, network: str, model: onnx.ModelProto | None = None) -> manifest.Entry:
    """The FP32 artefact in a folder of its own, or `model` in its place."""
    entry = fp32_entry(artifacts, network)
    path = folder / entry.path
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx.load(artifacts / entry.path) if model is None else model, path)
    entry = replace(entry, sha256=file_sha256(path))
    manifest.add(folder, entry)
    return entry


def test_the_artefact_beside_the_fp32_one(artifacts: Path, tmp_path: Path) -> None:
    folder = tmp_path
    entry = copied(artifacts, folder, "lens_blur")
    made = fp16.export(entry, out=folder)
    assert (made.precision, made.runtime, made.path) == ("fp16", "onnx", "onnx/edge_lens_blur_fp16.onnx")
    assert made.more["made_from"] == entry.sha256
    assert made.more["fp16_check"]["largest"] == 1.0
    assert 0 < made.more["fp16_check"]["error_of_spread"] < 1e-3
    assert [each.dtype for each in (*made.inputs, *made.outputs)] == ["float32"] * 3
    found = manifest.find(folder, network="lens_blur", variant="edge", runtime="onnx", precision="fp16")
    assert manifest.verify(folder, found) == folder / made.path
    before = (folder / made.path).stat().st_mtime_ns
    assert fp16.export(entry, out=folder) == found
    assert (folder / made.path).stat().st_mtime_ns == before
    onnx.save(onnx.load(folder / entry.path), folder / made.path)  # damaged
    with pytest.raises(MismatchError, match="SHA-256"):
        fp16.export(entry, out=folder)


@pytest.mark.parametrize("sensitive", [True, False])
def test_the_depth_artefact_keeps_what_harms_it_in_fp32(artifacts: Path, tmp_path: Path, *, sensitive: bool) -> None:
    """Only a graph with the first layer of `edge` depth is known to end with filters."""
    model = onnx.load(artifacts / fp32_entry(artifacts, "depth").path)
    name = fp16.DIFFERENCES if sensitive else "weight"
    source, target = model.graph.input[0].name, model.graph.output[0].name
    for each, weight in (("mix", np.full((2, 3, 1, 1), 0.25)), (name, np.full((1, 2, 1, 1), 0.5))):
        model.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), each))
    del model.graph.node[:]
    model.graph.node.extend([
        helper.make_node("Conv", [source, "mix"], ["mixed"]),
        helper.make_node("Conv", ["mixed", name], ["grey"]),
        helper.make_node("Relu", ["grey"], ["body"]),
        helper.make_node("Add", ["body", "body"], ["map"]),
        helper.make_node("MaxPool", ["map"], ["near"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["near", "map"], [target]),
    ])  # fmt: skip
    made = fp16.export(copied(artifacts, tmp_path, "depth", model), out=tmp_path)
    expected = sorted(["mixed", "grey", "map", "near", target]) if sensitive else None
    assert made.more.get("kept") == expected
    found = types(onnx.load(tmp_path / made.path))
    assert found["body"] == "FLOAT16"
    assert found["map"] == ("FLOAT" if sensitive else "FLOAT16")


def test_a_graph_that_fp16_cant_hold_leaves_nothing_behind(artifacts: Path, tmp_path: Path) -> None:
    model = onnx.load(artifacts / fp32_entry(artifacts, "lens_blur").path)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array(60000.0, np.float32), "one"))
    large = helper.make_node("Mul", ["share", "one"], ["share_large"])
    model.graph.node[2].input[1] = "share_large"
    model.graph.node.insert(2, large)
    folder = tmp_path
    entry = copied(artifacts, folder, "lens_blur", model)
    with pytest.raises(
        MismatchError, match=r"lens_blur: the tensor share_large \(Mul\) reaches .*scale it down in the"
    ):
        fp16.export(entry, out=folder)
    assert sorted(path.name for path in (folder / "onnx").iterdir()) == ["edge_lens_blur.onnx"]
    assert len(manifest.read(folder)) == 1


def test_another_graph_fails_the_check(artifacts: Path) -> None:
    """The control: an FP16 graph of something else."""
    model = onnx.load(artifacts / fp32_entry(artifacts, "lens_blur").path)
    half = fp16.convert(model)
    check(model, half, network="lens_blur")
    for weight in half.graph.initializer:
        weight.CopyFrom(numpy_helper.from_array((1.02 * numpy_helper.to_array(weight)).astype(np.float16), weight.name))
    with pytest.raises(MismatchError, match=r"lens_blur: rounding to FP16 changes the output by .* of its spread"):
        check(model, half, network="lens_blur")


def test_a_network_that_is_kept_whole_is_the_fp32_one(x: np.ndarray) -> None:
    model = scaled(1 / 3, 1e-4)
    kept = fp16.convert(model, keep=["product", "y"])
    assert {each.op_type for each in kept.graph.node} == {"Mul", "Add"}
    assert np.array_equal(run(rounded(kept), x), run(model, x))
    half = fp16.convert(model)
    assert np.abs(run(rounded(half), x) - run(model, x)).max() > 1e-5, "the control: FP16 differs"


def test_the_report_on_photos(artifacts: Path, photo: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report([photo], artifacts=artifacts, json=folder / "ranges.json")
    out = capsys.readouterr().out
    assert "edge lens_blur: 3 tensors, 1 photos" in " ".join(out.split())
    assert '"share"' in (folder / "ranges.json").read_text()
    with pytest.raises(InputError):
        report([folder / "ranges.json"], artifacts=artifacts)
    with pytest.raises(MissingError):
        report([photo], artifacts=folder)
