"""TensorRT engines on an NVIDIA GPU. Needs the `tensorrt` or the `rtx` extra and engines made by `deeplens export trt`.

An engine is read only after its hash was found in the manifest and its key is this machine's. The GPU's memory is
handled through `cuda-python`; torch is not needed.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

import numpy as np

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.model.contract import VARIANTS, Contract, part_of
from deeplens.model.whole_contract import OF_ONE_PHOTO, PIXEL_CONTRACTS, WHOLE, contract_named
from deeplens.runtimes import artefact, folders, manifest, trust
from deeplens.runtimes.contract import Arrays, OpensOnce, Session, check_inputs
from deeplens.runtimes.cuda import Cuda
from deeplens.runtimes.device_loop import DeviceLoop
from deeplens.runtimes.engine_key import VERSION_COMPATIBLE, EngineKey, Profile, Size, from_entry
from deeplens.runtimes.trt_api import LIBRARIES, Library, TensorRt
from deeplens.runtimes.trt_bound import Engine
from deeplens.runtimes.trt_lane import Lane
from deeplens.runtimes.trt_loop import Kept, TrtPixels, TrtResident
from deeplens.runtimes.whole_loop import Resident, WholeLoop, fits


class Pending:
    """A run that the GPU works on."""

    def __init__(self, session: "TrtSession", lane: Lane) -> None:
        self._session = session
        self._lane: Lane | None = lane

    def result(self) -> Arrays:
        """Wait for it: name → float32 array that the caller owns. To be asked for once.

        Raises:
            InputError: it was asked for before, or its session was closed.
        """
        lane, self._lane = self._lane, None
        if lane is None:
            raise InputError(
                f"{self._session.describe().network}: the result of this run was already taken: start another run"
            )
        if self._session.closed:
            raise InputError(f"{self._session.describe().network}: this session is closed: open the network again")
        try:
            return lane.take()
        finally:
            self._session.give_back(lane)


class TrtSession(Session):
    """One network in TensorRT. May be used by several threads: each run has a lane of its own while it lasts.

    Attributes:
        entry: the engine's line in the manifest.
        device_seconds: how long the GPU ran the network in the last run that was taken, copies left out.
    """

    def __init__(self, engine: Engine, entry: manifest.Entry, *, cuda: Cuda, in_flight: int, graphs: bool) -> None:
        self.entry: manifest.Entry = entry
        self._engine: Engine | None = engine
        self.device_seconds: float | None = 0.0
        self._contract = engine.contract
        self._cuda, self._graphs = cuda, graphs
        self._kept, self._kept_lane = Kept(), None  # type: tuple[Kept, Lane | None]
        self._turn = Lock()
        self.opened: list[Lane] = []
        self._free: SimpleQueue[Lane] = SimpleQueue()
        for _ in range(in_flight):
            lane = Lane(engine, cuda, graphs=graphs)
            self.opened.append(lane)
            self._free.put(lane)

    @property
    def closed(self) -> bool:
        return self._engine is None

    @property
    def engine(self) -> Engine:
        """InputError: the session is closed."""
        if self._engine is None:
            raise InputError(f"{self._contract.network}: this session is closed: open the network again")
        return self._engine

    def describe(self) -> Contract:
        """The network's contract; `fixed_size` is set when the engine takes one size only."""
        return self._contract

    def takes(self, size: Size) -> bool:
        """Whether one of the engine's profiles holds a low-resolution (height, width)."""
        return self._engine is not None and self._engine.profile(size) is not None

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Run the network once: see `runtimes.contract.Session.run`. Waits where all lanes are taken by others."""
        size = self._checked(inputs)
        return self._started(self._free.get(), size, inputs).result()

    def submit(self, inputs: Mapping[str, np.ndarray]) -> Pending:
        """Begin a run and come back at once; the inputs may be changed then.

        Raises:
            InputError: as `run`, or as many runs are in flight as the runtime was opened for.
        """
        size = self._checked(inputs)
        try:
            lane = self._free.get_nowait()
        except Empty:
            raise InputError(
                f"{self._contract.network}: {len(self.opened)} runs are in progress: take a result first, or open the "
                "runtime with a larger in_flight"
            ) from None
        return self._started(lane, size, inputs)

    def run_kept(self, owner: object, kept: Callable[[], Arrays], numbers: Mapping[str, np.ndarray]) -> Arrays:
        """Run the network once with inputs that stay on the GPU from run to run. Several threads take turns.

        Args:
            owner: whose inputs they are; another's take their place.
            kept: gives them; asked for only where they are not there.
            numbers: the other inputs; what did not change is not copied again.

        Raises: as `run`.
        """
        size = self._contract.fixed_size
        assert size is not None, "what is kept has one size"
        with self._turn:
            if self._kept_lane is None:
                self._kept_lane = Lane(self.engine, self._cuda, graphs=self._graphs)
                self.opened.append(self._kept_lane)
            try:
                self._kept_lane.start(size, self._kept.new(owner, kept, numbers))
                outputs = self._kept_lane.take()
            except BaseException:
                self._kept.forget()
                raise
            self.device_seconds = self._kept_lane.device_seconds
        return outputs

    def give_back(self, lane: Lane) -> None:
        """Make a lane free for another run."""
        self.device_seconds = lane.device_seconds
        self._free.put(lane)

    def close(self) -> None:
        """Wait for what is in flight and release the GPU's memory."""
        self._engine = self._kept_lane = None
        self._kept.forget()
        for lane in self.opened:
            lane.close()
        self.opened.clear()

    def _checked(self, inputs: Mapping[str, np.ndarray]) -> Size:
        engine = self.engine
        size = check_inputs(self._contract, inputs)
        if engine.profile(size) is None:
            takes = ", ".join(str(each) for each in engine.profiles)
            raise InputError(
                f"{self._contract.network}: the engine takes {takes}, not {size[0]}x{size[1]}: rebuild it with "
                f"--size {size[1]}x{size[0]} beside `{self.entry.more['command']}`"
            )
        return size

    def _started(self, lane: Lane, size: Size, inputs: Mapping[str, np.ndarray]) -> Pending:
        try:
            lane.start(size, inputs)
        except BaseException:
            self.give_back(lane)
            raise
        return Pending(self, lane)


class TrtRuntime(OpensOnce[TrtSession]):
    """Opens the engines of one variant.

    Args:
        variant: one of `model.contract.VARIANTS`.
        artifacts: the folder with `manifest.json`; None: as `runtimes.folders.opened_folder`.
        precision: of the engines.
        photo: height and width of the photo of graphs of the whole effect; None: none is opened.
        in_flight: runs of one network that the GPU may work on at once; each has buffers of its own.
        graphs: record the work of each level as a CUDA graph once its shape and addresses have come twice.
        cuda, modules: what stands for the GPU and for the libraries, in tests; None: those that are here.

    Raises:
        MissingError: CUDA's bindings or a GPU are not there.
    """

    name = "trt"

    def __init__(
        self,
        *,
        variant: str = "edge",
        artifacts: Path | None = None,
        precision: str = "fp16",
        photo: Size | None = None,
        in_flight: int = 2,
        graphs: bool = True,
        cuda: Cuda | None = None,
        modules: Mapping[Library, Any] | None = None,
    ) -> None:
        super().__init__()
        self.variant = variant
        self.artifacts = folders.opened_folder(self.name, variant=variant, precision=precision, artifacts=artifacts)
        self._precision = precision
        self._photo = photo
        self._wholes: dict[Size, TrtSession] = {}
        self._pixels: dict[Size, TrtPixels | None] = {}
        self._in_flight = in_flight
        self._graphs = graphs
        self._modules = modules
        self._libraries: dict[Library, TensorRt] = {}
        try:
            self._cuda = Cuda() if cuda is None else cuda
        except MissingError as error:
            raise MissingError(
                f"{error}: the trt runtime needs a GPU; run this on a machine that has one, or use --runtime onnx"
            ) from error

    def device_loop(
        self, pixels: np.ndarray, disparity: np.ndarray, *, tile: int | None, asked: bool
    ) -> DeviceLoop | None:
        """See `runtimes.contract.Runtime.device_loop`: an engine of the whole effect of the photo's size.

        Not asked for, it is taken where such an engine was built.
        """
        del tile
        size = pixels.shape[0], pixels.shape[1]
        try:
            if not fits(disparity):
                raise InputError(f"the loop on the device takes a disparity map of 320×320, not {disparity.shape}")
            resident = self._resident(size, pixels.dtype)
        except (InputError, MissingError, MismatchError):
            if asked:
                raise
            return None
        return WholeLoop(resident, VARIANTS[self.variant], pixels, disparity)

    def _resident(self, size: Size, dtype: "np.dtype[Any]") -> Resident:
        """What refocuses photos of a size: from bytes to bytes, where there are engines that do that."""
        session = self._wholes.get(size)
        if session is None or session.closed:
            session = self._wholes[size] = self._load(WHOLE, size)
        if dtype != np.uint8:
            return TrtResident(session)
        if size not in self._pixels:
            try:
                ends = {name: self._engine(name, size)[0] for name in PIXEL_CONTRACTS}
            except (MissingError, MismatchError):
                self._pixels[size] = None  # as of a folder that was written before there were such
            else:
                engines = {**ends, WHOLE: session.engine}
                self._pixels[size] = TrtPixels(engines, size, self._cuda, graphs=self._graphs)
        return self._pixels[size] or TrtResident(session)

    def close(self) -> None:
        for pixels in self._pixels.values():
            if pixels is not None:
                pixels.close()
        self._pixels.clear()
        for session in self._wholes.values():
            session.close()
        self._wholes.clear()
        super().close()

    def _load(self, network: str, photo: Size | None = None) -> TrtSession:
        engine, entry = self._engine(network, photo)
        return TrtSession(engine, entry, cuda=self._cuda, in_flight=self._in_flight, graphs=self._graphs)

    def _engine(self, network: str, photo: Size | None) -> tuple[Engine, manifest.Entry]:
        """The engine of a network that fits this machine, read after its hash was found right; and its entry."""
        entry, key, api = self._chosen(network, photo or self._photo)
        path, command = self.artifacts / entry.path, str(entry.more["command"])
        data = artefact.load(self.artifacts, entry)
        trust.check_engine(path, entry.sha256, command)  # what lies there is code: no library sees a byte before
        contract = contract_named(network)
        if contract.fixed_size is not None or network in OF_ONE_PHOTO:
            contract = replace(contract, fixed_size=entry.size)
        if len(key.profiles) == 1 and key.profiles[0].is_static:
            contract = replace(contract, fixed_size=key.profiles[0].best)
        try:
            with api.quiet():
                engine_data = api.engine(data, host_code=bool(key.flags.get(VERSION_COMPATIBLE)))
                profiles = key.profiles or (Profile.static(entry.size or (0, 0)),)
                return Engine(api, engine_data, contract, profiles), entry
        except MismatchError as error:
            raise MismatchError(f"{path}: {error}: rebuild it with `{command} --rebuild`") from error

    def _chosen(self, network: str, photo: Size | None) -> tuple[manifest.Entry, EngineKey, TensorRt]:
        """The newest engine of a network that this machine can run."""
        wanted = (network, part_of(self.variant, network), self.name, self._precision)
        entries = [
            each
            for each in manifest.read(self.artifacts)
            if (each.network, each.variant, each.runtime, each.precision) == wanted
            and (network not in OF_ONE_PHOTO or each.size == photo)
        ]
        if not entries:
            manifest.find(
                self.artifacts,
                network=network,
                variant=part_of(self.variant, network),
                runtime=self.name,
                precision=self._precision,
                shape=photo if network in OF_ONE_PHOTO else None,
            )
        refused: list[tuple[str, str]] = []
        for entry in sorted(entries, key=lambda each: each.created, reverse=True):
            key = from_entry(entry)
            try:
                api = self._library(key.machine.library)
            except MissingError as error:
                refused.append((str(error), entry.path))
                continue
            differences = key.differences(api.machine(self._cuda))
            if not differences:
                return entry, key, api
            again = f"rebuild it here with `{entry.more['command']}`"
            refused.append((f"was built for {'; '.join(differences)}: {again}", entry.path))
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        why, path = refused[0]
        raise MismatchError(f"no engine of {self.variant} {network} fits this machine: {path}{more} {why}")

    def _library(self, name: str) -> TensorRt:
        """One of the libraries, opened once.

        Raises:
            MissingError: it is not installed, or there is none of that name.
        """
        library = next((each for each in LIBRARIES if each == name), None)
        if library is None:
            raise MissingError(f"the library '{name}' is not known")
        if library not in self._libraries:
            module = None if self._modules is None else self._modules[library]
            self._libraries[library] = TensorRt(library, module)
        return self._libraries[library]
