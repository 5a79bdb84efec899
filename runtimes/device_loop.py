"""The loop where the runtime computes: arrays stay there from level to level. NumPy only.

The other way to run: instead of a session for each network, which takes and gives NumPy arrays, one object for a photo.
To the device go the photo and its disparity, once, and the numbers of a focal plane. Back comes the result, in the
photo's own bits. What lies between stays there.
"""

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np

from deeplens.console.errors import InputError
from deeplens.runtimes.assembly import Progress
from deeplens.runtimes.depth_levels import FocalPlane

Loop = Literal["auto", "device", "host"]

LOOPS: tuple[Loop, ...] = ("auto", "device", "host")
"""Where the loop runs; auto: on the device where the runtime uses one and has such a loop, else on the host."""


def loop_named(name: str) -> Loop:
    """One of `LOOPS`. InputError: it is none."""
    for each in LOOPS:
        if each == name:
            return each
    raise InputError(f"unknown loop '{name}': choose {', '.join(LOOPS)}")


class DeviceLoop(ABC):
    """A photo on the device. For several threads: one works at a time.

    Attributes:
        held_bytes: of the device's memory, kept between two refocusings.
        device_seconds: how long the device worked on the last picture; None: not told.
    """

    held_bytes: int = 0
    device_seconds: float | None = None

    def why_not(self, plane: FocalPlane, level: int) -> str | None:
        """Why the loop can't make a picture that the host's loop would make; None: it can."""
        del plane, level
        return None

    @abstractmethod
    def picture(self, plane: FocalPlane, level: int, progress: Progress | None = None) -> np.ndarray:
        """What `runtimes.focusing.Focusing.picture` gives, but for tiles that it leaves out.

        Args:
            level: 0 (the base) to n.
            progress: called with the share done after each level; what it raises ends the work.

        Raises:
            MismatchError: values that are not finite.
        """
