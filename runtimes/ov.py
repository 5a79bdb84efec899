"""OpenVINO on the CPU. Needs the `openvino` extra and artefacts by `deeplens export onnx --form openvino`; no torch.

OpenVINO compiles a graph for one size of input: with free sizes the same graph took 1.3 to 1.8 times as long. So a
network is compiled when it first meets a size, and what was compiled is kept for the sizes that were used last.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from types import ModuleType
from typing import Any, Literal

import numpy as np

from deeplens.console.errors import InputError, MismatchError, MissingError, one_line
from deeplens.console.machine import core_count
from deeplens.console.package import pip_install
from deeplens.model.contract import Contract, part_of
from deeplens.model.whole_contract import WHOLE_NETWORKS, contract_named
from deeplens.runtimes import artefact, folders, manifest
from deeplens.runtimes.accelerator import CPU as PROCESSOR
from deeplens.runtimes.accelerator import Ran
from deeplens.runtimes.contract import Arrays, OpensOnce, Session, check_inputs
from deeplens.runtimes.onnx_form import CPU, artefacts_of
from deeplens.runtimes.spec import RUNTIMES

SIZES = 8
"""As many sizes of a network stay compiled: a photo of 48 megapixels needs five of the step."""

HALF = ("bf16", "mixed")
"""Precisions in which OpenVINO computes in BF16 where the graph does not say INT8."""

SINGLE = ("depth",)
"""Networks that are computed in FP32 there too, as in PyTorch: in BF16 depth has 20 dB less than the others."""

NEEDS = {
    "BF16": "instructions for BF16 (AVX512-BF16 or AMX on x86-64)",
    "INT8": "instructions that OpenVINO computes INT8 with",
}
"""What OpenVINO calls an ability of the processor → what that is."""

ABILITIES = {"bf16": ("BF16",), "int8": ("INT8",), "mixed": ("BF16", "INT8")}
"""Precision → the abilities that it needs; FP32 needs none."""


class Engine:
    """A graph that is compiled for each size of its inputs when it first meets it.

    Args:
        core: OpenVINO's Core.
        model: OpenVINO's model of the graph.
        settings: of the compiled graphs.
        lanes: runs that may go on at the same time at one size.
    """

    def __init__(self, core: Any, model: Any, settings: Mapping[str, Any], *, lanes: int) -> None:
        self._core, self._model, self._settings, self._lanes = core, model, dict(settings), lanes
        self._takes = [each.any_name for each in model.inputs]
        self._compiled: OrderedDict[tuple[tuple[int, ...], ...], SimpleQueue[Any]] = OrderedDict()
        self._lock = Lock()

    def run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """The outputs by name, owned by the caller.

        Raises:
            RuntimeError: from OpenVINO.
        """
        feed = {name: np.ascontiguousarray(arrays[name]) for name in self._takes}
        requests = self._requests(tuple(each.shape for each in feed.values()))
        request = requests.get()
        try:
            found = request.infer(feed, share_inputs=True)
            return {name: found[port] for port in found for name in port.names}
        finally:
            requests.put(request)

    def _requests(self, shapes: tuple[tuple[int, ...], ...]) -> "SimpleQueue[Any]":
        """The requests at a size; a thread that asks for a new one waits while another compiles it."""
        with self._lock:
            if shapes not in self._compiled:
                model = self._model.clone()
                if model.is_dynamic():
                    model.reshape(dict(zip(self._takes, map(list, shapes), strict=True)))
                compiled = self._core.compile_model(model, "CPU", self._settings)
                queue: SimpleQueue[Any] = SimpleQueue()
                self._compiled[shapes] = queue
                for _ in range(self._lanes):
                    queue.put(compiled.create_infer_request())
            self._compiled.move_to_end(shapes)
            while len(self._compiled) > SIZES:
                self._compiled.popitem(last=False)
            return self._compiled[shapes]


class OpenVinoSession(Session):
    """One network in OpenVINO.

    Attributes:
        entry: the artefact's line in the manifest, with the hash of the weights it was made from.
        lanes: as in `runtimes.contract.Session`.
    """

    entry: manifest.Entry

    def __init__(self, engine: Engine, contract: Contract, entry: manifest.Entry, *, lanes: int, ran: Ran) -> None:
        self.entry, self.lanes, self.ran = entry, lanes, ran
        self._engine: Engine | None = engine
        self._contract = contract

    @property
    def closed(self) -> bool:
        return self._engine is None

    def describe(self) -> Contract:
        """The network's contract; `fixed_size` is set when the artefact has one size only."""
        return self._contract

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Run the network once: see `runtimes.contract.Session.run`. The first run at a size compiles the graph."""
        engine = self._engine
        if engine is None:
            raise InputError(f"{self._contract.network}: this session is closed: open the network again")
        check_inputs(self._contract, inputs)
        try:
            found = engine.run(inputs)
        except RuntimeError as error:
            raise MismatchError(
                f"OpenVINO fails while it runs {self.entry.path} ({one_line(error)}): export it again, or give a "
                "smaller --tile if memory is short"
            ) from error
        return {tensor.name: found[tensor.name] for tensor in self._contract.outputs}

    def close(self) -> None:
        self._engine = None


class OpenVinoRuntime(OpensOnce[OpenVinoSession]):
    """Opens the artefacts of one variant in OpenVINO, after their SHA-256 was verified.

    Args:
        variant: one of `model.contract.VARIANTS`.
        artifacts: the folder with `manifest.json`; None: as `runtimes.folders.opened_folder`.
        threads: cores to use; None: all. As in `runtimes.ort.OnnxRuntime` the step runs a tile on each core at the same
            time, and the other networks take all cores for one run.
        precision: "fp32"; "bf16": the FP32 graphs, computed in BF16 where OpenVINO does so; "int8": INT8 by the
            precision plan, all else in FP32; "mixed": INT8 by the plan, all else in BF16.
        shapes: "dynamic", or the low-resolution (height, width) whose fixed-shape artefacts are to be used, of a graph
            of the whole effect the photo's.
        form: of the graphs. Graphs of the whole effect have the form for the CPU only.

    Raises:
        MissingError: OpenVINO is not installed, or the processor can't compute in the precision.
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
        form: str = "openvino",
    ) -> None:
        super().__init__()
        self.variant = variant
        self._library = import_openvino()
        self._core = self._library.Core()
        _check_abilities(self._core, precision)
        self._precision = RUNTIMES[self.name].stored_precision(precision)
        self._artefacts = artefacts_of(form)
        self.artifacts = folders.opened_folder(
            self._artefacts, variant=variant, precision=self._precision, artifacts=artifacts
        )
        self._threads = threads or core_count()
        self._half = precision in HALF
        self._shape = None if shapes == "dynamic" else shapes

    def _load(self, network: str) -> OpenVinoSession:
        name, contract = part_of(self.variant, network), contract_named(network)
        shape = None if contract.fixed_size else self._shape
        runtime = artefacts_of(CPU) if network in WHOLE_NETWORKS else self._artefacts
        entry = manifest.find(
            self.artifacts, network=network, variant=name, runtime=runtime, precision=self._precision, shape=shape
        )
        path, data = self.artifacts / entry.path, artefact.load(self.artifacts, entry)
        lanes = self._threads if network == "upsample" else 1
        settings = {
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": lanes,
            "INFERENCE_PRECISION_HINT": "bf16" if self._half and network not in SINGLE else "f32",
            # Threads that may not leave their core stand in each other's way, in one process and in several.
            "ENABLE_CPU_PINNING": False,
        }
        library = f"openvino {self._library.__version__.split('-')[0]}"
        try:
            model = self._core.read_model(data)
        except RuntimeError as error:
            raise MismatchError(
                f"{library} can't load {path} ({one_line(error)}): rebuild it with "
                f"`{manifest.command_of(self.artifacts, entry)}`"
            ) from error
        engine = Engine(self._core, model, settings, lanes=lanes)
        described = replace(contract, fixed_size=entry.size)
        return OpenVinoSession(engine, described, entry, lanes=lanes, ran=Ran(PROCESSOR, library))


def _check_abilities(core: Any, precision: str) -> None:
    """MissingError where the processor lacks what a precision needs."""
    has = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for ability in ABILITIES.get(precision, ()):
        if ability not in has:
            raise MissingError(
                f"OpenVINO can't compute in {precision} here: that needs a processor with {NEEDS[ability]}, and "
                f"{core.get_property('CPU', 'FULL_DEVICE_NAME')} has none; take another --precision"
            )


def import_openvino() -> ModuleType:
    """The library. MissingError, naming the extra, where it is not installed."""
    try:
        import openvino
    except ImportError as error:
        raise MissingError(f"OpenVINO can't be imported ({error}): {pip_install('openvino')}") from error
    # Makes a table inside OpenVINO (2026.4) on first use. Two threads that do so at once wait for each other for ever.
    openvino.Type.f32.to_dtype()
    return openvino
