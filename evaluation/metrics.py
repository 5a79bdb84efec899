"""PSNR and SSIM, over whole pictures and in the band around depth edges. Needs SciPy (the `train` extra).

Pictures are H×W×3, floating point, gamma-encoded (sRGB), in [0, 1]; a prediction is clipped to that range first. The
peak is always 1.0, never what a picture happens to hold.

SSIM is our own, so that scoring needs no more than SciPy: scikit-image, which the tests hold it against to 1e-12, would
bring five packages for one function.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from deeplens.model.contract import R_MAX

Picture = NDArray[np.floating]
Mask = NDArray[np.bool_]

PSNR_LIMIT = 100.0
"""What equal pictures score, in dB: mean squared errors below 1e-10 count as that much."""

SIGMA = 1.5
WINDOW_RADIUS = 5
"""SSIM's window: Gaussian of `SIGMA` pixels, 11×11."""

C1, C2 = 0.01**2, 0.03**2
"""SSIM's constants (K1 L)² and (K2 L)² for a data range of L = 1."""

DEPTH_STEP = 0.5 / R_MAX
"""A depth edge: neighbours whose disparities differ by more than this. At the full aperture their circles of confusion
differ by half a pixel of the base in radius; a ramp over the whole picture stays far below it."""


def psnr(prediction: Picture, truth: Picture, *, mask: Mask | None = None) -> float:
    """10 · log10(1 / mean squared error) in dB, at most `PSNR_LIMIT`; the mean is over pixels and channels.

    Args:
        mask: H×W; only these pixels count. None: all.

    Raises:
        ValueError: shapes or types that do not fit, or a mask with no pixel.
    """
    error = np.square(_clipped(prediction, truth) - truth.astype(np.float64)).mean(axis=2)
    return _decibels(_mean(error, mask))


def ssim(prediction: Picture, truth: Picture, *, mask: Mask | None = None) -> float:
    """Structural similarity (Wang 2004), the mean over the channels and over the windows that lie inside the picture.

    Args:
        mask: H×W; only windows centred on these pixels count. None: all.

    Raises:
        ValueError: shapes or types that do not fit, a picture smaller than the window, or a mask with no such window.
    """
    similarity = ssim_map(prediction, truth)
    return _mean(similarity, None if mask is None else mask[_inside(mask.shape)])


def ssim_map(prediction: Picture, truth: Picture) -> NDArray[np.float64]:
    """SSIM at each window that lies inside the picture, (H − 10)×(W − 10), the mean over the channels.

    Raises:
        ValueError: shapes or types that do not fit, or a picture smaller than the window.
    """
    if min(truth.shape[:2]) <= 2 * WINDOW_RADIUS:
        raise ValueError(f"SSIM's window is {2 * WINDOW_RADIUS + 1} pixels wide, the picture {truth.shape[:2]}")
    clipped, inside = _clipped(prediction, truth), _inside(truth.shape[:2])
    channels = [_channel_ssim(clipped[..., c], truth[..., c].astype(np.float64))[inside] for c in range(3)]
    return np.mean(channels, axis=0)


def scores(prediction: Picture, truth: Picture, *, band: Mask) -> dict[str, float | None]:
    """psnr and ssim over the picture; psnr_band and ssim_band inside `band`, None where it has no pixel to count."""
    error = np.square(_clipped(prediction, truth) - truth.astype(np.float64)).mean(axis=2)
    similarity = ssim_map(prediction, truth)
    inner = band[_inside(band.shape)]
    return {
        "psnr": _decibels(_mean(error, None)),
        "ssim": _mean(similarity, None),
        "psnr_band": _decibels(_mean(error, band)) if band.any() else None,
        "ssim_band": _mean(similarity, inner) if inner.any() else None,
    }


def depth_edge_band(disparity: NDArray[np.floating], width: float, *, step: float = DEPTH_STEP) -> Mask:
    """Pixels at most `width` pixels (Euclidean, centre to centre) from a pixel at a depth edge.

    The pixels on both sides of a jump are at the edge. With the largest radius of a circle of confusion as `width`,
    what lies outside the band is touched by one depth only.

    Args:
        disparity: H×W, in [0, 1], true.
        width: in pixels, 0 or more.
        step: two pixels side by side or one above the other that differ by more than this are an edge.

    Returns:
        H×W; all False where there is no edge.
    """
    edge = np.zeros(disparity.shape, bool)
    down = np.abs(np.diff(disparity, axis=0)) > step
    across = np.abs(np.diff(disparity, axis=1)) > step
    edge[:-1] |= down
    edge[1:] |= down
    edge[:, :-1] |= across
    edge[:, 1:] |= across
    if not edge.any():
        return edge
    return np.asarray(distance_transform_edt(~edge) <= width)


def _clipped(prediction: Picture, truth: Picture) -> NDArray[np.float64]:
    """The prediction in [0, 1] and float64, after both were found to be pictures of one size."""
    if prediction.shape != truth.shape or truth.ndim != 3 or truth.shape[2] != 3:
        raise ValueError(f"expected two pictures H×W×3 of one size, got {prediction.shape} and {truth.shape}")
    if prediction.dtype.kind != "f" or truth.dtype.kind != "f":
        raise ValueError(f"expected floating point pictures in [0, 1], got {prediction.dtype} and {truth.dtype}")
    return np.clip(prediction.astype(np.float64), 0.0, 1.0)


def _mean(values: NDArray[np.float64], mask: Mask | None) -> float:
    """The mean of an H×W map, over the mask's pixels only where there is one."""
    if mask is not None:
        if mask.shape != values.shape or not mask.any():
            raise ValueError(f"a mask of {mask.shape} with {int(mask.sum())} pixels does not fit {values.shape}")
        values = values[mask]
    return float(values.mean())


def _decibels(mean_squared_error: float) -> float:
    return float(-10 * np.log10(max(mean_squared_error, 10 ** (-PSNR_LIMIT / 10))))


def _inside(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Where a window's centre lies, so that it does not reach past a picture of `shape`."""
    return slice(WINDOW_RADIUS, shape[0] - WINDOW_RADIUS), slice(WINDOW_RADIUS, shape[1] - WINDOW_RADIUS)


def _channel_ssim(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """SSIM of two H×W planes; wrong within `WINDOW_RADIUS` of the border, where the window reaches past it."""
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    means = mean_x * mean_x + mean_y * mean_y
    product = mean_x * mean_y
    variances = _window_mean(x * x + y * y) - means
    covariance = _window_mean(x * y) - product
    return (2 * product + C1) * (2 * covariance + C2) / ((means + C1) * (variances + C2))


def _window_mean(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(gaussian_filter(plane, SIGMA, radius=WINDOW_RADIUS))
