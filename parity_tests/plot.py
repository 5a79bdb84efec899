"""Error against level: how the difference from PyTorch grows along the loop. Needs matplotlib (extra `train`)."""

import io
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deeplens.console.errors import MissingError
from deeplens.console.package import pip_install
from deeplens.parity_tests.compare import Row
from deeplens.parity_tests.outputs import DEPTH_MAP
from deeplens.parity_tests.report import Report, size_of

FLOOR = 1e-9
"""What a difference of 0 is drawn at."""


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


def png(report: Report) -> bytes | None:
    """A picture with a panel for each loop, on a logarithmic scale; None where the report has no loop.

    Raises:
        MissingError: matplotlib is not installed.
    """
    drawn = curves(report.rows)
    if not drawn:
        return None
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError(f"matplotlib can't be imported ({error}): {pip_install('train')}") from error
    panels = list(dict.fromkeys((each.variant, each.loop) for each in drawn))
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.6 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    runtimes = list(dict.fromkeys(each.runtime for each in drawn))
    for index, (variant, loop) in enumerate(panels):
        axis = axes[index // columns][index % columns]
        axis.set_title(f"{variant}, {loop}", fontsize=9)
        for each in drawn:
            if (each.variant, each.loop) == (variant, loop):
                colour = f"C{runtimes.index(each.runtime)}"
                worst = [max(value, FLOOR) for value in each.worst]
                axis.plot(each.stages, worst, marker="o", markersize=4, color=colour, label=each.runtime)
                axis.plot(each.stages, [max(v, FLOOR) for v in each.own], linestyle=":", linewidth=1, color=colour)
        axis.set_yscale("log")
        axis.set_xlabel("level of the loop")
        axis.set_ylabel("max |runtime − PyTorch float32|")
        axis.grid(alpha=0.3)
    for index in range(len(panels), lines * columns):
        axes[index // columns][index % columns].axis("off")
    handles = {text: line for axis in axes.flat for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle("Error against level (dotted: PyTorch's own rounding in that precision)", fontsize=10)
    file = io.BytesIO()
    figure.savefig(file, dpi=90, format="png", metadata={"Software": None})
    return file.getvalue()
