"""What photos do to a depth network of others: tensors that FP16 can't hold stay in FP32, and the plan is followed."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from deeplens.console.errors import InputError, MismatchError
from deeplens.export import depth_plan
from deeplens.runtimes import depth_store, manifest
from tests.conftest import Command
from tests.support.tiny import textured


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(depth_store.ENVIRONMENT, str(tmp_path / "store"))


def overflowing(path: Path) -> Path:
    """A graph whose tensor `loud` reaches 1e5 and more on a photo, and whose output FP16 holds."""
    nodes = [helper.make_node("Conv", ["x", "weight"], ["loud"]), helper.make_node("Sqrt", ["loud"], ["y"])]
    constants = {"weight": np.full((1, 3, 1, 1), 6e4, np.float32)}
    graph = helper.make_graph(
        nodes,
        "loud",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 48])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 32, 48])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.slow
def test_what_overflows_stays_in_fp32(deeplens: Command, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for seed in range(2):
        Image.fromarray(textured(64, 96, seed=seed)).save(tmp_path / "photos" / f"{seed}.png")
    told = ("--output", "disparity", "--size", "48x32", "--aspect", "stretch")
    assert deeplens("depth", "add", "loud", "--from", overflowing(tmp_path / "m.onnx"), *told).status == 0
    out, plan = tmp_path / "out", tmp_path / "plan.json"
    result = deeplens(
        "calibrate", "--depth-network", "loud", "--photos", tmp_path / "photos", "--out", out, "--plan", plan
    )
    assert result.status == 0, result.err
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
