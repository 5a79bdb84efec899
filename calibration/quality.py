"""What a precision does to the final picture: PSNR against FP32 after the whole loop, on a few photos.

Each side works on its own depth map. The focal plane is laid at the middle of the photo, the aperture is fully open:
the setting of `parity_tests.photos`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens.calibration.photos import Photo
from deeplens.calibration.substituted import Substituted
from deeplens.console.errors import InputError
from deeplens.export.fp16_check import rounded
from deeplens.runtimes.contract import Arrays, Runtime, Session
from deeplens.runtimes.harness import Harness, focal_disparity_at
from deeplens.runtimes.ort import OnnxRuntime, OnnxSession

if TYPE_CHECKING:
    import onnx

POINT, APERTURE = (0.5, 0.5), 1.0

CEILING = 120.0
"""dB that stand for equal pictures."""


@dataclass(frozen=True)
class Reference:
    """One photo in FP32.

    Attributes:
        pixels: H×W×3, uint8.
        disparity: of the FP32 depth network.
        picture: after the last step, (1, 3, H, W) float32, clipped to [0, 1].
    """

    pixels: np.ndarray
    disparity: np.ndarray
    picture: np.ndarray


class Judge:
    """Holds candidates against FP32.

    Args:
        runtime: FP32; stays the caller's to close.
        photos: at least one.
        longest: their long side is made smaller to this, in pixels.
    """

    def __init__(self, runtime: OnnxRuntime, photos: Sequence[Photo], *, longest: int) -> None:
        if not photos:
            raise InputError("there is no photo to judge a plan on")
        self._runtime = runtime
        self._references = []
        for photo in photos:
            pixels = photo.pixels(longest)
            disparity = Harness(runtime).disparity(pixels)
            self._references.append(Reference(pixels, disparity, refocused(runtime, pixels, disparity)))

    def errors(self, graphs: "Mapping[str, onnx.ModelProto]") -> list[float]:
        """Mean squared error of the final picture of each photo, with `graphs` (network → planned graph) in place of
        the FP32 ones and all rounding that a device would do in them."""
        sessions = {network: self._opened(network, graph) for network, graph in graphs.items()}
        candidate = Substituted(self._runtime, sessions)
        found = []
        for reference in self._references:
            disparity = reference.disparity
            if "depth" in graphs:
                disparity = Harness(candidate).disparity(reference.pixels)
            picture = refocused(candidate, reference.pixels, disparity)
            found.append(float(np.square(picture - reference.picture, dtype=np.float64).mean()))
        return found

    def _opened(self, network: str, graph: "onnx.ModelProto") -> Session:
        return in_memory(rounded(graph), self._runtime.open(network), self._runtime)


def in_memory(graph: "onnx.ModelProto", base: OnnxSession, runtime: OnnxRuntime) -> OnnxSession:
    """A session of a graph that is in no file, in place of `base`, one of `runtime`'s, and run as that is."""
    opened = runtime.open_graph(graph.SerializeToString(), lanes=base.lanes)
    return OnnxSession(opened, base.describe(), base.entry, lanes=base.lanes)


def refocused(runtime: Runtime, pixels: np.ndarray, disparity: np.ndarray) -> np.ndarray:
    """The picture after the last step, as numbers: (1, 3, H, W), clipped to [0, 1]."""
    last: dict[str, Any] = {}

    def observe(_level: int, network: str, arrays: Arrays) -> None:
        last["picture"] = arrays["blurred" if network == "lens_blur" else "blurred_high"]

    focal = focal_disparity_at(disparity, *POINT)
    Harness(runtime).refocus(pixels, disparity, focal_disparity=focal, aperture=APERTURE, observe=observe)
    height, width = pixels.shape[:2]
    picture: np.ndarray = np.clip(last["picture"][:, :, :height, :width], 0.0, 1.0)
    return picture


def decibels(errors: Sequence[float]) -> float:
    """PSNR in dB of the photo that fares worst, at most `CEILING`; peak 1."""
    worst = max(errors)
    return CEILING if worst <= 10 ** (-CEILING / 10) else float(-10 * np.log10(worst))
