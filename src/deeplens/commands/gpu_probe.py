"""What of this machine can use its GPU: run as a process of its own, so that nothing is left open on the GPU.

Prints one line of JSON. Several processes take turns on the GPU afterwards; where it is set to serve one process only,
an open one would keep the others out.
"""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from deeplens.benchmarks.nvml import device_of
from deeplens.console.errors import one_line
from deeplens.console.machine import version
from deeplens.console.script import run_script
from deeplens.runtimes.spec import has_library

LIBRARIES = ("torch", "triton", "onnxruntime", "onnxruntime-gpu", "onnx", "tensorrt", "cuda-bindings", "nvidia-ml-py")

TF32 = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"


def probe() -> dict[str, Any]:
    """What there is.

    Returns:
        machine: name of a property → its value.
        engines: of "torch", "cuda" (ONNX Runtime's provider) and "tensorrt" those that can be used.
        missing: engine → why it can't be used.
        notes: what else is worth knowing.
    """
    machine: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, look in (("torch", _torch), ("cuda", _onnxruntime), ("tensorrt", _tensorrt)):
        try:
            machine.update(look())
        except Exception as error:  # whatever a library does that finds no GPU, or one that it does not know
            missing[name] = one_line(error)[:300]
    machine.update({name: found for name in LIBRARIES if (found := version(name))})
    engines = [name for name in ("torch", "cuda", "tensorrt") if name not in missing]
    return {"machine": machine, "engines": engines, "missing": missing, "notes": notes()}


def _torch() -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = f"is built for CUDA {built}, and the driver may be too old for it" if built else "is built without CUDA"
        raise RuntimeError(f"PyTorch {torch.__version__} sees no GPU: it {why}")
    # A GPU that is too old or too new for this build is seen, but runs nothing.
    assert float((torch.ones(8, device="cuda") * 2).sum()) == 16
    properties = torch.cuda.get_device_properties(0)
    return {
        "GPU": properties.name,
        "compute capability": f"{properties.major}.{properties.minor}",
        "GiB": round(properties.total_memory / 2**30, 1),
        "CUDA of PyTorch": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),
    }


def _onnxruntime() -> dict[str, Any]:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        both = version("onnxruntime-gpu") and version("onnxruntime")
        raise RuntimeError(
            "onnxruntime took the place of onnxruntime-gpu: uninstall both, then install onnxruntime-gpu alone"
            if both
            else f"onnxruntime {onnxruntime.__version__} has no CUDA: install onnxruntime-gpu in its place"
        )
    if not has_library("onnx"):
        raise RuntimeError("the package onnx is missing, which the loop on the GPU needs")
    return {}


def _tensorrt() -> dict[str, Any]:
    from deeplens.runtimes.cuda import Cuda
    from deeplens.runtimes.trt_api import TensorRt

    TensorRt("tensorrt").builder()
    Cuda()
    return {}


def notes() -> list[str]:
    """What makes a result incomplete, a line each."""
    found = []
    if not has_library("pynvml"):
        found.append("clocks, temperature and energy are not read: pip install nvidia-ml-py")
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        found.append("torch.compile needs a C compiler, and there is none")
    if not has_library("triton"):
        found.append("torch.compile needs the package triton, and it is missing")
    if not has_library("pytest"):
        found.append("the tests need the package pytest, and it is missing")
    if os.environ.get(TF32) not in (None, "0"):
        found.append(f"{TF32} is set: FP32 is computed in FP32 all the same")
    with suppress(Exception):  # what the driver does not tell is not worth a failure
        found += _nvml_notes()
    return found


def _nvml_notes() -> list[str]:
    import pynvml

    pynvml.nvmlInit()
    try:
        device = device_of(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        found = []

        def told(call: Callable[[Any], Any]) -> Any:
            try:
                return call(device)
            except pynvml.NVMLError:
                return None

        mode = told(pynvml.nvmlDeviceGetMigMode)
        if mode is not None and mode[0]:
            found.append("the GPU is shared by MIG: times are those of a part of it, and its clocks those of all of it")
        if told(pynvml.nvmlDeviceGetComputeMode) == pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS:
            found.append("the GPU serves one process at a time: benches of several candidates will fail")
        return found
    finally:
        pynvml.nvmlShutdown()


def main() -> None:
    """Tell what of this machine can use its GPU, as one line of JSON."""
    print(json.dumps(probe()))


if __name__ == "__main__":
    run_script(main)
