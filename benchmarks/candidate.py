"""What is measured: a variant on a runtime, and peers of the runtimes that only the benchmarks run."""

from dataclasses import dataclass, replace
from pathlib import Path

from deeplens.console.errors import InputError
from deeplens.model.shipped import Weights
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

    @property
    def tile(self) -> int | None:
        """Of the harness: the largest side of a tile, None: each level at once."""
        return None if self.runtime.endswith(WHOLE) else TILE

    @property
    def name(self) -> str:
        on = " ".join(_said(name, value) for name, value in self.accelerator.chosen().items() if name != "cpu_nodes")
        return " ".join(filter(None, (self.variant, self.runtime, on, self.precision.replace("fp32", ""))))

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
