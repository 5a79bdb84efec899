import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from deeplens import runtimes
from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.files import file_sha256
from deeplens.export import onnx_graph
from deeplens.export.onnx_check import random_inputs
from deeplens.model.contract import CONTRACTS
from deeplens.runtimes import manifest
from deeplens.runtimes.contract import Arrays, Runtime, check_inputs
from deeplens.runtimes.ort import OnnxRuntime
from tests.conftest import ROOT
from tests.support.device import needs_torch
from tests.support.small_graphs import add_graphs

pytestmark = pytest.mark.slow

FIXED = (40, 48)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Depth, and the step with free sizes and at `FIXED`: edge, initial weights; without PyTorch small graphs."""
    folder = tmp_path_factory.mktemp("artifacts")
    if find_spec("torch") is None:
        add_graphs(folder, networks=("depth", "upsample"))
        add_graphs(folder, networks=("upsample",), size=FIXED)
        return folder
    onnx_graph.export("edge", "depth", out=folder, weights="initial")
    for shape in (None, FIXED):
        onnx_graph.export("edge", "upsample", out=folder, weights="initial", shape=shape)
    return folder


@pytest.fixture(params=[pytest.param("torch", marks=needs_torch), "onnx"])
def runtime(request: pytest.FixtureRequest, exported: Path) -> Runtime:
    return runtimes.open_runtime(request.param, artifacts=exported, weights="initial", threads=1)


def inputs_of(network: str, size: tuple[int, int], *, seed: int = 0) -> Arrays:
    return random_inputs(CONTRACTS[network], size, np.random.default_rng(seed))


@needs_torch
@pytest.mark.parametrize(
    ("network", "size"), [("depth", (320, 320)), ("upsample", (32, 32)), ("upsample", (56, 104))], ids=str
)
def test_both_runtimes_agree_with_float64(exported: Path, network: str, size: tuple[int, int]) -> None:
    from deeplens.runtimes.pytorch import TorchRuntime

    inputs = inputs_of(network, size)
    judge = TorchRuntime(weights="initial", dtype="float64").open(network).run(inputs)
    (name,) = (tensor.name for tensor in CONTRACTS[network].outputs)
    assert judge[name].dtype == np.float64
    spread = np.ptp(judge[name])
    for session in (TorchRuntime(weights="initial").open(network), OnnxRuntime(artifacts=exported).open(network)):
        outputs = session.run(inputs)
        assert list(outputs) == [name]
        assert outputs[name].dtype == np.float32
        assert outputs[name].shape == CONTRACTS[network].outputs[0].shape(*size)
        difference = np.abs(outputs[name] - judge[name]).max()
        assert difference <= 1e-5
        # The control: the tolerance is far below what the network has to say.
        assert difference <= 1e-4 * spread


@needs_torch
def test_swapped_pictures_exceed_the_tolerance(exported: Path) -> None:
    from deeplens.runtimes.pytorch import TorchRuntime

    inputs, others = inputs_of("upsample", (40, 48)), inputs_of("upsample", (40, 48), seed=1)
    expected = TorchRuntime(weights="initial").open("upsample").run(inputs)["blurred_high"]
    with OnnxRuntime(artifacts=exported) as runtime:
        for name in inputs:
            found = runtime.open("upsample").run(inputs | {name: others[name]})["blurred_high"]
            assert np.abs(found - expected).max() > 1e-4


def test_fixed_shapes(exported: Path) -> None:
    inputs = inputs_of("upsample", FIXED)
    with OnnxRuntime(artifacts=exported) as free, OnnxRuntime(artifacts=exported, shapes=FIXED) as fixed:
        assert free.open("upsample").describe() == CONTRACTS["upsample"]
        assert fixed.open("upsample").describe() == replace(CONTRACTS["upsample"], fixed_size=FIXED)
        assert fixed.open("depth").describe() == CONTRACTS["depth"]
        assert fixed.open("upsample").entry.path == "onnx/edge_upsample_40x48.onnx"
        left, right = (each.open("upsample").run(inputs)["blurred_high"] for each in (free, fixed))
        assert np.abs(left - right).max() <= 1e-6
        with pytest.raises(InputError, match=r"picture_high is \(1, 3, 96, 96\), expected \(1, 3, 80, 96\)"):
            fixed.open("upsample").run(inputs_of("upsample", (48, 48)))
    with pytest.raises(MissingError, match="--size 64x64"):
        OnnxRuntime(artifacts=exported, shapes=(64, 64)).open("upsample")


def test_outputs_belong_to_the_caller(runtime: Runtime) -> None:
    session = runtime.open("upsample")
    first = session.run(inputs_of("upsample", (32, 40)))["blurred_high"]
    before = first.copy()
    second = session.run(inputs_of("upsample", (32, 40), seed=1))["blurred_high"]
    np.testing.assert_array_equal(first, before)
    other = second.copy()
    first[:] = 0
    np.testing.assert_array_equal(second, other)
    assert not np.array_equal(before, second)


def test_any_memory_layout_is_taken_and_inputs_stay(runtime: Runtime) -> None:
    session = runtime.open("upsample")
    inputs = inputs_of("upsample", (32, 40))
    before = {name: array.copy() for name, array in inputs.items()}
    expected = session.run(inputs)["blurred_high"]
    flipped = {name: np.ascontiguousarray(array[..., ::-1])[..., ::-1] for name, array in inputs.items()}
    fortran = {name: np.asfortranarray(array) for name, array in inputs.items()}
    for array in inputs.values():
        array.flags.writeable = False
    for variant in (inputs, flipped, fortran, dict(reversed(inputs.items()))):
        np.testing.assert_array_equal(session.run(variant)["blurred_high"], expected)
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, before[name])


def test_open_twice_close_and_open_again(runtime: Runtime) -> None:
    inputs = inputs_of("upsample", (32, 32))
    with runtime:
        session = runtime.open("upsample")
        assert runtime.open("upsample") is session
        expected = session.run(inputs)["blurred_high"]
        session.close()
        session.close()
        with pytest.raises(InputError, match=r"upsample: this session is closed"):
            session.run(inputs)
        again = runtime.open("upsample")
        np.testing.assert_array_equal(again.run(inputs)["blurred_high"], expected)
    with pytest.raises(InputError, match=r"closed"):
        again.run(inputs)
    with pytest.raises(InputError, match="unknown network 'denoise'"):
        runtime.open("denoise")


def test_bad_inputs_are_refused_in_one_line(runtime: Runtime) -> None:
    session, inputs = runtime.open("upsample"), inputs_of("upsample", (32, 32))
    inputs["picture"] = np.zeros((1, 4, 32, 32), np.float32)
    with pytest.raises(InputError, match=r"sample: picture is \(1, 4, 32, 32\), expected \(1, 3, 32, 32\)") as caught:
        session.run(inputs)
    assert "\n" not in str(caught.value)


UPSAMPLE = CONTRACTS["upsample"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: x | {"picture_high": x["picture_high"][..., :-1]},
            r"upsample: picture_high is \(1, 3, 80, 95\), ",
        ),
        (lambda x: x | {"picture_high": x["picture"]}, r"picture_high is .*, expected \(1, 3, 80, 96\)"),
        (lambda x: x | {"signed_depth": x["picture"]}, r"signed_depth is .*, expected \(1, 1, 40, 48\)"),
        (lambda x: x | {"blurred": np.repeat(x["blurred"], 2, 0)}, r"blurred is \(2, 3, 40, 48\)"),
        (lambda x: x | {"picture": x["picture"][..., :-4]}, "picture is 40x44 pixels, expected multiples of 8"),
        (lambda x: x | {"picture": x["picture"][..., :24]}, "from 32 up"),
        (lambda x: x | {"picture": x["picture"][..., :0]}, "from 32 up"),
        (
            lambda x: x | {"picture": x["picture"][0]},
            r"picture is \(3, 40, 48\) float32, expected \(1, 3, heig",
        ),
        (lambda x: x | {"picture": x["picture"].astype(np.float64)}, "float64, expected"),
        (lambda x: x | {"picture": x["picture"].astype(">f4")}, "expected"),
        (lambda x: x | {"picture": (255 * x["picture"]).astype(np.uint8)}, "uint8, expected"),
        (lambda x: x | {"picture": x["picture"].tolist()}, "picture is a list, expected a NumPy array"),
        (
            lambda x: x | {"depth": x["picture"]},
            "got the inputs .*depth, expected picture_high, picture, blurred, signed",
        ),
        (lambda x: {name: x[name] for name in list(x)[1:]}, "got the inputs picture, blurred, signed_depth, expected"),
        (lambda _: {}, "got the inputs none, expected"),
    ],
)
def test_check_inputs(change: Callable[[Arrays], Arrays], message: str) -> None:
    inputs = inputs_of("upsample", (40, 48))
    assert check_inputs(UPSAMPLE, inputs) == (40, 48)
    with pytest.raises(InputError, match=message):
        check_inputs(UPSAMPLE, change(inputs))


def test_check_inputs_at_a_fixed_size() -> None:
    with pytest.raises(InputError, match=r"depth: picture is \(1, 3, 256, 320\), expected \(1, 3, 320, 320\)"):
        check_inputs(CONTRACTS["depth"], {"picture": np.zeros((1, 3, 256, 320), np.float32)})


def copy_of(exported: Path, folder: Path) -> tuple[manifest.Entry, Path]:
    """One artefact copied with its manifest: entry and file."""
    entry = manifest.find(exported, network="upsample", variant="edge", runtime="onnx", shape=FIXED)
    staged = folder / "staged"
    (folder / "onnx").mkdir()
    staged.write_bytes((exported / entry.path).read_bytes())
    manifest.add(folder, entry, made=staged)
    return entry, folder / entry.path


def test_one_flipped_bit_is_refused(exported: Path, tmp_path: Path) -> None:
    entry, path = copy_of(exported, tmp_path)
    OnnxRuntime(artifacts=tmp_path, shapes=FIXED).open("upsample")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(MismatchError, match=f"{entry.sha256[:12]}.*deeplens export onnx"):
        OnnxRuntime(artifacts=tmp_path, shapes=FIXED).open("upsample")


def test_a_file_that_onnx_runtime_cannot_load(exported: Path, tmp_path: Path) -> None:
    entry, path = copy_of(exported, tmp_path)
    for data in (b"not a graph\nat all", b"", path.read_bytes()[:-1000]):
        path.write_bytes(data)
        manifest.add(tmp_path, replace(entry, sha256=file_sha256(path)))
        with pytest.raises(
            MismatchError, match=r"(not an ONNX model|can't load).* rebuild it with `deeplens export onnx"
        ) as caught:
            OnnxRuntime(artifacts=tmp_path, shapes=FIXED).open("upsample")
        assert "\n" not in str(caught.value)


def test_an_artefact_of_another_network(exported: Path, tmp_path: Path) -> None:
    entry, _ = copy_of(exported, tmp_path)
    manifest.add(tmp_path, replace(entry, network="lens_blur"))
    with pytest.raises(MismatchError, match="signed_depth → blurred_high, expected picture, signed_depth → blurred:"):
        OnnxRuntime(artifacts=tmp_path, shapes=FIXED).open("lens_blur")


def test_open_runtime_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown runtime 'tpu': choose auto or torch or onnx"):
        runtimes.open_runtime("tpu")
    with pytest.raises(InputError, match="unknown variant 'huge': choose paper or edge"):
        runtimes.open_runtime("onnx", variant="huge")
    with pytest.raises(MissingError, match=r"run `deeplens export onnx --variant edge --out"):
        runtimes.open_runtime("onnx", artifacts=tmp_path).open("depth")


@needs_torch
def test_the_runtime_names_the_weights_that_it_runs(exported: Path) -> None:
    from deeplens.model import build
    from deeplens.runtimes.pytorch import TorchRuntime

    session = OnnxRuntime(artifacts=exported).open("upsample")
    module = TorchRuntime(weights="initial").open("upsample").module
    assert session.entry.weights_sha256 == build.weights_sha256(module)


@needs_torch
def test_torch_threads_are_set_back() -> None:
    import torch

    from deeplens.runtimes.pytorch import TorchRuntime

    before = torch.get_num_threads()
    TorchRuntime(weights="initial", threads=before + 1).open("upsample").run(inputs_of("upsample", (32, 32)))
    assert torch.get_num_threads() == before


def python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_onnx_runtime_needs_no_torch(exported: Path, tmp_path: Path) -> None:
    inputs = inputs_of("upsample", (40, 56))
    for name, array in inputs.items():
        np.save(tmp_path / f"{name}.npy", array)
    code = """
import sys
sys.modules["torch"] = sys.modules["onnx"] = None
from pathlib import Path
import numpy as np
from deeplens.console.errors import MissingError
from deeplens.runtimes import open_runtime
with open_runtime("onnx", artifacts=Path(sys.argv[1])) as runtime:
    session = runtime.open("upsample")
    inputs = {each.name: np.load(f"{sys.argv[2]}/{each.name}.npy") for each in session.describe().inputs}
    np.save(f"{sys.argv[2]}/blurred.npy", session.run(inputs)["blurred_high"])
for name, module in (("torch", "torch"), ("onnx", "onnxruntime")):
    sys.modules[module] = None
    try:
        open_runtime(name)
    except MissingError as error:
        print(error)
"""
    said = python(code, str(exported), str(tmp_path))
    assert [line[line.index("pip") :] for line in said.splitlines()] == [
        "pip install 'deeplens-edge[torch]'",
        "pip install 'deeplens-edge[onnx]'",
    ]
    expected = OnnxRuntime(artifacts=exported).open("upsample").run(inputs)["blurred_high"]
    np.testing.assert_allclose(np.load(tmp_path / "blurred.npy"), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "module",
    [
        "deeplens",
        "deeplens.model.contract",
        "deeplens.runtimes.manifest",
        "deeplens.export.onnx_graph",
        "deeplens.export.onnx_check",
        "deeplens.runtimes.ort",
        "deeplens.runtimes.pytorch",
        "deeplens.app",
    ],
)
def test_importing_is_light(module: str) -> None:
    heavy = ("torch", "onnx", "onnxruntime", "onnxsim", "onnxscript", "scipy")
    code = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*set(sys.argv[2:]) & sys.modules.keys())"
    assert python(code, module, *heavy).strip() == ""
