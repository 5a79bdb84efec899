"""Plans beside each other: size, cost of arithmetic, time on this machine's CPU, and what they cost the picture."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from deeplens.calibration.calibrate import Calibration, Found
from deeplens.calibration.quality import decibels, in_memory, refocused
from deeplens.calibration.search import Assignment
from deeplens.calibration.substituted import Substituted
from deeplens.console.progress import progress_bar
from deeplens.export.precision_plan import Choice
from deeplens.runtimes.contract import Session
from deeplens.runtimes.harness import Harness

if TYPE_CHECKING:
    import onnx

ROUNDS = 5
"""Runs of each plan; plans take turns, so that whatever else the machine does meets all alike."""


@dataclass(frozen=True)
class Point:
    """One plan.

    Attributes:
        name: "all FP32", "all INT8", "the plan"…
        decibels: PSNR of the final picture against FP32, of the photo that fares worst; 120 for FP32 itself.
        arithmetic: cost of all multiplications, 1 for FP32 (`calibration.search.Costs`).
        size: bytes of the three graphs.
        seconds: a photo of the search from pixels to pixels on ONNX Runtime, with INT8 layers in INT8 and all else in
            FP32, which is what the CPU computes; median.
    """

    name: str
    decibels: float
    arithmetic: float
    size: int
    seconds: float


def points(calibration: Calibration, found: Found, photo: int = 0) -> list[Point]:
    """All plans that a search named, FP32 first, and those that it tried on its way.

    Args:
        photo: of the calibration's photos, by place: what is timed.
    """
    tried: dict[str, tuple[Assignment, float]] = {
        "all FP32": (dict.fromkeys(found.costs.multiplications, "fp32"), 120.0),
        **found.tried,
    }
    for raised, errors in sorted(found.mixed.tried.items()):
        assigned = found.mixed.at(raised)
        if all(assigned != other for other, _ in tried.values()):
            tried[f"{raised} layers raised"] = assigned, decibels(errors)
    sizes = {name: _bytes(calibration, found, assigned) for name, (assigned, _) in tried.items()}
    seconds = _seconds(calibration, found, {name: assigned for name, (assigned, _) in tried.items()}, photo)
    return [
        Point(name, round(quality, 1), round(found.costs.arithmetic(assigned), 4), sizes[name], seconds[name])
        for name, (assigned, quality) in tried.items()
    ]


def _choices(
    calibration: Calibration, found: Found, assigned: Assignment, *, for_cpu: bool
) -> dict[str, dict[str, Choice]]:
    result: dict[str, dict[str, Choice]] = {network: {} for network in calibration.layers}
    for (network, path), precision in assigned.items():
        if precision == "int8":
            result[network][path] = Choice("int8", found.scales[network][path])
        else:
            result[network][path] = Choice("fp32" if for_cpu else precision)
    return result


def _bytes(calibration: Calibration, found: Found, assigned: Assignment) -> int:
    graphs: Mapping[str, onnx.ModelProto] = {
        **calibration.models,
        **calibration.graphs(_choices(calibration, found, assigned, for_cpu=False)),
    }
    return sum(graph.ByteSize() for graph in graphs.values())


def _seconds(calibration: Calibration, found: Found, plans: Mapping[str, Assignment], photo: int) -> dict[str, float]:
    pixels = calibration.photos[photo].pixels(1024)
    candidates = {}
    for name, assigned in plans.items():
        graphs = calibration.graphs(_choices(calibration, found, assigned, for_cpu=True))
        sessions: dict[str, Session] = {}
        for network, graph in graphs.items():
            sessions[network] = in_memory(graph, calibration.runtime.open(network), calibration.runtime)
        candidates[name] = Substituted(calibration.runtime, sessions)
    taken: dict[str, list[float]] = {name: [] for name in plans}
    turns = [(turn, name) for turn in range(ROUNDS + 1) for name in candidates]  # the first turn is for warming up
    with progress_bar("Timing the plans") as progress:
        for turn, name in progress.each(turns, lambda each: each[1]):
            start = perf_counter()
            refocused(candidates[name], pixels, Harness(candidates[name]).disparity(pixels))
            if turn:
                taken[name].append(perf_counter() - start)
    return {name: round(median(each), 4) for name, each in taken.items()}


def report(found: list[Point]) -> dict[str, Any]:
    """For JSON."""
    return {"cores": os.cpu_count(), "rounds": ROUNDS, "points": [asdict(point) for point in found]}
