"""What a machine is, how busy it is, and how fast it multiplies and copies: without these a time means little."""

import hashlib
import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from deeplens.benchmarks.state import State
from deeplens.console.machine import core_count, processor, version
from deeplens.console.package import VERSION

BUSY = 0.5
"""A load average above this, before the work begins, means that something else is running."""

DRIFT = 0.05
"""A change of the machine's speed over a run, as a share, that makes its times invalid."""

MATRIX = 2048
REPEATS = 5

COPIED = 64 << 20
"""Bytes of each array of the bandwidth's measurement, in all threads together: far more than a cache holds."""

LIBRARIES = ("numpy", "torch", "onnxruntime", "openvino", "tensorrt", "coremltools")


@dataclass(frozen=True)
class Speed:
    """What the machine reaches.

    Attributes:
        sgemm: single-precision matrix product, the best of `REPEATS` runs of `MATRIX`², in GFLOP/s by library. NumPy
            takes all cores: with fewer threads only PyTorch counts, where it is installed.
        bandwidth: STREAM's copy and add over `COPIED` bytes an array, in GB/s: bytes read and written, not those that
            a cache reads before it writes.
        clock: a loop of SHA-256 that fits the first cache, on one core, in MB/s: moves as the core's clock does, also
            where no system tells it.
    """

    sgemm: dict[str, float]
    bandwidth: dict[str, float]
    clock: float

    @property
    def gflops(self) -> float:
        """The fastest library's rate."""
        return max(self.sgemm.values())

    @property
    def gbytes(self) -> float:
        """The faster of the two kernels."""
        return max(self.bandwidth.values())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def describe(*, threads: int) -> dict[str, Any]:
    """Processor, cores, threads, system and versions."""
    return {
        "processor": processor(),
        "cores": core_count(),
        "threads": threads,
        "system": platform.platform(),
        "python": platform.python_version(),
        "deeplens": VERSION,
        "versions": {library: version(library) for library in LIBRARIES},
    }


def load_average() -> float | None:
    """Processes that wait to run or do, over the last minute; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def speed(*, threads: int, repeats: int = REPEATS) -> Speed:
    """Measure all three."""
    return Speed(sgemm(threads=threads, repeats=repeats), bandwidth(threads=threads, repeats=repeats), clock(repeats))


def sgemm(*, threads: int, size: int = MATRIX, repeats: int = REPEATS) -> dict[str, float]:
    """GFLOP/s with NumPy, and with PyTorch where that is installed."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((size, size), dtype=np.float32) for _ in range(2))
    try:
        import torch
    except ImportError:
        torch = None  # type: ignore[assignment]
    rates = {}
    if torch is None or threads >= core_count():
        rates["numpy"] = 2 * size**3 / _best(lambda: a @ b, repeats) / 1e9
    if torch is None:
        return rates
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rates["torch"] = 2 * size**3 / _best(lambda: x @ y, repeats) / 1e9
    finally:
        torch.set_num_threads(before)
    return rates


def bandwidth(*, threads: int, size: int = COPIED, repeats: int = REPEATS) -> dict[str, float]:
    """GB/s of STREAM's copy (c = a) and add (c = a + b), each thread on its own part."""
    count = size // threads // 4
    parts = [tuple(np.full(count, value, np.float32) for value in (1.0, 2.0, 0.0)) for _ in range(threads)]
    kernels: dict[str, tuple[int, Callable[[tuple[np.ndarray, ...]], object]]] = {
        "copy": (2, lambda part: np.copyto(part[2], part[0])),
        "add": (3, lambda part: np.add(part[0], part[1], out=part[2])),
    }
    with ThreadPoolExecutor(threads) as pool:
        return {
            name: arrays * 4 * count * threads / _best(partial(_all, pool, kernel, parts), repeats) / 1e9
            for name, (arrays, kernel) in kernels.items()
        }


def _all(pool: ThreadPoolExecutor, kernel: Callable[[Any], object], parts: list[Any]) -> None:
    for _ in pool.map(kernel, parts):
        pass


def clock(repeats: int = REPEATS) -> float:
    """MB/s of SHA-256 on one core: see `Speed.clock`."""
    block = bytes(1 << 14)

    def loop() -> None:
        digest = hashlib.sha256()
        for _ in range(256):
            digest.update(block)

    return 256 * len(block) / _best(loop, repeats) / 1e6


def remarks(*, load: float | None, before: Speed, after: Speed, states: tuple[State, State]) -> list[str]:
    """What makes the times of a run doubtful or invalid, a line each."""
    found = []
    if load is not None and load > BUSY:
        found.append(f"the load average was {load:.2f} before the start: something else is running")
    for name, one, two in (
        ("sgemm rate", before.gflops, after.gflops),
        ("clock, by a loop that follows it,", before.clock, after.clock),
    ):
        if abs(two / one - 1) > DRIFT:
            found.append(f"the machine's {name} changed by {100 * (two / one - 1):+.0f} % over the run")
    return found + states[1].changes_since(states[0], drift=DRIFT)


def report(
    *, threads: int, loads: tuple[float | None, float | None], speeds: tuple[Speed, Speed], states: tuple[State, State]
) -> dict[str, Any]:
    """The machine as plain data, with its load, its speed and its state before and after."""
    return {
        **describe(threads=threads),
        "load_average": dict(zip(("before", "after"), loads, strict=True)),
        "speed": {name: each.to_json() for name, each in zip(("before", "after"), speeds, strict=True)},
        "state": {name: each.to_json() for name, each in zip(("before", "after"), states, strict=True)},
    }


def _best(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest run; one more goes before."""
    seconds = []
    for _ in range(repeats + 1):
        start = perf_counter()
        work()
        seconds.append(perf_counter() - start)
    return min(seconds[1:])
