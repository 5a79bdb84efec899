"""What photos do to a depth network of others: what FP16 can't hold stays in FP32, what INT8 can hold may be INT8."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from deeplens.console.errors import InputError, MismatchError
from deeplens.export import depth_plan
from deeplens.runtimes import depth_store, manifest
from tests.conftest import Command, Outcome
from tests.support.device import needs_torch
from tests.support.tiny import textured


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(depth_store.ENVIRONMENT, str(tmp_path / "store"))


def saved(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], path: Path) -> Path:
    """x (1, 3, 32, 48) through the nodes to y (1, 1, 32, 48)."""
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 48])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 32, 48])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def calibrated(deeplens: Command, name: str, file: Path, *, photos: int) -> tuple[Outcome, Path, Path]:
    """What `calibrate` says of a user's network on photos, the folder of artefacts, and the plan."""
    folder = file.parent
    (folder / "photos").mkdir()
    for seed in range(photos):
        Image.fromarray(textured(64, 96, seed=seed)).save(folder / "photos" / f"{seed}.png")
    told = ("--output", "disparity", "--size", "48x32", "--aspect", "stretch")
    assert deeplens("depth", "add", name, "--from", file, *told).status == 0
    out, plan = folder / "out", folder / "plan.json"
    result = deeplens("calibrate", "--depth-network", name, "--photos", folder / "photos", "--out", out, "--plan", plan)
    assert result.status == 0, result.err
    return result, out, plan


def overflowing(path: Path) -> Path:
    """A graph whose tensor `loud` reaches 1e5 and more on a photo, and whose output FP16 holds."""
    nodes = [helper.make_node("Conv", ["x", "weight"], ["loud"]), helper.make_node("Sqrt", ["loud"], ["y"])]
    constants = {"weight": np.full((1, 3, 1, 1), 6e4, np.float32)}
    return saved(nodes, constants, path)


@needs_torch
@pytest.mark.slow
def test_what_overflows_stays_in_fp32(deeplens: Command, tmp_path: Path) -> None:
    result, out, plan = calibrated(deeplens, "loud", overflowing(tmp_path / "m.onnx"), photos=2)
    assert "FP16 with nothing kept: overflows" in result.out
    found = depth_plan.read(plan)
    assert found.network == "loud"
    assert len(found.kept) == 2  # what is loud, and what reads it
    assert found.agreement_db > 50
    export = ("export", "onnx", "--depth-network", "loud", "--out", out, "--precision", "fp16")
    assert "FP16 ends at" in deeplens(*export).error
    assert deeplens(*export, "--plan", plan).status == 0
    entry = manifest.find(out, network="depth", variant="loud", runtime="onnx", precision="fp16")
    assert entry.more["kept"] == sorted(found.kept)


def convolved(path: Path) -> Path:
    """A convolution, and a product of matrices whose few large values take the scale from all others."""
    numbers = np.random.default_rng(0)
    kernel = numbers.normal(size=(8, 3, 3, 3)).astype(np.float32)
    mixing = np.diag(np.array([1.0, 3e3] * 4)).astype(np.float32)
    last = (numbers.normal(size=(1, 8, 1, 1)) / np.array([1.0, 3e3] * 4)[:, None, None]).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["features"], name="conv", pads=[1] * 4),
        helper.make_node("Transpose", ["features"], ["rows"], name="turn", perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["rows", "mixing"], ["mixed"], name="product"),
        helper.make_node("Transpose", ["mixed"], ["planes"], name="back", perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "last"], ["scaled"], name="scale"),
        helper.make_node("ReduceSum", ["scaled", "axes"], ["y"], name="sum", keepdims=1),
    ]
    constants = {"kernel": kernel, "mixing": mixing, "last": last, "axes": np.array([1])}
    return saved(nodes, constants, path)


@needs_torch
@pytest.mark.slow
def test_int8_takes_what_is_good_enough(deeplens: Command, tmp_path: Path) -> None:
    """The product is too coarse in INT8, the convolution is not: the graph has the latter on integers alone."""
    result, out, plan = calibrated(deeplens, "mine", convolved(tmp_path / "m.onnx"), photos=4)
    assert f"--precision int8 --plan {plan}" in result.out
    found = depth_plan.read(plan)
    good = {each.operations: each.good for each in found.int8}
    assert good == {("Conv", "MatMul"): False, ("MatMul",): False, ("Conv",): True}
    export = ("export", "onnx", "--depth-network", "mine", "--out", out, "--precision", "int8")
    assert "run `deeplens calibrate --depth-network mine`" in deeplens(*export).error
    assert deeplens(*export, "--plan", plan).status == 0
    entry = manifest.find(out, network="depth", variant="mine", runtime="onnx", precision="int8")
    model = onnx.load(out / entry.path)
    exact = onnx.load(out / manifest.find(out, network="depth", variant="mine", runtime="onnx").path)
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    reads = {node.op_type: {made_by.get(name) for name in node.input} for node in model.graph.node}
    assert reads["Conv"] == {"DequantizeLinear"}
    assert "DequantizeLinear" not in reads["MatMul"]
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    picture = np.random.default_rng(1).random((1, 3, 32, 48), np.float32)
    (due,), (got,) = (
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"picture": picture}
        )
        for each in (exact, model)
    )
    error = np.sqrt(np.square(got - due).mean()) / np.ptp(due)
    assert 1e-5 < error < 1e-2  # rounded to eight bits, and no more
    wrong = replace(found, largest={name: value / 30 for name, value in found.largest.items()})
    wrong.write(plan)
    elsewhere = tmp_path / "elsewhere"
    assert "in INT8 agrees with FP32 by" in deeplens(*export, "--out", elsewhere, "--plan", plan).error
    assert [each.precision for each in manifest.read(elsewhere)] == ["fp32"]
    assert not (elsewhere / entry.path).exists()


def test_a_plan_without_good_int8() -> None:
    tried = (depth_plan.Int8(("Conv", "MatMul"), 31.24), depth_plan.Int8(("MatMul",), None))
    plan = depth_plan.DepthPlan("a", "0" * 64, "1" * 64, 3, (), 55.0, tried)
    with pytest.raises(MismatchError, match=r"Conv, MatMul: 31.2 dB; MatMul: not finite\): use fp16"):
        plan.chosen_int8()
    better = replace(plan, int8=(*tried, depth_plan.Int8(("Conv",), 40.0)))
    assert better.chosen_int8().operations == ("Conv",)


def test_plans_that_can_not_be(tmp_path: Path) -> None:
    plan = depth_plan.DepthPlan("a", "0" * 64, "1" * 64, 3, ("x",), 55.0)
    plan.write(tmp_path / "plan.json")
    assert depth_plan.read(tmp_path / "plan.json") == plan
    assert depth_plan.kept(tmp_path / "plan.json", "a", "0" * 64) == ("x",)
    assert depth_plan.kept(None, "a", "0" * 64) == ()
    with pytest.raises(MismatchError, match="run `deeplens calibrate --depth-network b` again"):
        depth_plan.kept(tmp_path / "plan.json", "b", "0" * 64)
    with pytest.raises(MismatchError):
        depth_plan.kept(tmp_path / "plan.json", "a", "2" * 64)
    for text in ("{}", "[]", '{"format": 1, "kept": []}', "x"):
        (tmp_path / "wrong.json").write_text(text)
        with pytest.raises(InputError, match="no plan of a depth network"):
            depth_plan.read(tmp_path / "wrong.json")
