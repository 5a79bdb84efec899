"""`deeplens device`, as far as it goes without Core ML: coremltools' own classes, a stand-in where Core ML would be.

The stand-in runs packages by the executor. What is real: the manifest, the golden vectors, the making of coremltools'
wrappers of local and remote models, its search for devices (on a stand-in of Xcode's `devicectl`).
"""

import asyncio
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from coremltools.models.ml_program.experimental import async_wrapper
from coremltools.models.ml_program.experimental.remote_device import (
    Device,
    DeviceState,
    DeviceType,
    _DeviceCtl,
)

from deeplens.console.errors import MismatchError, MissingError
from deeplens.export import coreml, coreml_device
from deeplens.export.coreml_device import Latency, Place, check_all, prepared, selected
from deeplens.export.coreml_recipe import Recipe
from deeplens.runtimes import manifest
from deeplens.runtimes.coreml.executor import Executor
from deeplens.runtimes.coreml.program import load
from tests.conftest import Command
from tests.export.test_coreml_export import stand_in

PLAIN = Recipe(sizes=((32, 40),))
IMAGE = Recipe(sizes=((32, 40),), precision="fp32", images=True)


class MLNeuralEngineComputeDevice:
    """Of the name by which coremltools calls the Neural Engine."""


class MLCPUComputeDevice:
    """Of the name by which coremltools calls the CPU."""


@dataclass
class StandIn:
    """A package on Core ML, as coremltools' wrappers show it: the executor runs it.

    Attributes:
        shift: added to every output; None: Core ML refuses the package.
        has_plan: whether this system makes compute plans.
    """

    path: Path = Path()
    shift: float | None = 0.0
    has_plan: bool = True
    load_duration_in_nano_seconds: int = 5_000_000
    last_predict_duration_in_nano_seconds: int = 0
    runs: int = 0

    async def load(self) -> None:
        assert self.path.is_dir()

    async def predict(self, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        if self.shift is None:
            raise RuntimeError("Error compiling\nmodel")
        self.runs += 1
        self.last_predict_duration_in_nano_seconds = 1_000_000 * self.runs
        arrays = {}
        for name, value in inputs.items():
            array = np.asarray(value)
            arrays[name] = array.transpose(2, 0, 1)[None] if array.ndim == 3 else array
        outputs = Executor(load(self.path), mode="fp16").run(arrays)
        return {name: value + self.shift for name, value in outputs.items()}

    async def retrieve_compute_plan(self) -> SimpleNamespace:
        if not self.has_plan:
            raise ValueError("unavailable")
        return self.plan()

    def plan(self) -> SimpleNamespace:
        devices = [MLNeuralEngineComputeDevice(), MLNeuralEngineComputeDevice(), MLCPUComputeDevice(), None]
        operations = [
            SimpleNamespace(outputs=[SimpleNamespace(name=f"x{index}")], device=device)
            for index, device in enumerate(devices)
        ]
        block = SimpleNamespace(operations=operations)
        program = SimpleNamespace(functions={"main": SimpleNamespace(block=block)})
        return SimpleNamespace(
            model_structure=SimpleNamespace(program=program),
            get_compute_device_usage_for_mlprogram_operation=lambda operation: (
                None if operation.device is None else SimpleNamespace(preferred_compute_device=operation.device)
            ),
        )


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    for recipe in (PLAIN, IMAGE):
        coreml.export_module(stand_in(), recipe, variant="edge", network="lens_blur", out=folder, weights="initial")
    return folder


@dataclass(frozen=True)
class StandInPlace(Place):
    """A place whose Core ML is a stand-in."""

    core_ml: StandIn = field(default_factory=StandIn)

    def model(self, package: Path, *, function: str | None, units: str) -> Any:
        assert (function, units) == (None, "all")
        self.core_ml.path = package
        return self.core_ml


@pytest.fixture
def core_ml(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """What `deeplens device` finds on "this Mac"."""
    model = StandIn()

    async def opened(on: str, **_: object) -> Place:
        assert on == "mac"
        return StandInPlace("a Mac", core_ml=model)

    monkeypatch.setattr(coreml_device, "opened", opened)
    monkeypatch.setattr(coreml_device, "WARM_UP", 0.0)
    return model


def run(folder: Path, core_ml: StandIn, device: Device | None = None) -> list[coreml_device.Result]:
    entries = selected(folder, variants=["edge"], networks=["lens_blur"], precisions=())
    place = StandInPlace("here", device, core_ml)
    return asyncio.run(check_all(folder, entries, place=place, units="all", seconds=0.0, runs=3))


@pytest.mark.slow
def test_what_a_package_does_is_told(packages: Path, core_ml: StandIn) -> None:
    plain, image = run(packages, core_ml)
    assert (plain.gate, image.gate) == (50.0, 70.0)
    assert 50 < plain.agreement < 120
    assert image.agreement > 100
    assert plain.passed
    assert image.passed
    assert plain.load == 5.0
    assert plain.latency == Latency(3.0, 3.8, 3.98, 2.0, 3)  # run 1 made the vectors; 2, 3 and 4 ms were timed
    assert dict(plain.preferred) == {"neural engine": 2, "cpu": 1}
    assert core_ml.runs == 8


def test_the_command_tells_it_too(packages: Path, core_ml: StandIn, deeplens: Command, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    common = ("device", "--artifacts", packages, "--seconds", 0, "--runs", 2, "--json", report)
    outcome = deeplens(*common, "--precision", "fp16")
    assert outcome.status == 0
    assert "edge_lens_blur_32x40_fp16_iOS17" in outcome.out
    assert "neural engine 2, cpu 1" in outcome.out
    text = json.loads(report.read_text())
    assert text["ok"]
    assert [item["latency"]["runs"] for item in text["packages"]] == [2]

    core_ml.shift = 0.05
    outcome = deeplens(*common)
    assert outcome.status == 5
    assert "2 of 2 packages fail their check" in outcome.error
    assert not json.loads(report.read_text())["ok"]


def test_what_core_ml_refuses(packages: Path, core_ml: StandIn) -> None:
    core_ml.shift = None
    with pytest.raises(MismatchError, match=r"Core ML refuses .*Error compiling model"):
        run(packages, core_ml)


def test_vectors_of_other_weights_are_refused(packages: Path, core_ml: StandIn) -> None:
    entry = replace(manifest.read(packages)[0], weights_sha256="other")
    place = StandInPlace("here", core_ml=core_ml)
    with pytest.raises(MismatchError, match="belong to other weights"):
        asyncio.run(coreml_device.check(packages, entry, units="all", place=place, seconds=0.0, runs=1))
    assert core_ml.runs == 0


PHONE = Device(
    name="Phone", type=DeviceType.IPHONE, identifier="1", udid="2", os_version="18.1", os_build_number="22B83",
    developer_mode_state="enabled", state=DeviceState.CONNECTED, session=None,
)  # fmt: skip


def test_a_phone_runs_what_takes_arrays(packages: Path, core_ml: StandIn) -> None:
    core_ml.has_plan = False
    (plain,) = run(packages, core_ml, PHONE)  # the package with an image input stays at home
    assert plain.passed
    assert (plain.load, dict(plain.preferred)) == (5.0, {})
    assert "–" in plain.row()


@pytest.mark.parametrize("device", [None, PHONE], ids=["mac", "phone"])
def test_coremltools_gets_the_package(packages: Path, device: Device | None) -> None:
    """Its own wrappers, as far as they go before Core ML is asked."""
    package = packages / manifest.read(packages)[0].path
    model = Place("here", device).model(package, function=None, units="cpu-and-ne")
    kind = async_wrapper.LocalMLModelAsyncWrapper if device is None else async_wrapper.RemoteMLModelAsyncWrapper
    assert isinstance(model, kind)
    assert (Path(model.spec_or_path), model.compute_units.name, model.function_name) == (package, "CPU_AND_NE", None)
    assert Path(model.weights_dir).is_dir()
    assert getattr(model, "device", None) == device


@pytest.fixture(autouse=True)
def _unknown_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """coremltools remembers that it has found Xcode's tools."""
    monkeypatch.setattr(_DeviceCtl, "_validation_done", False)


@pytest.fixture
def devicectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in of Xcode's tools: answers with a file of JSON, as `xcrun devicectl list devices -j FILE` does."""
    answer = tmp_path / "answer.json"
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("xcrun", "devicectl"):
        tool = folder / name
        tool.write_text(f'#!/bin/sh\nfor last; do :; done\ncat "{answer}" > "$last"\n')
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return answer


def listed(kind: str, state: str) -> str:
    device = {
        "identifier": "1",
        "deviceProperties": {"name": "Phone", "osVersionNumber": "18.1"},
        "hardwareProperties": {"deviceType": kind, "udid": "2"},
        "connectionProperties": {"tunnelState": state},
    }
    return json.dumps({"result": {"devices": [device]}})


@pytest.mark.parametrize(("kind", "state"), [("iPhone", "disconnected"), ("iPad", "connected")])
def test_no_phone_is_connected(devicectl: Path, kind: str, state: str) -> None:
    devicectl.write_text(listed(kind, state))
    with pytest.raises(MissingError, match=r"no iphone is connected: .*developer mode"):
        asyncio.run(prepared("iphone", team=""))


def test_a_connected_phone_is_found_and_needs_xcode(devicectl: Path) -> None:
    devicectl.write_text(listed("iPhone", "connected"))
    with pytest.raises(MissingError, match=r"the iphone can't be used \(.*xcodebuild.*--team"):
        asyncio.run(prepared("iphone", team="TEAM"))


def test_without_xcode_the_message_names_it() -> None:
    with pytest.raises(MissingError, match=r"can't be used \(.*devicectl.*Xcode"):
        asyncio.run(prepared("iphone", team=""))


def test_elsewhere_the_command_says_where_core_ml_runs(packages: Path, deeplens: Command) -> None:
    outcome = deeplens("device", "--artifacts", packages)
    assert outcome.status == 4
    assert "Core ML runs on macOS only: copy" in outcome.error


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--on", "watch"], 3, "unknown place 'watch'"),
        (["--compute-units", "tpu"], 3, "unknown compute units 'tpu'"),
        (["--artifacts", "nowhere"], 4, "run `deeplens export coreml`"),
        (["--network", "upsample"], 4, "has no Core ML packages"),
    ],
)
def test_bad_options(packages: Path, deeplens: Command, arguments: list[str], status: int, message: str) -> None:
    folder = [] if "--artifacts" in arguments else ["--artifacts", packages]
    outcome = deeplens("device", *folder, *arguments)
    assert outcome.status == status
    assert message in outcome.error


def test_latency_by_hand() -> None:
    found = Latency.of([4.0, 1.0, 2.0, 3.0, 5.0])
    assert (found.p50, found.p90, found.minimum, found.runs) == (3.0, 4.6, 1.0, 5)
    assert found.p99 == pytest.approx(4.96)
