"""An engine at given addresses, and work that is recorded as a CUDA graph where it comes again."""

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from deeplens.console.errors import MismatchError
from deeplens.model.contract import Contract
from deeplens.runtimes.cuda import CudaError, Graph, Stream
from deeplens.runtimes.engine_key import Profile, Size
from deeplens.runtimes.trt_api import TensorRt


class Engine:
    """An engine that keeps a contract.

    Args:
        engine: as `TensorRt.engine` gives it.
        profiles: in its order.

    Raises:
        MismatchError: its inputs, outputs or number of profiles are others.
    """

    def __init__(self, api: TensorRt, engine: Any, contract: Contract, profiles: Sequence[Profile]) -> None:
        self.api = api
        self.engine = engine
        self.contract = contract
        self.profiles = tuple(profiles)
        names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        expected = {tensor.name for tensor in (*contract.inputs, *contract.outputs)}
        if names != expected or engine.num_optimization_profiles != len(self.profiles):
            raise MismatchError(
                f"the engine has {', '.join(sorted(names))} and {engine.num_optimization_profiles} profiles, expected "
                f"{', '.join(sorted(expected))} and {len(self.profiles)}"
            )
        self.dtypes = {name: api.dtype(engine, name) for name in names}

    def profile(self, size: Size) -> int | None:
        """The profile to run a low-resolution size with: its own before the fallback; None where there is neither."""
        holding = [index for index, profile in enumerate(self.profiles) if profile.holds(size)]
        return min(holding, key=lambda index: not self.profiles[index].is_static, default=None)


class Bound:
    """An execution context of an engine on one of its profiles.

    Attributes:
        captures: whether CUDA graphs are left to us to capture.
    """

    def __init__(self, engine: Engine, index: int, stream: Stream, *, graphs: bool) -> None:
        self._contract, self._reason = engine.contract, engine.api.reason
        self._context, self.captures = engine.api.context(engine.engine, graphs=graphs)
        if not self._context.set_optimization_profile_async(index, stream.handle):
            raise MismatchError(f"{self._contract.network}: TensorRT refuses profile {index} ({self._reason()})")
        stream.wait()
        self._size: Size | None = None
        self._addresses: dict[str, int] = {}

    def bind(self, size: Size, addresses: Mapping[str, int]) -> None:
        """Tell the context shapes and addresses, where they are not what it knows."""
        network = self._contract.network
        if size != self._size:
            self._size = None
            for tensor in self._contract.inputs:
                if not self._context.set_input_shape(tensor.name, tensor.shape(*size)):
                    raise MismatchError(
                        f"{network}: TensorRT refuses {tensor.name} of shape {tensor.shape(*size)} ({self._reason()})"
                    )
            for tensor in self._contract.outputs:
                found, due = tuple(self._context.get_tensor_shape(tensor.name)), tensor.shape(*size)
                if found != due:
                    raise MismatchError(f"{network}: the engine gives {tensor.name} as {found}, expected {due}")
            self._size = size
        for tensor in (*self._contract.inputs, *self._contract.outputs):
            address = addresses[tensor.name]
            if self._addresses.get(tensor.name) != address:
                if not self._context.set_tensor_address(tensor.name, address):
                    raise MismatchError(f"{network}: TensorRT refuses the address of {tensor.name} ({self._reason()})")
                self._addresses[tensor.name] = address

    @property
    def valid_for(self) -> tuple[Hashable, ...]:
        """Size and addresses: what a recorded graph is valid for."""
        return (self._size, *sorted(self._addresses.items()))

    def enqueue(self, stream: Stream) -> None:
        """Put the network into a stream."""
        if not self._context.execute_async_v3(stream.handle):
            raise MismatchError(f"{self._contract.network}: TensorRT can't run the engine ({self._reason()})")


class Launched:
    """Engines one after the other on one stream: plain at first, then recorded as one CUDA graph and launched as that.

    Args:
        captures: False: they are put into the stream each time.
        name: of what runs, for a warning.
    """

    def __init__(self, stream: Stream, *, captures: bool, name: str) -> None:
        self._stream, self._captures, self._name = stream, captures, name
        self._graph: Graph | None = None
        self._seen: Hashable = None

    def run(self, valid_for: Hashable, enqueue: Callable[[], None]) -> None:
        """Run it: from the graph, where one was recorded for the same sizes and addresses.

        The first run is never recorded: TensorRT does its set-up in it. The second is.
        """
        if valid_for != self._seen:
            self.drop()
        if self._captures and self._graph is None and valid_for == self._seen:
            self._record(enqueue)
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            enqueue()
        self._seen = valid_for

    def drop(self) -> None:
        """Forget the graph, before an address that it holds is freed."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _record(self, enqueue: Callable[[], None]) -> None:
        """Record the work as a graph; where that can't be, runs stay as they are, with a warning."""
        self._stream.begin_capture()
        try:
            enqueue()
            self._graph = self._stream.end_capture()
        except (CudaError, MismatchError) as error:
            self._stream.abandon_capture()
            self._captures = False
            warnings.warn(f"{self._name} runs without a CUDA graph: {error}", stacklevel=2)
