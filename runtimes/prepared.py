"""A photo with its depth map, as the loop needs them: what does not depend on the focal plane or the aperture."""

from functools import partial

import numpy as np

from deeplens.model.contract import Variant
from deeplens.runtimes.depth_levels import DepthLevels
from deeplens.runtimes.level_run import Source
from deeplens.runtimes.pyramid import geometry, halved_window, picture_levels, read_picture, registered_disparity
from deeplens.runtimes.sharp import FinerMap


class PreparedPhoto:
    """The photo and its disparity at every level.

    Args:
        again: it will be refocused more than once. Then the level below the photo's own is held too, three quarters of
            them all, which else is made tile by tile.

    Attributes:
        pixels: the photo, H×W×3, uint8 or uint16.
        levels: the sizes of its levels.
        pictures: level → what gives a window of it, (1, 3, rows, columns), float32, in [0, 1].
        depth: its disparity at each level.
        finer: what a map as fine as the photo says of it.
        variant: of the networks.
        held_bytes: of memory, beside the photo itself.
    """

    def __init__(self, pixels: np.ndarray, disparity: np.ndarray, variant: Variant, *, again: bool) -> None:
        self.pixels, self.variant = pixels, variant
        self.levels = geometry(*pixels.shape[:2])
        pictures = picture_levels(pixels, self.levels, finest=again)
        self.pictures = [slices(each) for each in pictures]
        if len(self.pictures) < self.levels.steps:
            self.pictures.append(partial(halved_window, pixels))
        self.pictures.append(partial(read_picture, pixels))
        registered = registered_disparity(disparity, self.levels)
        finer = variant.sharp_bound is not None  # else the variant changes what is in focus
        self.finer = FinerMap(disparity if finer else np.empty((0, 0)), registered, self.levels)
        self.depth = DepthLevels(registered, self.levels)
        self.held_bytes = sum(each.nbytes for each in pictures) + self.depth.nbytes


def slices(array: np.ndarray) -> Source:
    """What gives windows of (1, C, h, w)."""
    return lambda rows, columns: array[:, :, rows, columns]
