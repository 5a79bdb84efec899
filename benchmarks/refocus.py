"""Seconds of a refocus with cached depth, of several variants and runtimes, taken in turns.

Each candidate has a process of its own (many sessions in one process disturb each other), and only one works at a time:
A B C D A B C D …, so that a drift of the machine's speed hits all alike. Ratios are taken within each round.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from PIL import Image

from benchmarks.metered import MeteredRuntime, Runs, multiplications, whole
from model.contract import DEPTH_SIZE
from runtimes import open_runtime
from runtimes.harness import Harness
from runtimes.pyramid import geometry

FOCAL_DISPARITY, APERTURE = 0.5, 1.0

PAUSE = 0.3
"""Seconds between two runs: threads of the last one that wait actively go to sleep."""


@dataclass(frozen=True)
class Candidate:
    """What is measured. `weights` are for torch; an artefact brings its own."""

    variant: str
    runtime: str
    weights: Path | Literal["shipped", "initial"] = "shipped"
    artifacts: Path | None = None
    threads: int = 1
    precision: str = "fp32"

    @property
    def name(self) -> str:
        return f"{self.variant} {self.runtime}" + ("" if self.precision == "fp32" else f" {self.precision}")


@dataclass(frozen=True)
class Run:
    """One refocus: seconds from photo to photo, those of them inside the networks, and at which sizes they ran."""

    seconds: float
    network_seconds: float
    runs: Runs


@dataclass
class Timing:
    """The runs of one candidate. `opened` and `first` are the seconds to open it and of its first run."""

    candidate: Candidate
    opened: float
    first: float = 0.0
    runs: list[Run] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        return [run.seconds for run in self.runs]

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def in_networks(self) -> float:
        """The median of the seconds inside the networks."""
        return median(run.network_seconds for run in self.runs)


def synthetic_photo(width: int, height: int) -> np.ndarray:
    """A soft pattern, H×W×3, uint8, always the same: neither times nor memory depend on what a photo shows."""
    coarse = np.random.default_rng(0).integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def ramp() -> np.ndarray:
    """A disparity map that rises from 0 at the top to 1 at the bottom, DEPTH_SIZE², float32."""
    return np.repeat(np.linspace(0.0, 1.0, DEPTH_SIZE, dtype=np.float32)[:, None], DEPTH_SIZE, axis=1)


def measure(
    candidates: Sequence[Candidate],
    *,
    width: int,
    height: int,
    warm_up: int = 1,
    runs: int = 3,
    seconds: float = 3.0,
    progress: Callable[[float], None] | None = None,
) -> list[Timing]:
    """Take rounds of all candidates until each has `runs` runs and `seconds` seconds.

    Args:
        width, height: of the photo, in pixels.
        warm_up: rounds that go before and are not counted; at least one is.
        progress: called with the share done, up to 1.0.

    Raises:
        MissingError, MismatchError: a candidate can't be opened.
    """
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = [stack.enter_context(ProcessPoolExecutor(1, mp_context=context)) for _ in candidates]
        timings = [
            Timing(each, pool.submit(_open, each).result()) for each, pool in zip(candidates, pools, strict=True)
        ]
        warm_up = max(1, warm_up)
        done = 0
        while not all(len(each.runs) >= runs and sum(each.seconds) >= seconds for each in timings):
            for index, (timing, pool) in enumerate(zip(timings, pools, strict=True)):
                time.sleep(PAUSE)
                run = pool.submit(_refocus, timing.candidate, width, height).result()
                if done == 0:
                    timing.first = run.seconds
                if done >= warm_up:
                    timing.runs.append(run)
                if progress is not None:
                    rounds = done + (index + 1) / len(timings)
                    progress(min(rounds / (warm_up + runs), 1.0))
            done += 1
    return timings


def results(timings: Sequence[Timing], *, width: int, height: int, gflops: float) -> list[dict[str, Any]]:
    """One entry a candidate, as plain data; the first is what the others are compared with.

    Args:
        gflops: the machine's sgemm rate.

    Returns:
        Times in seconds; ratio: how many times faster than the first, the median over rounds; multiplications of the
        whole levels, and halo, those that tiles add; share: 2 · (multiplications + halo) / median / sgemm rate. The
        last three are None without PyTorch, which counts them.
    """
    levels = geometry(height, width)
    found = []
    for timing in timings:
        ratios = [first / own for first, own in zip(timings[0].seconds, timing.seconds, strict=True)]
        counted = _counted(timing, whole(levels))
        entry = {
            "variant": timing.candidate.variant,
            "runtime": timing.candidate.runtime,
            "precision": timing.candidate.precision,
            "weights": str(timing.candidate.weights) if timing.candidate.runtime == "torch" else "artefact",
            "runs": len(timing.runs),
            "median": timing.median,
            "min": min(timing.seconds),
            "max": max(timing.seconds),
            "ratio": median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
            "in_networks": timing.in_networks,
            "open": timing.opened,
            "first": timing.first,
            "multiplications": None,
            "halo": None,
            "share": None,
            "seconds": timing.seconds,
        }
        if counted is not None:
            executed, needed = counted
            entry |= {"multiplications": needed, "halo": executed - needed}
            entry["share"] = 2 * executed / timing.median / (gflops * 1e9)
        found.append(entry)
    return found


def _counted(timing: Timing, needed: Runs) -> tuple[int, int] | None:
    """Multiplications that were done, and those that the whole levels need; None where PyTorch is not installed."""
    variant = timing.candidate.variant
    try:
        return multiplications(variant, timing.runs[0].runs), multiplications(variant, needed)
    except ImportError:
        return None


def _open(candidate: Candidate) -> float:
    """Open a candidate in its own process; the seconds that took."""
    start = time.perf_counter()
    runtime = _runtime(candidate)
    for network in ("lens_blur", "upsample"):
        runtime.open(network)
    return time.perf_counter() - start


def _refocus(candidate: Candidate, width: int, height: int) -> Run:
    """One run, in the candidate's own process."""
    pixels, disparity, runtime = _photo(width, height), ramp(), _runtime(candidate)
    harness = Harness(runtime)
    runtime.reset()
    start = time.perf_counter()
    harness.refocus(pixels, disparity, focal_disparity=FOCAL_DISPARITY, aperture=APERTURE)
    return Run(time.perf_counter() - start, runtime.seconds, runtime.runs)


@lru_cache(maxsize=1)
def _runtime(candidate: Candidate) -> MeteredRuntime:
    """Opened once in a process that serves one candidate, and closed when that ends."""
    return MeteredRuntime(
        open_runtime(
            candidate.runtime,
            variant=candidate.variant,
            weights=candidate.weights,
            artifacts=candidate.artifacts,
            threads=candidate.threads,
            precision=candidate.precision,
        )
    )


@lru_cache(maxsize=1)
def _photo(width: int, height: int) -> np.ndarray:
    return synthetic_photo(width, height)
