"""One photo with its depth map, ready to be refocused again and again.

What does not depend on the focal plane or the aperture is made once and kept: the photo and its disparity at every
level. NumPy and Pillow only.
"""

from contextlib import nullcontext
from threading import Lock

import numpy as np

from deeplens.console.errors import InputError
from deeplens.console.progress import Stopwatch
from deeplens.model.contract import VARIANTS
from deeplens.runtimes.assembly import Progress
from deeplens.runtimes.contract import Runtime
from deeplens.runtimes.depth_levels import FocalPlane
from deeplens.runtimes.device_loop import Loop
from deeplens.runtimes.focusing import Focusing, Observer
from deeplens.runtimes.level_run import LevelRunner
from deeplens.runtimes.prepared import PreparedPhoto
from deeplens.runtimes.preview import Preview
from deeplens.runtimes.pyramid import geometry

__all__ = ["Observer", "Refocuser"]


class Refocuser:
    """Refocuses one photo; made by `runtimes.harness.Harness.photo`, which checks what it is given.

    It holds the photo's levels below its full size as float32 (4 bytes a pixel of the photo, or 1), its disparity (1.3
    bytes a pixel, 5 where there is but one step), and the level of the loop that was asked for last, where that is
    below the photo's own (3 bytes a pixel at most). Several threads may use it. The runtime stays the caller's.

    Args:
        again: as in `runtimes.prepared.PreparedPhoto`.
        loop: "device": where the runtime computes (`runtimes.device_loop`). "host": here, with the runtime's sessions.
            "auto": on the device where the runtime has one beside the CPU, and the picture can be made there.

    Attributes:
        levels: the sizes of the photo's levels.
    """

    def __init__(
        self,
        runtime: Runtime,
        pixels: np.ndarray,
        disparity: np.ndarray,
        *,
        tile: int | None,
        again: bool,
        loop: Loop = "auto",
    ) -> None:
        self._given = pixels, disparity, VARIANTS[runtime.variant]
        self._again, self._asked = again, loop == "device"
        self.levels = geometry(*pixels.shape[:2])
        self._runner = LevelRunner(runtime, tile)
        self._device = None
        if loop != "host":
            self._device = runtime.device_loop(pixels, disparity, tile=tile, asked=self._asked)
        self._prepared: PreparedPhoto | None = None
        if self._device is None:
            self._prepared = self._prepare()
        self._begun: Focusing | None = None
        self._previewed: Preview | None = None
        self._lock, self._turn = Lock(), Lock()

    @property
    def held_bytes(self) -> int:
        """As much memory as is kept between two refocusings, beside the photo itself, on the device too."""
        return sum(each.held_bytes for each in (self._prepared, self._begun, self._device) if each is not None)

    def _prepare(self) -> PreparedPhoto:
        return PreparedPhoto(*self._given, again=self._again)

    @property
    def _photo(self) -> PreparedPhoto:
        """The photo on the host; of one that is on the device only where the host's loop is needed after all."""
        with self._lock:
            if self._prepared is None:
                self._prepared = self._prepare()
            return self._prepared

    def refocus(
        self,
        *,
        focal_disparity: float,
        aperture: float,
        focus_range: float = 0.0,
        observe: Observer | None = None,
        from_base: bool | None = None,
        level: int | None = None,
        progress: Progress | None = None,
        watch: Stopwatch | None = None,
    ) -> np.ndarray:
        """The photo with a shallow depth of field: see `runtimes.harness.Harness.refocus`.

        Args:
            level: the last level that is made, 0 (the base) to n; None: n, the photo's own size. Without an observer.
                A level above the one that was asked for last, with the same settings, goes on from there.
            progress: what it raises ends the work between two tiles.
            watch: gets the time of the lens blur as "lens_blur", of the step that makes level k as "step_k".

        Returns:
            H×W×3 of the photo's dtype; of a level below n `Geometry.covered` of it, as the loop has it there. The base
            always comes from the lens blur at the base, also where the loop would begin above it.
        """
        plane = FocalPlane(focal_disparity, aperture, focus_range)
        if observe is None and not from_base and self._on_device(plane, self._checked(level)):
            return self._level(plane, self._checked(level), progress, watch)
        if level is not None and observe is None and not from_base:
            return self._level(plane, self._checked(level), progress, watch)
        if from_base is None:
            from_base = observe is not None
        loop = Focusing(self._photo, self._runner, plane, from_base=from_base)
        return loop.picture(self._checked(level), observe=observe, progress=progress, watch=watch)

    def preview(
        self,
        *,
        focal_disparity: float,
        aperture: float,
        focus_range: float = 0.0,
        level: int | None = None,
        watch: Stopwatch | None = None,
    ) -> Preview:
        """The same picture from the base up to a level, each level when it is done; older previews are cancelled.

        Args: as in `refocus`.

        Returns:
            an iterator of what `refocus` gives for the levels 0 … `level`.

        Raises: as `refocus`.
        """
        plane = FocalPlane(focal_disparity, aperture, focus_range)
        last = self._checked(level)
        found = Preview(lambda each, check: self._level(plane, each, check, watch), last, self._turn)
        with self._lock:
            before, self._previewed = self._previewed, found
        if before is not None:
            before.cancel("a newer preview was asked for")
        return found

    def _on_device(self, plane: FocalPlane, level: int) -> bool:
        """Whether the device makes this picture. InputError: it was asked to, and can't."""
        if self._device is None:
            return False
        why = self._device.why_not(plane, level)
        if why is not None and self._asked:
            raise InputError(f"{why}: leave out --loop device")
        return why is None

    def _checked(self, level: int | None) -> int:
        steps = self.levels.steps
        level = steps if level is None else level
        if not 0 <= level <= steps:
            raise InputError(f"the levels of this photo go from 0 to {steps}, not to {level}")
        return level

    def _level(self, plane: FocalPlane, level: int, progress: Progress | None, watch: Stopwatch | None) -> np.ndarray:
        """A level; what was begun for the same plane goes on."""
        if self._device is not None and self._on_device(plane, level):
            with nullcontext() if watch is None else watch.part("device"):
                return self._device.picture(plane, level, progress)
        with self._lock:
            loop, self._begun = self._begun, None  # taken, so that no other thread goes on with it
        if loop is None or loop.plane != plane:
            loop = Focusing(self._photo, self._runner, plane)
        picture = loop.picture(level, progress=progress, watch=watch)
        with self._lock:
            self._begun = loop
        return picture
