"""What is measured: a variant on a runtime, and peers of the runtimes that only the benchmarks run."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from deeplens.console.errors import InputError
from deeplens.model.contract import NETWORKS, VARIANTS, part_of
from deeplens.model.shipped import WEIGHTS, Weights
from deeplens.runtimes import RUNTIMES, open_runtime
from deeplens.runtimes.accelerator import DEFAULT, Accelerator
from deeplens.runtimes.contract import Runtime
from deeplens.runtimes.pytorch import TorchRuntime
from deeplens.runtimes.tiling import TILE
from deeplens.runtimes.whole import whole_runtime

WHOLE = "-whole"
"""Ends the name of a peer that runs each level at once, as the networks are called without the harness's tiles."""

PEERS = ("torch-compiled", f"torch{WHOLE}", f"torch-compiled{WHOLE}")
"""Not runtimes of the project: PyTorch through torch.compile or without tiles."""

KNOWN = (*RUNTIMES, *PEERS)


@dataclass(frozen=True)
class Candidate:
    """What is measured.

    Attributes:
        weights: for torch; an artefact brings its own.
        accelerator: ONNX Runtime's provider, PyTorch's device.
        loop: where the loop runs, as in `runtimes.refocuser.Refocuser`.
        aperture: α of the refocuses. The smaller, the fewer tiles are so blurred that the step is not run.
    """

    variant: str
    runtime: str
    weights: Weights = "shipped"
    artifacts: Path | None = None
    threads: int = 1
    precision: str = "fp32"
    aperture: float = 1.0
    accelerator: Accelerator = DEFAULT
    loop: str = "auto"

    @property
    def tile(self) -> int | None:
        """Of the harness: the largest side of a tile, None: each level at once."""
        return None if self.runtime.endswith(WHOLE) else TILE

    @property
    def name(self) -> str:
        on = " ".join(_said(name, value) for name, value in self.accelerator.chosen().items() if name != "cpu_nodes")
        loop = "" if self.loop == "auto" else f"{self.loop} loop"
        return " ".join(filter(None, (self.variant, self.runtime, on, self.precision.replace("fp32", ""), loop)))

    def open(self) -> Runtime:
        """The runtime.

        Raises:
            InputError: an unknown variant or runtime.
            MissingError: a library is not there.
        """
        if self.runtime not in KNOWN:
            raise InputError(f"unknown runtime '{self.runtime}': choose {', '.join(KNOWN)}")
        runtime = self.runtime.removesuffix(WHOLE)
        if runtime == "torch-compiled":
            return TorchRuntime(
                variant=self.variant,
                weights=self.weights,
                threads=self.threads,
                precision=self.precision,
                accelerator=replace(self.accelerator, compiled=True),
            )
        return open_runtime(
            runtime,
            variant=self.variant,
            weights=self.weights,
            artifacts=self.artifacts,
            threads=self.threads,
            precision=self.precision,
            accelerator=self.accelerator,
        )

    def open_whole(self, size: tuple[int, int]) -> Runtime:
        """The runtime of the graph of the whole effect for photos of `size`, height and width.

        Raises:
            InputError: it has no such graphs.
            MissingError: a library is not there.
        """
        return whole_runtime(
            self.runtime,
            size=size,
            variant=self.variant,
            artifacts=self.artifacts,
            precision=self.precision,
            threads=self.threads,
        )


def _said(name: str, value: object) -> str:
    """What was chosen, in a name: "cuda", "channels-last"."""
    return str(value) if name in ("provider", "device") else name.replace("_", "-")


def candidate_parts(text: str) -> tuple[str, str, str | None]:
    """Variant, runtime and precision from "edge,onnx" or "edge,trt,int8"; InputError when it is not that."""
    parts = text.split(",")
    if len(parts) not in (2, 3):
        raise InputError(f"candidate '{text}' is not VARIANT,RUNTIME or VARIANT,RUNTIME,PRECISION")
    return parts[0], parts[1], parts[2] if len(parts) == 3 else None


def weights_of(variant: str) -> Literal["shipped", "initial"]:
    """Shipped weights where all networks have them, else initial ones: the speed is the same."""
    names = [(part_of(variant, network), network) for network in NETWORKS]
    files = [WEIGHTS / f"{own}_{network}.safetensors" for own, network in names if own in VARIANTS]
    return "shipped" if all(path.is_file() for path in files) else "initial"
