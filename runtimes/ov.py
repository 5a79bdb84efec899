"""OpenVINO on the CPU: a peer in the benchmarks and a check of the ONNX graphs, not a runtime of the product.

Needs the `interop` extra and artefacts made by `deeplens export onnx`; no torch.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any, Literal

import numpy as np

from deeplens.console.errors import InputError, MismatchError, MissingError, one_line
from deeplens.console.machine import core_count
from deeplens.console.package import pip_install
from deeplens.model.contract import Contract, part_of
from deeplens.model.whole_contract import contract_named
from deeplens.runtimes import artefact, folders, manifest
from deeplens.runtimes.contract import Arrays, OpensOnce, Session, check_inputs


class OpenVinoSession(Session):
    """One network in OpenVINO, with a request for each of `lanes` runs at the same time.

    Attributes:
        entry: the artefact's line in the manifest.
        lanes: runs that may go on at the same time.
    """

    def __init__(self, compiled: Any, contract: Contract, entry: manifest.Entry, *, lanes: int = 1) -> None:
        self.entry: manifest.Entry = entry
        self.lanes = lanes
        self._contract = contract
        self._closed = False
        self._takes = {name for each in compiled.inputs for name in each.names}  # an input that is not used is none
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(lanes):
            self._requests.put(compiled.create_infer_request())

    @property
    def closed(self) -> bool:
        return self._closed

    def describe(self) -> Contract:
        """The network's contract; `fixed_size` is set when the artefact has one size only."""
        return self._contract

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Run the network once: see `runtimes.contract.Session.run`."""
        if self._closed:
            raise InputError(f"{self._contract.network}: this session is closed; open the network again")
        check_inputs(self._contract, inputs)
        feed = {name: np.ascontiguousarray(array) for name, array in inputs.items() if name in self._takes}
        request = self._requests.get()
        try:
            try:
                outputs = request.infer(feed, share_inputs=True)
            except RuntimeError as error:
                raise MismatchError(f"OpenVINO fails while it runs {self.entry.path} ({one_line(error)})") from error
            return {tensor.name: outputs[tensor.name] for tensor in self._contract.outputs}
        finally:
            self._requests.put(request)

    def close(self) -> None:
        self._closed = True
        self._requests = SimpleQueue()


class OpenVinoRuntime(OpensOnce[OpenVinoSession]):
    """Opens the ONNX artefacts of one variant in OpenVINO, after their SHA-256 was verified.

    It computes in FP32, also where the processor has BF16, which is OpenVINO's own choice there.

    Args:
        variant: one of `model.contract.VARIANTS`.
        artifacts: the folder with `manifest.json`; None: as `runtimes.folders.opened_folder`.
        threads: cores to use; None: all. As in `runtimes.ort.OnnxRuntime` the step runs a tile on each core at the same
            time, and the other networks take all cores for one run.
        precision: of the artefacts.
        shapes: "dynamic", or the low-resolution (height, width) whose fixed-shape artefacts are to be used.

    Raises:
        MissingError: OpenVINO is not installed.
    """

    name = "openvino"

    def __init__(
        self,
        *,
        variant: str = "edge",
        artifacts: Path | None = None,
        threads: int | None = None,
        precision: str = "fp32",
        shapes: Literal["dynamic"] | tuple[int, int] = "dynamic",
    ) -> None:
        super().__init__()
        self.variant = variant
        self.artifacts = folders.opened_folder("onnx", variant=variant, precision=precision, artifacts=artifacts)
        self._library = import_openvino()
        self._threads = threads or core_count()
        self._precision = precision
        self._shape = None if shapes == "dynamic" else shapes

    def _load(self, network: str) -> OpenVinoSession:
        contract = contract_named(network)
        entry = manifest.find(
            self.artifacts,
            network=network,
            variant=part_of(self.variant, network),
            runtime="onnx",
            precision=self._precision,
            shape=None if contract.fixed_size else self._shape,
        )
        path, data = self.artifacts / entry.path, artefact.load(self.artifacts, entry)
        lanes = self._threads if network == "upsample" else 1
        settings = {
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": lanes,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            core = self._library.Core()
            compiled = core.compile_model(core.read_model(data), "CPU", settings)
        except RuntimeError as error:
            reason = one_line(error)
            raise MismatchError(f"OpenVINO {self._library.__version__} can't load {path} ({reason})") from error
        return OpenVinoSession(compiled, replace(contract, fixed_size=entry.size), entry, lanes=lanes)


def import_openvino() -> ModuleType:
    """The library. MissingError, naming the extra, where it is not installed."""
    try:
        import openvino
    except ImportError as error:
        raise MissingError(f"OpenVINO can't be imported ({error}): {pip_install('interop')}") from error
    # Makes a table inside OpenVINO (2026.4) on first use. Two threads that do so at once wait for each other for ever.
    openvino.Type.f32.to_dtype()
    return openvino
