"""Graphs of the whole effect: a photo of one size in, the refocused photo out, and no harness around. NumPy only."""

from pathlib import Path
from typing import Any

import numpy as np

from deeplens.console.errors import InputError
from deeplens.model.contract import DEPTH_SIZE
from deeplens.model.whole_contract import WHOLE, WHOLE_WITH_DEPTH
from deeplens.runtimes import folders
from deeplens.runtimes.contract import Runtime, Session
from deeplens.runtimes.photo import to_8_bit
from deeplens.runtimes.pyramid import quantise, read_picture


class OneFile:
    """A graph of the whole effect, opened. The session stays the caller's to close.

    Args:
        session: of `whole` or `whole_with_depth`, for one size of photo.
    """

    def __init__(self, session: Session) -> None:
        size = session.describe().fixed_size
        assert size is not None, "a graph of the whole effect has one size"
        self.size = size
        self.with_depth = session.describe().network == WHOLE_WITH_DEPTH
        self._session = session

    def refocus(
        self,
        pixels: np.ndarray,
        disparity: np.ndarray | None = None,
        *,
        aperture: float,
        focal_disparity: float | None = None,
        focus: tuple[float, float] | None = None,
    ) -> np.ndarray:
        """The photo with a shallow depth of field, as `runtimes.harness.Harness.refocus` makes it from the base up.

        Args:
            pixels: H×W×3 of `size`, uint8 or uint16, sRGB.
            disparity: (320, 320) in [0, 1], near = large; not for a graph with its own depth.
            aperture: α in [0, 1].
            focal_disparity: disparity that is sharp, in [0, 1]; not for a graph with its own depth.
            focus: x and y of the point that is sharp, from 0 to 1, from the top left; for a graph with its own depth.

        Returns:
            H×W×3 of the dtype of `pixels`, rounded half to even.

        Raises:
            InputError: something that the graph does not take, or that it lacks.
        """
        height, width = self.size
        if pixels.shape != (height, width, 3) or pixels.dtype not in (np.uint8, np.uint16):
            raise InputError(
                f"the graph takes photos of {width}x{height} pixels, uint8 or uint16, not {pixels.shape} of "
                f"{pixels.dtype}: export one for that size with --whole"
            )
        seen = to_8_bit(pixels) if self.with_depth else pixels
        inputs = {
            "picture": read_picture(seen, slice(0, height), slice(0, width)),
            "aperture": _number("aperture", aperture),
        }
        if self.with_depth:
            if disparity is not None or focal_disparity is not None or focus is None:
                raise InputError("a graph with its own depth takes a focus point, and no disparity")
            inputs["focus"] = np.concatenate([_number("focus", each) for each in focus], 1)
        else:
            if disparity is None or focal_disparity is None or focus is not None:
                raise InputError(
                    "a graph without depth takes a disparity map and a focal disparity, and no focus point"
                )
            inputs["disparity"] = _map(disparity)
            inputs["focal_disparity"] = _number("focal_disparity", focal_disparity)
        result = np.empty_like(pixels, order="C", subok=False)
        quantise(self._session.run(inputs)["refocused"], result)
        return result


def open_whole(
    name: str,
    *,
    size: tuple[int, int],
    with_depth: bool = False,
    variant: str = "edge",
    artifacts: Path | None = None,
    precision: str | None = None,
    threads: int | None = None,
    **options: Any,
) -> tuple[Runtime, OneFile]:
    """Open a graph of the whole effect; closing the runtime closes it.

    Args:
        name: "onnx", "coreml" or "trt".
        size: height and width of the photo.
        precision: of the artefact; None: the runtime's default.
        threads: for ONNX Runtime.
        options: further arguments of the runtime's class.

    Raises:
        InputError: a runtime that has no such graphs.
        MissingError, MismatchError: from the runtime.
    """
    runtime = whole_runtime(
        name, size=size, variant=variant, artifacts=artifacts, precision=precision, threads=threads, **options
    )
    return runtime, OneFile(runtime.open(WHOLE_WITH_DEPTH if with_depth else WHOLE))


def whole_runtime(
    name: str,
    *,
    size: tuple[int, int],
    variant: str = "edge",
    artifacts: Path | None = None,
    precision: str | None = None,
    threads: int | None = None,
    **options: Any,
) -> Runtime:
    """The runtime that opens graphs of the whole effect for one size of photo: see `open_whole`."""
    own: dict[str, Any] = {} if precision is None else {"precision": precision}
    artifacts = folders.opened_folder(name, variant=variant, precision=precision, artifacts=artifacts, whole=True)
    if name == "onnx":
        from deeplens.runtimes.ort import OnnxRuntime

        return OnnxRuntime(variant=variant, artifacts=artifacts, shapes=size, threads=threads, **own, **options)
    if name == "coreml":
        from deeplens.runtimes.coreml.runtime import CoreMLRuntime

        return CoreMLRuntime(variant=variant, artifacts=artifacts, size=size, **own, **options)
    if name == "trt":
        from deeplens.runtimes.trt import TrtRuntime

        return TrtRuntime(variant=variant, artifacts=artifacts, photo=size, **own, **options)
    raise InputError(f"{name} has no graphs of the whole effect: choose onnx, coreml or trt")


def _number(name: str, value: float) -> np.ndarray:
    if not 0.0 <= value <= 1.0:
        raise InputError(f"{name} must be from 0 to 1, not {value:g}")
    return np.full((1, 1, 1, 1), value, np.float32)


def _map(disparity: np.ndarray) -> np.ndarray:
    if disparity.shape != (DEPTH_SIZE, DEPTH_SIZE):
        raise InputError(f"the graph takes a disparity map of {DEPTH_SIZE}×{DEPTH_SIZE}, not {disparity.shape}")
    if not (float(disparity.min()) >= 0.0 and float(disparity.max()) <= 1.0):  # NaN fails both
        raise InputError("the disparity map must hold finite values from 0 to 1")
    return np.ascontiguousarray(disparity, np.float32)[None, None]
