"""The report as a table for a terminal and as Markdown: what was measured, and what is allowed."""

import math
from collections import Counter
from textwrap import fill

from rich.table import Table

from deeplens.console.report import table
from deeplens.parity_tests.compare import FACTORS, GATES, Row
from deeplens.parity_tests.report import Report, limit_used, row_name, size_of

COLUMNS = (
    "result",
    "variant",
    "runtime",
    "what",
    "input",
    "graph",
    "size",
    "limit used",
    "max |d|",
    "max |d| from float64",
    "max |d| allowed",
    "PyTorch's own rounding",
    "mean |d|",
    "mean |d| allowed",
    "max |d| / spread",
    "share of spread allowed",
    "PSNR, dB",
    "PSNR allowed, dB",
    "ULP median, max",
    "cosine",
    "SSIM",
    "note",
)
"""Of a row. No two are named alike."""

WIDE = ("ULP median, max", "cosine", "SSIM")
"""Columns that no limit holds for; the other forms of the report have them."""

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


LEGEND = (
    "A difference |d| is that between a runtime and PyTorch float32 on the same input; a row passes if each number is "
    "within the “allowed” column beside it.",
    "“Limit used” is the share of the tightest limit. Limits are multiples of PyTorch's own rounding. Spread: "
    "largest minus smallest value. ULP: steps of float32.",
)
"""What the columns mean, in two lines."""

LIMITS = ("way of rounding", "times the largest rounding", "times the mean rounding", "ceilings")
"""Columns of `limits`."""


def limits() -> list[tuple[str, ...]]:
    """As `LIMITS` says: a line for each way of rounding."""
    return [(name, f"{each.worst:g}", f"{each.mean:g}", _ceilings(name)) for name, each in FACTORS.items()]


RULE = (
    "A limit is a multiple of PyTorch's own rounding on the same input: of float32 from float64; below FP32, of FP16 "
    "from float32. Ceilings hold besides, and no rounding lifts them. The 8-bit picture counts steps of 8 bits, and "
    "only its ceilings hold. Sizes are height×width: of a network's low-resolution input, and in the loop of the photo."
)
"""How the limits are set."""


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
    return ", ".join(parts)


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
    """For the terminal: without the columns `WIDE`, and with names broken into lines, so that notes have room."""
    chosen = [place for place, name in enumerate(COLUMNS) if name not in WIDE]
    rows = [cells(row) for row in report.rows]
    columns = [fill(COLUMNS[place], 11) for place in chosen]
    return table("Parity with PyTorch float32", columns, [[row[place] for place in chosen] for row in rows])


def markdown(report: Report) -> str:
    """A table with what was measured and what is allowed, and what the columns mean."""
    lines = ["# Parity with PyTorch float32", "", headline(report), "", report.summary(), "", *LEGEND, "", RULE, ""]
    if report.located:
        lines += [*(f"- {each.where}: {each.said}" for each in report.located), ""]
    lines += [_line(DIGEST), "|" + " --- |" * len(DIGEST), *map(_line, digest(report)), ""]
    lines += [_line(LIMITS), "|" + " --- |" * len(LIMITS), *map(_line, limits()), ""]
    lines += [_line(COLUMNS), "|" + " --- |" * len(COLUMNS), *(_line(cells(row)) for row in report.rows)]
    return "\n".join(lines) + "\n"


def headline(report: Report) -> str:
    """In a sentence or two: how many rows passed, failed and were not run, and which comes out worst."""
    counts = report.counts
    named = ["passed", "failed", *(each for each in ("stale", "compiles") if each in counts), "not run"]
    said = ", ".join(f"{counts.get(each, 0)} {LONG.get(each, each)}" for each in named)
    row = report.worst
    if row is None:
        return f"{said}. Nothing could be compared."
    if row.measured is None:
        return f"{said}. The worst row is {row_name(row)}: {row.note}."
    if row.status == "failed":
        return f"{said}. The worst row is {row_name(row)}: it takes {percent(limit_used(row))} of what is allowed."
    used = limit_used(row)
    end = "all results are exactly equal" if used == 0 else f"it takes {percent(used)} of what is allowed"
    return f"{said}. The row closest to its limit is {row_name(row)}: {end}."


LONG = {"stale": "stale (made from other weights)", "compiles": "compiled only"}
"""Statuses that a newcomer has to be told."""


def percent(share: float) -> str:
    """A share of what is allowed, for people."""
    if share == math.inf:
        return "no finite share"
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.01 else "under 1 %"


def cells(row: Row) -> tuple[str, ...]:
    """As `COLUMNS` says."""
    where = (row.status, row.variant, row.runtime, row.what, row.input, row.graph, size_of(row))
    found, gate = row.measured, row.gate
    if found is None:
        return (*where, *[""] * (len(COLUMNS) - len(where) - 1), row.note)
    own = found.own if found.half is None else found.half
    return (
        *where,
        percent(limit_used(row)),
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
        row.note,
    )


def _limit(value: float) -> str:
    return "any" if value == math.inf else f"{value:.2g}"


def _line(values: tuple[str, ...]) -> str:
    return "| " + " | ".join(each.replace("|", "\\|") for each in values) + " |"
