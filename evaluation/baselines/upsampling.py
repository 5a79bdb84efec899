"""In place of the guided step: from a blurred picture of the base to the photo's size, ×2 at a time.

Pictures of a level are (1, 3, h, w) in [0, 1], gamma-encoded, as in the harness.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from deeplens.runtimes.pyramid import Geometry, doubled, halve, pad_to, picture_levels, quantise, read_picture

GUIDED_RADIUS = 1
GUIDED_EPSILON = 1e-5
"""Of the guided filter: windows of 3×3 low pixels; how much variance of the photo counts as flat. The best of 1, 2, 4
and 1e-6 … 1e-3 on six validation scenes with the true base."""

BILATERAL_REACH = 2
SIGMA_SPACE = 0.5
SIGMA_RANGE = 0.03
"""Of the joint bilateral filter: 5×5 low pixels, as in the paper; in low pixels; in distance of two colours. The best
of 0.35, 0.5, 0.8 and 0.03 … 0.3 on six validation scenes with the true base."""


def bilinear(low: np.ndarray, _high_photo: np.ndarray, _low_photo: np.ndarray) -> np.ndarray:
    """`runtimes.pyramid.doubled` as one of `evaluation.baselines.UPSAMPLERS`: the photo plays no part."""
    return doubled(low)


def guided_filter(
    low: np.ndarray,
    high_photo: np.ndarray,
    low_photo: np.ndarray,
    *,
    radius: int = GUIDED_RADIUS,
    epsilon: float = GUIDED_EPSILON,
) -> np.ndarray:
    """In each window the blurred picture is a linear function of the photo's colour, fitted low and applied high.

    He, Sun and Tang 2010, equations 11 to 16 (with colour as guide), the coefficients upsampled bilinearly (He and Sun
    2015). Windows are cut off at the border.

    Args:
        low: blurred picture, (1, C, h, w).
        high_photo, low_photo: (1, 3, 2h, 2w), (1, 3, h, w).
        radius: windows are 2·radius + 1 low pixels wide.
        epsilon: variance of the photo far below which the picture becomes the window's mean.

    Returns:
        (1, C, 2h, 2w).
    """

    def mean(values: np.ndarray) -> np.ndarray:
        """Over the window around each pixel: (h, w, …)."""
        size = (2 * radius + 1, 2 * radius + 1) + (1,) * (values.ndim - 2)
        inside = uniform_filter(np.ones(values.shape[:2]), size[:2], mode="constant")
        return uniform_filter(values, size, mode="constant") / inside.reshape(inside.shape + (1,) * (values.ndim - 2))

    picture, guide = (values[0].transpose(1, 2, 0).astype(np.float64) for values in (low, low_photo))
    guide_mean, picture_mean = mean(guide), mean(picture)
    variance = mean(guide[..., :, None] * guide[..., None, :]) - guide_mean[..., :, None] * guide_mean[..., None, :]
    covariance = (
        mean(guide[..., :, None] * picture[..., None, :]) - guide_mean[..., :, None] * picture_mean[..., None, :]
    )
    slope = np.linalg.solve(variance + epsilon * np.eye(3), covariance)  # (h, w, 3, C)
    offset = picture_mean - np.einsum("hwgc,hwg->hwc", slope, guide_mean)
    coefficients = mean(np.concatenate((slope, offset[..., None, :]), 2).astype(np.float32))  # (h, w, 4, C)
    height, width, _, channels = coefficients.shape
    stacked = coefficients.reshape(height, width, -1).transpose(2, 0, 1)[None]
    high = doubled(stacked).reshape(4, channels, 2 * height, 2 * width)
    return (np.einsum("gchw,ghw->chw", high[:3], high_photo[0]) + high[3])[None].astype(np.float32)


def joint_bilateral(
    low: np.ndarray,
    high_photo: np.ndarray,
    low_photo: np.ndarray,
    *,
    sigma_space: float = SIGMA_SPACE,
    sigma_range: float = SIGMA_RANGE,
) -> np.ndarray:
    """A mean of the low pixels around each place, weighted by distance and by likeness of the photo (Kopf et al. 2007).

    Args:
        low: blurred picture, (1, C, h, w).
        high_photo, low_photo: (1, 3, 2h, 2w), (1, 3, h, w).
        sigma_space: of the Gaussian over distance, in low pixels.
        sigma_range: of the Gaussian over the distance of two colours, that of the high pixel and of the low one.

    Returns:
        (1, C, 2h, 2w).
    """
    reach = BILATERAL_REACH
    _, channels, height, width = low.shape
    pads = ((0, 0), (0, 0), (reach, reach), (reach, reach))
    around, guide = (np.pad(values, pads, "edge")[0] for values in (low, low_photo))
    result = np.empty((1, channels, 2 * height, 2 * width), np.float32)
    for row in (0, 1):
        for column in (0, 1):
            here = high_photo[0, :, row::2, column::2]
            total = np.zeros((channels, height, width), np.float32)
            weights = np.zeros((height, width), np.float32)
            for down in range(-reach, reach + 1):
                for right in range(-reach, reach + 1):
                    # A high pixel lies a quarter of a low one before or after the middle of the low one it is in.
                    distance = (down + 0.25 - 0.5 * row) ** 2 + (right + 0.25 - 0.5 * column) ** 2
                    window = (
                        slice(None),
                        slice(reach + down, reach + down + height),
                        slice(reach + right, reach + right + width),
                    )
                    unlike = np.square(here - guide[window]).sum(0)
                    likeness = np.exp(unlike / np.float32(-2 * sigma_range**2)) + LEAST
                    weight = likeness * np.float32(np.exp(-distance / (2 * sigma_space**2)))
                    total += weight * around[window]
                    weights += weight
            result[0, :, row::2, column::2] = total / weights
    return result


LEAST = np.float32(1e-12)
"""What a low pixel counts that is unlike the photo: where all are, their distances decide."""


def upsampled_photo(
    base: np.ndarray,
    levels: Geometry,
    *,
    photo: NDArray[np.uint8],
    upsample: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] = bilinear,
) -> NDArray[np.uint8]:
    """A blurred picture of the base (1, 3, *levels.padded(0)), brought to the photo's size: H×W×3, uint8.

    Like the method's, it is clipped to [0, 1] at each level and quantised at the end.

    Args:
        photo: H×W×3, which guides; halved as the harness does.
        upsample: one of `evaluation.baselines.UPSAMPLERS`.
    """
    pictures = picture_levels(photo, levels)
    if levels.steps:
        height, width = levels.padded(levels.steps)
        pictures.append(read_picture(photo, slice(0, height), slice(0, width)))
    for level in range(levels.steps):
        base = upsample(np.clip(base, 0.0, 1.0), pictures[level + 1], pictures[level])
    result = np.empty((levels.height, levels.width, 3), np.uint8)
    quantise(base[:, :, : levels.height, : levels.width], result)
    return result


def true_base(target: np.ndarray, levels: Geometry) -> np.ndarray:
    """The true blurred picture (H×W×3, float32, in [0, 1]) at the base, halved as the harness halves the photo."""
    picture = pad_to(target.transpose(2, 0, 1)[None], *levels.padded(levels.steps))
    for _ in range(levels.steps):
        picture = halve(picture)
    return picture
