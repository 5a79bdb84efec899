"""Where a photo is to be sharp, and the range of disparities that follows from it."""

from dataclasses import dataclass

import numpy as np

from deeplens.console.errors import InputError
from deeplens.runtimes.disparity import focal_disparity_at, nearest_subject


@dataclass(frozen=True)
class Focus:
    """Where a photo is to be sharp: one of the three is given.

    Attributes:
        points: x and y from the top left, 0 to 1: all that lies between them in depth is sharp.
        depth: a disparity, 0 (far) to 1 (near).
        nearest: the nearest subject: `runtimes.disparity.nearest_subject`.
    """

    points: tuple[tuple[float, float], ...] = ()
    depth: float | None = None
    nearest: bool = False

    def of(self, disparity: np.ndarray, *, focus_range: float = 0.0) -> tuple[float, float]:
        """The focal disparity and the range around it that is sharp, for a photo with this disparity map.

        Args:
            disparity: h×w in [0, 1], near = large.
            focus_range: further disparity that is sharp, in [0, 1], half of it on each side.

        Returns:
            focal disparity in [0, 1], focus range in [0, 1], as `runtimes.harness.Harness.refocus` takes them.

        Raises:
            InputError: nothing is given, or a point or a depth lies outside 0 to 1.
        """
        sharp = [focal_disparity_at(disparity, *point) for point in self.points]
        if self.depth is not None:
            if not 0.0 <= self.depth <= 1.0:
                raise InputError(f"the focus depth goes from 0 (far) to 1 (near), not {self.depth:g}")
            sharp = [self.depth]
        elif self.nearest:
            sharp = [nearest_subject(disparity)]
        if not sharp:
            raise InputError("no focus is given: give a point, a depth or 'nearest'")
        return (min(sharp) + max(sharp)) / 2, min(1.0, max(sharp) - min(sharp) + focus_range)
