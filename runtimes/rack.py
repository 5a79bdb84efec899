"""A focal plane that moves from one thing to another: the path that it takes, and the pictures on it.

The path is even in disparity, not in distance: so the blur of everything changes evenly. It begins and ends slowly.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from deeplens.console.errors import InputError
from deeplens.runtimes.refocuser import Refocuser

SMALLEST_MOVE = 1e-3
"""Two focal planes that are closer than this in disparity are the same: nothing would move."""


@dataclass(frozen=True)
class Step:
    """One picture of an animation.

    Attributes:
        disparity: the focal plane, in [0, 1], near = 1.
        seconds: how long the picture is shown.
    """

    disparity: float
    seconds: float


def eased(share: float) -> float:
    """How far the way is done at a share of the time, both from 0 to 1: 3 t² − 2 t³, at rest at both ends."""
    return share * share * (3.0 - 2.0 * share)


def focal_path(
    start: float, end: float, *, seconds: float, rate: float, hold: float = 0.0, back: bool = True
) -> list[Step]:
    """The focal planes of an animation, in the order in which they are shown.

    Args:
        start, end: disparities in [0, 1].
        seconds: time of the way from `start` to `end`.
        rate: pictures a second.
        hold: seconds that the first and the last focal plane stay, beside their time on the way.
        back: the way back follows, without a second picture of either end: so an animation that is shown again and
            again does not stop.

    Returns:
        at least two steps.

    Raises:
        InputError: start and end are the same, or a time or a rate is not above 0.
    """
    if not (seconds > 0 and rate > 0 and hold >= 0):
        raise InputError("the time and the pictures a second must be above 0, and the hold 0 or more")
    if abs(end - start) < SMALLEST_MOVE:
        raise InputError(
            f"both points are equally far away (disparity {start:.3f} and {end:.3f}), so that nothing would move: "
            "choose points at different distances"
        )
    count = max(2, round(seconds * rate))
    way = [start + (end - start) * eased(index / (count - 1)) for index in range(count)]
    steps = [Step(each, 1 / rate) for each in way]
    for place in (0, -1):
        steps[place] = Step(steps[place].disparity, 1 / rate + hold)
    return steps + steps[-2:0:-1] if back else steps


def pictures(
    photo: Refocuser,
    path: list[Step],
    *,
    aperture: float,
    focus_range: float = 0.0,
    progress: Callable[[float], None] | None = None,
) -> Iterator[np.ndarray]:
    """The picture of each step, H×W×3 of the photo's dtype; a focal plane that comes again is not computed again.

    Args:
        photo: as `runtimes.harness.Harness.photo` gives it; what it keeps between two refocusings is reused.
        aperture, focus_range: as `runtimes.harness.Harness.refocus` takes them.
        progress: called with the share of the work that is done, up to 1.0.
    """
    made: dict[float, np.ndarray] = {}
    count = len({each.disparity for each in path})
    for each in path:
        if each.disparity not in made:
            made[each.disparity] = photo.refocus(
                focal_disparity=each.disparity,
                aperture=aperture,
                focus_range=focus_range,
                progress=None if progress is None else partial(_tell, progress, len(made), count),
            )
        yield made[each.disparity]


def _tell(progress: Callable[[float], None], done: int, count: int, share: float) -> None:
    progress((done + share) / count)
