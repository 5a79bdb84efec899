"""`deeplens parity` on faults planted in artefacts on disk, and in a runtime: what a person is told, end to end."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.torch import load_file

from deeplens.console.errors import MismatchError
from deeplens.console.files import file_sha256
from deeplens.parity_tests.cases import COVERAGE, Graph
from deeplens.parity_tests.conftest import SMALL
from deeplens.runtimes import manifest
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.ort import OnnxSession

pytestmark = pytest.mark.slow

(COMMAND,) = metadata.entry_points(group="console_scripts", name="deeplens")
main = COMMAND.load()

Say = Callable[..., tuple[int, str, str]]

FIXED = (120, 168)
"""Of the graphs with a fixed shape: larger than the halos, and the photo's levels fit whole."""

ONNX = ("--runtime", "onnx", "--precision", "fp32")


@pytest.fixture(scope="module")
def made(lively_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Sound artefacts of `edge`, ONNX and Core ML in FP32; while they are there the table has few and small cases."""
    folder = tmp_path_factory.mktemp("made")
    options = [*ONNX, "--runtime", "coreml", "--weights", str(lively_weights), "--artifacts", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        loops: tuple[tuple[Graph, int], ...] = (("dynamic", 330), ("fixed", 330))
        patch.setitem(COVERAGE, "edge", replace(SMALL, loops=loops, fixed_size=FIXED))
        assert main(["parity", "--export", "--no-compiles", *options]) == 0
        yield folder


@pytest.fixture
def parity(made: Path, lively_weights: Path, strip: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs the command on artefacts; gives status, standard output and error."""

    def run(*arguments: object, artifacts: Path = made, photo: bool = True) -> tuple[int, str, str]:
        photos = ["--photo", strip, "--size", 330] if photo else []
        options = ["--weights", lively_weights, "--artifacts", artifacts, *photos]
        status = main(["parity", *(str(each) for each in (*arguments, *options))])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def _copy(made: Path, out: Path, network: str, runtime: str, change: Callable[[Path], None], **where: object) -> Path:
    """The artefacts with one of them changed, and the manifest saying that this is it."""
    shutil.copytree(made, out)
    entry = manifest.find(out, network=network, variant="edge", runtime=runtime, precision="fp32", **where)  # type: ignore[arg-type]
    change(out / entry.path)
    manifest.add(out, replace(entry, sha256=file_sha256(out / entry.path)))
    return out


def _scaled(weight: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        model = onnx.load(path)
        (index,) = (at for at, each in enumerate(model.graph.initializer) if each.name == weight)
        values = onnx.numpy_helper.to_array(model.graph.initializer[index]) * np.float32(1.01)
        model.graph.initializer[index].CopyFrom(onnx.numpy_helper.from_array(values, weight))
        onnx.save(model, path)

    return change


def test_an_onnx_graph(parity: Say, made: Path, tmp_path: Path) -> None:
    """Of the two graphs the one with free sizes: the network's rows fail, its levels too, and the other's pass."""
    folder = _copy(made, tmp_path / "faulty", "upsample", "onnx", _scaled("fuse.weight"), shape=None)
    status, out, err = parity(*ONNX, artifacts=folder)
    assert status == MismatchError.exit_code
    assert "edge upsample, onnx fp32: the first operation that differs is Conv " in out
    assert "module fuse, model/upsampler.py:" in out
    assert "edge loop dynamic 66×330, onnx fp32: at level 1 the output of upsample differs" in out
    assert "edge lens_blur, onnx" not in out
    assert err.splitlines()[-1].startswith("error: ")
    assert "module fuse" in err.splitlines()[-1]


def test_a_graph_of_a_fixed_shape(parity: Say, made: Path, tmp_path: Path) -> None:
    """The graph with free sizes is sound, and is the one that can be looked into: the answer says so."""
    folder = _copy(made, tmp_path / "faulty", "upsample", "onnx", _scaled("narrow.weight"), shape=FIXED)
    status, out, _ = parity(*ONNX, artifacts=folder, photo=False)
    assert status == MismatchError.exit_code
    assert "edge upsample, onnx fp32: no operation differs" in out
    assert "only that of the fixed shape fails: export it again" in out


def test_a_core_ml_program(parity: Say, made: Path, lively_weights: Path, tmp_path: Path) -> None:
    weight = load_file(lively_weights / "edge_upsample.safetensors")["down.weight"].numpy()

    def change(package: Path) -> None:
        (path,) = package.rglob("weight.bin")
        data = path.read_bytes()
        assert data.count(weight.tobytes()) == 1
        path.write_bytes(data.replace(weight.tobytes(), (weight * np.float32(1.01)).tobytes()))

    more = {"shapes": "fixed", "images": []}
    folder = _copy(made, tmp_path / "faulty", "upsample", "coreml", change, shape=FIXED, more=more)
    status, out, _ = parity("--runtime", "coreml", "--precision", "fp32", artifacts=folder, photo=False)
    assert status == MismatchError.exit_code
    assert "edge upsample, coreml fp32, executor in float32: the first operation that differs is conv " in out
    assert "module down, " in out


def test_a_loop(parity: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that errs at the size of one level's windows only: alone, and on a whole level, networks agree."""
    run = OnnxSession.run

    def wrong_at_one_size(self: OnnxSession, inputs: Mapping[str, np.ndarray]) -> Arrays:
        if "picture_high" in inputs and inputs["picture_high"].shape[2:] == (80, 192):
            inputs = {**inputs, "blurred": inputs["blurred"] * np.float32(0.9)}
        return run(self, inputs)

    monkeypatch.setattr(OnnxSession, "run", wrong_at_one_size)
    status, out, _ = parity(*ONNX)
    assert status == MismatchError.exit_code
    assert "edge upsample, onnx fp32: no operation differs" in out
    assert "it is what surrounds the graph" in out
    assert "edge loop dynamic 66×330, onnx fp32: at level 1 upsample itself agrees, but the harness hands on" in out
