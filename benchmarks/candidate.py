"""What is measured: a variant on a runtime, and peers of the runtimes that only the benchmarks run."""

from dataclasses import dataclass
from pathlib import Path

from deeplens.console.errors import InputError
from deeplens.model.shipped import Weights
from deeplens.runtimes import RUNTIMES, open_runtime
from deeplens.runtimes.contract import Runtime
from deeplens.runtimes.ov import OpenVinoRuntime
from deeplens.runtimes.pytorch import TorchRuntime, TorchSession
from deeplens.runtimes.tiling import TILE
from deeplens.runtimes.whole import whole_runtime

WHOLE = "-whole"
"""Ends the name of a peer that runs each level at once, as the networks are called without the harness's tiles."""

PEERS = ("torch-compiled", f"torch{WHOLE}", f"torch-compiled{WHOLE}", "openvino")
"""Not runtimes of the project: PyTorch through torch.compile or without tiles, and OpenVINO on the ONNX artefacts."""

KNOWN = (*RUNTIMES, *PEERS)


@dataclass(frozen=True)
class Candidate:
    """What is measured.

    Attributes:
        weights: for torch; an artefact brings its own.
        aperture: α of the refocuses. The smaller, the fewer tiles are so blurred that the step is not run.
    """

    variant: str
    runtime: str
    weights: Weights = "shipped"
    artifacts: Path | None = None
    threads: int = 1
    precision: str = "fp32"
    aperture: float = 1.0

    @property
    def tile(self) -> int | None:
        """Of the harness: the largest side of a tile, None: each level at once."""
        return None if self.runtime.endswith(WHOLE) else TILE

    @property
    def name(self) -> str:
        return f"{self.variant} {self.runtime}" + ("" if self.precision == "fp32" else f" {self.precision}")

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
            return CompiledRuntime(variant=self.variant, weights=self.weights, threads=self.threads)
        if runtime == "openvino":
            return OpenVinoRuntime(variant=self.variant, artifacts=self.artifacts, threads=self.threads)
        return open_runtime(
            runtime,
            variant=self.variant,
            weights=self.weights,
            artifacts=self.artifacts,
            threads=self.threads,
            precision=self.precision,
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


class CompiledRuntime(TorchRuntime):
    """PyTorch through torch.compile, as Inductor compiles for the CPU; each shape anew, so that all are static."""

    name = "torch-compiled"

    def _load(self, network: str) -> TorchSession:
        import torch

        session = super()._load(network)
        session.module = torch.compile(session.module, dynamic=False)  # type: ignore[assignment]
        return session
