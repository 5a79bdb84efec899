"""The report as a table for a terminal and as Markdown: what was measured, and what is allowed."""

import math
from collections import Counter

from rich.table import Table

from deeplens.console.report import table
from deeplens.parity_tests.compare import FACTORS, GATES, Row
from deeplens.parity_tests.report import Report, size_of

COLUMNS = (
    "variant",
    "runtime",
    "what",
    "input",
    "graph",
    "size",
    "max |d|",
    "from float64",
    "allowed",
    "torch's own",
    "mean |d|",
    "allowed",
    "max |d| / spread",
    "allowed",
    "PSNR dB",
    "allowed",
    "ULP median, max",
    "cosine",
    "SSIM",
    "result",
)


DIGEST = (
    "variant",
    "runtime",
    "rows",
    "networks, max |d|",
    "share of what is allowed",
    "last level of the largest photo, max |d|",
    "its 8-bit picture: off by 1",
    "by more",
)


def _legend() -> str:
    factors = "; ".join(
        f"{name}: {each.worst:g} times the largest, {each.mean:g} times the mean" for name, each in FACTORS.items()
    )
    ceilings = "; ".join(_ceilings(name) for name in GATES)
    return (
        "max |d|, mean |d|: |runtime − PyTorch float32|. From float64: the same from PyTorch in float64, the judge. "
        "Torch's own: the rounding of PyTorch itself, of float32 from float64; below FP32, of FP16 from float32. What "
        f"is allowed is a multiple of that rounding on the same input ({factors}), under ceilings that no rounding "
        f"lifts: {ceilings}. The 8-bit picture counts steps of 8 bits; its ceilings alone hold. Sizes are height×width "
        "of a network's low-resolution input, of the loop's photo. A row passes if every number is within what is "
        "allowed."
    )


def _ceilings(precision: str) -> str:
    network, level, picture = GATES[precision]
    parts = []
    if network.absolute < math.inf:
        parts.append(f"max |d| {network.absolute:g}, in the loop {level.absolute:g}")
    if network.relative < math.inf:
        parts.append(f"of the spread {network.relative:g}")
    if level.decibels > -math.inf:
        parts.append(f"at least {level.decibels:g} dB")
    if picture.absolute < math.inf:
        parts.append(f"in the picture {picture.absolute:g} step")
    if picture.more < math.inf:
        parts.append(f"at most {100 * picture.more:g} % of its pixels off by more than 1")
    return f"{precision}: {', '.join(parts)}"


LEGEND = _legend()


def digest(report: Report) -> list[tuple[str, ...]]:
    """As `DIGEST` says: a line for each variant and runtime."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in report.rows:
        groups.setdefault((row.variant, row.runtime), []).append(row)
    return [(*key, *_digested(rows)) for key, rows in groups.items()]


def _digested(rows: list[Row]) -> tuple[str, ...]:
    counts = ", ".join(f"{number} {status}" for status, number in Counter(row.status for row in rows).items())
    alone = [row for row in rows if row.measured is not None and row.input != "loop"]
    loops = [row for row in rows if row.measured is not None and row.input == "loop"]
    largest = [row for row in loops if row.size == max(each.size for each in loops)]
    levels = [row.measured for row in largest if row.measured is not None and row.measured.shares is None]
    shares = [row.measured.shares for row in largest if row.measured is not None and row.measured.shares is not None]
    worst = max((row.measured.max_abs for row in alone if row.measured is not None), default=None)
    used = max((row.measured.max_abs / row.gate.absolute for row in alone if row.measured is not None), default=None)
    return (
        counts,
        "" if worst is None else f"{worst:.2g}",
        "" if used is None else f"{100 * used:.0f} %",
        f"{levels[-1].max_abs:.2g}" if levels else "",
        f"{100 * shares[-1].one:.2g} %" if shares else "",
        f"{100 * shares[-1].more:.2g} %" if shares else "",
    )


def terminal(report: Report) -> Table:
    """For the terminal."""
    return table("Parity with PyTorch float32", COLUMNS, (cells(row) for row in report.rows))


def markdown(report: Report) -> str:
    """A table with what was measured and what is allowed, and what the columns mean."""
    lines = ["# Parity with PyTorch float32", "", report.summary(), "", LEGEND, ""]
    if report.located:
        lines += [*(f"- {each.where}: {each.said}" for each in report.located), ""]
    lines += [_line(DIGEST), "|" + " --- |" * len(DIGEST), *map(_line, digest(report)), ""]
    lines.append(_line(COLUMNS))
    lines.append("|" + " --- |" * len(COLUMNS))
    lines += [_line(cells(row)) for row in report.rows]
    return "\n".join(lines) + "\n"


def cells(row: Row) -> tuple[str, ...]:
    """As `COLUMNS` says."""
    where = (row.variant, row.runtime, row.what, row.input, row.graph, size_of(row))
    result = row.note if row.status in ("not run", "compiles") else ": ".join(filter(None, (row.status, row.note)))
    found, gate = row.measured, row.gate
    if found is None:
        return (*where, *[""] * (len(COLUMNS) - len(where) - 1), result)
    own = found.own if found.half is None else found.half
    return (
        *where,
        f"{found.max_abs:.2g}",
        f"{found.judge:.2g}",
        _limit(gate.absolute),
        f"{own:.2g}",
        f"{found.mean_abs:.2g}",
        _limit(gate.mean),
        f"{found.relative:.2g}",
        _limit(gate.relative),
        "" if found.psnr is None else f"{found.psnr:.1f}",
        "" if found.psnr is None or gate.decibels == -math.inf else f"≥ {gate.decibels:g}",
        "" if found.ulps is None else f"{found.ulps.median}, {found.ulps.largest}",
        f"{found.cosine:.7f}",
        "" if found.ssim is None else f"{found.ssim:.5f}",
        result,
    )


def _limit(value: float) -> str:
    return "any" if value == math.inf else f"{value:.2g}"


def _line(values: tuple[str, ...]) -> str:
    return "| " + " | ".join(each.replace("|", "\\|") for each in values) + " |"
