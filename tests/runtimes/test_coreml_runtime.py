"""Core ML packages behind the contract: which package is opened, what is refused, and what Core ML would be asked."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deeplens.console.errors import DeepLensError, InputError, MismatchError, MissingError
from deeplens.export.coreml import export_module
from deeplens.export.coreml_recipe import Recipe
from deeplens.export.onnx_check import random_inputs
from deeplens.model.contract import CONTRACTS
from deeplens.parity_tests.lively import lively
from deeplens.parity_tests.metrics import psnr, relative_to_spread
from deeplens.runtimes import manifest, open_runtime
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.coreml import program
from deeplens.runtimes.coreml.executor import Mode
from deeplens.runtimes.coreml.runtime import CoreMLRuntime
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

SIZES = ((32, 40), (40, 32))
UPSAMPLE = CONTRACTS["upsample"]
RECIPES = (
    Recipe(precision="fp32", sizes=SIZES[:1]),
    Recipe(precision="fp16", target="iOS18", shapes="multifunction", sizes=SIZES),
)


@pytest.fixture(scope="module")
def step() -> torch.nn.Module:
    return lively("edge", "upsample")


@pytest.fixture(scope="module")
def exported(step: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages of the step of edge."""
    folder = tmp_path_factory.mktemp("artifacts")
    for recipe in RECIPES:
        export_module(step, recipe, variant="edge", network="upsample", out=folder, weights="initial")
    return folder


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(exported, tmp_path / "artifacts"))


def inputs_of(size: tuple[int, int], seed: int = 0) -> Arrays:
    return random_inputs(UPSAMPLE, size, np.random.default_rng(seed))


def expected(module: torch.nn.Module, inputs: Arrays) -> np.ndarray:
    with torch.inference_mode():
        output: np.ndarray = module(*(torch.from_numpy(inputs[each.name]) for each in UPSAMPLE.inputs)).numpy()
    return output


def fixed(folder: Path, **options: Any) -> CoreMLRuntime:
    return CoreMLRuntime(artifacts=folder, precision="fp32", size=SIZES[0], **options)


def weights_of(folder: Path) -> Path:
    (entry,) = (each for each in manifest.read(folder) if each.more["shapes"] == "fixed")
    return folder / entry.path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"


def test_a_fixed_package(exported: Path, step: torch.nn.Module) -> None:
    with fixed(exported) as runtime:
        session = runtime.open("upsample")
        assert runtime.open("upsample") is session
        assert runtime.mode == "float32"
        assert session.describe() == replace(UPSAMPLE, fixed_size=SIZES[0])
        inputs = inputs_of(SIZES[0])
        before = {name: array.copy() for name, array in inputs.items()}
        found = session.run(inputs)["blurred_high"]
        assert found.dtype == np.float32
        assert relative_to_spread(found, expected(step, inputs)) <= 1e-5
        kept = found.copy()
        session.run(inputs_of(SIZES[0], seed=1))["blurred_high"][:] = 0
        np.testing.assert_array_equal(found, kept)
        for name, array in inputs.items():
            np.testing.assert_array_equal(array, before[name])
        with pytest.raises(InputError, match=r"picture_high is \(1, 3, 80, 64\), expected \(1, 3, 64, 80\)"):
            session.run(inputs_of(SIZES[1]))
    with pytest.raises(InputError, match="upsample: this session is closed"):
        session.run(inputs)


@pytest.mark.parametrize("size", SIZES)
def test_a_package_of_several_sizes(exported: Path, step: torch.nn.Module, size: tuple[int, int]) -> None:
    inputs = inputs_of(size)
    due = expected(step, inputs)
    results = []
    modes: tuple[Mode, ...] = ("fp16", "fp16_pure")
    for mode in modes:
        with CoreMLRuntime(artifacts=exported, shapes="multifunction", size=size, mode=mode) as runtime:
            session = runtime.open("upsample")
            assert session.describe().fixed_size == size
            results.append(psnr(session.run(inputs)["blurred_high"], due))
    assert results[0] > 60
    assert 40 < results[1] < results[0]


def test_sizes_that_a_package_does_not_have(exported: Path) -> None:
    with pytest.raises(MissingError, match=r"deeplens export coreml --variant edge --precision fp32 --size 64x64"):
        CoreMLRuntime(artifacts=exported, precision="fp32", size=(64, 64)).open("upsample")
    with pytest.raises(
        InputError, match=r"multifunction_fp16_iOS18\.mlpackage does not take 64x64: choose 32x40, 40x32"
    ):
        CoreMLRuntime(artifacts=exported, shapes="multifunction", size=(64, 64)).open("upsample")
    with pytest.raises(MissingError, match="target iOS18"):
        fixed(exported, target="iOS18").open("upsample")
    with pytest.raises(InputError, match="has no function 'other': choose size_32x40, size_40x32"):
        program.load(exported / "coreml" / "edge_upsample_multifunction_fp16_iOS18.mlpackage", "other")


def test_missing_and_altered_files_are_refused_before_they_are_read(copied: Path) -> None:
    weights = weights_of(copied)
    whole = weights.read_bytes()
    for altered in (whole[:-1], bytes([whole[0] ^ 1]) + whole[1:], b""):
        weights.write_bytes(altered)
        with pytest.raises(MismatchError, match=r"SHA-256 .* the manifest says .*: rebuild it with `deeplens export"):
            fixed(copied).open("upsample")
    weights.unlink()
    with pytest.raises(MismatchError, match="SHA-256"):
        fixed(copied).open("upsample")
    weights.write_bytes(whole)
    fixed(copied).open("upsample")
    shutil.rmtree(weights.parent.parent.parent.parent)
    with pytest.raises(MissingError, match="in the manifest but does not exist"):
        fixed(copied).open("upsample")


def test_a_damaged_package_is_refused_even_if_the_manifest_agrees(copied: Path) -> None:
    weights = weights_of(copied)
    whole = weights.read_bytes()
    package = weights.parents[3]
    for damage in (lambda: weights.write_bytes(whole[: len(whole) // 2]), weights.unlink):
        damage()
        with pytest.raises(MismatchError, match=r"can't be read as a Core ML program .*: export it again"):
            program.load(package)
    (package / "Manifest.json").unlink()
    with pytest.raises(MismatchError, match="can't be read as a Core ML program"):
        program.load(package)
    with pytest.raises(MissingError, match=r"not an \.mlpackage"):
        program.load(copied / "none.mlpackage")


class FakeModel:
    """What coremltools' MLModel is asked for."""

    asked: Any = None
    broken = ""

    def __init__(self, path: str, *, compute_units: Any, function_name: str | None) -> None:
        FakeModel.asked = (Path(path).name, compute_units.name, function_name)
        if self.broken == "load":
            raise RuntimeError("no such\nopset")

    def predict(self, inputs: Arrays) -> Arrays:
        if self.broken == "run":
            raise RuntimeError("out of memory")
        return {"blurred_high": inputs["picture_high"].astype(np.float16)}


@pytest.fixture
def on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    ct = program.import_coremltools()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ct.models, "MLModel", FakeModel)


@pytest.mark.usefixtures("on_macos")
def test_core_ml_is_asked_on_macos(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = inputs_of(SIZES[1])
    with CoreMLRuntime(
        artifacts=exported, shapes="multifunction", size=SIZES[1], compute_units="CPU_AND_NE"
    ) as runtime:
        assert runtime.mode is None
        found = runtime.open("upsample").run(inputs)["blurred_high"]
    assert FakeModel.asked == ("edge_upsample_multifunction_fp16_iOS18.mlpackage", "CPU_AND_NE", "size_40x32")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, inputs["picture_high"].astype(np.float16))

    session = fixed(exported).open("upsample")
    assert FakeModel.asked == ("edge_upsample_32x40_fp32_iOS17.mlpackage", "ALL", None)
    with pytest.raises(InputError, match="unknown compute units 'TPU'"):
        fixed(exported, compute_units="TPU").open("upsample")
    monkeypatch.setattr(FakeModel, "broken", "run")
    with pytest.raises(MismatchError, match=r"Core ML can't run .*\(out of memory\)"):
        session.run(inputs_of(SIZES[0]))
    monkeypatch.setattr(FakeModel, "broken", "load")
    with pytest.raises(MismatchError, match=r"Core ML can't load .*\(no such opset\)"):
        fixed(exported).open("upsample")


def test_compute_units_are_core_mls(exported: Path) -> None:
    for mode in (None, "float32") if sys.platform != "darwin" else ("float32",):
        with pytest.raises(InputError, match="compute units can be chosen on macOS only"):
            fixed(exported, mode=mode, compute_units="ALL")


def test_by_name(exported: Path) -> None:
    runtime = open_runtime("coreml", artifacts=exported)
    assert isinstance(runtime, CoreMLRuntime)
    assert (runtime.name, runtime.variant, runtime.precision) == ("coreml", "edge", "fp16")
    assert open_runtime("coreml", artifacts=exported, precision="fp32").precision == "fp32"  # type: ignore[attr-defined]
    with pytest.raises(DeepLensError, match="unknown network 'denoise'"):
        runtime.open("denoise")


def test_it_needs_no_torch_and_says_what_else_it_needs(exported: Path, tmp_path: Path) -> None:
    inputs = inputs_of(SIZES[0])
    np.savez(tmp_path / "inputs.npz", allow_pickle=False, **inputs)
    code = """
import sys
from pathlib import Path
import numpy as np
import deeplens.runtimes.coreml.runtime
print(*{"torch", "coremltools", "scipy"} & sys.modules.keys())
from deeplens.console.errors import MissingError
from deeplens.runtimes.coreml.runtime import CoreMLRuntime
sys.modules["torch"] = None
with CoreMLRuntime(artifacts=Path(sys.argv[1]), precision="fp32", size=(32, 40)) as runtime:
    np.save(sys.argv[3], runtime.open("upsample").run(np.load(sys.argv[2]))["blurred_high"])
sys.modules["coremltools"] = None
try:
    CoreMLRuntime()
except MissingError as error:
    print(error)
"""
    files = (str(exported), str(tmp_path / "inputs.npz"), str(tmp_path / "out.npy"))
    command = [sys.executable, "-W", "ignore", "-c", code, *files]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0] == ""
    assert said[1].endswith("pip install 'deeplens-edge[coreml]'")
    found = fixed(exported).open("upsample").run(inputs)["blurred_high"]
    np.testing.assert_allclose(np.load(files[2]), found, atol=1e-6, rtol=0)
