"""A TensorRT engine of the whole effect with its inputs kept on the GPU: one CUDA graph is the whole refocus."""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.pyramid import quantise, read_picture
from deeplens.runtimes.whole_loop import check_finite


class KeepsInputs(Protocol):
    """What is needed of `runtimes.trt.TrtSession`."""

    device_seconds: float | None

    def run_kept(self, owner: object, kept: Callable[[], Arrays], numbers: Mapping[str, np.ndarray]) -> Arrays: ...


class TrtResident:
    """See `runtimes.whole_loop.Resident`. The photos of one engine take turns on the GPU: one of them is there.

    The engine gives float32, which become the photo's integers on the host.
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


class _Photo:
    """A photo; its inputs are made when they are put on the GPU, and do not stay on the host."""

    def __init__(self, pixels: np.ndarray, disparity: np.ndarray) -> None:
        self.pixels, self._disparity = pixels, disparity

    def inputs(self) -> Arrays:
        height, width = self.pixels.shape[:2]
        picture = read_picture(self.pixels, slice(0, height), slice(0, width))
        return {"picture": picture, "disparity": self._disparity}
