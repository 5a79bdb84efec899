"""What is measured: a variant on a runtime, and peers of the runtimes that only the benchmarks run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from deeplens.console.errors import InputError, MissingError
from deeplens.console.package import pip_install
from deeplens.model.contract import CONTRACTS, Contract
from deeplens.model.shipped import Weights
from deeplens.runtimes import RUNTIMES, manifest, open_runtime
from deeplens.runtimes.contract import Arrays, OpensOnce, Runtime, Session
from deeplens.runtimes.pytorch import TorchRuntime, TorchSession
from deeplens.runtimes.tiling import TILE

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


class CompiledRuntime(TorchRuntime):
    """PyTorch through torch.compile, as Inductor compiles for the CPU; each shape anew, so that all are static."""

    name = "torch-compiled"

    def _load(self, network: str) -> TorchSession:
        import torch

        session = super()._load(network)
        session.module = torch.compile(session.module, dynamic=False)  # type: ignore[assignment]
        return session


class _OpenVinoSession(Session):
    """One network in OpenVINO, with a request for each of `lanes` runs at the same time."""

    def __init__(self, compiled: Any, contract: Contract, *, lanes: int) -> None:
        self.lanes = lanes
        self._contract = contract
        self._closed = False
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(lanes):
            self._requests.put(compiled.create_infer_request())

    @property
    def closed(self) -> bool:
        return self._closed

    def describe(self) -> Contract:
        return self._contract

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        request = self._requests.get()
        try:
            outputs = request.infer(dict(inputs), share_inputs=True)
            return {tensor.name: outputs[tensor.name] for tensor in self._contract.outputs}
        finally:
            self._requests.put(request)

    def close(self) -> None:
        self._closed = True
        self._requests = SimpleQueue()


class OpenVinoRuntime(OpensOnce[_OpenVinoSession]):
    """OpenVINO on the CPU, in FP32, on the ONNX artefacts of one variant.

    As in `runtimes.ort.OnnxRuntime` the step runs a tile on each core at the same time, and the other networks take all
    cores for one run. (`parity_tests.interop` has one that checks numbers, a run at a time.)
    """

    name = "openvino"

    def __init__(self, *, variant: str, artifacts: Path | None, threads: int) -> None:
        super().__init__()
        try:
            import openvino
        except ImportError as error:
            raise MissingError(f"OpenVINO can't be imported ({error}): {pip_install('interop')}") from error
        self.variant = variant
        self._folder = artifacts or manifest.DEFAULT_FOLDER
        self._core = openvino.Core()
        self._threads = threads

    def _load(self, network: str) -> _OpenVinoSession:
        entry = manifest.find(
            self._folder, network=network, variant=self.variant, runtime="onnx", precision="fp32", shape=None
        )
        path = manifest.verify(self._folder, entry)
        lanes = self._threads if network == "upsample" else 1
        settings = {
            "INFERENCE_NUM_THREADS": self._threads, "NUM_STREAMS": lanes, "INFERENCE_PRECISION_HINT": "f32",
        }  # fmt: skip
        compiled = self._core.compile_model(str(path), "CPU", settings)
        return _OpenVinoSession(compiled, CONTRACTS[network], lanes=lanes)
