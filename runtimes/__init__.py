"""Artefact → arrays: one small contract (`runtimes.contract`), one module a runtime, and the harness above them all."""

from pathlib import Path
from typing import Literal

from deeplens.console.errors import InputError
from deeplens.model.contract import VARIANTS
from deeplens.runtimes.contract import Runtime

RUNTIMES = ("torch", "onnx", "trt", "coreml")


def open_runtime(
    name: str,
    *,
    variant: str = "edge",
    artifacts: Path | None = None,
    weights: Path | Literal["shipped", "initial"] = "shipped",
    threads: int | None = None,
    precision: str = "fp32",
) -> Runtime:
    """A runtime by its name. Its library is imported here, its networks are loaded when they are opened.

    Args:
        name: one of `RUNTIMES`.
        variant: one of `model.contract.VARIANTS`.
        artifacts: the folder with `manifest.json`; None: `runtimes.manifest.DEFAULT_FOLDER`. Not used by "torch".
        weights: as in `model.build.load`. Used by "torch" only: an artefact carries the weights it was made from.
        threads: for one operation; None: as many as the library chooses. Not used by "trt" and "coreml".
        precision: of the artefact: see `runtimes.manifest.Entry`. "torch" has only "fp32".

    Raises:
        InputError: an unknown runtime or variant, or another precision than "fp32" of "torch".
        MissingError: the runtime's library is not installed; the message names the extra.
    """
    if name not in RUNTIMES:
        raise InputError(f"unknown runtime '{name}': choose {' or '.join(RUNTIMES)}")
    if variant not in VARIANTS:
        raise InputError(f"unknown variant '{variant}': choose {' or '.join(VARIANTS)}")
    if name == "torch":
        if precision != "fp32":
            raise InputError(f"runtime 'torch' computes in fp32, not '{precision}': choose another runtime")
        from deeplens.runtimes.pytorch import TorchRuntime

        return TorchRuntime(variant=variant, weights=weights, threads=threads)
    if name == "trt":
        from deeplens.runtimes.trt import TrtRuntime

        return TrtRuntime(variant=variant, artifacts=artifacts, precision=precision)
    if name == "coreml":
        from deeplens.runtimes.coreml.runtime import CoreMLRuntime

        return CoreMLRuntime(variant=variant, artifacts=artifacts, precision=precision)
    from deeplens.runtimes.ort import OnnxRuntime

    return OnnxRuntime(variant=variant, artifacts=artifacts, threads=threads, precision=precision)
