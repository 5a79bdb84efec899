"""Artefact → arrays: one small contract (`runtimes.contract`), one module a runtime, and the harness above them all."""

from importlib import import_module
from pathlib import Path
from typing import Any

from deeplens.model.contract import JOIN
from deeplens.model.shipped import Weights
from deeplens.runtimes.accelerator import DEFAULT, Accelerator
from deeplens.runtimes.choice import AUTO, resolved
from deeplens.runtimes.contract import Runtime
from deeplens.runtimes.spec import RUNTIMES, RuntimeSpec

__all__ = ["AUTO", "RUNTIMES", "Accelerator", "Runtime", "RuntimeSpec", "open_runtime", "resolved"]


def open_runtime(
    name: str = AUTO,
    *,
    variant: str = "edge",
    artifacts: Path | None = None,
    weights: Weights = "shipped",
    threads: int | None = None,
    precision: str | None = None,
    accelerator: Accelerator = DEFAULT,
) -> Runtime:
    """A runtime by its name. Its library is imported here, its networks are loaded when they are opened.

    Args:
        name: one of `RUNTIMES`, or "auto": the first that is installed here and has what it runs
            (`runtimes.choice`).
        variant: one of `model.contract.VARIANTS`.
        artifacts: the folder with `manifest.json`; None: the first of `runtimes.folders.search_path` that has
            artefacts of this kind. "torch" does not use it.
        weights: as in `model.build.load`. "torch" alone uses it: an artefact carries the weights it was made from.
        threads: for one operation; None: as many as the library chooses. "trt" and "coreml" do not use it.
        precision: of the artefact, one of `RuntimeSpec.precisions`; None: the runtime's default.
        accelerator: ONNX Runtime's provider, PyTorch's device.

    Raises:
        InputError: an unknown runtime, variant or precision.
        MissingError: the runtime's library is not installed; the message names the extra. With "auto": nothing that is
            installed has what it runs.
    """
    name, precision = resolved(
        name, variant=variant, artifacts=artifacts, weights=weights, precision=precision, accelerator=accelerator
    )
    spec = RUNTIMES[name]
    given: dict[str, Any] = {
        "artifacts": artifacts, "weights": weights, "threads": threads, "precision": precision,
        "accelerator": accelerator,
    }  # fmt: skip
    module, kind = spec.opens.split(":")
    opened: Runtime = getattr(import_module(module), kind)(variant=variant, **{key: given[key] for key in spec.takes})
    if name == "onnx" and JOIN in variant:
        from deeplens.runtimes.depth_file import with_file

        return with_file(opened, precision=precision, artifacts=artifacts, threads=threads)
    return opened
