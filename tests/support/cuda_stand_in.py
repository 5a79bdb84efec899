"""CUDA's runtime without a GPU: device memory that checks its borders, streams that work only when waited for.

Stands for the module `cuda.bindings.runtime`. What is put into a stream is done at `cudaStreamSynchronize` and not
before, so that whoever reads a result too early, or changes an input too soon, gets a wrong one. A wrong address, size
or order is a failed call, as far as the real runtime would notice, and raises `Misuse` where the real one would not.
"""
# ruff: noqa: N802, N815, N818  # CUDA's names

import ctypes
from collections.abc import Callable
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

FIRST_ADDRESS = 0x7_0000_0000


class Status(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorStreamCaptureInvalidated = 901


EVENT = "event"
"""What the operation of an event is called; it takes no time and no memory."""


class Misuse(AssertionError):
    """What a real GPU would answer with wrong pictures or a crash."""


class Operation:
    """Something that a stream does when its turn comes.

    `addresses` are the device memory that it touches, with sizes; `host` the pinned memory.
    """

    def __init__(self, name: str, do: Callable[[], None], addresses: dict[int, int], host: int = 0) -> None:
        self.name, self.do, self.addresses, self.host = name, do, addresses, host


class Cudart:
    """The module. `calls` are the names of all calls, in order; `done` the operations that streams have done, `copied`
    the copies among them with their bytes.

    Args:
        integrated: CPU and GPU share their memory, as on a Jetson: then every copy is one too many.
        sparing: refuses a copy of what is there already, and one into the GPU of what was copied out of it before.
    """

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(
        self, *, gpus: int = 1, memory: int = 1 << 30, gpu: str = "Orin", capability: str = "8.7",
        integrated: bool = False, sparing: bool = False,
    ) -> None:  # fmt: skip
        self.calls: list[str] = []
        self.done: list[str] = []
        self.copied: list[tuple[str, int]] = []
        self.device: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.host: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.events: dict[int, int | None] = {}
        self.streams: dict[int, list[Operation]] = {}
        self.captures: dict[int, list[Operation]] = {}
        self.graphs: dict[int, list[Operation]] = {}
        self.executables: dict[int, list[Operation]] = {}
        self.fail: dict[str, Status] = {}
        """Name of a call → the status that it ends with from now on."""
        self._gpus, self._memory, self._gpu, self._capability = gpus, memory, gpu, capability
        self._integrated, self._sparing = integrated, sparing
        self._came_out: set[bytes] = set()
        self._mapped: dict[int, int] = {}
        self._next = FIRST_ADDRESS

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if not name.startswith("cuda") or not callable(found):
            return found

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            return (self.fail[name], None) if name in self.fail else found(*arguments)

        return call

    def count(self, name: str) -> int:
        return self.calls.count(name)

    @property
    def nothing_held(self) -> bool:
        """No memory, stream, event or graph is left."""
        held = (self.device, self.host, self.streams, self.events, self.graphs, self.executables)
        return not any(held)

    def _number(self, size: int = 1) -> int:
        number, self._next = self._next, self._next + -(-size // 256) * 256 + 4096
        return number

    # The machine

    def cudaGetDeviceCount(self) -> tuple[Status, int | None]:
        return (Status.cudaSuccess, self._gpus) if self._gpus else (Status.cudaErrorInsufficientDriver, None)

    def cudaGetDeviceProperties(self, _device: int) -> tuple[Status, Any]:
        major, minor = self._capability.split(".")
        name = self._gpu.encode() + b"\0" * 5
        told = SimpleNamespace(name=name, major=int(major), minor=int(minor), integrated=int(self._integrated))
        return Status.cudaSuccess, told

    def cudaRuntimeGetVersion(self) -> tuple[Status, int]:
        return Status.cudaSuccess, 12060

    def cudaDriverGetVersion(self) -> tuple[Status, int]:
        return Status.cudaSuccess, 12080

    def cudaGetLastError(self) -> tuple[Status]:
        return (Status.cudaSuccess,)

    # Memory

    def cudaMalloc(self, size: int) -> tuple[Status, int | None]:
        if sum(map(len, self.device.values())) + size > self._memory:
            return Status.cudaErrorMemoryAllocation, None
        self._not_capturing("cudaMalloc")
        address = self._number(size)
        self.device[address] = ctypes.create_string_buffer(b"\xff" * size, size)  # NaN until written
        return Status.cudaSuccess, address

    def cudaFree(self, address: int) -> tuple[Status]:
        if address not in self.device:
            return (Status.cudaErrorInvalidValue,)
        for operations in self.streams.values():
            if any(address in operation.addresses for operation in operations):
                raise Misuse(f"{address:#x} is freed while a stream will use it")
        del self.device[address]
        return (Status.cudaSuccess,)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Status, int]:
        memory = ctypes.create_string_buffer(size)
        address = ctypes.addressof(memory)
        self.host[address] = memory
        if flags & 2:
            self._mapped[address] = 0
        return Status.cudaSuccess, address

    def cudaHostGetDevicePointer(self, host: int, _flags: int) -> tuple[Status, int | None]:
        if host not in self._mapped:
            return Status.cudaErrorInvalidValue, None
        address = self._mapped[host] = self._number(len(self.host[host]))
        self.device[address] = self.host[host]
        return Status.cudaSuccess, address

    def cudaFreeHost(self, address: int) -> tuple[Status]:
        if any(operation.host == address for operations in self.streams.values() for operation in operations):
            raise Misuse("pinned memory is freed while a stream will use it")
        self.device.pop(self._mapped.pop(address, 0), None)
        return (Status.cudaSuccess if self.host.pop(address, None) is not None else Status.cudaErrorInvalidValue,)

    def read(self, address: int, size: int) -> bytes:
        return ctypes.string_at(ctypes.addressof(self._device(address, size)), size)

    def write(self, address: int, data: bytes) -> None:
        ctypes.memmove(ctypes.addressof(self._device(address, len(data))), data, len(data))

    def _device(self, address: int, size: int) -> "ctypes.Array[ctypes.c_char]":
        memory = self.device.get(address)
        if memory is None:
            raise Misuse(f"{address:#x} is no device memory")
        if len(memory) < size:
            raise Misuse(f"{size} bytes at {address:#x}, which has {len(memory)}")
        return memory

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[Status]:
        into = kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice
        host, device = (source, target) if into else (target, source)
        if host not in self.host or len(self.host[host]) < size:
            raise Misuse(f"a copy of {size} bytes that leaves the pinned memory at {host:#x}")
        self._device(device, size)
        if self._integrated:
            raise Misuse("a copy, though CPU and GPU share their memory")

        def copy() -> None:
            self.copied.append(("in" if into else "out", size))
            if into:
                data = ctypes.string_at(host, size)
                if self._sparing and data == self.read(device, size):
                    raise Misuse(f"a copy of {size} bytes that are there already")
                if self._sparing and data in self._came_out:
                    raise Misuse(f"a copy of {size} bytes that came from the GPU")
                self.write(device, data)
            else:
                data = self.read(device, size)
                self._came_out.add(data)
                ctypes.memmove(host, data, size)

        return (self.put(stream, Operation("copy in" if into else "copy out", copy, {device: size}, host)),)

    # Streams and graphs

    def cudaStreamCreateWithFlags(self, _flags: int) -> tuple[Status, int]:
        handle = self._number()
        self.streams[handle] = []
        return Status.cudaSuccess, handle

    def cudaStreamDestroy(self, stream: int) -> tuple[Status]:
        if self.streams.pop(stream):
            raise Misuse("a stream is destroyed with work in it")
        return (Status.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Status]:
        self._not_capturing("cudaStreamSynchronize")
        operations, self.streams[stream] = self.streams[stream], []
        for operation in operations:
            for address, size in operation.addresses.items():
                self._device(address, size)
            operation.do()
            if operation.name != EVENT:
                self.done.append(operation.name)
        return (Status.cudaSuccess,)

    def cudaEventCreate(self) -> tuple[Status, int]:
        handle = self._number()
        self.events[handle] = None
        return Status.cudaSuccess, handle

    def cudaEventRecord(self, event: int, stream: int) -> tuple[Status]:
        self._not_capturing("cudaEventRecord")

        def happen() -> None:
            self.events[event] = len(self.done)

        self.put(stream, Operation(EVENT, happen, {}))
        return (Status.cudaSuccess,)

    def cudaEventElapsedTime(self, first: int, second: int) -> tuple[Status, float]:
        """Every operation takes a millisecond."""
        start, stop = self.events[first], self.events[second]
        if start is None or stop is None:
            raise Misuse("an event that has not happened is asked for")
        return Status.cudaSuccess, float(stop - start)

    def cudaEventDestroy(self, event: int) -> tuple[Status]:
        del self.events[event]
        return (Status.cudaSuccess,)

    def put(self, stream: int, operation: Operation) -> Status:
        """Put work into a stream, or into the graph that is being recorded from it."""
        if stream not in self.streams:
            return Status.cudaErrorInvalidValue
        self.captures.get(stream, self.streams[stream]).append(operation)
        return Status.cudaSuccess

    def is_capturing(self, stream: int) -> bool:
        return stream in self.captures

    def cudaStreamBeginCapture(self, stream: int, _mode: int) -> tuple[Status]:
        self.captures[stream] = []
        return (Status.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Status, int | None]:
        operations = self.captures.pop(stream, None)
        if operations is None:
            return Status.cudaErrorInvalidValue, None
        handle = self._number()
        self.graphs[handle] = operations
        return Status.cudaSuccess, handle

    def cudaGraphInstantiate(self, graph: int, _flags: int) -> tuple[Status, int]:
        handle = self._number()
        self.executables[handle] = list(self.graphs[graph])
        return Status.cudaSuccess, handle

    def cudaGraphLaunch(self, executable: int, stream: int) -> tuple[Status]:
        for operation in self.executables[executable]:
            self.put(stream, Operation(f"graph: {operation.name}", operation.do, operation.addresses, operation.host))
        return (Status.cudaSuccess,)

    def cudaGraphDestroy(self, graph: int) -> tuple[Status]:
        del self.graphs[graph]
        return (Status.cudaSuccess,)

    def cudaGraphExecDestroy(self, executable: int) -> tuple[Status]:
        del self.executables[executable]
        return (Status.cudaSuccess,)

    def _not_capturing(self, name: str) -> None:
        if self.captures:
            raise Misuse(f"{name} while a graph is recorded")
