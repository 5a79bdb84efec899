"""CUDA's runtime through `cuda-python`: buffers, streams, graphs, and what GPU there is. Every call is checked.

The bindings are imported when a `Cuda` is made, so that this file can be read on a machine that has none.
"""

import ctypes
import platform
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from deeplens.console.errors import MissingError
from deeplens.console.package import pip_install

JETSON_RELEASE = Path("/etc/nv_tegra_release")
"""Jetson Linux says here which release it is; its first line has the numbers."""


class CudaError(RuntimeError):
    """A CUDA call failed. Not the user's doing: a fault of the program, or of the device."""


class Cuda:
    """The first GPU.

    Args:
        cudart: the module `cuda.bindings.runtime`, or one that stands for it; None: import it.

    Raises:
        MissingError: the bindings, the driver or a GPU are not there.
    """

    def __init__(self, cudart: ModuleType | Any | None = None) -> None:
        self._cudart = _import_cudart() if cudart is None else cudart
        status, count = self._cudart.cudaGetDeviceCount()
        if self._failed(status) or not count:
            raise MissingError(f"no NVIDIA GPU can be used here ({_name(status)})")

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the runtime API and return what it gives beside its status.

        Raises:
            MemoryError: the device or pinned memory is used up.
            CudaError: any other failure.
        """
        status, *values = getattr(self._cudart, name)(*arguments)
        if self._failed(status):
            if _name(status) == "cudaErrorMemoryAllocation":
                raise MemoryError(f"{name}: out of GPU memory")
            raise CudaError(f"{name}: {_name(status)}")
        return values[0] if len(values) == 1 else tuple(values)

    def constant(self, enumeration: str, name: str) -> Any:
        """A constant of the API, such as ("cudaMemcpyKind", "cudaMemcpyHostToDevice")."""
        return getattr(getattr(self._cudart, enumeration), name)

    @property
    def gpu(self) -> tuple[str, str]:
        """Name and compute capability, such as ("Orin", "8.7")."""
        properties = self.call("cudaGetDeviceProperties", 0)
        name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
        return name.rstrip("\0"), f"{properties.major}.{properties.minor}"

    @property
    def shares_memory(self) -> bool:
        """Whether the GPU is part of the processor and uses its memory, as on a Jetson."""
        return bool(getattr(self.call("cudaGetDeviceProperties", 0), "integrated", 0))

    @property
    def versions(self) -> tuple[str, str]:
        """CUDA's runtime, and the CUDA that the driver offers: such as ("12.6", "12.6")."""
        runtime, driver = self.call("cudaRuntimeGetVersion"), self.call("cudaDriverGetVersion")
        return tuple(f"{each // 1000}.{each % 1000 // 10}" for each in (runtime, driver))  # type: ignore[return-value]

    @staticmethod
    def _failed(status: Any) -> bool:
        return int(status) != 0


class Buffer:
    """Memory that grows and never shrinks; growing changes its address."""

    ALLOCATE: tuple[Any, ...]
    """The CUDA call, and its arguments after the size."""
    FREE: str

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.address = 0
        self.size = 0

    def reserve(self, size: int) -> None:
        """Hold at least `size` bytes; what was in it is lost if it has to grow."""
        if size > self.size:
            self.free()
            name, *more = self.ALLOCATE
            self.address = int(self._cuda.call(name, size, *more))
            self.size = size

    def free(self) -> None:
        if self.address:
            self._cuda.call(self.FREE, self.address)
            self.address = self.size = 0


class DeviceBuffer(Buffer):
    """Memory of the GPU."""

    ALLOCATE = ("cudaMalloc",)
    FREE = "cudaFree"


class HostBuffer(Buffer):
    """Pinned memory of the host, from which and to which copies run beside the CPU's work."""

    ALLOCATE = ("cudaHostAlloc", 0)
    FREE = "cudaFreeHost"

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """The start of the buffer as an array; valid until it grows or is freed."""
        return _array(self.address, shape, dtype)


class MappedBuffer(HostBuffer):
    """Pinned memory that CPU and GPU both see, where they share their memory: nothing has to be copied.

    `address` is the GPU's.
    """

    ALLOCATE = ("cudaHostAlloc", 2)  # 2: mapped

    def reserve(self, size: int) -> None:
        if size > self.size:
            super().reserve(size)
            self._on_host = self.address
            self.address = int(self._cuda.call("cudaHostGetDevicePointer", self._on_host, 0))

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """As `HostBuffer.array`; to be read after the stream was waited for."""
        return _array(self._on_host, shape, dtype)

    def free(self) -> None:
        if self.address:
            self.address = self._on_host
            super().free()


def _array(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    count = prod(shape) * dtype.itemsize
    memory = memoryview((ctypes.c_byte * count).from_address(address)).cast("B")
    return np.frombuffer(memory, dtype=dtype).reshape(shape)


class Stream:
    """Work in order on the GPU, beside that of other streams."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.handle = int(cuda.call("cudaStreamCreateWithFlags", 1))  # 1: not waiting for the default stream

    def copy_in(self, target: Buffer, source: HostBuffer, size: int) -> None:
        """Copy `size` bytes to the GPU; `source` must stay as it is until the stream has got there."""
        kind = self._cuda.constant("cudaMemcpyKind", "cudaMemcpyHostToDevice")
        self._cuda.call("cudaMemcpyAsync", target.address, source.address, size, kind, self.handle)

    def copy_out(self, target: HostBuffer, source: Buffer, size: int) -> None:
        """Copy `size` bytes from the GPU; `target` holds them after `wait`."""
        kind = self._cuda.constant("cudaMemcpyKind", "cudaMemcpyDeviceToHost")
        self._cuda.call("cudaMemcpyAsync", target.address, source.address, size, kind, self.handle)

    def wait(self) -> None:
        """Until all that was put in has been done."""
        self._cuda.call("cudaStreamSynchronize", self.handle)

    def begin_capture(self) -> None:
        """What is put in from now on is recorded, not done."""
        mode = self._cuda.constant("cudaStreamCaptureMode", "cudaStreamCaptureModeThreadLocal")
        self._cuda.call("cudaStreamBeginCapture", self.handle, mode)

    def end_capture(self) -> "Graph":
        """What was recorded since `begin_capture`."""
        graph = self._cuda.call("cudaStreamEndCapture", self.handle)
        try:
            return Graph(self._cuda, self._cuda.call("cudaGraphInstantiate", graph, 0))
        finally:
            self._cuda.call("cudaGraphDestroy", graph)

    def abandon_capture(self) -> None:
        """End a capture that failed, whatever state it is in."""
        status, *graph = self._cuda_raw("cudaStreamEndCapture", self.handle)
        if int(status) == 0 and graph and graph[0]:
            self._cuda.call("cudaGraphDestroy", graph[0])
        self._cuda_raw("cudaGetLastError")  # takes the error off the thread

    def close(self) -> None:
        if self.handle:
            self._cuda.call("cudaStreamDestroy", self.handle)
            self.handle = 0

    def _cuda_raw(self, name: str, *arguments: Any) -> Any:
        return getattr(self._cuda._cudart, name)(*arguments)


class Timer:
    """How long the GPU worked on what was put into a stream between two moments, by two events of its own."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._events = [int(cuda.call("cudaEventCreate")) for _ in range(2)]

    def begin(self, stream: Stream) -> None:
        self._cuda.call("cudaEventRecord", self._events[0], stream.handle)

    def end(self, stream: Stream) -> None:
        self._cuda.call("cudaEventRecord", self._events[1], stream.handle)

    @property
    def seconds(self) -> float:
        """Of the last work that is done: to be asked after the stream was waited for."""
        return float(self._cuda.call("cudaEventElapsedTime", *self._events)) / 1000

    def close(self) -> None:
        for event in self._events:
            self._cuda.call("cudaEventDestroy", event)
        self._events = []


class Graph:
    """Recorded work, launched as one: valid for the shapes and addresses it was recorded with."""

    def __init__(self, cuda: Cuda, handle: Any) -> None:
        self._cuda = cuda
        self._handle = handle

    def launch(self, stream: Stream) -> None:
        self._cuda.call("cudaGraphLaunch", self._handle, stream.handle)

    def close(self) -> None:
        if self._handle is not None:
            self._cuda.call("cudaGraphExecDestroy", self._handle)
            self._handle = None


def system() -> str:
    """Operating system and processor; on a Jetson the release of Jetson Linux too."""
    name = f"{platform.system()} {platform.machine()}"
    try:
        release = JETSON_RELEASE.read_text(encoding="utf-8", errors="replace").splitlines()[0]
    except (OSError, IndexError):
        return name
    return f"{name}, {' '.join(release.strip('# ').split(',')[:2])}"


def _name(status: Any) -> str:
    return str(getattr(status, "name", status))


def _import_cudart() -> ModuleType:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise MissingError(
            f"CUDA's Python bindings can't be imported ({error}): {pip_install('tensorrt')} or {pip_install('rtx')}"
        ) from error
    module: ModuleType = runtime
    return module
