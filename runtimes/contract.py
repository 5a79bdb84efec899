"""The contract between the harness and a runtime: open, describe, run, close. No torch, no runtime, only NumPy."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from deeplens.console.errors import InputError
from deeplens.model.contract import ALIGNMENT, MIN_SIZE, Contract, Tensor
from deeplens.model.whole_contract import contract_named
from deeplens.runtimes.accelerator import Ran
from deeplens.runtimes.device_loop import DeviceLoop
from deeplens.runtimes.fit import Fit
from deeplens.runtimes.manifest_entry import FIT, Entry

if TYPE_CHECKING:
    from typing_extensions import Self  # `typing` has it from Python 3.11 on

Arrays = dict[str, np.ndarray]


def check_inputs(contract: Contract, inputs: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Refuse inputs that are not what `contract` takes; every runtime's `run` begins with this.

    The values are not looked at: their ranges are the harness's affair.

    Returns:
        the low-resolution height and width, in pixels.

    Raises:
        InputError: a name, dtype or shape is wrong; the message says what came and what was expected.
    """
    network = contract.network
    names = [tensor.name for tensor in contract.inputs]
    if set(inputs) != set(names):
        raise InputError(f"{network}: got the inputs {', '.join(inputs) or 'none'}, expected {', '.join(names)}")
    for tensor in contract.inputs:
        array = inputs[tensor.name]
        if not isinstance(array, np.ndarray):
            raise InputError(f"{network}: {tensor.name} is a {type(array).__name__}, expected a NumPy array")
        if array.dtype != np.float32 or array.ndim != 4:
            raise InputError(
                f"{network}: {tensor.name} is {array.shape} {array.dtype}, expected "
                f"(1, {tensor.channels}, height, width) float32"
            )
    height, width = _low_size(contract, inputs)
    for tensor in contract.inputs:
        found, expected = inputs[tensor.name].shape, tensor.shape(height, width)
        if found != expected:
            raise InputError(f"{network}: {tensor.name} is {found}, expected {expected}")
    return height, width


def _low_size(contract: Contract, inputs: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """The only size, or else what the first low-resolution input has, when that is one the network takes."""
    if contract.fixed_size is not None:
        return contract.fixed_size
    low: Tensor = next(tensor for tensor in contract.inputs if tensor.scale == 1)
    height, width = inputs[low.name].shape[2:]
    for size in (height, width):
        if size < MIN_SIZE or size % ALIGNMENT:
            raise InputError(
                f"{contract.network}: {low.name} is {height}x{width} pixels, expected multiples of {ALIGNMENT} from "
                f"{MIN_SIZE} up"
            )
    return height, width


class Session(ABC):
    """One network, opened and ready to run.

    A runtime says what it can do by overriding what stands here: the harness asks every session the same questions.

    Attributes:
        entry: the artefact's line in the manifest; None of a network that comes from no artefact.
        lanes: how many runs may go on at the same time, each from a thread of its own.
        any_size: whether windows of ever new sizes run as fast as those of one: then the harness lays them around what
            needs the network.
        device_seconds: how long the device ran the network in the last run, copies left out; None: no device tells.
        ran: what it runs on, of a runtime that has several providers or devices; None: it has one.
    """

    entry: Entry | None = None
    lanes: int = 1
    any_size: bool = False
    device_seconds: float | None = None
    ran: Ran | None = None

    @property
    def closed(self) -> bool:
        """Whether the session was closed."""
        return False

    @property
    def fit(self) -> Fit:
        """Of a depth network: how photos are put into it. Ours are stretched to the only size."""
        if self.entry is not None and FIT in self.entry.more:
            return Fit.from_json(self.entry.more[FIT])
        size = self.describe().fixed_size
        assert size is not None, "a depth network has a size"
        return Fit(size)

    @abstractmethod
    def describe(self) -> Contract:
        """Names, shapes, ranges and units of the network's inputs and outputs."""

    @abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Run the network once.

        Args:
            inputs: name → float32 N×C×H×W array, as `describe` says.

        Returns:
            name → float32 N×C×H×W array that the caller owns.

        Raises:
            InputError: a name, shape or dtype is not what the contract or the artefact takes, or the session is closed.
        """

    def takes(self, size: tuple[int, int]) -> bool:
        """Whether the session runs at a low-resolution (height, width)."""
        return self.describe().fixed_size in (None, size)

    def weights_sha256(self) -> str:
        """SHA-256 of the weights behind the session (`model.build.weights_sha256`), from the artefact's entry."""
        if self.entry is None:
            raise NotImplementedError(f"{type(self).__name__} comes from no artefact")
        return self.entry.weights_sha256

    @abstractmethod
    def close(self) -> None:
        """Release what the session holds; it can't run afterwards."""


class Runtime(ABC):
    """Opens the networks of one variant. A context manager that closes every session that it opened.

    Attributes:
        name: one of `runtimes.RUNTIMES`, or another for a peer that is only measured.
        variant: one of `model.contract.VARIANTS`.
    """

    name: str
    variant: str

    @abstractmethod
    def open(self, network: str) -> Session:
        """Open `network` (one of `model.contract.NETWORKS`); a second call returns the same session.

        Raises:
            MissingError: the artefact or the weights are not there.
            MismatchError: the artefact is not what its manifest entry says.
        """

    def device_loop(
        self, pixels: np.ndarray, disparity: np.ndarray, *, tile: int | None, asked: bool
    ) -> DeviceLoop | None:
        """The second way to run, which a runtime may have: the whole loop where it computes.

        Args:
            pixels, disparity: as `runtimes.harness.Harness.photo` takes them; they must not be changed.
            tile: as in `runtimes.harness.Harness`.
            asked: the user wants it; else it is only for a runtime that uses another device than the CPU.

        Returns:
            the photo on the device; None: not here, or it was not asked for and brings nothing.

        Raises:
            InputError, MissingError: it was asked for, and the runtime or the photo's size has none.
        """
        del pixels, disparity, tile
        if asked:
            raise InputError(f"{self.name} has no loop on the device: leave out --loop device")
        return None

    @abstractmethod
    def close(self) -> None:
        """Close every session that was opened."""

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


S = TypeVar("S", bound=Session)


class OpensOnce(Runtime, Generic[S]):
    """What real runtimes share: each network is loaded once, and again only after its session was closed."""

    def __init__(self) -> None:
        self._sessions: dict[str, S] = {}

    @abstractmethod
    def _load(self, network: str) -> S:
        """A new session of a network of the contract."""

    def open(self, network: str) -> S:
        """Open `network`: see `Runtime.open`. A graph of the whole effect too, where the runtime has one."""
        contract_named(network)
        session = self._sessions.get(network)
        if session is None or session.closed:
            session = self._sessions[network] = self._load(network)
        return session

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
