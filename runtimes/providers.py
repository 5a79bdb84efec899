"""ONNX Runtime's execution providers: what each is called, which package brings it, and how a session gets it.

A provider is built into the package that is installed, or comes as a plug-in in a package of its own. The packages
`onnxruntime`, `onnxruntime-gpu`, `onnxruntime-openvino` and so on take each other's place: only one can be installed.
"""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from deeplens.console.errors import InputError, MissingError, one_line
from deeplens.console.machine import version
from deeplens.runtimes.accelerator import CPU
from deeplens.runtimes.onnx_form import artefacts_of
from deeplens.runtimes.spec import has_driver, has_library

AUTO = "auto"

Settings = Callable[[int, int], Mapping[str, str]]
"""The provider's own options, from the number of threads for one run and of runs at the same time."""


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    Attributes:
        name: what `--provider` calls it.
        library_name: what ONNX Runtime calls it.
        get: what brings it, for messages.
        needs: what it needs on the machine, for messages.
        plugin: module of the package that brings it as a plug-in; empty: there is none.
        settings: its own options.
        then: providers that get what it leaves, before the CPU.
        form: of the graphs it computes well, one of `export.onnx_forms.FORMS`; "cpu" where it has none of its own.
        precisions: of the artefacts, in the order in which they are looked for unless told otherwise.
        on_host: whether it computes on the processor: then it runs several tiles at the same time.
        memory: ONNX Runtime's name of the kind of memory that it computes in, for I/O binding.
        driver: shared library of the device's driver without which "auto" passes it over; empty: none.
    """

    name: str
    library_name: str
    get: str
    needs: str = ""
    plugin: str = ""
    settings: Settings = lambda _threads, _lanes: {}
    then: tuple[str, ...] = ()
    form: str = CPU
    precisions: tuple[str, ...] = ("fp16", "fp32")
    on_host: bool = False
    memory: str = "cpu"
    driver: str = ""

    @property
    def artefacts(self) -> str:
        """The runtime whose lines of the manifest are looked up."""
        return artefacts_of(self.form)


def _openvino(threads: int, lanes: int) -> dict[str, str]:
    # FP32, also where the processor has BF16, which is OpenVINO's own choice there.
    own = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads * lanes, "NUM_STREAMS": lanes}
    return {"device_type": "CPU", "load_config": json.dumps({"CPU": own})}


_CUDA = "CUDAExecutionProvider"
_NVIDIA = "an NVIDIA GPU with its driver, and the CUDA and cuDNN libraries that this package was built for"

PROVIDERS: dict[str, Provider] = {
    each.name: each
    for each in (
        Provider(
            CPU, "CPUExecutionProvider", "pip install onnxruntime", precisions=("fp32",), on_host=True,
        ),
        Provider(
            "cuda", _CUDA, "pip install onnxruntime-gpu", _NVIDIA, memory="cuda", driver="libcuda.so.1",
            # Tiles have many sizes: a search over all algorithms for each takes longer than the photo. FP32 stays FP32.
            settings=lambda _threads, _lanes: {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"},
        ),
        Provider(
            "tensorrt", "TensorrtExecutionProvider", "pip install onnxruntime-gpu tensorrt", f"{_NVIDIA}, and TensorRT",
            memory="cuda", driver="libcuda.so.1", then=(_CUDA,),
        ),
        Provider(
            "trt-rtx", "NvTensorRTRTXExecutionProvider", "pip install onnxruntime onnxruntime-ep-nv-tensorrt-rtx",
            "an NVIDIA RTX GPU with its driver", plugin="onnxruntime_ep_nv_tensorrt_rtx", memory="cuda",
            driver="libcuda.so.1",
        ),
        Provider(
            "coreml", "CoreMLExecutionProvider", "pip install onnxruntime, on a Mac", "a Mac", precisions=("fp32",),
            settings=lambda _threads, _lanes: {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL"},
        ),
        Provider(
            "openvino", "OpenVINOExecutionProvider",
            "pip install onnxruntime-openvino, or onnxruntime onnxruntime-ep-openvino on an Intel processor",
            "an Intel processor (the package onnxruntime-openvino takes others too)", settings=_openvino,
            plugin="onnxruntime_ep_openvino",
            precisions=("fp32",), on_host=True,
        ),
        Provider(
            "directml", "DmlExecutionProvider", "pip install onnxruntime-directml, on Windows", "Windows", memory="dml",
        ),
        Provider(
            "webgpu", "WebGpuExecutionProvider",
            "pip install onnxruntime-webgpu, or onnxruntime onnxruntime-ep-webgpu",
            "a GPU with a driver for Vulkan, Direct3D 12 or Metal", plugin="onnxruntime_ep_webgpu", form="webgpu",
        ),
        Provider(
            "xnnpack", "XnnpackExecutionProvider", "no package has it: build ONNX Runtime with --use_xnnpack",
            precisions=("fp32",), on_host=True,
            settings=lambda threads, _lanes: {"intra_op_num_threads": str(threads)},
        ),
    )
}  # fmt: skip
"""Name → provider, in the order in which they are listed."""

ORDER = ("cuda", "trt-rtx", "directml", "coreml", "openvino", CPU)
"""In which order "auto" tries them. Left out: `tensorrt` builds engines for minutes at each start, `webgpu` needs
graphs of its own, `xnnpack` is no faster than the CPU's provider."""

NAMES = (AUTO, *PROVIDERS)


def checked(name: str) -> str:
    """The name of a provider, or "auto". InputError: it is unknown."""
    if name not in NAMES:
        raise InputError(f"unknown provider '{name}': choose {' or '.join(NAMES)}")
    return name


def tried(ort: ModuleType, name: str) -> list[Provider]:
    """The providers that `name` stands for: one, or of "auto" those that may run here, the CPU's last.

    Raises:
        InputError: it is unknown.
        MissingError: the installed ONNX Runtime doesn't have it, and no plug-in brings it.
    """
    if checked(name) != AUTO:
        found = PROVIDERS[name]
        if not is_there(ort, found):
            raise MissingError(
                f"ONNX Runtime {ort.__version__} as it is installed here has no provider '{name}' "
                f"({found.library_name}): {found.get}"
            )
        return [found]
    candidates = [PROVIDERS[each] for each in ORDER]
    return [each for each in candidates if is_there(ort, each) and (not each.driver or has_driver(each.driver))]


def is_there(ort: ModuleType, provider: Provider) -> bool:
    """Whether a provider is built into ONNX Runtime or can be had from a plug-in. Nothing is loaded."""
    return provider.library_name in ort.get_available_providers() or bool(
        provider.plugin and has_library(provider.plugin)
    )


def attached(
    ort: ModuleType, provider: Provider, options: Any, *, threads: int, lanes: int
) -> tuple[dict[str, Any], str]:
    """Give a session's options what the provider needs.

    Args:
        options: ONNX Runtime's SessionOptions, changed in place for a plug-in.
        threads: for one run.
        lanes: runs at the same time.

    Returns:
        the arguments of InferenceSession beside graph and options, and the versions that are used.

    Raises:
        MissingError: a plug-in that can't be loaded, or finds no device.
    """
    own = dict(provider.settings(threads, lanes))
    versions = f"onnxruntime {ort.__version__}"
    built_in = ort.get_available_providers()
    if provider.library_name in built_in or not provider.plugin:
        chain: list[Any] = [(provider.library_name, own), *(each for each in provider.then if each in built_in)]
        if provider.name != CPU:
            chain.append("CPUExecutionProvider")
        return {"providers": chain}, versions
    package = provider.plugin.replace("_", "-")
    devices = _plugin_devices(ort, provider, package)
    own.pop("device_type", None)  # the device says it
    options.add_provider_for_devices(devices[:1], own)
    return {}, f"{versions}, {package} {version(package) or _own_version(provider.plugin)}"


def _plugin_devices(ort: ModuleType, provider: Provider, package: str) -> Sequence[Any]:
    """The devices of a plug-in, which is registered on first use."""
    try:
        module = importlib.import_module(provider.plugin)
        found = [each for each in ort.get_ep_devices() if each.ep_name == provider.library_name]
        if not found:
            ort.register_execution_provider_library(provider.library_name, module.get_library_path())
            found = [each for each in ort.get_ep_devices() if each.ep_name == provider.library_name]
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        if "already registered" not in str(error):
            raise MissingError(f"the plug-in {package} can't be loaded ({one_line(error)}): {provider.get}") from error
        found = []
    if not found:
        raise MissingError(f"the plug-in {package} finds no device here that it can use: it needs {provider.needs}")
    return found


def _own_version(module: str) -> str:
    return str(getattr(importlib.import_module(module), "__version__", "of unknown version"))
