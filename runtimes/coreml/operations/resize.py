"""Resampling of the last two axes."""

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.runtimes.coreml.arithmetic import Computation, Partial, Rounding


def upsample_bilinear(
    x: np.ndarray,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    *,
    partial: Partial,
) -> np.ndarray:
    """To ⌊size · factor⌋; without `align_corners` pixel centres lie at halves."""
    height, width = x.shape[-2:]
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS"
    return resize_bilinear(x, int(height * scale_factor_height), int(width * scale_factor_width), mode, partial=partial)


def resize_bilinear(
    x: np.ndarray,
    target_size_height: int = 1,
    target_size_width: int = 1,
    sampling_mode: str = "DEFAULT",
    *,
    partial: Partial,
) -> np.ndarray:
    """To a size, first the rows, then the columns; `sampling_mode` says where the samples are taken (`grid`)."""
    rows = _interpolated(x, -2, grid(x.shape[-2], int(target_size_height), sampling_mode), partial)
    return _interpolated(rows, -1, grid(x.shape[-1], int(target_size_width), sampling_mode), partial)


def grid(length: int, target: int, mode: str) -> np.ndarray:
    """Where each of `target` samples lies among `length` pixels, in [0, length − 1], float64."""
    steps = np.arange(target)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if target == 1:
            return np.array([(length - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0])
        return steps * ((length - 1) / (target - 1))
    if mode == "DEFAULT":
        places = steps * (length / target)
    elif mode == "OFFSET_CORNERS":
        places = (steps + 0.5) * (max(1, length - 1) / target)
    elif mode == "UNALIGN_CORNERS":
        places = (steps + 0.5) * (length / target) - 0.5
    else:
        raise MismatchError(f"sampling mode '{mode}' of a resize is not one of MIL's")
    return np.clip(places, 0, length - 1)


def _interpolated(x: np.ndarray, axis: int, places: np.ndarray, partial: Partial) -> np.ndarray:
    below = np.floor(places).astype(np.int64)
    above = np.minimum(below + 1, x.shape[axis] - 1)
    share = (places - below).astype(np.float32)
    share = partial(share if axis == -1 else share[:, None])
    first = partial(x.take(below, axis) * (1 - share))
    return partial(first + x.take(above, axis) * share)


OPERATIONS = {
    "upsample_bilinear": Computation(upsample_bilinear, Rounding.SUMS),
    "resize_bilinear": Computation(resize_bilinear, Rounding.SUMS),
}
