import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.models.compute_device import (
    MLCPUComputeDevice,
    MLGPUComputeDevice,
    MLNeuralEngineComputeDevice,
)
from torch import nn

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.export import placement
from deeplens.export.coreml_package import save
from deeplens.export.coreml_recipe import Recipe
from deeplens.export.placement import lint_package
from deeplens.export.placement_rules import VERDICTS
from deeplens.model import build
from deeplens.model.contract import CONTRACTS
from tests.conftest import Command
from tests.export.test_placement_rules import names

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Network → its package, made when asked for."""
    folder, made = tmp_path_factory.mktemp("edge"), {}

    def package(network: str) -> Path:
        if network not in made:
            contract = CONTRACTS[network]
            made[network] = folder / f"{network}.mlpackage"
            recipe = Recipe(sizes=(contract.fixed_size or (40, 48),))
            save(build.load("edge", network), contract, recipe, made[network], notes={})
        return made[network]

    return package


@pytest.mark.parametrize("network", CONTRACTS)
def test_no_operation_of_edge_is_flagged_off_the_engine(edge: Callable[[str], Path], network: str) -> None:
    placed = lint_package(edge(network))
    assert [each.operation for each in placed if each.verdict == "not"] == []
    kinds = {each.operation.kind for each in placed}
    assert "conv" in kinds
    assert not {kind for kind in kinds if kind == "const" or kind.startswith("constexpr_")}


class Small(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) + 1


def small(path: Path, shape: Any, *, single: bool = False) -> Path:
    traced = torch.jit.trace(Small(), torch.zeros(1, 3, 32, 32))
    precision, dtype = (ct.precision.FLOAT32, np.float32) if single else (ct.precision.FLOAT16, np.float16)
    ct.convert(
        traced, inputs=[ct.TensorType(name="x", shape=shape, dtype=dtype)], outputs=[ct.TensorType(dtype=dtype)],
        compute_precision=precision, minimum_deployment_target=ct.target.iOS18, skip_model_load=True,
    ).save(str(path))  # fmt: skip
    return path


def test_every_operation_in_float32_is_flagged(tmp_path: Path) -> None:
    placed = lint_package(small(tmp_path / "single.mlpackage", (1, 3, 32, 32), single=True))
    assert placement.counts(placed) == {"engine": 0, "uncertain": 0, "not": 2}
    assert all("type" in names(each) for each in placed)


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((1, 3, 32, 32), None),
        (ct.EnumeratedShapes([(1, 3, 32, 32), (1, 3, 64, 64)]), "several shapes"),
        (ct.Shape((1, 3, 32, ct.RangeDim(32, 64, default=32))), "free size"),
    ],
)
def test_sizes_that_are_fixed_listed_and_free(tmp_path: Path, shape: Any, name: str | None) -> None:
    placed = lint_package(small(tmp_path / "sizes.mlpackage", shape))
    assert {each.operation.kind for each in placed} == {"relu", "add"}
    for each in placed:
        assert names(each) & {"several shapes", "free size"} == ({name} if name else set())


def test_all_functions_of_a_package(tmp_path: Path) -> None:
    descriptor = ct.utils.MultiFunctionDescriptor()
    for side in (32, 64):
        descriptor.add_function(str(small(tmp_path / f"{side}.mlpackage", (1, 3, side, side))), "main", f"side_{side}")
    descriptor.default_function_name = "side_64"
    ct.utils.save_multifunction(descriptor, str(tmp_path / "both.mlpackage"))
    placed = lint_package(tmp_path / "both.mlpackage")
    assert [(each.function, each.operation.shapes[0][-1]) for each in placed] == [
        ("side_64", 64), ("side_64", 64), ("side_32", 32), ("side_32", 32)
    ]  # fmt: skip


def test_an_unknown_chip(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown chip 'M1': choose one of A14"):
        lint_package(small(tmp_path / "small.mlpackage", (1, 3, 32, 32)), chip="M1")


class Plan:
    """Stands in for coremltools' MLComputePlan, which macOS alone makes."""

    def __init__(self, **by_output: type | None) -> None:
        self.by_output = by_output
        operations = [SimpleNamespace(outputs=[SimpleNamespace(name=name)]) for name in by_output]
        block = SimpleNamespace(operations=[*operations, SimpleNamespace(outputs=[])])
        program = SimpleNamespace(functions={"main": SimpleNamespace(block=block)})
        self.model_structure = SimpleNamespace(program=program)

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        device = self.by_output[operation.outputs[0].name] if operation.outputs else None
        if device is None:
            return None
        supported = [object.__new__(each) for each in (MLCPUComputeDevice, MLNeuralEngineComputeDevice)]
        return SimpleNamespace(preferred_compute_device=object.__new__(device), supported_compute_devices=supported)


def test_the_plan_gives_the_preferred_device_not_the_supported_ones() -> None:
    plan = Plan(a=MLNeuralEngineComputeDevice, b=MLGPUComputeDevice, c=MLCPUComputeDevice, constant=None)
    expected = {("main", "a"): "neural engine", ("main", "b"): "gpu", ("main", "c"): "cpu"}
    assert placement.devices(plan) == expected
    plan.model_structure.program = None
    with pytest.raises(MismatchError, match="has no ML program"):
        placement.devices(plan)


def test_core_ml_s_choice_needs_macos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(MissingError, match="needs macOS"):
        placement.chosen_devices(tmp_path / "any.mlpackage")
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InputError, match="unknown compute units 'npu': choose one of all"):
        placement.chosen_devices(tmp_path / "any.mlpackage", units="npu")


def test_the_command(
    deeplens: Command, edge: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, answer = edge("upsample"), tmp_path / "lint.json"
    assert deeplens("lint", path, "--core-ml").error.endswith("leave out --core-ml to judge by the rules alone")

    asked: list[str] = []

    def chosen(_package: Path, *, units: str) -> dict[tuple[str, str], placement.Device]:
        asked.append(units)
        return {("main", each.operation.name): "cpu" for each in lint_package(path)[:2]}

    monkeypatch.setattr(placement, "chosen_devices", chosen)
    result = deeplens("lint", path, "--core-ml", "--compute-units", "cpu-and-ne", "--json", answer)
    assert result.status == 0
    assert asked == ["cpu-and-ne"]
    assert "Advice by rules" in result.out
    assert "Core ML prefers here: 2 cpu" in result.out
    (report,) = json.loads(answer.read_text())["packages"]
    assert report["path"] == str(path)
    operations = report["operations"]
    assert sum(report["counts"].values()) == len(operations)
    assert [each["chosen"] for each in operations[:3]] == ["cpu", "cpu", None]
    for each in operations:
        worst = max([finding["verdict"] for finding in each["findings"]], key=VERDICTS.index, default="engine")
        assert each["verdict"] == worst
        assert all(finding["sources"] for finding in each["findings"])


def test_no_package(deeplens: Command, tmp_path: Path) -> None:
    assert deeplens("lint", tmp_path / "none.mlpackage").status == MissingError.exit_code
    assert deeplens("lint").status == 2
