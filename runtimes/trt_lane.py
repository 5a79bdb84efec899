"""Running an engine: contexts, buffers and CUDA graphs. A lane is all that one run needs, so that lanes don't meet.

Within a lane the work is in order, on one stream: inputs to the GPU, the network, the output back. Copies of one lane
run beside the network of another; within a lane an input travels while the CPU puts the next one into pinned memory.
Where CPU and GPU share their memory, as on a Jetson, nothing is copied: the network works on what the CPU sees.
"""

import warnings
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.model.contract import Contract, Tensor
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.cuda import Buffer, Cuda, CudaError, DeviceBuffer, Graph, HostBuffer, MappedBuffer, Stream, Timer
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


class Lane:
    """One run at a time: a stream, and for each profile a context with its buffers, made when it is first used.

    Attributes:
        device_seconds: how long the GPU ran the network in the last run that was taken, copies left out.
    """

    def __init__(self, engine: Engine, cuda: Cuda, *, graphs: bool) -> None:
        self._engine = engine
        self._cuda = cuda
        self._graphs = graphs
        self._stream = Stream(cuda)
        self.levels: dict[int, _Level] = {}
        self._running: _Level | None = None
        self.device_seconds = 0.0

    def start(self, size: Size, inputs: Mapping[str, np.ndarray]) -> None:
        """Put a run at a low-resolution size into the stream. `inputs` are copied before this returns.

        An input that is left out is what it was in the run before, of the same size.
        """
        index = self._engine.profile(size)
        assert index is not None
        try:
            if index not in self.levels:
                self.levels[index] = _Level(self._engine, index, self._cuda, self._stream, graphs=self._graphs)
            self.levels[index].start(size, inputs)
        except BaseException:
            self._stream.wait()  # buffers may be in use
            raise
        self._running = self.levels[index]

    def take(self) -> Arrays:
        """Wait for the run and return its outputs."""
        assert self._running is not None
        level, self._running = self._running, None
        self._stream.wait()
        self.device_seconds = level.device_seconds
        return level.outputs()

    def close(self) -> None:
        """Wait, and release everything."""
        self._stream.wait()
        for level in self.levels.values():
            level.close()
        self.levels.clear()
        self._stream.close()


class _Level:
    """An execution context on one profile, with buffers that are allocated once and grow where a larger size comes."""

    def __init__(self, engine: Engine, index: int, cuda: Cuda, stream: Stream, *, graphs: bool) -> None:
        self._contract = engine.contract
        self._dtypes = engine.dtypes
        self._stream = stream
        self._context, self._captures = engine.api.context(engine.engine, graphs=graphs)
        if not self._context.set_optimization_profile_async(index, stream.handle):
            raise MismatchError(f"{self._contract.network}: TensorRT refuses profile {index} ({engine.api.reason()})")
        stream.wait()
        self._reason = engine.api.reason
        tensors = (*engine.contract.inputs, *engine.contract.outputs)
        self._shared = cuda.shares_memory
        host: type[HostBuffer] = MappedBuffer if self._shared else HostBuffer
        self._host = {tensor.name: host(cuda) for tensor in tensors}
        self.device: dict[str, Buffer] = {
            name: buffer if self._shared else DeviceBuffer(cuda) for name, buffer in self._host.items()
        }
        self._timer = Timer(cuda)
        self._size: Size | None = None
        self._addresses: dict[str, int] = {}
        self._graph: Graph | None = None
        self._seen: tuple[Any, ...] | None = None
        """Size and addresses of the last run: what a graph is valid for."""

    def start(self, size: Size, inputs: Mapping[str, np.ndarray]) -> None:
        self._reserve(size)
        self._bind(size)
        for tensor in self._contract.inputs:
            if tensor.name not in inputs:
                continue
            shape, dtype = tensor.shape(*size), self._dtypes[tensor.name]
            np.copyto(self._host[tensor.name].array(shape, dtype), inputs[tensor.name], casting="same_kind")
            if not self._shared:
                self._stream.copy_in(self.device[tensor.name], self._host[tensor.name], self._bytes(tensor, size))
        self._timer.begin(self._stream)
        self._execute()
        self._timer.end(self._stream)
        for tensor in self._contract.outputs if not self._shared else ():
            self._stream.copy_out(self._host[tensor.name], self.device[tensor.name], self._bytes(tensor, size))

    def outputs(self) -> Arrays:
        """The outputs of a run that is done, as float32 arrays of their own."""
        assert self._size is not None
        size = self._size
        return {
            tensor.name: self._host[tensor.name]
            .array(tensor.shape(*size), self._dtypes[tensor.name])
            .astype(np.float32)
            for tensor in self._contract.outputs
        }

    @property
    def device_seconds(self) -> float:
        """How long the GPU ran the network, copies left out, in the run that is done."""
        return self._timer.seconds

    def close(self) -> None:
        self._drop_graph()
        del self._context
        self._timer.close()
        for buffer in (*self.device.values(), *self._host.values()):  # freed twice is freed once
            buffer.free()

    def _bytes(self, tensor: Tensor, size: Size) -> int:
        return prod(tensor.shape(*size)) * self._dtypes[tensor.name].itemsize

    def _reserve(self, size: Size) -> None:
        """Buffers for a size; the graph goes before an address that it holds is freed."""
        tensors = (*self._contract.inputs, *self._contract.outputs)
        if any(self._bytes(tensor, size) > self.device[tensor.name].size for tensor in tensors):
            self._drop_graph()
        for tensor in tensors:
            self.device[tensor.name].reserve(self._bytes(tensor, size))
            self._host[tensor.name].reserve(self._bytes(tensor, size))

    def _bind(self, size: Size) -> None:
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
        for name, buffer in self.device.items():
            if self._addresses.get(name) != buffer.address:
                if not self._context.set_tensor_address(name, buffer.address):
                    raise MismatchError(f"{network}: TensorRT refuses the address of {name} ({self._reason()})")
                self._addresses[name] = buffer.address

    def _execute(self) -> None:
        """Run the network: from the graph, where one was recorded for this size and these addresses.

        The first run at a size is never recorded: TensorRT does its set-up in it. The second is.
        """
        now = (self._size, *sorted(self._addresses.items()))
        if now != self._seen:
            self._drop_graph()
        if self._captures and self._graph is None and now == self._seen:
            self._record()
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            self._enqueue()
        self._seen = now

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise MismatchError(f"{self._contract.network}: TensorRT can't run the engine ({self._reason()})")

    def _record(self) -> None:
        """Record the network as a graph; where that can't be, runs stay as they are, with a warning."""
        self._stream.begin_capture()
        try:
            self._enqueue()
            self._graph = self._stream.end_capture()
        except (CudaError, MismatchError) as error:
            self._stream.abandon_capture()
            self._captures = False
            warnings.warn(f"{self._contract.network} runs without a CUDA graph: {error}", stacklevel=2)

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._graph.close()
            self._graph = None
