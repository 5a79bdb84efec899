"""What the method is compared with: other blurs of a photo with depth, and other ways from a low to a high size.

Each stands in a file of its own and is built as its authors would want it, on the inputs that the method gets. The
blurs work in linear light, as the truth does, and continue the photo past its border by reflection.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deeplens.evaluation.baselines import compositional, layered, ray_traced, scatter
from deeplens.evaluation.baselines.canvas import Array
from deeplens.evaluation.baselines.upsampling import (
    bilinear,
    guided_filter,
    joint_bilateral,
    true_base,
    upsampled_photo,
)

__all__ = ["BLURS", "UPSAMPLERS", "Blur", "true_base", "upsampled_photo"]


class Blur(Protocol):
    """A photo and its depth → the photo with a shallow depth of field."""

    def __call__(
        self, photo: NDArray[np.uint8], disparity: Array, *, focal: float, aperture: float, radius: float
    ) -> NDArray[np.uint8]:
        """Blur each pixel by its circle of confusion, radius · aperture · |disparity − focal| pixels in radius.

        Args:
            photo: H×W×3, sRGB.
            disparity: H×W, in [0, 1], near = large.
            focal: disparity of the focal plane, in [0, 1].
            aperture: α in [0, 1]; at 0 the photo comes back unchanged.
            radius: pixels of radius for a difference in disparity of 1 at aperture 1.

        Returns:
            H×W×3, sRGB.
        """


BLURS: dict[str, Blur] = {
    "compositional": compositional.blur,
    "scatter": scatter.blur,
    "layered": layered.blur,
    "ray-traced": ray_traced.blur,
}

UPSAMPLERS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "bilinear": bilinear,
    "guided filter": guided_filter,
    "joint bilateral": joint_bilateral,
}
"""Name → (low blurred picture (1, 3, h, w), photo (1, 3, 2h, 2w), photo (1, 3, h, w)) → blurred picture, twice the
size; all in [0, 1] but for the result, which may leave it a little."""
