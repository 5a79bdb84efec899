"""The machine around a measurement: its speed before and after, its state, and what makes the times doubtful."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from deeplens.benchmarks import machine, nvml, state
from deeplens.console.progress import Progress, progress_bar

Found = TypeVar("Found")


@dataclass(frozen=True)
class Watched:
    """What the machine was like.

    Attributes:
        remarks: what makes the times doubtful or invalid, a line each; empty where the run is valid.
        gflops, gbytes: sgemm rate in GFLOP/s and memory rate in GB/s, the mean of before and after.
        report: the machine as plain data, as `machine.report` gives it.
    """

    remarks: list[str]
    gflops: float
    gbytes: float
    report: dict[str, Any]

    def warn(self) -> None:
        """Print the remarks as warnings."""
        for each in self.remarks:
            print("warning:", each, file=sys.stderr)


def watched(work: Callable[[Progress, Callable[[], None]], Found], *, threads: int) -> tuple[Found, Watched]:
    """What a measurement found, and what the machine was like around it.

    Args:
        work: the measurement; called with a progress, and with what it has to call when it is warm. It may call that
            once more when the last run is over; else the state after it is read when it has returned.
        threads: CPU threads that the measurement uses.
    """
    if told := nvml.missing():
        print("note:", told, file=sys.stderr)
    load = machine.load_average()
    with progress_bar("Measuring the machine"):
        before = machine.speed(threads=threads)
    states: list[state.State] = []
    with progress_bar("Measuring") as progress:
        found = work(progress, lambda: states.append(state.read_state()))
    if len(states) < 2:
        states.append(state.read_state())
    with progress_bar("Measuring the machine again"):
        after = machine.speed(threads=threads)
    ends = states[0], states[1]
    return found, Watched(
        machine.remarks(load=load, before=before, after=after, states=ends),
        (before.gflops + after.gflops) / 2,
        (before.gbytes + after.gbytes) / 2,
        machine.report(threads=threads, loads=(load, machine.load_average()), speeds=(before, after), states=ends),
    )
