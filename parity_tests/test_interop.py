"""The ONNX graphs under OpenVINO, the evaluator of the ONNX project, and NVIDIA's Polygraphy."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from onnx.reference import ReferenceEvaluator

from deeplens.console.errors import MissingError
from deeplens.export.onnx_graph import export_module, traced_module
from deeplens.model.contract import CONTRACTS
from deeplens.parity_tests.cases import NetworkCase, plausible_inputs
from deeplens.parity_tests.compare import compare
from deeplens.parity_tests.interop import grouped_transposes
from deeplens.parity_tests.lively import lively
from deeplens.parity_tests.polygraphy_files import write
from deeplens.parity_tests.produce import TorchKind, artefact_opener, produce, torch_opener
from deeplens.parity_tests.release import make

pytestmark = pytest.mark.slow

SIZE = (32, 40)


def needs(library: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        importlib.util.find_spec(library) is None, reason=f"{library} is missing: pip install 'deeplens-edge[interop]'"
    )


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artefacts of the step, in the forms for ONNX Runtime and for OpenVINO."""
    folder = tmp_path_factory.mktemp("artifacts")
    module = lively("edge", "upsample")
    graph = traced_module(module, CONTRACTS["upsample"], None)
    for form in ("cpu", "openvino"):
        export_module(module, variant="edge", network="upsample", out=folder, form=form, graph=graph)
    return folder


@pytest.mark.parametrize("name", [pytest.param("openvino", marks=needs("openvino")), "onnx-reference"])
def test_the_graph_means_the_same_to_others(name: str, step: Path, lively_weights: Path) -> None:
    inputs = plausible_inputs(CONTRACTS["upsample"], SIZE, np.random.default_rng(0))
    case = NetworkCase("upsample", "random", "dynamic", SIZE, inputs)
    kinds: tuple[TorchKind, ...] = ("float32", "float64")
    reference, judge = (
        produce(torch_opener("edge", weights=lively_weights, fixed_size=SIZE, dtype=kind), [case]) for kind in kinds
    )
    found = produce(artefact_opener(name, "edge", artifacts=step, fixed_size=SIZE), [case])
    (row,) = compare("edge", name, [case], candidate=found, reference=reference, judge=judge)
    assert row.status == "passed", row
    assert row.measured is not None
    assert row.measured.max_abs > 0  # other kernels
    found.arrays[case.name] = found.arrays[case.name] * np.float32(1.0001)
    (row,) = compare("edge", name, [case], candidate=found, reference=reference, judge=judge)
    assert row.status == "failed"


def test_what_is_missing_is_named(step: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "polygraphy.comparator", None)
    with pytest.raises(MissingError, match=r"deeplens-edge\[openvino\]"):
        artefact_opener("openvino", "edge", artifacts=step, fixed_size=SIZE)("dynamic")
    with pytest.raises(MissingError, match=r"deeplens-edge\[interop\]"):
        write(tmp_path / "none.json", tmp_path)


@needs("polygraphy")
def test_polygraphy_runs_and_compares_from_golden_inputs(step: Path, lively_weights: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"  # of the step alone
    weights.mkdir()
    (weights / "edge_upsample.safetensors").symlink_to(lively_weights / "edge_upsample.safetensors")
    make(tmp_path, variants=["edge"], weights=weights, report=lambda _: None)
    inputs, outputs = write(tmp_path / "edge_upsample_64x64.json", tmp_path / "polygraphy")

    def run(graph: Path, tolerance: str) -> "subprocess.CompletedProcess[str]":
        tool = Path(sys.executable).with_name("polygraphy")
        files = ["--load-inputs", str(inputs), "--load-outputs", str(outputs)]
        command = [str(tool), "run", str(graph), "--onnxrt", *files, "--atol", tolerance, "--rtol", "0"]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)

    done = run(step / "onnx" / "edge_upsample.onnx", "1e-5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
    assert run(step / "onnx" / "edge_upsample.onnx", "1e-12").returncode != 0


@pytest.mark.parametrize("groups", [1, 3])
def test_the_evaluator_s_transposed_convolutions_have_groups(groups: int) -> None:
    """Against PyTorch; the pixel shuffle of our graphs is such a convolution."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 2 * groups, 5, 4)).astype(np.float32)
    weights = rng.normal(size=(2 * groups, 3, 2, 2)).astype(np.float32)
    bias = rng.normal(size=3 * groups).astype(np.float32)
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], strides=[2, 2], group=groups)
    graph = helper.make_graph(
        [node],
        "transposed",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(bias, "b")],
    )
    evaluator = ReferenceEvaluator(helper.make_model(graph), new_ops=[grouped_transposes()])
    (found,) = evaluator.run(None, {"x": x})
    expected = F.conv_transpose2d(
        torch.from_numpy(x), torch.from_numpy(weights), torch.from_numpy(bias), stride=2, groups=groups
    )
    np.testing.assert_allclose(np.asarray(found), expected.numpy(), atol=1e-5)
