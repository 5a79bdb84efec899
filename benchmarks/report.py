"""A benchmark's answer as tables, Markdown and a plot, and two answers beside each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplens.console.errors import InputError, MissingError
from deeplens.console.inputs import read_json
from deeplens.console.package import pip_install

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = 2
"""Of the JSON. Files of another format are not compared."""

Rows = list[tuple[str, ...]]

TIMES = ("what", "candidate", "runs", "p50, ms", "p90", "p99", "min", "first run", "device p50", "energy, J")
LEVELS = ("candidate", "level", "tiles", "p50, ms", "p90", "p99", "min", "in networks, all lanes", "device")
OPENS = ("candidate", "threads", "runs on", "cold load, ms", "peak memory, MB", "energy")
RATIOS = ("what", "candidate", "than", "times faster", "spread", "rounds")
ROOFLINE = (
    "candidate", "what", "multiplications", "bytes, compulsory", "by layers", "p50, ms", "limit", "share of it",
    "limit by layers", "share of it", "GFLOP/s",
)  # fmt: skip


def tables(report: dict[str, Any]) -> list[tuple[str, tuple[str, ...], Rows]]:
    """Title, columns and rows of each part of a report that has something to say."""
    width, height = report["size"]
    aperture = report.get("aperture", 1.0)
    title = f"Times, photo of {width}×{height}" + ("" if aperture == 1 else f", aperture {aperture:g}")
    parts = [
        (title, TIMES, _times(report["results"])),
        ("Levels of one refocus", LEVELS, _levels(report["results"])),
        ("Opening", OPENS, _opens(report["results"])),
        ("Pairs, round by round", RATIOS, _ratios(report["ratios"])),
        ("Share of the machine's limits", ROOFLINE, _roofline(report["roofline"])),
    ]
    return [part for part in parts if part[2]]


def console_tables(report: dict[str, Any]) -> "list[Table]":
    """The same for the terminal."""
    from deeplens.console.report import table

    return [table(title, columns, rows) for title, columns, rows in tables(report)]


def summary(report: dict[str, Any]) -> str:
    """Whether the run is valid, and the machine, in a few lines."""
    machine = report["machine"]
    speed = machine["speed"]["after"]
    lines = [
        "valid" if report["valid"] else "INVALID: do not use these times",
        *report["remarks"],
        f"{machine['processor']}, {machine['threads']} of {machine['cores']} cores; sgemm "
        f"{max(speed['sgemm'].values()):.0f} GFLOP/s, memory {max(speed['bandwidth'].values()):.1f} GB/s",
        f"not told by this machine: {', '.join(machine['state']['after']['not_told']) or 'nothing'}",
    ]
    return "\n".join(lines)


def markdown(report: dict[str, Any]) -> str:
    """All tables, for a document."""
    lines = [*(f"{line}  " for line in summary(report).splitlines()), ""]
    for title, columns, rows in tables(report):
        lines += [f"### {title}", "", _line(columns), _line(["---", *["--:"] * (len(columns) - 1)])]
        lines += [*map(_line, rows), ""]
    return "\n".join(lines)


def plot(report: dict[str, Any], path: Path) -> None:
    """Distributions of every item's seconds, a box a candidate, and the levels of a refocus stacked; PNG.

    Raises:
        MissingError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError(f"a plot needs matplotlib ({error}): {pip_install('train')}") from error
    rows = report["results"]
    items = list(rows[0]["items"])
    loops = [row for row in rows if row["items"].get("refocus", {}).get("levels")]
    figure = Figure(figsize=(4 * (len(items) + bool(loops)), 1.6 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots(1, len(items) + bool(loops), squeeze=False)[0]
    names = [row["name"] for row in rows]
    for index, (axis, item) in enumerate(zip(axes, items, strict=False)):
        axis.boxplot([[1e3 * s for s in row["items"][item]["seconds"]] for row in rows], orientation="horizontal")
        axis.set(title=item, xlabel="ms", yticks=range(1, len(rows) + 1), yticklabels=[] if index else names, xlim=0)
        axis.grid(axis="x", alpha=0.3)
    if loops:
        for place, row in enumerate(loops):
            left = 0.0
            for level, part in enumerate(row["items"]["refocus"]["levels"]):
                width = 1e3 * part["host"]["p50"]
                axes[-1].barh(place, width, left=left, color=f"C{level}", label=f"level {level}" if not place else None)
                left += width
        axes[-1].set(title="levels of a refocus, p50", xlabel="ms", yticks=range(len(loops)))
        axes[-1].set_yticklabels([row["name"] for row in loops])
        axes[-1].legend(fontsize="small")
    from deeplens.console.files import replacing

    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=120)


def read(path: Path) -> dict[str, Any]:
    """A report that `deeplens bench --json` wrote.

    Raises:
        InputError: it is not one.
    """
    try:
        report = read_json(path)
        if report["format"] != FORMAT:
            raise ValueError(f"format {report['format']}, expected {FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} was not written by `deeplens bench --json` ({error}): measure again") from error
    result: dict[str, Any] = report
    return result


COMPARED = ("what", "candidate", "before p50, ms", "after p50, ms", "times faster", "min", "peak memory, MB")


def compare(before: dict[str, Any], after: dict[str, Any]) -> tuple[Rows, list[str]]:
    """Two reports beside each other: a row for each item that both have, and what speaks against comparing them."""
    rows: Rows = []
    old = {row["name"]: row for row in before["results"]}
    for row in after["results"]:
        for item, now in row["items"].items():
            then = old.get(row["name"], {"items": {}})["items"].get(item)
            if then is None:
                continue
            rows.append(
                (
                    item, row["name"], _ms(then["p50"]), _ms(now["p50"]), f"{then['p50'] / now['p50']:.2f}",
                    f"{then['min'] / now['min']:.2f}",
                    f"{old[row['name']]['peak_bytes'] / 1e6:.0f} → {row['peak_bytes'] / 1e6:.0f}",
                )
            )  # fmt: skip
    doubts = []
    for name, report in (("before", before), ("after", after)):
        if not report["valid"]:
            doubts.append(f"the times {name} are invalid: {'; '.join(report['remarks'])}")
    for key, usual in (("size", None), ("aperture", 1.0), ("quick", None)):
        found = before.get(key, usual), after.get(key, usual)
        if found[0] != found[1]:
            doubts.append(f"{key} differs: {found[0]} and {found[1]}")
    for key in ("processor", "threads", "system", "versions"):
        if before["machine"][key] != after["machine"][key]:
            doubts.append(f"{key} differs: {before['machine'][key]} and {after['machine'][key]}")
    rates = [max(report["machine"]["speed"]["after"]["sgemm"].values()) for report in (before, after)]
    doubts.append(f"sgemm rate: {rates[0]:.0f} and {rates[1]:.0f} GFLOP/s; two runs are not paired")
    return rows, doubts


def _times(results: Sequence[dict[str, Any]]) -> Rows:
    items = list(results[0]["items"])
    return [
        (
            item + (f" {timing['size'][0]}×{timing['size'][1]}" if timing["size"] else ""),
            row["name"], f"{timing['runs']}{' (too few)' if timing['fewer_runs'] else ''}",
            *(_ms(timing[key]) for key in ("p50", "p90", "p99", "min", "first")),
            _ms(timing["device"]["p50"]) if timing["device"] else "not told", _joules(timing["energy_j"]),
        )
        for item in items for row in results for timing in [row["items"][item]]
    ]  # fmt: skip


def _levels(results: Sequence[dict[str, Any]]) -> Rows:
    return [
        (
            row["name"], f"{index}, {level['network']}",
            ", ".join(f"{each['count']} × {each['height']}×{each['width']}" for each in level["tiles"]) or "none run",
            *(_ms(level["host"][key]) for key in ("p50", "p90", "p99", "min")), _ms(level["busy"]["p50"]),
            _ms(level["device"]["p50"]) if level["device"] else "not told",
        )
        for row in results for index, level in enumerate(row["items"].get("refocus", {"levels": []})["levels"])
    ]  # fmt: skip


def _opens(results: Sequence[dict[str, Any]]) -> Rows:
    return [
        (
            row["name"], str(row["threads"]), _places(row.get("ran", {})),
            ", ".join(f"{name} {_ms(s)}" for name, s in row["open"].items()),
            f"{row['peak_bytes'] / 1e6:.0f}", row["energy"],
        )
        for row in results
    ]  # fmt: skip


def _places(ran: dict[str, Any]) -> str:
    """On what, with which library, and how many operations run on the CPU instead."""
    engines = dict.fromkeys(f"{each['on']} ({each['library']})" for each in ran.values())
    left = [
        f"{network} {each['cpu_nodes']} of {each['nodes']}" for network, each in ran.items() if each.get("cpu_nodes")
    ]
    return ", ".join(engines) + (f"; on the CPU: {', '.join(left)}" if left else "")


def _ratios(ratios: Sequence[dict[str, Any]]) -> Rows:
    return [
        (
            row["item"], row["of"], row["to"], f"{row['ratio']:.2f}",
            f"{row['low']:.2f} … {row['high']:.2f} ({100 * row['coverage']:.0f} %)", str(row["rounds"]),
        )
        for row in ratios
    ]  # fmt: skip


def _roofline(roofline: Sequence[dict[str, Any]]) -> Rows:
    return [
        (
            row["candidate"], row["what"], f"{row['multiplications'] / 1e9:.2f} G", f"{row['compulsory'] / 1e6:.1f} M",
            f"{row['by_layers'] / 1e6:.0f} M", _ms(row["seconds"]), _ms(row["limit"]), f"{100 * row['share']:.0f} %",
            _ms(row["limit_by_layers"]), f"{100 * row['share_by_layers']:.0f} %", f"{row['gflops']:.0f}",
        )
        for row in roofline
    ]  # fmt: skip


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.1f}"


def _joules(told: dict[str, float] | None) -> str:
    return ", ".join(f"{value:.3g} {name}" for name, value in told.items()) if told else "not told"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
