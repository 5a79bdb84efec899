"""Running an engine: contexts, buffers and CUDA graphs. A lane is all that one run needs, so that lanes don't meet.

Within a lane the work is in order, on one stream: inputs to the GPU, the network, the output back. Copies of one lane
run beside the network of another; within a lane an input travels while the CPU puts the next one into pinned memory.
Where CPU and GPU share their memory, as on a Jetson, nothing is copied: the network works on what the CPU sees.
"""

from collections.abc import Mapping
from math import prod

import numpy as np

from deeplens.model.contract import Tensor
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.cuda import Buffer, Cuda, DeviceBuffer, HostBuffer, MappedBuffer, Stream, Timer
from deeplens.runtimes.engine_key import Size
from deeplens.runtimes.trt_bound import Bound, Engine, Launched


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
        self._bound = Bound(engine, index, stream, graphs=graphs)
        self._launched = Launched(stream, captures=self._bound.captures, name=engine.contract.network)
        tensors = (*engine.contract.inputs, *engine.contract.outputs)
        self._shared = cuda.shares_memory
        host: type[HostBuffer] = MappedBuffer if self._shared else HostBuffer
        self._host = {tensor.name: host(cuda) for tensor in tensors}
        self.device: dict[str, Buffer] = {
            name: buffer if self._shared else DeviceBuffer(cuda) for name, buffer in self._host.items()
        }
        self._timer = Timer(cuda)
        self._size: Size | None = None

    def start(self, size: Size, inputs: Mapping[str, np.ndarray]) -> None:
        self._reserve(size)
        self._bound.bind(size, {name: buffer.address for name, buffer in self.device.items()})
        self._size = size
        for tensor in self._contract.inputs:
            if tensor.name not in inputs:
                continue
            shape, dtype = tensor.shape(*size), self._dtypes[tensor.name]
            np.copyto(self._host[tensor.name].array(shape, dtype), inputs[tensor.name], casting="same_kind")
            if not self._shared:
                self._stream.copy_in(self.device[tensor.name], self._host[tensor.name], self._bytes(tensor, size))
        self._timer.begin(self._stream)
        self._launched.run(self._bound.valid_for, lambda: self._bound.enqueue(self._stream))
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
        self._launched.drop()
        del self._bound
        self._timer.close()
        for buffer in (*self.device.values(), *self._host.values()):  # freed twice is freed once
            buffer.free()

    def _bytes(self, tensor: Tensor, size: Size) -> int:
        return prod(tensor.shape(*size)) * self._dtypes[tensor.name].itemsize

    def _reserve(self, size: Size) -> None:
        """Buffers for a size; the graph goes before an address that it holds is freed."""
        tensors = (*self._contract.inputs, *self._contract.outputs)
        if any(self._bytes(tensor, size) > self.device[tensor.name].size for tensor in tensors):
            self._launched.drop()
        for tensor in tensors:
            self.device[tensor.name].reserve(self._bytes(tensor, size))
            self._host[tensor.name].reserve(self._bytes(tensor, size))
