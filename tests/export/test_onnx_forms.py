"""Each form of a graph gives the numbers of the exporter's own graph, and has nothing that its runtime gets wrong."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from deeplens.console.errors import InputError, MismatchError
from deeplens.export import onnx_forms, onnx_graph, planned
from deeplens.export.onnx_check import TOLERANCE, compare
from deeplens.export.onnx_forms import FORMS, Form, check_form, checked_form, in_form
from deeplens.export.onnx_narrow import narrowed, widest
from deeplens.export.precision_plan import Choice, Plan, for_variant
from deeplens.model import build
from deeplens.model.contract import CONTRACTS
from deeplens.parity_tests.candidates import COMPARED, FORM_ROWS, candidates
from deeplens.parity_tests.cases import NetworkCase, plausible_inputs, random_cases
from deeplens.parity_tests.conftest import SMALL
from deeplens.parity_tests.metrics import psnr
from deeplens.parity_tests.produce import produce, torch_opener
from deeplens.runtimes import RUNTIMES, manifest, open_runtime
from deeplens.runtimes.onnx_form import CPU, artefacts_of, form_of
from deeplens.runtimes.ort import OnnxRuntime
from tests.conftest import Command


def split_and_joined(parts: list[int], axis: int, *, equal: bool) -> onnx.ModelProto:
    """x, split along an axis, the parts joined in reverse to y, and the second of them to z."""
    names = [f"part{index}" for index in range(len(parts))]
    shape: list[int | str] = [1, 3, "h", "w"]
    shape[axis] = sum(parts)
    split = helper.make_node("Split", ["x"] if equal else ["x", "lengths"], names, name="split", axis=axis)
    if equal:
        split.attribute.append(helper.make_attribute("num_outputs", len(parts)))
    made = helper.make_graph(
        [split, helper.make_node("Concat", names[::-1], ["y"], name="join", axis=axis),
         helper.make_node("Identity", [names[-1]], ["z"], name="last")],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "c", "H", "W"]) for name in "yz"],
        [] if equal else [numpy_helper.from_array(np.array(parts, np.int64), "lengths")],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=2, max_size=40), st.integers(2, 9), st.sampled_from([1, 2]), st.booleans())
def test_narrow_operations_give_the_same_tensors(parts: list[int], most: int, axis: int, equal: bool) -> None:
    if equal:
        parts = [parts[0]] * len(parts)
    made = narrowed(split_and_joined(parts, axis, equal=equal), most=most)
    onnx.checker.check_model(made, full_check=True)
    assert max(widest(node) for node in made.graph.node) <= most
    shape = [1, 3, 4, 5]
    shape[axis] = sum(parts)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    y, z = session.run(["y", "z"], {"x": x})
    pieces = np.split(x, np.cumsum(parts)[:-1], axis=axis)
    np.testing.assert_array_equal(y, np.concatenate(pieces[::-1], axis=axis))
    np.testing.assert_array_equal(z, pieces[-1])


def test_what_is_narrow_stays_as_it_is() -> None:
    model = split_and_joined([1, 2, 1], 1, equal=False)
    assert narrowed(model, most=3) == model
    assert narrowed(model, most=2) != model


def test_what_a_form_refuses_is_an_error_and_not_a_wrong_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A form whose pass was forgotten."""
    forgetful = {**FORMS, "webgpu": Form(runs_on="a test", passes=(), refused={"Identity": "it lies"}, widest=8)}
    monkeypatch.setattr(onnx_forms, "FORMS", forgetful)
    with pytest.raises(MismatchError, match=r"refuses .it lies.: add a rule"):
        in_form(split_and_joined([1, 1], 1, equal=False), "webgpu")
    with pytest.raises(MismatchError, match="parts 9 tensors, and the form webgpu allows 8"):
        in_form(split_and_joined([1] * 9, 1, equal=False), "webgpu")
    with pytest.raises(InputError, match="unknown form 'metal': choose cpu or webgpu or openvino"):
        checked_form("metal")


def test_names_in_the_manifest() -> None:
    assert {form_of(artefacts_of(form)) for form in FORMS} == set(FORMS)
    assert (artefacts_of(CPU), artefacts_of("webgpu")) == ("onnx", "onnx-webgpu")
    assert form_of("trt") is None
    command = manifest.export_command(manifest.DEFAULT_FOLDER, variant="edge", runtime="onnx-webgpu", network="depth")
    assert command == "deeplens export onnx --variant edge --form webgpu"


NETWORKS = ("lens_blur", "upsample")
"""Those that a form changes; `deeplens parity` compares depth too."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks with the trained weights in every form, each traced once."""
    folder = tmp_path_factory.mktemp("forms")
    entries = onnx_graph.export_all(
        variants=["edge"], networks=NETWORKS, out=folder, weights="shipped", shapes=[], forms=list(FORMS),
        report=lambda _line: None,
    )  # fmt: skip
    assert [(entry.network, entry.runtime) for entry in entries] == [
        (network, artefacts_of(form)) for network in NETWORKS for form in FORMS
    ]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("form", FORMS)
def test_each_form_computes_what_pytorch_does(exported: Path, form: str, network: str) -> None:
    entry = manifest.find(exported, network=network, variant="edge", runtime=artefacts_of(form))
    path = manifest.verify(exported, entry)
    model = onnx.load(path)
    check_form(model, form)
    about = {each.key: each.value for each in model.metadata_props}
    assert about.get("form", CPU) == form
    assert json.loads(about["contract"])["network"] == network
    module = build.load("edge", network)
    assert compare(path, module, CONTRACTS[network], sizes=[(32, 56), (48, 40)], seed=3) <= TOLERANCE


@pytest.mark.slow
def test_the_form_for_a_cpu_leaves_channels_apart(exported: Path) -> None:
    """What is slow there is gone from the lens blur, and OpenVINO, which is slower without it, still has it."""
    found = {
        form: Counter(node.op_type for node in onnx.load(manifest.verify(exported, entry)).graph.node)
        for form in (CPU, "openvino")
        for entry in [
            manifest.find(exported, network="lens_blur", variant="edge", runtime=artefacts_of(form), shape=None)
        ]
    }
    assert not {"Softmax", "AveragePool", "DepthToSpace", "ReduceSum", "ReduceMax"} & found[CPU].keys()
    assert {"AveragePool", "DepthToSpace"} <= found["openvino"].keys()
    assert found[CPU]["Concat"] < found["openvino"]["Concat"]


@pytest.mark.slow
@pytest.mark.parametrize("row", FORM_ROWS)
def test_each_form_has_rows_of_its_own(exported: Path, row: str) -> None:
    assert row in COMPARED
    (candidate,) = candidates([row], None)
    cases = candidate.chosen(
        [each for each in random_cases(SMALL) if isinstance(each, NetworkCase) and each.network in NETWORKS]
    )
    assert len(cases) >= 2
    opener = candidate.opener("edge", artifacts=exported, weights="shipped", fixed_size=SMALL.fixed_size)
    found = produce(opener, [each for each in cases if each.graph == "dynamic"])
    assert set(found.artifacts) == {f"{row}/edge_{network}.onnx" for network in NETWORKS}
    due = produce(torch_opener("edge", weights="shipped", fixed_size=SMALL.fixed_size), cases)
    for name, array in found.arrays.items():
        assert np.abs(array - due.arrays[name]).max() <= TOLERANCE


@pytest.mark.slow
def test_forms_do_not_stand_in_for_each_other(exported: Path) -> None:
    """Each is refused by the other's check where they differ, and each runtime opens its own."""
    found = {
        form: manifest.find(exported, network="upsample", variant="edge", runtime=artefacts_of(form)) for form in FORMS
    }
    assert len({entry.sha256 for entry in found.values()}) == len(FORMS)
    with pytest.raises(MismatchError, match=r"ConvTranspose|joins or parts"):
        check_form(onnx.load(exported / found[CPU].path), "webgpu")
    for form in FORMS:
        with OnnxRuntime(variant="edge", artifacts=exported, form=form) as runtime:
            assert runtime.open("upsample").entry.path == found[form].path


COARSE = {"lens_blur": ("mix.1",)}
"""Layers whose steps in INT8 are so coarse that a small difference in front of them is a large one behind them."""


def in_openvino(folder: Path, network: str, plan: Plan) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A network's output in each of OpenVINO's precisions, and in ONNX Runtime from the same INT8 file."""
    entry = manifest.find(folder, network=network, variant="edge", runtime=artefacts_of("openvino"))
    planned.export(entry, plan, out=folder, module=build.load("edge", network))
    inputs = plausible_inputs(CONTRACTS[network], (48, 72), np.random.default_rng(0))
    found = {}
    for precision in RUNTIMES["openvino"].precisions:
        with open_runtime("openvino", artifacts=folder, precision=precision, threads=1) as opened:
            found[precision] = opened.open(network).run(inputs)[CONTRACTS[network].outputs[0].name]
    with OnnxRuntime(variant="edge", artifacts=folder, form="openvino", precision="int8", threads=1) as judge:
        return found, judge.open(network).run(inputs)[CONTRACTS[network].outputs[0].name]


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_int8_and_bf16_in_openvino(exported: Path, network: str) -> None:
    """INT8 as ONNX Runtime computes the same file, a few steps apart; BF16 as far from FP32 as its gate allows."""
    pytest.importorskip("openvino")
    shipped = for_variant("edge")
    layers = dict(shipped.layers[network])
    for path in COARSE.get(network, ()):
        layers[path] = Choice("fp16")
    found, due = in_openvino(exported, network, replace(shipped, layers={**shipped.layers, network: layers}))
    assert psnr(found["int8"], due) > 65
    assert 50 < psnr(found["int8"], found["fp32"]) < 80
    assert 50 < psnr(found["bf16"], found["fp32"]) < 80
    assert 50 < psnr(found["mixed"], found["int8"]) < 80


@pytest.mark.slow
@pytest.mark.parametrize("network", COARSE)
def test_coarse_layers_lose_no_more_in_openvino(exported: Path, network: str) -> None:
    """By the shipped plan INT8 is as near FP32 in OpenVINO as it is in ONNX Runtime."""
    pytest.importorskip("openvino")
    found, due = in_openvino(exported, network, for_variant("edge"))
    lost = psnr(due, found["fp32"])
    assert psnr(found["int8"], due) > lost
    assert lost - 1 < psnr(found["int8"], found["fp32"]) < lost + 1
    assert 50 < psnr(found["mixed"], found["int8"]) < 80


def test_what_has_one_form_only(deeplens: Command, tmp_path: Path) -> None:
    arguments = ("export", "onnx", "--out", tmp_path, "--form")
    assert "unknown form 'metal': choose cpu or webgpu or openvino" in deeplens(*arguments, "metal").error
    assert (
        "--precision fp16 is written in the form cpu only"
        in deeplens(*arguments, "webgpu", "--precision", "fp16").error
    )
    told = deeplens(*arguments, "webgpu", "--precision", "int8").error
    assert "--precision int8 is written in the form cpu or openvino only: leave out --form webgpu" in told
    assert "--whole is written in the form cpu only" in deeplens(*arguments, "webgpu", "--whole", "64x64").error
    assert not any(tmp_path.iterdir())
