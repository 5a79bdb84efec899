"""TensorRT engines of the whole effect with a photo kept on the GPU: one CUDA graph is the whole refocus."""

from collections.abc import Callable, Mapping
from math import prod
from threading import Lock
from typing import Protocol

import numpy as np

from deeplens.console.errors import InputError, MismatchError
from deeplens.model.contract import Tensor
from deeplens.model.whole_contract import PIXELS, PIXELS_IN, PIXELS_OUT, REFOCUSED, TOTAL, WHOLE
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.cuda import Buffer, Cuda, DeviceBuffer, HostBuffer, MappedBuffer, Stream, Timer
from deeplens.runtimes.engine_key import Size
from deeplens.runtimes.pyramid import quantise, read_picture
from deeplens.runtimes.trt_bound import Bound, Engine, Launched
from deeplens.runtimes.whole_loop import check_finite


class Kept:
    """What inputs lie on the GPU."""

    def __init__(self) -> None:
        self._owner: object = None
        self._numbers: dict[str, bytes] = {}

    def new(self, owner: object, kept: Callable[[], Arrays], numbers: Mapping[str, np.ndarray]) -> Arrays:
        """The inputs that are not there yet; they count as there from now on."""
        found = {name: array for name, array in numbers.items() if self._numbers.get(name) != array.tobytes()}
        self._numbers.update({name: array.tobytes() for name, array in found.items()})
        if owner is not self._owner:
            found.update(kept())
            self._owner = owner
        return found

    def forget(self) -> None:
        """Nothing is known to be there, as after a failure."""
        self._owner = None
        self._numbers.clear()


class KeepsInputs(Protocol):
    """What is needed of `runtimes.trt.TrtSession`."""

    device_seconds: float | None

    def run_kept(self, owner: object, kept: Callable[[], Arrays], numbers: Mapping[str, np.ndarray]) -> Arrays: ...


class TrtResident:
    """See `runtimes.whole_loop.Resident`. The photos of one engine take turns on the GPU: one of them is there.

    The engine takes and gives float32, which the host makes and turns into the photo's integers: for photos of 16 bits,
    a type that TensorRT has not, and where the engines that `TrtPixels` needs are missing.
    """

    def __init__(self, session: KeepsInputs) -> None:
        self._session = session

    @property
    def device_seconds(self) -> float | None:
        return self._session.device_seconds

    def keep(self, pixels: np.ndarray, disparity: np.ndarray) -> "_Photo":
        return _Photo(pixels, disparity)

    def run(self, kept: "_Photo", numbers: Mapping[str, np.ndarray]) -> np.ndarray:
        refocused = self._session.run_kept(kept, kept.inputs, numbers)["refocused"]
        check_finite(float(refocused.sum()))
        result = np.empty_like(kept.pixels, order="C", subok=False)
        quantise(refocused, result)
        return result


class TrtPixels:
    """See `runtimes.whole_loop.Resident`. Three engines: the photo's bytes go to the GPU, and the result's come back.

    What an engine gives lies where the next one takes it. The first runs when a photo comes; the other two are the
    refocus, which is one CUDA graph from its second time on. The photos of a size take turns, from whatever thread.

    Args:
        engines: of `PIXELS_IN`, `WHOLE` and `PIXELS_OUT` for photos of `size`.

    Raises:
        MismatchError: they don't fit each other.
    """

    def __init__(self, engines: Mapping[str, Engine], size: Size, cuda: Cuda, *, graphs: bool) -> None:
        self._size = size
        self.closed = False
        self.device_seconds: float | None = None
        self._turn, self._kept = Lock(), Kept()
        order = [engines[name] for name in (PIXELS_IN, WHOLE, PIXELS_OUT)]
        self._tensors: dict[str, Tensor] = {}
        self._dtypes: dict[str, np.dtype[np.generic]] = {}
        for engine in order:
            for tensor in (*engine.contract.inputs, *engine.contract.outputs):
                dtype = engine.dtypes[tensor.name]
                if self._dtypes.setdefault(tensor.name, dtype) != dtype:
                    raise MismatchError(
                        f"{tensor.name} is {dtype} for one engine and not for another: build both again"
                    )
                self._tensors[tensor.name] = tensor
        self._stream = Stream(cuda)
        self._timer = Timer(cuda)
        self._shared = cuda.shares_memory
        host: type[HostBuffer] = MappedBuffer if self._shared else HostBuffer
        between = {tensor.name for tensor in order[0].contract.outputs} | {
            tensor.name for tensor in order[2].contract.inputs
        }
        self._host = {name: host(cuda) for name in self._tensors if name not in between}
        self._device: dict[str, Buffer] = {
            name: self._host[name] if self._shared and name in self._host else DeviceBuffer(cuda)
            for name in self._tensors
        }
        self._bounds: list[Bound] = []
        self._launched = Launched(self._stream, captures=False, name=WHOLE)
        try:
            for name, buffer in (*self._device.items(), *self._host.items()):
                buffer.reserve(self._bytes(name))
            addresses = {name: buffer.address for name, buffer in self._device.items()}
            for engine in order:
                self._bounds.append(Bound(engine, 0, self._stream, graphs=graphs))
                self._bounds[-1].bind(size, addresses)
            self._launched = Launched(self._stream, captures=self._bounds[1].captures, name=WHOLE)
        except BaseException:
            self.close()
            raise

    def keep(self, pixels: np.ndarray, disparity: np.ndarray) -> "_Photo":
        return _Photo(pixels, disparity)

    def run(self, kept: "_Photo", numbers: Mapping[str, np.ndarray]) -> np.ndarray:
        with self._turn:
            if self.closed:
                raise InputError("the runtime of this photo is closed: open it again")
            try:
                self._start(self._kept.new(kept, kept.bytes, numbers))
                self._stream.wait()
            except BaseException:
                self._kept.forget()
                self._stream.wait()  # buffers may be in use
                raise
            self.device_seconds = self._timer.seconds
            check_finite(float(self._array(TOTAL).sum()))
            return self._array(REFOCUSED).copy()

    def close(self) -> None:
        """Wait, and release the GPU's memory."""
        if self.closed:
            return
        self.closed = True
        self._stream.wait()
        self._launched.drop()
        self._bounds.clear()
        self._timer.close()
        for buffer in (*self._device.values(), *self._host.values()):  # freed twice is freed once
            buffer.free()
        self._stream.close()

    def _start(self, inputs: Mapping[str, np.ndarray]) -> None:
        for name, array in inputs.items():
            np.copyto(self._array(name), array)
            if not self._shared:
                self._stream.copy_in(self._device[name], self._host[name], self._bytes(name))
        if PIXELS in inputs:
            self._bounds[0].enqueue(self._stream)
        self._timer.begin(self._stream)
        self._launched.run(self._size, self._refocus)  # its buffers are allocated once
        self._timer.end(self._stream)
        for name in () if self._shared else (REFOCUSED, TOTAL):
            self._stream.copy_out(self._host[name], self._device[name], self._bytes(name))

    def _refocus(self) -> None:
        for bound in self._bounds[1:]:
            bound.enqueue(self._stream)

    def _array(self, name: str) -> np.ndarray:
        return self._host[name].array(self._tensors[name].shape(*self._size), self._dtypes[name])

    def _bytes(self, name: str) -> int:
        return prod(self._tensors[name].shape(*self._size)) * self._dtypes[name].itemsize


class _Photo:
    """A photo; its inputs are made when they are put on the GPU, and do not stay on the host."""

    def __init__(self, pixels: np.ndarray, disparity: np.ndarray) -> None:
        self.pixels, self._disparity = pixels, disparity

    def inputs(self) -> Arrays:
        height, width = self.pixels.shape[:2]
        picture = read_picture(self.pixels, slice(0, height), slice(0, width))
        return {"picture": picture, "disparity": self._disparity}

    def bytes(self) -> Arrays:
        return {PIXELS: self.pixels, "disparity": self._disparity}
