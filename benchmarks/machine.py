"""What a machine is, how busy it is, and how fast it multiplies matrices: without these a time means little."""

import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np

import deeplens
from deeplens.inventory import processor, version
from runtimes.ort import core_count

BUSY = 0.5
"""A load average above this, before the work begins, means that something else is running."""

DRIFT = 0.05
"""A change of the machine's speed over a run, as a share, that makes its times doubtful."""

MATRIX = 2048
REPEATS = 5


@dataclass(frozen=True)
class Sgemm:
    """Single-precision matrix product, the best of `REPEATS` runs of `MATRIX`², in GFLOP/s by library.

    NumPy takes as many threads as OMP_NUM_THREADS says, or all cores.
    """

    rates: dict[str, float]

    @property
    def best(self) -> float:
        """The fastest library's rate."""
        return max(self.rates.values())


def describe(*, threads: int) -> dict[str, Any]:
    """Processor, cores, threads, system and versions."""
    libraries = ("numpy", "torch", "onnxruntime")
    return {
        "processor": processor(),
        "cores": core_count(),
        "threads": threads,
        "system": platform.platform(),
        "python": platform.python_version(),
        "deeplens": deeplens.__version__,
        "versions": {library: version(library) for library in libraries},
    }


def load_average() -> float | None:
    """Processes that wait to run or do, over the last minute; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def sgemm(*, threads: int, size: int = MATRIX, repeats: int = REPEATS) -> Sgemm:
    """Measure it with PyTorch, where that is installed, and with NumPy."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((size, size), dtype=np.float32) for _ in range(2))
    rates = {"numpy": _rate(lambda: a @ b, size, repeats)}
    try:
        import torch
    except ImportError:
        return Sgemm(rates)
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rates["torch"] = _rate(lambda: x @ y, size, repeats)
    finally:
        torch.set_num_threads(before)
    return Sgemm(rates)


def remarks(*, load: float | None, before: Sgemm, after: Sgemm) -> list[str]:
    """What makes the times of a run doubtful, a line each."""
    found = []
    if load is not None and load > BUSY:
        found.append(f"the load average was {load:.2f} before the start: something else is running")
    drift = after.best / before.best - 1
    if abs(drift) > DRIFT:
        found.append(f"the machine's sgemm rate changed by {100 * drift:+.0f} % over the run")
    return found


def report(*, threads: int, loads: tuple[float | None, float | None], before: Sgemm, after: Sgemm) -> dict[str, Any]:
    """The machine as plain data, with its load and its sgemm rates before and after."""
    return {
        **describe(threads=threads),
        "load_average": {"before": loads[0], "after": loads[1]},
        "sgemm_gflops": {"size": MATRIX, "before": asdict(before)["rates"], "after": asdict(after)["rates"]},
    }


def _rate(product: Callable[[], object], size: int, repeats: int) -> float:
    """GFLOP/s of the fastest run; one more run goes before."""
    seconds = []
    for _ in range(repeats + 1):
        start = perf_counter()
        product()
        seconds.append(perf_counter() - start)
    return 2 * size**3 / min(seconds[1:]) / 1e9
