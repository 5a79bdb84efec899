"""The table of runtimes: what each needs, what it has artefacts of, and how it is opened. Imports no runtime.

A new runtime is one file with a class like `runtimes.ort.OnnxRuntime`, and one line in `RUNTIMES`.
"""

import ctypes
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from deeplens.console.package import pip_install


@dataclass(frozen=True)
class RuntimeSpec:
    """One runtime.

    Attributes:
        name: what `--runtime` calls it.
        opens: "module:class" of a `runtimes.contract.Runtime`.
        takes: the arguments of `runtimes.open_runtime` that the class takes beside `variant`.
        extra: the extra of this distribution that installs what it needs.
        libraries: modules of which at least one must be importable.
        precisions: of its artefacts, the default first. Of a runtime without artefacts: what it computes in.
        sizes: "free" if one artefact takes any size, "fixed" if an artefact takes one size.
        platforms: values of `sys.platform` on which it runs; empty: all.
        automatic: whether `auto` may choose it.
        driver: shared library of the device's driver, without which it cannot run; empty: none is needed.
        artefacts: what the manifest calls the runtime of its artefacts; empty: as its name.
        stored: precision → that of its artefacts, where it is another.
    """

    name: str
    opens: str
    takes: frozenset[str]
    extra: str
    libraries: tuple[str, ...]
    precisions: tuple[str, ...]
    sizes: Literal["free", "fixed"] = "free"
    platforms: tuple[str, ...] = ()
    driver: str = ""
    automatic: bool = True
    artefacts: str = ""
    stored: Mapping[str, str] = field(default_factory=dict)

    @property
    def default_precision(self) -> str:
        """What is exported and opened unless told otherwise."""
        return self.precisions[0]

    @property
    def reads_artifacts(self) -> bool:
        """Whether it runs exported files. If not, it runs the PyTorch networks themselves, or what the page carries."""
        return "artifacts" in self.takes

    @property
    def stored_as(self) -> str:
        """What the manifest calls the runtime of its artefacts."""
        return self.artefacts or self.name

    def stored_precision(self, precision: str) -> str:
        """The precision of the artefacts that it reads to compute in `precision`."""
        return self.stored.get(precision, precision)

    @property
    def install(self) -> str:
        """The command that installs what it needs."""
        return pip_install(self.extra)

    def is_installed(self) -> bool:
        """Whether one of its libraries can be found. They are not imported."""
        return any(has_library(library) for library in self.libraries)

    def is_for_this_machine(self) -> bool:
        """Whether it can run on this operating system and with these drivers."""
        return (not self.platforms or sys.platform in self.platforms) and (not self.driver or has_driver(self.driver))


def has_driver(name: str) -> bool:
    """Whether a shared library can be loaded."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def has_library(name: str) -> bool:
    """Whether a top-level module can be found, without importing it."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # a module that was set to None, or has no spec
        return False


RUNTIMES: dict[str, RuntimeSpec] = {
    spec.name: spec
    for spec in (
        RuntimeSpec(
            "torch", "deeplens.runtimes.pytorch:TorchRuntime",
            frozenset({"weights", "threads", "precision", "accelerator"}),
            extra="torch", libraries=("torch",), precisions=("fp32", "fp16", "bf16"),
        ),
        RuntimeSpec(
            "onnx", "deeplens.runtimes.ort:OnnxRuntime",
            frozenset({"artifacts", "threads", "precision", "accelerator"}), extra="onnx", libraries=("onnxruntime",),
            precisions=("fp32", "fp16", "int8", "mixed"),
        ),
        RuntimeSpec(
            "openvino", "deeplens.runtimes.ov:OpenVinoRuntime", frozenset({"artifacts", "threads", "precision"}),
            extra="openvino", libraries=("openvino",), precisions=("fp32", "bf16", "int8", "mixed"), automatic=False,
            artefacts="onnx-openvino", stored={"bf16": "fp32", "mixed": "int8"},
        ),
        RuntimeSpec(
            "trt", "deeplens.runtimes.trt:TrtRuntime", frozenset({"artifacts", "precision"}),
            extra="tensorrt", libraries=("tensorrt", "tensorrt_rtx"), precisions=("fp16", "fp32", "int8", "mixed"),
            driver="libcuda.so.1",
        ),
        RuntimeSpec(
            "coreml", "deeplens.runtimes.coreml.runtime:CoreMLRuntime", frozenset({"artifacts", "precision"}),
            extra="coreml", libraries=("coremltools",),
            precisions=("fp16", "fp32", "int8", "palette6", "palette4", "mixed"), sizes="fixed", platforms=("darwin",),
        ),
        RuntimeSpec(
            "web", "deeplens.runtimes.web:WebRuntime", frozenset(),
            extra="web", libraries=("playwright",), precisions=("fp32",), automatic=False,
        ),
    )
}  # fmt: skip
"""Name → runtime, in the order in which they are listed. `runtimes.choice` says in which order `auto` tries them."""
