"""What the method is compared with. NumPy only; pictures of a level are (1, 3, h, w), as in the harness."""

import numpy as np

from runtimes.pyramid import Geometry, halve, pad_to, quantise


def upsample_bilinear(picture: np.ndarray) -> np.ndarray:
    """Bilinear ×2 with half-pixel centres, the border repeated: (1, C, h, w) → (1, C, 2h, 2w)."""
    for axis in (2, 3):
        before = np.concatenate((picture.take([0], axis), picture.take(range(picture.shape[axis] - 1), axis)), axis)
        after = np.concatenate((picture.take(range(1, picture.shape[axis]), axis), picture.take([-1], axis)), axis)
        pair = np.stack((0.75 * picture + 0.25 * before, 0.75 * picture + 0.25 * after), axis + 1)
        shape = list(picture.shape)
        shape[axis] *= 2
        picture = pair.reshape(shape)
    return picture


def upsampled_photo(base: np.ndarray, levels: Geometry) -> np.ndarray:
    """A blurred picture of the base (1, 3, *levels.padded(0)), ×2 bilinearly at each level: H×W×3, uint8.

    Like the method's, it is clipped to [0, 1] at each level and quantised at the end.
    """
    for _ in range(levels.steps):
        base = upsample_bilinear(np.clip(base, 0.0, 1.0))
    photo = np.empty((levels.height, levels.width, 3), np.uint8)
    quantise(base[:, :, : levels.height, : levels.width], photo)
    return photo


def true_base(target: np.ndarray, levels: Geometry) -> np.ndarray:
    """The true blurred picture (H×W×3, float32, in [0, 1]) at the base, halved as the harness halves the photo."""
    picture = pad_to(target.transpose(2, 0, 1)[None], *levels.padded(levels.steps))
    for _ in range(levels.steps):
        picture = halve(picture)
    return picture
