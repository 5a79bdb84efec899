"""A runtime that counts what the harness asks of another: seconds of each level, and the sizes that networks ran at."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from time import perf_counter

import numpy as np

from deeplens.runtimes.contract import Arrays, Runtime, Session
from deeplens.runtimes.device_loop import DeviceLoop
from deeplens.runtimes.pyramid import Geometry
from deeplens.runtimes.wrapped import Around

Runs = Counter[tuple[str, int, int]]
"""(network, low-resolution height, width) → how often it ran."""


@dataclass
class Level:
    """What was asked of one network, opened once: by the harness, a level of the loop.

    Attributes:
        network: its name.
        start, stop: of the first and the last run, by the clock; stop − start is host time from end to end.
        busy: seconds inside the network, summed over runs that may go on at the same time.
        device: the part of it that the device says it worked; None where no device tells.
        runs: at which sizes it ran.
    """

    network: str
    start: float = float("inf")
    stop: float = 0.0
    busy: float = 0.0
    device: float | None = None
    runs: Runs = field(default_factory=Counter)

    @property
    def seconds(self) -> float:
        """From the start of the first run to the end of the last; 0 where nothing ran."""
        return max(0.0, self.stop - self.start)


class MeteredSession(Around):
    """Runs another session and counts into a level."""

    def __init__(self, session: Session, level: Level, lock: Lock) -> None:
        super().__init__(session)
        self._level, self._lock = level, lock

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        contract = self.describe()
        start = perf_counter()
        result = self.session.run(inputs)
        stop = perf_counter()
        low = next(tensor for tensor in contract.inputs if tensor.scale == 1)
        device, level = self.session.device_seconds, self._level
        with self._lock:
            level.start, level.stop = min(level.start, start), max(level.stop, stop)
            level.busy += stop - start
            if device is not None:
                level.device = (level.device or 0.0) + device
            height, width = inputs[low.name].shape[2:]
            level.runs[contract.network, height, width] += 1
        return result


class MeteredRuntime(Runtime):
    """Opens another runtime's sessions, each counted.

    Attributes:
        levels: one for each `open` since `reset`.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.name, self.variant = runtime.name, runtime.variant
        self.levels: list[Level] = []
        self._runtime = runtime
        self._loop: DeviceLoop | None = None
        self._lock = Lock()

    def reset(self) -> None:
        """Begin to count anew."""
        self.levels = []

    def device_loop(
        self, pixels: np.ndarray, disparity: np.ndarray, *, tile: int | None, asked: bool
    ) -> DeviceLoop | None:
        """That of the runtime below; its levels are not counted, because nobody sees them."""
        self._loop = self._runtime.device_loop(pixels, disparity, tile=tile, asked=asked)
        return self._loop

    @property
    def device_seconds(self) -> float | None:
        """How long the device worked on the last picture of a loop of its own; None: not told, or no such loop."""
        return None if self._loop is None else self._loop.device_seconds

    @property
    def runs(self) -> Runs:
        """At which sizes the networks ran since `reset`."""
        return sum((level.runs for level in self.levels), Counter())

    def open(self, network: str) -> MeteredSession:
        self.levels.append(Level(network))
        return MeteredSession(self._runtime.open(network), self.levels[-1], self._lock)

    def close(self) -> None:
        self._runtime.close()


def whole(levels: Geometry) -> Runs:
    """The runs of the loop without tiles: each level once, at its padded size."""
    sizes = [("lens_blur", levels.padded(0)), *(("upsample", levels.padded(k)) for k in range(levels.steps))]
    return Counter((network, *size) for network, size in sizes)


def multiplications(variant: str, runs: Runs) -> int:
    """Multiplications of all runs, by `model.cost`. Needs PyTorch."""
    return sum(count * _cost(variant, *run) for run, count in runs.items())


@lru_cache(maxsize=256)
def _cost(variant: str, network: str, height: int, width: int) -> int:
    from deeplens.model.cost import cost

    return int(cost(variant, network, height, width)["multiplications"])
