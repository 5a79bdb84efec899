"""The loop on a device as one graph of the whole effect, for runtimes that run graphs: ONNX Runtime, TensorRT.

Within the graph nothing is copied, whatever the level. The photo and its disparity are put there once. NumPy only.
"""

from collections.abc import Mapping
from threading import Lock
from typing import Any, Protocol

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.model.contract import DEPTH_SIZE, FINER_BASE, Variant
from deeplens.runtimes.assembly import Progress
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.depth_levels import DepthLevels, FocalPlane
from deeplens.runtimes.device_loop import DeviceLoop
from deeplens.runtimes.pyramid import geometry, registered_disparity


class Resident(Protocol):
    """A graph of the whole effect whose inputs stay on the device."""

    def keep(self, pixels: np.ndarray, disparity: np.ndarray) -> Any:
        """Put a photo and its (1, 1, 320, 320) disparity on the device; what stands for them there."""

    def run(self, kept: Any, numbers: Mapping[str, np.ndarray]) -> np.ndarray:
        """The refocused photo, of its own dtype.

        Args:
            kept: from `keep`.
            numbers: `focal_disparity` and `aperture`, (1, 1, 1, 1), float32.
        """

    @property
    def device_seconds(self) -> float | None: ...


class WholeLoop(DeviceLoop):
    """A photo in a graph of the whole effect of its size.

    The graph begins at the base, has no range in focus and gives the photo's own size alone: for other pictures
    `why_not` says so.

    Args:
        disparity: of (320, 320).
    """

    def __init__(self, resident: Resident, variant: Variant, pixels: np.ndarray, disparity: np.ndarray) -> None:
        self._resident, self._variant = resident, variant
        self.levels = geometry(*pixels.shape[:2])
        base = DepthLevels(registered_disparity(disparity, self.levels), self.levels).maps[0]
        self._extremes = float(base.min()), float(base.max())
        self._kept = resident.keep(pixels, np.ascontiguousarray(disparity, np.float32)[None, None])
        self.held_bytes = pixels.nbytes + 4 * DEPTH_SIZE**2
        self._lock = Lock()

    def why_not(self, plane: FocalPlane, level: int) -> str | None:
        if level != self.levels.steps:
            return "the graph of the whole effect gives the photo's own size alone"
        if plane.focus_range:
            return "the graph of the whole effect has no range in focus"
        most = max(abs(each - plane.focal_disparity) for each in self._extremes)
        if self._variant.finer_base and most * plane.aperture * self.levels.blur_scale < FINER_BASE[1]:
            return "with so little blur the loop begins above the base, and the graph of the whole effect does not"
        return None

    def picture(self, plane: FocalPlane, level: int, progress: Progress | None = None) -> np.ndarray:
        assert self.why_not(plane, level) is None
        numbers: Arrays = {
            "focal_disparity": np.full((1, 1, 1, 1), plane.focal_disparity, np.float32),
            "aperture": np.full((1, 1, 1, 1), plane.aperture, np.float32),
        }
        with self._lock:
            result = self._resident.run(self._kept, numbers)
            self.device_seconds = self._resident.device_seconds
        if progress is not None:
            progress(1.0)
        return result


def fits(disparity: np.ndarray) -> bool:
    """Whether a graph of the whole effect takes a disparity map: one of the depth network's own size."""
    return disparity.shape == (DEPTH_SIZE, DEPTH_SIZE)


def check_finite(total: float) -> None:
    """Raise MismatchError unless the sum of a picture is finite."""
    if not np.isfinite(total):
        raise MismatchError("the graph of the whole effect gave values that are not finite: use another precision")
