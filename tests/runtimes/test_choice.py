"""`auto`: what is installed and has something to run; and where artefacts are looked for."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from deeplens.console.errors import InputError, MissingError
from deeplens.runtimes import RUNTIMES, folders, open_runtime, resolved
from deeplens.runtimes.spec import RuntimeSpec

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """Makes this machine one with only these libraries, and without artefacts but those a test makes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders, "user_folder", lambda: tmp_path / "user")
    monkeypatch.setattr(folders, "PACKAGED_FOLDER", tmp_path / "packaged")

    def installed(*names: str, driver: bool = False) -> None:
        monkeypatch.setattr(RuntimeSpec, "is_installed", lambda self: self.name in names)
        monkeypatch.setattr("deeplens.runtimes.spec.has_driver", lambda _name: driver)
        monkeypatch.setattr("deeplens.runtimes.manifest.has_library", lambda name: name in names)

    return installed


def test_pytorch_runs_the_shipped_weights_where_there_are_no_artefacts(machine: Machine) -> None:
    machine("torch", "onnx")
    assert resolved("auto", variant="edge") == ("torch", "fp32")


@pytest.mark.parametrize("place", ["artifacts", "user", "packaged", "own"])
def test_artefacts_are_found_in_each_place(machine: Machine, artifacts: Path, tmp_path: Path, place: str) -> None:
    shutil.copytree(artifacts, tmp_path / place)
    machine("torch", "onnx")
    given = tmp_path / "own" if place == "own" else None
    assert resolved("auto", variant="edge", artifacts=given) == ("onnx", "fp32")
    with open_runtime("auto", artifacts=given) as runtime:
        entry = runtime.open("upsample").entry
        assert entry is not None


def test_the_working_folder_comes_before_the_user_and_the_package(
    machine: Machine, artifacts: Path, tmp_path: Path
) -> None:
    machine("onnx")
    for place in ("packaged", "user", "artifacts"):
        shutil.copytree(artifacts, tmp_path / place)
        found = folders.folder_of("onnx", variant="edge", precision="fp32")
        assert found is not None
        assert found.resolve() == (tmp_path / place).resolve()
    assert folders.folder_of("onnx", variant="paper", precision="fp32") is None
    assert folders.opened_folder("onnx", variant="paper", precision="fp32") == Path("artifacts")


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_all_that_reads_artefacts_looks_in_the_same_places(
    machine: Machine, artifacts: Path, tmp_path: Path, name: str
) -> None:
    machine("onnx")
    shutil.copytree(artifacts, tmp_path / "packaged")
    if name == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'deeplens-edge[openvino]'")
        text = (tmp_path / "packaged" / "manifest.json").read_text()
        ours = text.replace('"runtime": "onnx"', '"runtime": "onnx-openvino"')
        (tmp_path / "packaged" / "manifest.json").write_text(ours)
    kind = {"onnx": "deeplens.runtimes.ort:OnnxRuntime", "openvino": "deeplens.runtimes.ov:OpenVinoRuntime"}[name]
    module, attribute = kind.split(":")
    with getattr(import_module(module), attribute)(variant="edge") as runtime:
        assert runtime.artifacts == tmp_path / "packaged"
        assert runtime.open("upsample").entry.network == "upsample"


def test_a_folder_that_is_named_is_the_only_one(machine: Machine, artifacts: Path, tmp_path: Path) -> None:
    shutil.copytree(artifacts, tmp_path / "artifacts")
    machine("onnx")
    with pytest.raises(MissingError, match=r"no artefacts of edge in .*empty"):
        resolved("auto", variant="edge", artifacts=tmp_path / "empty")


def test_weights_of_ones_own_are_pytorchs(machine: Machine, artifacts: Path, tmp_path: Path) -> None:
    shutil.copytree(artifacts, tmp_path / "artifacts")
    machine("torch", "onnx")
    assert resolved("auto", variant="edge", weights="initial") == ("torch", "fp32")
    assert resolved("auto", variant="edge", weights="initial", artifacts=tmp_path / "artifacts") == ("torch", "fp32")
    machine("onnx")
    with pytest.raises(MissingError, match=r"pip install 'deeplens-edge\[torch\]'"):
        resolved("auto", variant="edge", weights="initial")


def test_a_gpu_is_taken_where_there_is_a_driver_and_an_engine(
    machine: Machine, artifacts: Path, tmp_path: Path
) -> None:
    shutil.copytree(artifacts, tmp_path / "artifacts")
    text = (tmp_path / "artifacts" / "manifest.json").read_text()
    one = text.replace('"runtime": "onnx"', '"runtime": "trt"').replace('"precision": "fp32"', '"precision": "fp16"')
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "manifest.json").write_text(one)
    machine("trt", "onnx", driver=True)
    assert resolved("auto", variant="edge") == ("trt", "fp16")
    machine("trt", "onnx", driver=False)
    assert resolved("auto", variant="edge") == ("onnx", "fp32")


def test_the_way_on_depends_on_what_is_here(machine: Machine, artifacts: Path, tmp_path: Path) -> None:
    machine()
    with pytest.raises(MissingError, match=r"no runtime for them is installed: pip install 'deeplens-edge\[export\]'"):
        resolved("auto", variant="edge")
    machine("onnx")
    with pytest.raises(MissingError, match=r"PyTorch, which could make them, is not installed"):
        resolved("auto", variant="edge")
    machine("torch")
    with pytest.raises(MissingError) as told:
        resolved("auto", variant="edge", precision="int8")
    assert "PyTorch" not in str(told.value), "it is installed"
    machine("torch", "onnx")
    with pytest.raises(MissingError, match=r"run `deeplens export onnx --variant edge --precision int8`"):
        resolved("auto", variant="edge", precision="int8")
    shutil.copytree(artifacts, tmp_path / "packaged")
    machine()
    with pytest.raises(MissingError, match=r"runs the artefacts that are here: pip install 'deeplens-edge\[onnx\]'"):
        resolved("auto", variant="edge")
    machine("onnx")
    with pytest.raises(MissingError, match="where PyTorch is installed and copy the folder here"):
        open_runtime("onnx", artifacts=tmp_path / "none").open("depth")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("torch", {"variant": "edge", "precision": "int8"}, "has no precision 'int8': choose fp32"),
        (
            "gpu",
            {"variant": "edge"},
            "unknown runtime 'gpu': choose auto or torch or onnx or openvino or trt",
        ),
        ("auto", {"variant": "small"}, "unknown variant 'small'"),
    ],
)
def test_what_there_is_none_of(name: str, options: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        resolved(name, **options)  # type: ignore[arg-type]


TOY = """
from deeplens.model.contract import CONTRACTS
from deeplens.runtimes.contract import OpensOnce, Session
from deeplens.runtimes.pyramid import doubled

class ToySession(Session):
    def __init__(self, contract): self.contract = contract
    def describe(self): return self.contract
    def run(self, inputs):
        if self.contract.network == "depth": return {"disparity": inputs["picture"][:, :1]}
        if self.contract.network == "lens_blur": return {"blurred": 0 * inputs["picture"]}
        return {"blurred_high": doubled(inputs["blurred"])}
    def close(self): pass

class ToyRuntime(OpensOnce):
    name = "toy"
    def __init__(self, *, variant): super().__init__(); self.variant = variant
    def _load(self, network): return ToySession(CONTRACTS[network])
"""


def test_a_new_runtime_is_one_file_and_one_line(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    import deeplens

    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    line = RuntimeSpec("toy", "toy:ToyRuntime", frozenset(), extra="onnx", libraries=("toy",), precisions=("fp32",))
    monkeypatch.setitem(RUNTIMES, "toy", line)
    machine("toy")
    assert resolved("auto", variant="edge") == ("toy", "fp32")
    photo = np.full((40, 60, 3), 200, np.uint8)
    photo[:, :30] = 10
    found = deeplens.refocus(photo, focus=(0.1, 0.5), f_number=1.4)
    assert found.pixels[:, -1].max() == 0, "the toy's lens blur gives black where something is out of focus"
    assert replace(line, name="other").install == "pip install 'deeplens-edge[onnx]'"
