"""Collected here, compared there: what is written, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.model.contract import CONTRACTS
from deeplens.parity_tests.cases import Case, LoopCase, NetworkCase, case_sha256
from deeplens.parity_tests.collection import Collection, Produced, Role, read, write
from deeplens.parity_tests.outputs import Outputs
from deeplens.parity_tests.run import compare_collections

STEP = CONTRACTS["upsample"]
SIZE = (32, 40)


def cases(seed: int = 0) -> list[Case]:
    generator = np.random.default_rng(seed)
    inputs = {each.name: generator.random(each.shape(*SIZE), np.float32) for each in STEP.inputs}
    pixels = generator.integers(0, 256, (24, 32, 3)).astype(np.uint8)
    return [NetworkCase("upsample", "random", "dynamic", SIZE, inputs), LoopCase(pixels, "fixed", (0.25, 0.5), 0.75)]


def produced(
    role: Role = "candidate", *, off: float = 0.0, weights: str = "a" * 64, label: str = "onnx fp32"
) -> Produced:
    network, loop = cases()
    picture = np.linspace(0, 1, 3 * 64 * 80).reshape(1, 3, 64, 80)
    dtype = np.float64 if role == "judge" else np.float32
    arrays: dict[str, np.ndarray] = {
        network.name: (picture + off).astype(dtype),
        f"{loop.name}/level 0": (picture[:, :, :24, :32] + off).astype(dtype),
        f"{loop.name}/8-bit picture": np.full((24, 32, 3), 7, np.uint8),
    }
    sha256 = {name: dict.fromkeys(("depth", "lens_blur", "upsample"), weights) for name in (network.name, loop.name)}
    sha256[network.name] = {"upsample": weights}
    outputs = Outputs(arrays, sha256, artifacts={"onnx/edge_upsample.onnx": "b" * 64})
    return Produced("edge", label, "fp32", role, (network.name, loop.name), outputs, 1.5)


def collected(*each: Produced, seed: int = 0) -> Collection:
    return Collection({"edge": cases(seed)}, list(each), "photo.jpg", "Linux aarch64", {"numpy": "2"})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What a machine with PyTorch collected."""
    write(tmp_path / "home", collected(produced("reference"), produced("judge"), produced("half", off=1e-3)))
    return tmp_path / "home"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = collected(produced(off=1e-7))
    write(tmp_path / "device", made)
    found = read(tmp_path / "device")
    assert [case_sha256(case) for case in found.cases["edge"]] == [case_sha256(case) for case in made.cases["edge"]]
    (one,), (other,) = found.produced, made.produced
    assert vars(replace(one, outputs=other.outputs)) == vars(other)
    assert one.outputs.arrays.keys() == other.outputs.arrays.keys()
    for name, array in other.outputs.arrays.items():
        np.testing.assert_array_equal(one.outputs.arrays[name], array, strict=True)
    assert (one.outputs.weights, one.outputs.artifacts) == (other.outputs.weights, other.outputs.artifacts)
    assert (found.photo, found.machine, found.tools) == ("photo.jpg", "Linux aarch64", {"numpy": "2"})


def test_machines_are_compared_with_the_one_that_has_pytorch(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "good", collected(produced(off=1e-7)))
    write(tmp_path / "bad", collected(produced(off=1e-3, label="trt fp32")))
    report = compare_collections([tmp_path / "good", home, tmp_path / "bad"])
    status = {(row.runtime, row.what): row.status for row in report.rows}
    assert status["onnx fp32", "upsample"] == status["onnx fp32", "level 0"] == "passed"
    assert status["trt fp32", "upsample"] == status["trt fp32", "level 0"] == "failed"
    assert report.photo == "photo.jpg"
    assert report.artifacts == {"onnx/edge_upsample.onnx": "b" * 64}
    assert len(report.looks) == 2


def test_other_inputs_are_refused(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", collected(produced(), seed=1))
    with pytest.raises(MismatchError, match=r"other ran edge upsample.* on other inputs .*--inputs .*home"):
        compare_collections([home, tmp_path / "other"])


def test_other_weights_are_refused(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", collected(produced(weights="c" * 64)))
    with pytest.raises(MismatchError, match=r"upsample has weights cccccccccccc…, PyTorch in .*home aaaaaaaaaaaa…"):
        compare_collections([home, tmp_path / "other"])


def test_without_pytorchs_own_results_nothing_is_compared(tmp_path: Path) -> None:
    write(tmp_path / "device", collected(produced()))
    with pytest.raises(MissingError, match=r"collect on a machine with PyTorch too"):
        compare_collections([tmp_path / "device"])


def test_what_was_not_run_stays_so(home: Path, tmp_path: Path) -> None:
    one = produced()
    names = one.cases
    outputs = Outputs(missing=dict.fromkeys(names, "the runtime: an NVIDIA GPU"))
    write(tmp_path / "device", collected(replace(one, outputs=outputs, label="trt fp16")))
    (row,) = compare_collections([home, tmp_path / "device"]).rows
    assert (row.status, row.note) == ("not run", "not run: needs the runtime: an NVIDIA GPU")


def test_damage_is_seen(home: Path) -> None:
    path = home / "outputs_00.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(MismatchError, match=r"outputs_00\.npz has changed since it was written"):
        read(home)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda text: text | {"format": 2}, InputError, "its format is 2"),
        (lambda _: {}, InputError, "is not a collection"),
        (lambda text: text | {"inputs": {"edge": "../inputs_edge.npz"}}, InputError, "is not a collection"),
    ],
)
def test_what_is_no_collection(
    home: Path, change: Callable[[dict[str, object]], dict[str, object]], error: type[Exception], message: str
) -> None:
    path = home / "collection.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(error, match=message):
        read(home)


def test_a_folder_without_one(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no collection in .*collection\.json does not exist"):
        read(tmp_path)
