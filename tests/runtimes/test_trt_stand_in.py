"""The stand-ins of CUDA and TensorRT notice what they are there for, and the recorded bindings are the real ones."""

import importlib
from typing import Any

import pytest

from deeplens.runtimes.trt_api import LIBRARIES, TensorRt
from tests.support.cuda_stand_in import Cudart, Misuse
from tests.support.record_trt_bindings import record
from tests.support.trt_stand_in import BINDINGS, TensorRtStandIn, engine_bytes


def test_reading_too_early_gives_nothing() -> None:
    cudart = Cudart()
    stream = cudart.cudaStreamCreateWithFlags(1)[1]
    device, host = cudart.cudaMalloc(4)[1], cudart.cudaHostAlloc(4, 0)[1]
    assert device is not None
    cudart.cudaMemcpyAsync(host, device, 4, 2, stream)
    assert cudart.host[host].raw == bytes(4)
    cudart.cudaStreamSynchronize(stream)
    assert cudart.host[host].raw == b"\xff" * 4


def test_wrong_sizes_and_addresses() -> None:
    cudart = Cudart()
    stream = cudart.cudaStreamCreateWithFlags(1)[1]
    device, host = cudart.cudaMalloc(8)[1], cudart.cudaHostAlloc(8, 0)[1]
    assert device is not None
    for target, source, size in ((device, host, 9), (device + 4, host, 4), (device, host + 4, 4)):
        with pytest.raises(Misuse):
            cudart.cudaMemcpyAsync(target, source, size, 1, stream)
    cudart.cudaMemcpyAsync(device, host, 8, 1, stream)
    with pytest.raises(Misuse, match="while a stream will use it"):
        cudart.cudaFree(device)
    cudart.cudaStreamBeginCapture(stream, 1)
    with pytest.raises(Misuse, match="while a graph is recorded"):
        cudart.cudaStreamSynchronize(stream)


def test_members_and_arguments_of_other_versions() -> None:
    old, new = (TensorRtStandIn(name) for name in ("tensorrt 10.3.0", "tensorrt 11.4.0.106"))
    assert "FP16" in old.classes["BuilderFlag"]
    assert not hasattr(new.BuilderFlag, "FP16")
    engine = new.Runtime(None).deserialize_cuda_engine(engine_bytes("depth"))
    with pytest.raises(AttributeError, match="has no device_memory_size in this version"):
        engine.device_memory_size  # noqa: B018
    with pytest.raises(TypeError, match="takes"):
        engine.create_execution_context().set_tensor_address("picture")


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_installed_bindings_are_those_on_record(name: str) -> None:
    """Of the same version: all of it. Of another: what our code touches, which the stand-ins hold it to."""
    try:
        module: Any = importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"{name} is not installed here ({error})")
    found = record(module)
    recorded = BINDINGS.get(f"{name} {found['version']}")
    if recorded is None:
        pytest.skip(f"{name} {found['version']} is not on record: add it with tests/support/record_trt_bindings.py")
    assert found == recorded


def test_both_majors_and_rtx_are_on_record() -> None:
    majors = {(line["library"], line["version"].split(".")[0]) for line in BINDINGS.values()}
    assert majors == {("tensorrt", "10"), ("tensorrt", "11"), ("tensorrt_rtx", "1")}
    removed = {"FP16", "INT8", "PREFER_PRECISION_CONSTRAINTS", "OBEY_PRECISION_CONSTRAINTS"}
    flags = {name: set(line["classes"]["BuilderFlag"]) for name, line in BINDINGS.items()}
    assert removed <= flags["tensorrt 10.3.0"]
    assert not removed & flags["tensorrt 11.4.0.106"]


def test_the_library_knows_its_compute_capabilities() -> None:
    capabilities = TensorRt("tensorrt_rtx", TensorRtStandIn("tensorrt_rtx 1.7.1.116")).compute_capabilities()
    assert capabilities == ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
    assert TensorRt("tensorrt", TensorRtStandIn("tensorrt 10.3.0")).compute_capabilities() == ()
