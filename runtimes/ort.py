"""ONNX Runtime, on the CPU or on another of its providers. Needs the `onnx` extra and artefacts made by
`deeplens export onnx`; no torch."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from deeplens.console.errors import DeepLensError, InputError, MismatchError, MissingError, one_line
from deeplens.console.machine import core_count
from deeplens.console.package import pip_install
from deeplens.model.contract import VARIANTS, Contract, part_of
from deeplens.model.whole_contract import WHOLE, contract_named
from deeplens.runtimes import artefact, folders, manifest, providers
from deeplens.runtimes.accelerator import DEFAULT, Accelerator, Ran
from deeplens.runtimes.contract import Arrays, OpensOnce, Session, check_inputs
from deeplens.runtimes.device_loop import DeviceLoop
from deeplens.runtimes.onnx_form import CPU, artefacts_of
from deeplens.runtimes.ort_loop import OnnxResident
from deeplens.runtimes.ort_session import open_session
from deeplens.runtimes.whole_pixels import in_pixels


class OnnxSession(Session):
    """One network in ONNX Runtime.

    Attributes:
        entry: the artefact's line in the manifest, with the hash of the weights it was made from.
        lanes, any_size: as in `runtimes.contract.Session`.
    """

    def __init__(
        self,
        session: Any,
        contract: Contract,
        entry: manifest.Entry,
        *,
        lanes: int = 1,
        any_size: bool = False,
        ran: Ran | None = None,
    ) -> None:
        """
        Args:
            ran: what the network runs on.
        """
        self.entry: manifest.Entry = entry
        self.lanes, self.any_size = lanes, any_size
        self.ran = ran
        self._session = session
        self._contract = contract

    @property
    def closed(self) -> bool:
        return self._session is None

    def describe(self) -> Contract:
        """The network's contract; `fixed_size` is set when the artefact has one size only."""
        return self._contract

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        self._check(inputs)
        names = [tensor.name for tensor in self._contract.outputs]
        try:
            return dict(zip(names, self._session.run(names, _feed(self._session, inputs)), strict=True))
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            raise MismatchError(
                f"ONNX Runtime fails while it runs {self.entry.path} ({one_line(error)}): export it again, or give a "
                "smaller --tile if memory is short"
            ) from error

    def _check(self, inputs: Mapping[str, np.ndarray]) -> None:
        if self._session is None:
            raise InputError(f"{self._contract.network}: this session is closed: open the network again")
        check_inputs(self._contract, inputs)

    def close(self) -> None:
        self._session = None


def _feed(session: Any, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The arrays that a session takes, contiguous."""
    return {each.name: np.ascontiguousarray(arrays[each.name]) for each in session.get_inputs()}


class OnnxRuntime(OpensOnce[OnnxSession]):
    """Opens the ONNX artefacts of one variant, after their SHA-256 was verified.

    Args:
        variant: one of `model.contract.VARIANTS`.
        artifacts: the folder with `manifest.json`; None: as `runtimes.folders.opened_folder`.
        threads: cores to use; None: all. The step runs so many tiles at the same time, each on one core: no tile waits
            for another at every operation, as threads within an operation do. The other networks, which see one tile,
            take so many threads for one operation.
            A GPU runs one tile after the other.
        form: of the graphs; "cpu" is what this runtime is fast with, the others are checked with it.
        precision: of the artefacts. FP16 convolutions are computed in FP32 on the CPU: their results are rounded to
            FP16.
        shapes: "dynamic", or the low-resolution (height, width) whose fixed-shape artefacts are to be used, of a graph
            of the whole effect the photo's. A network that has only one size is not touched by this.
        accelerator: its `provider` and `cpu_nodes` are looked at. "auto" settles on the first provider that can
            open the first network.

    Raises:
        InputError: an unknown provider.
        MissingError: ONNX Runtime is not installed, or has not the provider.
    """

    name = "onnx"

    def __init__(
        self,
        *,
        variant: str = "edge",
        artifacts: Path | None = None,
        threads: int | None = None,
        precision: str = "fp32",
        shapes: Literal["dynamic"] | tuple[int, int] = "dynamic",
        form: str = CPU,
        accelerator: Accelerator = DEFAULT,
    ) -> None:
        super().__init__()
        self.variant = variant
        self._ort = import_onnxruntime()
        self._cpu_nodes = accelerator.cpu_nodes
        self._providers = providers.tried(self._ort, accelerator.provider)
        self.artefacts = artefacts_of(form if accelerator.provider == CPU else self._providers[0].form)
        self.artifacts = folders.opened_folder(
            self.artefacts, variant=variant, precision=precision, artifacts=artifacts
        )
        self._residents: dict[tuple[tuple[int, ...], str], OnnxResident] = {}
        self._shape = None if shapes == "dynamic" else shapes
        self._threads = threads or core_count()
        self._precision = precision

    def device_loop(
        self, pixels: np.ndarray, disparity: np.ndarray, *, tile: int | None, asked: bool
    ) -> DeviceLoop | None:
        """See `runtimes.contract.Runtime.device_loop`: a graph of the whole effect of the photo's size.

        Not asked for, it is taken where a provider with memory of its own runs, and the graph was exported.
        """
        del tile
        if len(self._providers) > 1:
            self.open("lens_blur")  # "auto" settles with the first network
        if not asked and self._providers[0].memory == "cpu":
            return None
        from deeplens.runtimes.whole_loop import WholeLoop, fits

        try:
            if not fits(disparity):
                raise InputError(f"the loop on the device takes a disparity map of 320×320, not {disparity.shape}")
            key = pixels.shape[:2], pixels.dtype.name
            if key not in self._residents:
                self._residents[key] = self._resident(key[0], pixels.dtype)
        except (InputError, MissingError):
            if asked:
                raise
            return None
        return WholeLoop(self._residents[key], VARIANTS[self.variant], pixels, disparity)

    def _resident(self, size: tuple[int, int], dtype: "np.dtype[Any]") -> OnnxResident:
        entry = manifest.find(
            self.artifacts,
            network=WHOLE,
            variant=self.variant,
            runtime=self.artefacts,
            precision=self._precision,
            shape=size,
        )
        data = artefact.load(self.artifacts, entry)
        try:
            graph = in_pixels(data, dtype)
        except ImportError as error:
            raise MissingError(f"the loop on the device changes the graph, which needs onnx ({error})") from error
        session, _ = self._engine(graph, many=False)
        return OnnxResident(self._ort, session, self._providers[0].memory)

    def close(self) -> None:
        self._residents.clear()
        super().close()

    def _load(self, network: str) -> OnnxSession:
        name = part_of(self.variant, network)
        contract = contract_named(network)
        shape = None if contract.fixed_size else self._shape
        entry = manifest.find(
            self.artifacts,
            network=network,
            variant=name,
            runtime=self.artefacts,
            precision=self._precision,
            shape=shape,
        )
        path, data = self.artifacts / entry.path, artefact.load(self.artifacts, entry)
        rebuild = manifest.export_command(
            self.artifacts, variant=name, runtime=self.artefacts, shape=shape, network=network
        )
        many = network == "upsample"
        try:
            graph = self._graph(data)
            (session, ran), lanes = self._engine(graph, many=many), self._lanes(many=many)
            found = ([each.name for each in session.get_inputs()], [each.name for each in session.get_outputs()])
        except DeepLensError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            reason = one_line(error)
            raise MismatchError(
                f"ONNX Runtime {self._ort.__version__} can't load {path} ({reason}): rebuild it with `{rebuild}`"
            ) from error
        expected = ([each.name for each in contract.inputs], [each.name for each in contract.outputs])
        if found != expected:
            names = [" → ".join(", ".join(side) for side in sides) for sides in (found, expected)]
            raise MismatchError(f"{path} has {names[0]}, expected {names[1]}: rebuild it with `{rebuild}`")
        self._providers = self._providers[:1]  # what one network runs on, all do
        return OnnxSession(
            session,
            replace(contract, fixed_size=entry.size),
            entry,
            lanes=lanes,
            any_size=self._providers[0].name == CPU,
            ran=ran,
        )

    def _lanes(self, *, many: bool) -> int:
        """Runs at the same time, on the provider that comes next: `many` where the network sees many tiles."""
        return self._threads if many and self._providers[0].on_host else 1

    def _engine(self, graph: bytes, *, many: bool) -> tuple[Any, Ran | None]:
        """What runs a serialised graph: a session, or what has its get_inputs, get_outputs and run; and on what.

        Args:
            many: whether it is to run several times at once.
        """
        while True:
            try:
                return self._session(graph, self._lanes(many=many))
            except MissingError:
                if len(self._providers) == 1:
                    raise
            del self._providers[0]  # of "auto": the next one

    def open_graph(self, graph: bytes, *, lanes: int = 1) -> Any:
        """ONNX Runtime's own session of a serialised graph; `lanes` runs share the runtime's threads."""
        return self._session(graph, lanes)[0]

    def _session(self, graph: bytes, lanes: int) -> tuple[Any, Ran]:
        return open_session(
            self._ort,
            graph,
            self._providers[0],
            threads=self._threads // lanes,
            lanes=lanes,
            cpu_nodes=self._cpu_nodes,
        )

    def _graph(self, data: bytes) -> bytes:
        """What is loaded for the artefact that is `data`: that itself, or another graph in its place."""
        return data


def import_onnxruntime() -> ModuleType:
    """The library. MissingError, naming the extra, where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingError(f"ONNX Runtime can't be imported ({error}): {pip_install('onnx')}") from error
    return onnxruntime
