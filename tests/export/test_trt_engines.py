"""Which engine the TensorRT runtime opens, and which it refuses before a byte of it is looked at."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.files import file_sha256
from deeplens.runtimes import manifest
from deeplens.runtimes.cuda import Cuda
from deeplens.runtimes.trt_api import TensorRt
from tests.support.cuda_stand_in import Cudart
from tests.support.trt_engines import PROFILES, add_engine, inputs_of, library_of, runtime_of
from tests.support.trt_stand_in import BINDINGS, TensorRtStandIn, engine_bytes


@pytest.fixture(params=sorted(BINDINGS))
def module(request: pytest.FixtureRequest) -> TensorRtStandIn:
    return TensorRtStandIn(request.param, Cudart())


def test_an_engine_is_not_read_before_hash_and_key_are_right(tmp_path: Path, module: TensorRtStandIn) -> None:
    entry = add_engine(tmp_path, "upsample", module)
    path = tmp_path / entry.path
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with (
        runtime_of(tmp_path, module) as runtime,
        pytest.raises(MismatchError, match=r"SHA-256 .*rebuild it with `deep"),
    ):
        runtime.open("upsample")
    path.unlink()
    with (
        runtime_of(tmp_path, module) as runtime,
        pytest.raises(MissingError, match="in the manifest but does not exist"),
    ):
        runtime.open("upsample")
    assert "deserialise" not in module.log


@pytest.mark.parametrize(
    ("field", "value"),
    [("version", "10.0.1"), ("gpu", "RTX 4090"), ("compute_capability", "8.9"), ("cuda", "11.8"), ("driver", "11.8"),
     ("system", "Windows AMD64")],
)  # fmt: skip
def test_a_foreign_engine_names_both_sides_and_the_command(
    tmp_path: Path, module: TensorRtStandIn, field: str, value: str
) -> None:
    changed: dict[str, Any] = {field: value}
    add_engine(tmp_path, "upsample", module, **changed)
    here = getattr(TensorRt(library_of(module), module).machine(Cuda(module.cudart)), field)
    with runtime_of(tmp_path, module) as runtime, pytest.raises(MismatchError) as caught:
        runtime.open("upsample")
    message = str(caught.value)
    assert f"{value}, here {here}" in message
    assert "rebuild it here with `deeplens export trt --target desktop`" in message
    assert "\n" not in message
    assert "deserialise" not in module.log
    # Beside one that fits it is passed over.
    add_engine(tmp_path, "upsample", module)
    with runtime_of(tmp_path, module) as runtime:
        runtime.open("upsample").run(inputs_of())


def test_a_version_compatible_engine_runs_on_another_minor(tmp_path: Path, module: TensorRtStandIn) -> None:
    major = module.__version__.split(".")[0]
    add_engine(tmp_path, "upsample", module, version=f"{major}.0", version_compatible="yes")
    with runtime_of(tmp_path, module) as runtime:
        runtime.open("upsample").run(inputs_of())
    add_engine(tmp_path, "depth", module, version=f"{int(major) + 1}.0", version_compatible="yes")
    with runtime_of(tmp_path, module) as runtime, pytest.raises(MismatchError, match="version"):
        runtime.open("depth")


@pytest.mark.parametrize("data", [b"", b"\x00" * 99, engine_bytes("lens_blur", PROFILES), engine_bytes("upsample")])
def test_a_broken_or_other_engine_with_a_right_hash_is_refused(
    tmp_path: Path, module: TensorRtStandIn, data: bytes
) -> None:
    entry = add_engine(tmp_path, "upsample", module)
    path = tmp_path / entry.path
    path.write_bytes(data)
    manifest.add(tmp_path, replace(entry, sha256=file_sha256(path)))
    with (
        runtime_of(tmp_path, module) as runtime,
        pytest.raises(MismatchError, match=r"rebuild it with `deep.*--rebuild`"),
    ):
        runtime.open("upsample")


def test_an_entry_without_a_key_is_refused(tmp_path: Path, module: TensorRtStandIn) -> None:
    entry = add_engine(tmp_path, "upsample", module)
    manifest.add(tmp_path, replace(entry, more={"command": "x"}))
    with runtime_of(tmp_path, module) as runtime, pytest.raises(InputError, match="no readable key"):
        runtime.open("upsample")
