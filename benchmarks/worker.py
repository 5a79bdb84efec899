"""What runs in a candidate's own process: opening, first runs, turns of steady runs, and the memory they took."""

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deeplens.benchmarks.candidate import Candidate
from deeplens.benchmarks.metered import Level, MeteredRuntime
from deeplens.model.contract import CONTRACTS, DEPTH_SIZE, NETWORKS, VARIANTS
from deeplens.model.whole_contract import WHOLE
from deeplens.runtimes.accelerator import report
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.pyramid import geometry
from deeplens.runtimes.refocuser import Refocuser
from deeplens.runtimes.tiling import split
from deeplens.runtimes.whole import OneFile

REFOCUS, AGAIN, PREVIEW = "refocus", "again", "preview"
"""A refocus of a photo from pixels to pixels, its depth given; one more of the same photo, focus changed; and the base
alone of that one, the first that a person sees."""

LOOPS = (REFOCUS, AGAIN, PREVIEW)
USUAL = (*LOOPS, *NETWORKS)
ITEMS = (*USUAL, WHOLE)
"""What can be measured: the loops, each network alone at the size that it has in them, and a refocus by a graph of
the whole effect, which has to be exported for the size of the photo."""

FOCAL = (0.35, 0.65)
"""The focal planes that take turns: over a ramp of disparity nothing but a line is in focus."""


@dataclass(frozen=True)
class Run:
    """One run: seconds, those that the device says it worked (None: it does not tell), and the levels of a loop."""

    seconds: float
    device: float | None = None
    levels: tuple[Level, ...] = ()


@dataclass
class Turn:
    """Runs of one candidate, one after the other."""

    runs: list[Run] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        return [run.seconds for run in self.runs]


def synthetic_photo(width: int, height: int) -> np.ndarray:
    """A soft pattern, H×W×3, uint8, always the same: times and memory depend on depth, not on what a photo shows."""
    coarse = np.random.default_rng(0).integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def ramp() -> np.ndarray:
    """A disparity map that rises from 0 at the top to 1 at the bottom, DEPTH_SIZE², float32."""
    return np.repeat(np.linspace(0.0, 1.0, DEPTH_SIZE, dtype=np.float32)[:, None], DEPTH_SIZE, axis=1)


class Worker:
    """A candidate, opened once, and a photo of `width` × `height`.

    Attributes:
        opened: network → seconds to open it: reading, checking the hash, loading. The library is imported before.
        ran: network → what it runs on (`runtimes.accelerator.Ran`), None where it is not told.
    """

    def __init__(self, candidate: Candidate, width: int, height: int) -> None:
        start = time.perf_counter()
        self._candidate = candidate
        self._runtime = MeteredRuntime(candidate.open())
        self.opened = {"library": time.perf_counter() - start}
        self.ran: dict[str, Any] = {}
        for network in NETWORKS:
            start = time.perf_counter()
            self.ran[network] = self._runtime.open(network).ran
            self.opened[network] = time.perf_counter() - start
        self._size = (width, height)
        self._count = 0

    def turn(self, item: str, *, seconds: float, runs: int = 1) -> Turn:
        """Run `item` until there are `runs` runs and `seconds` seconds."""
        work, turn = self._work(item), Turn()
        runtime = self._whole if item == WHOLE else self._runtime
        while len(turn.runs) < runs or sum(turn.seconds) < seconds:
            runtime.reset()
            start = time.perf_counter()
            work()
            elapsed = time.perf_counter() - start
            levels = tuple(runtime.levels) if item in LOOPS else ()
            told = [level.device for level in runtime.levels if level.device is not None]
            if item in LOOPS and runtime.device_seconds is not None:
                told = [runtime.device_seconds]
            turn.runs.append(Run(elapsed, sum(told) if told else None, levels))
        return turn

    def network_size(self, network: str) -> tuple[int, int]:
        """The low-resolution height and width at which most of the last level, or the base, is run."""
        contract = self._runtime.open(network).describe()
        if contract.fixed_size is not None:
            return contract.fixed_size
        width, height = self._size
        levels = geometry(height, width)
        size = levels.padded(0 if network == "lens_blur" else max(0, levels.steps - 1))
        count = self._runtime.open(network).lanes
        tiles = split(*size, halo=VARIANTS[self._runtime.variant].halo[network], tile=self._candidate.tile, lanes=count)
        return tiles.height, tiles.width

    @cached_property
    def _photo(self) -> np.ndarray:
        return synthetic_photo(*self._size)

    @cached_property
    def _harness(self) -> Harness:
        return Harness(self._runtime, tile=self._candidate.tile, loop=self._candidate.loop)

    @cached_property
    def _ready(self) -> Refocuser:
        return self._harness.photo(self._photo, ramp())

    @cached_property
    def _inputs(self) -> dict[str, dict[str, np.ndarray]]:
        return {network: random_inputs(network, self.network_size(network)) for network in NETWORKS}

    @cached_property
    def _whole(self) -> MeteredRuntime:
        width, height = self._size
        return MeteredRuntime(self._candidate.open_whole((height, width)))

    def _work(self, item: str) -> Callable[[], object]:
        if item in NETWORKS:
            inputs = self._inputs[item]
            return lambda: self._runtime.open(item).run(inputs)
        photo, disparity, aperture = self._photo, ramp(), self._candidate.aperture
        ready = self._ready if item in (AGAIN, PREVIEW) else None
        if item == WHOLE:
            self._whole.open(WHOLE)  # before the clock runs

        def loop() -> object:
            self._count += 1
            focal = FOCAL[self._count % len(FOCAL)]
            if item == WHOLE:
                effect = OneFile(self._whole.open(WHOLE))
                return effect.refocus(photo, disparity, focal_disparity=focal, aperture=aperture)
            if item == PREVIEW and ready is not None:
                return next(ready.preview(focal_disparity=focal, aperture=aperture))
            if ready is not None:
                return ready.refocus(focal_disparity=focal, aperture=aperture)
            return self._harness.refocus(photo, disparity, focal_disparity=focal, aperture=aperture)

        return loop


def random_inputs(network: str, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Inputs of a network at a low-resolution size, uniform over the contract's ranges."""
    rng = np.random.default_rng(0)
    inputs = {}
    for tensor in CONTRACTS[network].inputs:
        assert tensor.low is not None
        assert tensor.high is not None
        values = rng.random(tensor.shape(*size), dtype=np.float32)
        inputs[tensor.name] = values * np.float32(tensor.high - tensor.low) + np.float32(tensor.low)
    return inputs


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), flags=re.MULTILINE)
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# What the parent process calls; a process serves one candidate and one size.


@lru_cache(maxsize=1)
def opened_worker(candidate: Candidate, width: int, height: int) -> Worker:
    """The worker of this process; of another candidate or size a new one."""
    return Worker(candidate, width, height)


def opened(candidate: Candidate, width: int, height: int) -> dict[str, float]:
    """Open a candidate: see `Worker.opened`."""
    return opened_worker(candidate, width, height).opened


def turn(candidate: Candidate, width: int, height: int, item: str, seconds: float, runs: int) -> Turn:
    """See `Worker.turn`."""
    return opened_worker(candidate, width, height).turn(item, seconds=seconds, runs=runs)


def memory(_candidate: Candidate, _width: int, _height: int) -> int:
    """See `peak_bytes`."""
    return peak_bytes()


def ran(candidate: Candidate, width: int, height: int) -> dict[str, Any]:
    """See `Worker.ran`, as plain data."""
    return report(opened_worker(candidate, width, height).ran)


def network_sizes(candidate: Candidate, width: int, height: int) -> dict[str, Any]:
    """Network → low-resolution height and width that it is measured at alone."""
    return {network: opened_worker(candidate, width, height).network_size(network) for network in NETWORKS}
