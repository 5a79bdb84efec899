"""The graphs of the web page: in fewer bytes the same numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

from deeplens.console.errors import MissingError
from deeplens.console.files import file_sha256
from deeplens.export.web_graphs import LARGE, compact, make
from deeplens.model.contract import NETWORKS
from deeplens.runtimes.harness_file import described
from tests.support.small_graphs import add_graphs

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


def graph_of(weights: np.ndarray) -> bytes:
    """y = x · weights."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", kind, [1, weights.shape[0]])],
        [helper.make_tensor_value_info("y", kind, [1, weights.shape[1]])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def ran(graph: bytes, x: np.ndarray) -> np.ndarray:
    return np.asarray(ort.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0])


def test_weights_that_fp16_holds_take_half_the_bytes_and_compute_the_same() -> None:
    generator = np.random.default_rng(1)
    weights = generator.standard_normal((64, 64)).astype(np.float16).astype(np.float32)
    x = generator.standard_normal((1, 64)).astype(np.float32)
    whole = graph_of(weights)
    small = compact(whole)
    assert len(small) < 0.6 * len(whole)
    np.testing.assert_array_equal(ran(small, x), ran(whole, x))


@pytest.mark.parametrize("value", [1 / 3, 1e6, np.nan], ids=["rounded", "too large", "no number"])
def test_others_stay_as_they_are(value: float) -> None:
    weights = np.ones((LARGE, 2), np.float32)
    weights[3, 1] = value
    whole = graph_of(weights)
    assert onnx.load_from_string(compact(whole)) == onnx.load_from_string(whole)


def test_small_weights_stay_as_they_are() -> None:
    whole = graph_of(np.ones((2, 2), np.float32))
    assert onnx.load_from_string(compact(whole)) == onnx.load_from_string(whole)


def test_models_are_listed_with_their_hash(tmp_path: Path) -> None:
    (tmp_path / "artifacts" / "onnx").mkdir(parents=True)
    add_graphs(tmp_path / "artifacts", networks=NETWORKS)
    out = tmp_path / "page" / "models"
    out.mkdir(parents=True)
    (out / "old.onnx").write_bytes(b"of another build")
    make(out, artifacts=tmp_path / "artifacts")
    about = json.loads((out / "models.json").read_text(encoding="utf-8"))
    assert set(about["networks"]) == set(NETWORKS)
    files = [*about["networks"].values(), about["harness"]]
    assert {each["file"] for each in files} | {"models.json"} == {path.name for path in out.iterdir()}
    for each in files:
        assert each["bytes"] == (out / each["file"]).stat().st_size
        assert each["sha256"] == file_sha256(out / each["file"])
    assert json.loads((out / "harness.json").read_text(encoding="utf-8")) == json.loads(json.dumps(described()))
    assert "webgpu" not in about


@pytest.mark.parametrize("network", ["lens_blur", "depth"])
def test_the_lens_blur_in_int8_is_carried_where_it_is(tmp_path: Path, network: str) -> None:
    artifacts, out = tmp_path / "artifacts", tmp_path / "models"
    (artifacts / "onnx").mkdir(parents=True)
    add_graphs(artifacts, networks=NETWORKS)
    add_graphs(artifacts, networks=[network], precision="int8")
    about = make(out, artifacts=artifacts)
    assert ("draft" in about) == (network == "lens_blur")
    if network == "lens_blur":
        path = out / about["draft"]["file"]
        assert path.name == "edge_lens_blur_int8.onnx"
        assert about["draft"]["sha256"] == file_sha256(path)


def test_int8_of_other_weights_is_left_out(tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    (artifacts / "onnx").mkdir(parents=True)
    add_graphs(artifacts, networks=NETWORKS)
    add_graphs(artifacts, networks=["lens_blur"], precision="int8")
    path = artifacts / "manifest.json"
    listed = json.loads(path.read_text(encoding="utf-8"))
    for each in listed["artifacts"]:
        if each["precision"] == "int8":
            each["weights_sha256"] = "1" * 64
    path.write_text(json.dumps(listed), encoding="utf-8")
    assert "draft" not in make(tmp_path / "models", artifacts=artifacts)


def test_without_artefacts_nothing_changes(tmp_path: Path) -> None:
    out = tmp_path / "models"
    out.mkdir()
    (out / "models.json").write_text("before")
    with pytest.raises(MissingError, match="deeplens export onnx"):
        make(out, artifacts=tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    assert (out / "models.json").read_text() == "before"
