"""What a page of `deeplens studio` wishes for: the focus, the f-number and the level of a picture."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deeplens.commands.studio_photos import Refused
from deeplens.runtimes.disparity import focal_disparity_at
from deeplens.runtimes.given_depth import EMBEDDED

PREDICTED = "predicted"
DEPTHS = (PREDICTED, EMBEDDED)
"""Where depth comes from: the depth network, or the map that the photo's own file holds."""


def depth_named(said: object) -> str:
    """Where depth comes from; None: from the depth network. Refused: another name."""
    if said is None:
        return PREDICTED
    if said not in DEPTHS:
        raise Refused(400, f"depth is {' or '.join(DEPTHS)}")
    return str(said)


@dataclass(frozen=True)
class Wish:
    """What is to be sharp, and how much the rest is to be blurred.

    Attributes:
        point: x and y in [0, 1], from the top left, or None.
        disparities: what else is sharp, in [0, 1]: a focal plane, and the near and far end of a range.
        f_number: from `harness.N_MIN` up.
        level: 0 (the base) to the last; None: the photo's own size.
        runtime: its name; None: the one that was chosen at the start.
        depth: one of `DEPTHS`.
    """

    point: tuple[float, float] | None
    disparities: tuple[float, ...]
    f_number: float
    level: int | None
    runtime: str | None
    depth: str = PREDICTED

    @classmethod
    def parsed(cls, said: object) -> "Wish":
        """The wish of a request's JSON.

        Raises:
            Refused: something is missing or is no such value.
        """
        if not isinstance(said, Mapping):
            raise Refused(400, 'a request is an object, such as {"focus": [0.5, 0.5], "f_number": 2.8}')
        point = None
        if said.get("focus") is not None:
            pair = said["focus"]
            if not isinstance(pair, list) or len(pair) != 2:
                raise Refused(400, "focus is a point of two numbers from 0 to 1, such as [0.5, 0.5]")
            point = (_share("focus", pair[0]), _share("focus", pair[1]))
        found = {name: _share(name, said[name]) for name in ("disparity", "near", "far") if said.get(name) is not None}
        if "near" in found and "far" in found and found["near"] < found["far"]:
            raise Refused(400, "near is a larger disparity than far: exchange the two")
        if point is None and not found:
            raise Refused(400, "nothing says what is to be sharp: give focus, disparity, or near and far")
        number = said.get("f_number", 2.8)
        if not _is_number(number):
            raise Refused(400, "f_number is a number, such as 2.8")
        level, runtime = said.get("level", "full"), said.get("runtime")
        if level != "full" and (not isinstance(level, int) or isinstance(level, bool)):
            raise Refused(400, 'level is a whole number from 0, or "full"')
        if runtime is not None and not isinstance(runtime, str):
            raise Refused(400, "runtime is the name of a runtime")
        return cls(
            point,
            tuple(found.values()),
            float(number),
            None if level == "full" else level,
            runtime,
            depth_named(said.get("depth")),
        )

    def focal(self, disparity: np.ndarray) -> tuple[float, float, float]:
        """The disparity at the focus, the middle of what is sharp, and the width of that; all in [0, 1]."""
        sharp = list(self.disparities)
        if self.point is not None:
            sharp.insert(0, focal_disparity_at(disparity, *self.point))
        return sharp[0], (min(sharp) + max(sharp)) / 2, max(sharp) - min(sharp)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _share(name: str, value: object) -> float:
    if not (_is_number(value) and 0.0 <= value <= 1.0):  # type: ignore[operator]
        raise Refused(400, f"{name} goes from 0 to 1")
    return float(value)  # type: ignore[arg-type]
