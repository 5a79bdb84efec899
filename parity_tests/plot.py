"""Error against level: how the difference from PyTorch grows along the loop. Needs matplotlib (extra `train`)."""

import io
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deeplens.console.errors import MissingError
from deeplens.console.package import pip_install
from deeplens.parity_tests.compare import Row
from deeplens.parity_tests.outputs import DEPTH_MAP
from deeplens.parity_tests.report import Report, size_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Curve:
    """One loop of one runtime.

    Attributes:
        worst: max |difference| by stage: the depth map, then each level.
        own: PyTorch's own rounding there.
        allowed: what the gate allowed.
    """

    variant: str
    runtime: str
    loop: str
    stages: tuple[str, ...]
    worst: tuple[float, ...]
    own: tuple[float, ...]
    allowed: tuple[float, ...]


def curves(rows: Sequence[Row]) -> list[Curve]:
    """Of all loops in the rows, in their order."""
    loops: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.input == "loop" and row.measured is not None and (row.what == DEPTH_MAP or _level(row.what)):
            loops[row.variant, row.runtime, f"{row.graph} {size_of(row)}"].append(row)
    return [_curve(*key, each) for key, each in loops.items()]


def _curve(variant: str, runtime: str, loop: str, rows: list[Row]) -> Curve:
    def of(values: Iterator[float]) -> tuple[float, ...]:
        return tuple(values)

    found = [row.measured for row in rows if row.measured is not None]
    return Curve(
        variant,
        runtime,
        loop,
        tuple("depth" if row.what == DEPTH_MAP else row.what.removeprefix("level ") for row in rows),
        of(each.max_abs for each in found),
        of(each.own if each.half is None else each.half for each in found),
        of(row.gate.absolute for row in rows),
    )


def _level(what: str) -> bool:
    return re.fullmatch(r"level \d+", what) is not None


@dataclass(frozen=True)
class Panel:
    """The curves of all runtimes on one loop."""

    title: str
    curves: tuple[Curve, ...]


def panels(report: Report) -> list[Panel]:
    """A panel for each loop of each variant; none where the report has no loop."""
    drawn = curves(report.rows)
    found = dict.fromkeys((each.variant, each.loop) for each in drawn)
    return [
        Panel(f"{variant}, {loop}", tuple(each for each in drawn if (each.variant, each.loop) == (variant, loop)))
        for variant, loop in found
    ]


def draw(axis: "Axes", panel: Panel, runtimes: Sequence[str]) -> None:
    """Draw one panel on a logarithmic scale. A difference of 0 is drawn as a hollow mark on the line at the bottom.

    Args:
        runtimes: of all panels, so that a runtime has one colour in all of them.
    """
    from matplotlib.ticker import NullFormatter

    stages = list(dict.fromkeys(stage for each in panel.curves for stage in each.stages))
    values = [value for each in panel.curves for value in (*each.worst, *each.own) if 0 < value < math.inf]
    low, high = min(values, default=1e-7), max(values, default=1e-7)
    zero = any(value == 0 for each in panel.curves for value in (*each.worst, *each.own))
    bottom = low / 10 if zero else low  # what is 0 lies a decade below the smallest
    for each in panel.curves:
        places = [stages.index(stage) for stage in each.stages]
        colour = f"C{runtimes.index(each.runtime)}"
        worst = [value if value > 0 else bottom for value in each.worst]
        axis.plot(places, worst, marker="o", markersize=4, color=colour, label=each.runtime)
        equal = [place for place, value in zip(places, each.worst, strict=True) if value == 0]
        hollow = {"markerfacecolor": axis.get_facecolor(), "markeredgecolor": colour, "zorder": 3}
        axis.plot(equal, [bottom] * len(equal), "o", markersize=6, **hollow)  # type: ignore[arg-type]
        axis.plot(places, [value or bottom for value in each.own], linestyle=":", linewidth=1.2, color=colour)
    axis.set_yscale("log")
    axis.set_ylim(10.0 ** math.floor(math.log10(0.8 * bottom)), 10.0 ** math.ceil(math.log10(1.25 * high)))
    axis.yaxis.set_minor_formatter(NullFormatter())  # powers of ten alone are named
    axis.set_xlim(-0.3, max(1, len(stages) - 1) + 0.3)
    axis.set_xticks(range(len(stages)), stages)
    axis.set_title(panel.title, fontsize=10)
    axis.set_xlabel("depth map, then level of the loop")
    axis.set_ylabel("max |runtime − PyTorch float32|")
    axis.grid(alpha=0.5)


def figure(panel: Panel, runtimes: Sequence[str]) -> "Figure":
    """A figure with one panel and the names of its runtimes below it, wide enough for a phone. Needs matplotlib."""
    from matplotlib.figure import Figure

    lines = -(-len(panel.curves) // 2)
    made = Figure(figsize=(4.4, 3.3 + 0.2 * lines), layout="constrained")
    axis = made.subplots()
    draw(axis, panel, runtimes)
    made.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return made


def runtimes_of(found: Sequence[Panel]) -> list[str]:
    """All runtimes of the panels, in their order."""
    return list(dict.fromkeys(each.runtime for panel in found for each in panel.curves))


def check_matplotlib() -> None:
    """Raise MissingError where matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingError(f"matplotlib can't be imported ({error}): {pip_install('train')}") from error


def png(report: Report) -> bytes | None:
    """A picture with a panel for each loop, on a logarithmic scale; None where the report has no loop.

    Raises:
        MissingError: matplotlib is not installed.
    """
    found = panels(report)
    if not found:
        return None
    check_matplotlib()
    from matplotlib.figure import Figure

    columns = min(3, len(found))
    lines = -(-len(found) // columns)
    made = Figure(figsize=(5.2 * columns, 3.6 * lines + 0.5), layout="constrained")
    axes = made.subplots(lines, columns, squeeze=False)
    runtimes = runtimes_of(found)
    for index, axis in enumerate(axes.flat):
        if index < len(found):
            draw(axis, found[index], runtimes)
        else:
            axis.axis("off")
    handles = {text: line for axis in axes.flat for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    made.legend(handles.values(), handles, loc="outside lower center", ncols=2 * columns, fontsize=8)
    made.suptitle(TITLE, fontsize=10)
    file = io.BytesIO()
    made.savefig(file, dpi=90, format="png", metadata={"Software": None})
    return file.getvalue()


TITLE = "Error against level (dotted: PyTorch's own rounding in that precision; hollow: exactly equal)"
