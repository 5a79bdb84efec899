"""Measures candidates in turns: A B A B …, so that a drift of the machine's speed hits all alike.

Each candidate has a process of its own (many sessions in one process disturb each other), and only one works at a time.
Ratios are taken within each round.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from deeplens.benchmarks import worker
from deeplens.benchmarks.candidate import Candidate
from deeplens.benchmarks.energy import NOT_TOLD, Meter, meter
from deeplens.benchmarks.metered import Level, Runs
from deeplens.benchmarks.statistics import Summary, paired_ratio
from deeplens.benchmarks.worker import AGAIN, LOOPS, PREVIEW, REFOCUS, Run
from deeplens.model.whole_contract import WHOLE

REFOCUSES = (*LOOPS, WHOLE)
"""Items that give a refocused photo."""

PAUSE = 0.1
"""Seconds between two turns: threads of the last one that wait actively go to sleep."""


@dataclass(frozen=True)
class Effort:
    """How long to measure an item of a candidate.

    Attributes:
        warm_up: seconds of runs that are not counted, after the first.
        runs, seconds: at least so many runs, and seconds of them.
        at_most: seconds after which it ends with fewer runs; the report says so.
        turn: seconds of a turn, at least one run.
    """

    warm_up: float = 0.2
    runs: int = 100
    seconds: float = 3.0
    at_most: float = 120.0
    turn: float = 0.25


QUICK = Effort(runs=5, seconds=0.5, at_most=20.0)
"""For a look: the percentiles beyond the median mean little."""


@dataclass
class Timing:
    """An item of one candidate: its first run, then a list of runs for each round."""

    first: float = 0.0
    rounds: list[list[Run]] = field(default_factory=list)

    @property
    def runs(self) -> list[Run]:
        return [run for turn in self.rounds for run in turn]

    @property
    def seconds(self) -> list[float]:
        return [run.seconds for run in self.runs]

    @property
    def medians(self) -> list[float]:
        """Of each round."""
        return [median(run.seconds for run in turn) for turn in self.rounds]

    def levels(self) -> list[list[Level]]:
        """Level by level, those of all runs; empty for a network alone."""
        return [list(each) for each in zip(*(run.levels for run in self.runs), strict=True)]


@dataclass
class Measured:
    """All of one candidate.

    Attributes:
        opened: as `worker.Worker.opened`.
        sizes: network → low-resolution size at which it was measured alone.
        peak: largest resident size of its process, in bytes.
        ran: network → what it runs on, as `runtimes.accelerator.report` gives it.
        joules: item → what told → energy of one run; the meter's `NOT_TOLD` stands for it where nothing tells.
    """

    candidate: Candidate
    opened: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    timings: dict[str, Timing] = field(default_factory=dict)
    peak: int = 0
    joules: dict[str, dict[str, float]] = field(default_factory=dict)
    ran: dict[str, Any] = field(default_factory=dict)


def measure(
    candidates: Sequence[Candidate],
    items: Sequence[str],
    *,
    width: int,
    height: int,
    effort: Effort,
    progress: Callable[[float], None] | None = None,
    warmed: Callable[[], None] | None = None,
) -> list[Measured]:
    """Measure all items of all candidates.

    Args:
        items: of `worker.ITEMS`.
        width, height: of the photo, in pixels.
        progress: called with the share done, up to 1.0.
        warmed: called after the first item's warm-up, when the cores are as busy as they will be, and once more right
            after the last run, before a GPU that has nothing to do lowers its clocks.

    Raises:
        MissingError, MismatchError: a candidate can't be opened.
    """
    context = multiprocessing.get_context("spawn")
    size = (width, height)
    with ExitStack() as stack:
        energy = meter(stack)
        pools = [stack.enter_context(ProcessPoolExecutor(1, mp_context=context)) for _ in candidates]
        found = []
        for candidate, pool in zip(candidates, pools, strict=True):
            opened = pool.submit(worker.opened, candidate, *size).result()
            sizes = pool.submit(worker.network_sizes, candidate, *size).result()
            ran = pool.submit(worker.ran, candidate, *size).result()
            found.append(Measured(candidate, opened, sizes, ran=ran))

        def take(which: int, item: str, seconds: float) -> list[Run]:
            time.sleep(PAUSE)
            return pools[which].submit(worker.turn, candidates[which], *size, item, seconds, 1).result().runs

        loops = tuple(item for item in items if item in REFOCUSES)  # in turns too: their ratios are of interest
        groups = [each for each in (loops, *((item,) for item in items if item not in REFOCUSES)) if each]
        for index, group in enumerate(groups):

            def share(done: float, index: int = index) -> None:
                if progress is not None:
                    progress((index + done) / len(groups))

            _group(found, group, take, effort, energy, share, warmed if index == 0 else None)
        if warmed is not None:
            warmed()
        for each, pool in zip(found, pools, strict=True):
            each.peak = pool.submit(worker.memory, each.candidate, *size).result()
    return found


def _group(
    found: Sequence[Measured],
    items: Sequence[str],
    take: Callable[[int, str, float], list[Run]],
    effort: Effort,
    energy: Meter,
    share: Callable[[float], None],
    warmed: Callable[[], None] | None,
) -> None:
    """Measure some items of all candidates, in turns."""
    lanes = [(which, item) for which in range(len(found)) for item in items]
    timings = [found[which].timings.setdefault(item, Timing()) for which, item in lanes]
    for (which, item), timing in zip(lanes, timings, strict=True):
        timing.first = take(which, item, 0.0)[0].seconds
        take(which, item, effort.warm_up)
    if warmed is not None:
        warmed()
    joules: list[dict[str, float]] = [dict.fromkeys(energy.joules, 0.0) for _ in lanes]
    while not all(_done(timing, effort) >= 1.0 for timing in timings):
        for (which, item), timing, used in zip(lanes, timings, joules, strict=True):
            before = dict(energy.joules)
            with energy:
                timing.rounds.append(take(which, item, effort.turn))
            for name, value in energy.joules.items():
                used[name] += value - before[name]
        share(min(_done(timing, effort) for timing in timings))
    for (which, item), timing, used in zip(lanes, timings, joules, strict=True):
        found[which].joules[item] = {name: value / len(timing.seconds) for name, value in used.items()}


def _done(timing: Timing, effort: Effort) -> float:
    """The share of the effort that a timing has had, 1.0 when it is enough."""
    seconds = timing.seconds
    total = sum(seconds)
    if not seconds or total >= effort.at_most:
        return float(bool(seconds))
    return min(len(seconds) / effort.runs, total / effort.seconds if effort.seconds else 1.0, 1.0)


def results(found: Sequence[Measured], effort: Effort) -> list[dict[str, Any]]:
    """One entry a candidate, as plain data. Times in seconds, energy in joules a run, memory in bytes."""
    rows = []
    for each in found:
        candidate = each.candidate
        items = {}
        for item, timing in each.timings.items():
            device = [run.device for run in timing.runs if run.device is not None]
            items[item] = {
                "first": timing.first,
                **Summary.of(timing.seconds).to_json(),
                "fewer_runs": len(timing.seconds) < effort.runs,
                "size": each.sizes.get(item),
                "device": Summary.of(device).to_json() if device else None,
                "energy_j": each.joules[item] or None,
                "levels": [_level(runs) for runs in timing.levels()] if item in LOOPS else [],
                "seconds": timing.seconds,
            }
        rows.append(
            {
                "name": candidate.name,
                "variant": candidate.variant,
                "runtime": candidate.runtime,
                "precision": candidate.precision,
                "threads": candidate.threads,
                "weights": str(candidate.weights) if candidate.runtime.startswith("torch") else "artefact",
                "ran": each.ran,
                "open": each.opened,
                "peak_bytes": each.peak,
                "energy": NOT_TOLD if not any(each.joules.values()) else "told",
                "items": items,
            }
        )
    return rows


def ratios(found: Sequence[Measured]) -> list[dict[str, Any]]:
    """How many times faster each candidate is than the first, and refocusing again or by one graph than refocusing."""
    pairs = [(item, found[0], item, each) for item in found[0].timings for each in found[1:]]
    for other in (AGAIN, PREVIEW, WHOLE):
        pairs += [(REFOCUS, each, other, each) for each in found if {REFOCUS, other} <= each.timings.keys()]
    rows = []
    for slow, baseline, fast, each in pairs:
        ratio = paired_ratio(baseline.timings[slow].medians, each.timings[fast].medians)
        to = baseline.candidate.name + (f", {slow}" if slow != fast else "")
        rows.append({"item": fast, "of": each.candidate.name, "to": to, **ratio.to_json()})
    return rows


def _level(runs: Sequence[Level]) -> dict[str, Any]:
    """A level of a loop over all runs: host time from end to end, time inside the network, at which sizes."""
    sizes: Runs = runs[0].runs
    device = [level.device for level in runs if level.device is not None]
    return {
        "network": runs[0].network,
        "host": Summary.of([level.seconds for level in runs]).to_json(),
        "busy": Summary.of([level.busy for level in runs]).to_json(),
        "device": Summary.of(device).to_json() if device else None,
        "tiles": [{"height": h, "width": w, "count": count} for (_, h, w), count in sizes.items()],
    }
