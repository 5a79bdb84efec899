"""The plots of a calibration: plans beside each other, what each layer costs, and what tensors hold. Needs matplotlib.

Each is one figure as wide as a phone is; the page puts as many side by side as there is room for.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from deeplens.calibration.calibrate import Goal
from deeplens.calibration.histogram import FP16_LARGEST, FP16_NORMAL
from deeplens.calibration.pareto import Point
from deeplens.calibration.quality import decibels
from deeplens.calibration.sensitivity import Unit
from deeplens.calibration.statistics import Statistics, magnitudes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

WIDTH = 4.4
"""Of a figure, in inches."""

NAMED, OTHER = "#d55e00", "#8a94a0"
COLOURS = {"int8": "#d55e00", "fp16": "#2f86c8"}

DISTANCES = (6, 16, 28, 42, 58, 76)
"""How far a label may stand from its point, in points of type."""

SIDES: dict[int, Literal["left", "center", "right"]] = {1: "left", 0: "center", -1: "right"}
HEIGHTS: dict[int, Literal["bottom", "center", "top"]] = {1: "bottom", 0: "center", -1: "top"}
DIRECTIONS = ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))

FULL = "all FP32"
"""The plan that all others are held against."""

MEASURES: Mapping[str, Callable[[Point], float]] = {
    "size of the three graphs, MB": lambda point: point.size / 1e6,
    "arithmetic, FP32 = 1": lambda point: point.arithmetic,
    "time of a 1024 px photo on the CPU, ms": lambda point: 1e3 * point.seconds,
}
"""What a plan costs: the name of the axis → its value."""


def merged(plans: Sequence[Point], value: Callable[[Point], float]) -> dict[tuple[float, float], str]:
    """Place in the plot → the names of the plans there, FP32 and those on the way of the search left out."""
    found: dict[tuple[float, float], list[str]] = {}
    for point in plans:
        if point.name != FULL and not on_the_way(point):
            found.setdefault((value(point), point.decibels), []).append(point.name)
    return {place: " = ".join(names) for place, names in found.items()}


def on_the_way(point: Point) -> bool:
    """Whether a plan was tried on the way of the search, and has no name of its own."""
    return point.name.endswith("raised")


def pareto(plans: Sequence[Point], measure: str, goal: Goal) -> "Figure":
    """PSNR against one of `MEASURES`, a dot a plan, with the floors as lines."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    value = MEASURES[measure]
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axis = figure.subplots()
    ink = rcParams["text.color"]
    lossy = [point for point in plans if point.name != FULL]
    named = merged(plans, value)
    for point in lossy:
        if on_the_way(point):
            axis.plot(value(point), point.decibels, ".", color=OTHER)
    for place in named:
        axis.plot(*place, "o", color=NAMED)
    full = next((value(point) for point in plans if point.name == FULL), None)
    if full is not None:
        axis.axvline(full, color=ink, linewidth=1, linestyle=":")
    heights = [*(point.decibels for point in lossy), goal.floor, goal.fp16_floor]
    places = [*map(value, lossy), *([] if full is None else [full])]
    axis.set_ylim(*_widened(heights, 0.16))
    axis.set_xlim(*_widened(places, 0.12))
    floors = {goal.floor: "floor", goal.fp16_floor: "floor of FP16"}
    if goal.floor == goal.fp16_floor:
        floors = {goal.floor: "floor, FP16's too"}
    texts = []
    ground = {"facecolor": axis.get_facecolor(), "edgecolor": "none", "pad": 0.5}
    for height, name in floors.items():
        axis.axhline(height, color=ink, linewidth=1.2, linestyle="--")
        said = f"{name}: {height:g} dB"
        texts.append(
            axis.annotate(said, (0.99, height), xycoords=("axes fraction", "data"), xytext=(0, 2),
                          textcoords="offset points", ha="right", fontsize=8, bbox=ground)
        )  # fmt: skip
    axis.set_xlabel(measure)
    axis.set_ylabel("PSNR against FP32, dB")
    axis.grid(alpha=0.5)
    figure.draw_without_rendering()
    _label(axis, named, [text.get_window_extent() for text in texts], [(value(p), p.decibels) for p in lossy])
    return figure


def _label(
    axis: "Axes", named: Mapping[tuple[float, float], str], taken: "list[Bbox]", dots: Sequence[tuple[float, float]]
) -> None:
    """Write each name near its place, where it is inside the plot and covers no other text and as few dots as can be.

    Args:
        taken: boxes of texts that are there already, in pixels.
    """
    from matplotlib.text import Text

    taken = list(taken)
    inside = axis.get_window_extent()
    pixels = axis.transData.transform(np.array(dots)) if dots else np.zeros((0, 2))
    for place, name in named.items():
        text = axis.annotate(
            name, place, xytext=(0, 0), textcoords="offset points", fontsize=8,
            bbox={"facecolor": axis.get_facecolor(), "edgecolor": "none", "pad": 0.5},
            arrowprops={"arrowstyle": "-", "linewidth": 0.6, "color": OTHER, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip

        def at(distance: int, right: int, up: int, text: "Annotation" = text) -> "Bbox":
            text.set_horizontalalignment(SIDES[right])
            text.set_verticalalignment(HEIGHTS[up])
            text.xyann = (right * distance, up * distance)
            text.get_window_extent()  # moves it; what it gives holds the line that leads to it, too
            return Text.get_window_extent(text).padded(2)

        def cost(box: "Bbox") -> int:
            outside = not (inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1))
            return 1000 * outside + 100 * sum(box.overlaps(other) for other in taken) + int(box.count_contains(pixels))

        tried = [(distance, *direction) for distance in DISTANCES for direction in DIRECTIONS]
        taken.append(at(*min(tried, key=lambda each: cost(at(*each)))))


def _widened(values: Sequence[float], share: float) -> tuple[float, float]:
    """Limits of an axis that hold all values, with room on both sides."""
    low, high = min(values), max(values)
    room = share * (high - low) or max(1.0, abs(high)) * share
    return low - room, high + room


def sensitivity(network: str, errors: Mapping[Unit, Sequence[float]], goal: Goal) -> "Figure":
    """PSNR of the picture with one layer alone in INT8, or in FP16: a line a layer, in the order of the graph."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    paths = list(dict.fromkeys(path for own, path, _ in errors if own == network))
    figure = Figure(figsize=(WIDTH, 1.3 + 0.17 * len(paths)), layout="constrained")
    axis = figure.subplots()
    values = [goal.floor]
    for precision, colour in COLOURS.items():
        there = [
            (decibels(errors[network, path, precision]), place)
            for place, path in enumerate(paths)
            if (network, path, precision) in errors
        ]
        values += [value for value, _ in there]
        axis.plot(*zip(*there, strict=True), "o", markersize=4, color=colour, label=f"{precision.upper()} alone")
    ink, label = rcParams["text.color"], f"floor: {goal.floor:g} dB"
    axis.axvline(goal.floor, color=ink, linewidth=1.2, linestyle="--", label=label)
    axis.set_yticks(range(len(paths)), paths, fontsize=8)
    axis.set_ylim(len(paths) - 0.4, -0.6)
    axis.set_xlim(*_widened(values, 0.06))
    axis.set_xlabel("PSNR of the picture against FP32, dB")
    axis.set_title(network, fontsize=10)
    axis.grid(alpha=0.5)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def ranges(network: str, statistics: Statistics) -> "Figure":
    """Magnitudes of each tensor, in the order of the graph, with what FP16 holds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
    axis = figure.subplots()
    rows = magnitudes(statistics)
    found = rows[np.isfinite(rows) & (rows > 0)]
    low, high = min(FP16_NORMAL, *found.tolist()) / 30, max(FP16_LARGEST, *found.tolist()) * 30
    for row, label in zip(rows, ("largest", "99.99 %", "99 %", "median"), strict=True):
        axis.semilogy(np.where(row > 0, row, np.nan), ".", markersize=4, label=label)
    axis.axhspan(FP16_LARGEST, high, color=COLOURS["int8"], alpha=0.25, linewidth=0)
    axis.axhspan(low, FP16_NORMAL, color=COLOURS["fp16"], alpha=0.25, linewidth=0)
    last = rows.shape[1]
    axis.text(last / 2, math.sqrt(high * FP16_LARGEST), "too large for FP16", ha="center", va="center", fontsize=8)
    axis.text(last / 2, math.sqrt(low * FP16_NORMAL), "subnormal in FP16", ha="center", va="center", fontsize=8)
    axis.set_ylim(low, high)
    axis.set_xlim(-1, last)
    axis.set_xlabel("tensor, in the order of the graph")
    axis.set_ylabel("|x|")
    axis.set_title(network, fontsize=10)
    axis.grid(alpha=0.5)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, handletextpad=0.1, columnspacing=1)
    return figure


def histograms(network: str, statistics: Statistics) -> "Figure":
    """Share of the values of each tensor by octave of |x|, all levels together."""
    from matplotlib.figure import Figure

    columns = []
    for held in statistics.tensors.values():
        found = held.all_levels
        octaves = found.counts.reshape(-1, 128).sum(1)[127 - 24 : 127 + 17].astype(float)
        columns.append(octaves / max(1, found.values))
    figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
    axis = figure.subplots()
    shares = np.array(columns).T
    image = axis.imshow(
        np.log10(np.maximum(shares, 1e-7)), aspect="auto", origin="lower", extent=(0, len(columns), -24, 17)
    )
    figure.colorbar(image, label="log10 of the share")
    axis.set_xlabel("tensor, in the order of the graph")
    axis.set_ylabel("log2 |x|")
    axis.set_title(network, fontsize=10)
    return figure
