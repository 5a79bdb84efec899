"""The report as one HTML page that needs no other file: what came out, why a limit is what it is, and pictures."""

import io
import math
from collections.abc import Iterator

import numpy as np
from PIL import Image

from deeplens.console import page as frame
from deeplens.console.errors import MissingError
from deeplens.console.page import Html, chip, tag
from deeplens.parity_tests import plot
from deeplens.parity_tests.compare import Row
from deeplens.parity_tests.metrics import Ulps
from deeplens.parity_tests.report import Look, Report, numbers, row_name, size_of
from deeplens.parity_tests.tables import COLUMNS, DIGEST, LEGEND, LIMITS, RULE, cells, digest, headline, limits

TITLE = "Parity with PyTorch float32"

STYLE = """
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .4rem; align-items: start }
.pair img { width: 100% } .pair img + img { image-rendering: pixelated }
.bars { display: flex; align-items: flex-end; height: 64px; gap: 1px; border-bottom: 1px solid var(--soft) }
.bars i { flex: 0 1 12px; background: var(--link) }
.scale { display: flex; justify-content: space-between; font-size: 12px; color: var(--soft) }
"""

OUTLIER = 8
"""How many times the difference of nearly all pixels the brightest one stands for, at most."""

KINDS = {"passed": "good", "failed": "bad", "stale": "bad"}
"""Status of a row → how it is coloured."""

FIRST = ("result", "limit used", "input", "graph", "size")
"""Columns that a table of one runtime begins with; the first says of what, too."""

ELSEWHERE = ("variant", "runtime", "what")
"""Columns that such a table says in its caption or in its first column."""

WORDS = ("result", "input", "graph", "size", "note")
"""Columns that hold no numbers."""


def page(report: Report) -> str:
    """The whole page."""
    verdict = "agrees" if report.ok else "does not agree" if report.wrong else "nothing compared"
    parts = [
        tag("p", chip(verdict, "good" if report.ok else "bad"), " ", headline(report), kind="lead"),
        tag("p", _conditions(report), kind="soft"),
        *(tag("p", line, kind="wide") for line in LEGEND),
        *_wrong(report),
        *_located(report),
        tag("h2", "In short"),
        frame.table("By runtime", ("runtime", *DIGEST[2:]), _digested(report), numbers=DIGEST[3:], long=("rows",)),
        tag("h2", "Error along the loop"),
        *_curves(report),
        tag("h2", "Final pictures, and where they differ"),
        *_looks(report),
        tag("h2", "Every row"),
        frame.details(
            "How the limits are set",
            tag("p", RULE),
            frame.table("Factors and ceilings", LIMITS, limits(), numbers=LIMITS[1:3], long=LIMITS[3:]),
        ),
        *_tables(report),
        *_not_run(report),
        tag("h2", "Units in the last place"),
        *_histograms(report.rows),
        tag("h2", "What was run"),
        *_manifest(report),
    ]
    return frame.page(TITLE, parts, style=STYLE)


def _conditions(report: Report) -> str:
    tools = ", ".join(f"{name} {version}" for name, version in report.tools.items())
    return " ".join(f"{part}." for part in (f"Photo: {report.photo or 'none'}", report.machine, tools) if part)


def _verdict(row: Row) -> Html:
    return chip(row.status, KINDS.get(row.status, ""))


def _wrong(report: Report) -> Iterator[Html]:
    if report.wrong:
        yield tag("h2", "What did not pass")
        rows = [(_verdict(row), row_name(row), _why(row)) for row in report.wrong]
        yield frame.table("Rows that failed or are stale", ("result", "row", "why"), rows, long=("row", "why"))


def _why(row: Row) -> str:
    return row.note if row.measured is None else numbers(row.measured, row)


def _located(report: Report) -> Iterator[Html]:
    if report.located:
        yield tag("h2", "Where differences arise")
        yield tag("ul", *(tag("li", tag("b", each.where), f": {each.said}") for each in report.located))


def _digested(report: Report) -> list[tuple[str, ...]]:
    return [(f"{variant} {runtime}", *rest) for variant, runtime, *rest in digest(report)]


def _tables(report: Report) -> Iterator[Html]:
    """A table for each runtime, of the rows that were compared or should have been."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in report.rows:
        if row.status not in ("not run", "compiles"):
            groups.setdefault((row.variant, row.runtime), []).append(row)
    if not groups:
        yield tag("p", "No row was compared.")
    for (variant, runtime), rows in groups.items():
        passed = sum(row.status == "passed" for row in rows)
        lines = [dict(zip(COLUMNS, cells(row), strict=True)) | {"note": _short(row.note)} for row in rows]
        columns = [*FIRST, *(name for name in COLUMNS if name not in (*FIRST, *ELSEWHERE))]
        columns = [name for name in columns if any(line[name] for line in lines)]
        yield frame.table(
            f"{variant} on {runtime}: {passed} of {len(rows)} passed",
            columns,
            [
                [tag("span", _verdict(row), " ", row.what), *(line[name] for name in columns[1:])]
                for row, line in zip(rows, lines, strict=True)
            ],
            numbers=[name for name in columns if name not in WORDS],
        )
        for note in dict.fromkeys(row.note for row in rows if _short(row.note) != row.note):
            yield tag("p", f"{note[0].upper()}{note[1:]}.", kind="soft")


def _short(note: str) -> str:
    """A note without its explanation, which stands once below the table."""
    return note.partition(": ")[0]


def _not_run(report: Report) -> Iterator[Html]:
    rows = [row for row in report.rows if row.status in ("not run", "compiles")]
    if rows:
        yield tag("h2", "Not run")
        yield frame.table(
            "Rows without numbers, and what they need",
            ("result", "row", "why"),
            [(_verdict(row), row_name(row), row.note.removeprefix(f"{row.status}: ")) for row in rows],
            long=("row", "why"),
        )


def _curves(report: Report) -> Iterator[Html]:
    found = plot.panels(report)
    if not found:
        yield tag("p", "Not drawn: no loop was compared.")
        return
    try:
        plot.check_matplotlib()
    except MissingError as error:
        yield tag("p", f"Not drawn: {error}")
        return
    runtimes = plot.runtimes_of(found)
    yield tag("p", f"{plot.TITLE}. Lower is better.")
    pictures = []
    for panel in found:
        alt = f"Largest difference from PyTorch at each level of the loop: {panel.title}"
        pictures.append(tag("figure", frame.drawn(lambda panel=panel: plot.figure(panel, runtimes), alt=alt)))  # type: ignore[misc]
    yield tag("div", *pictures, kind="grid")


def _looks(report: Report) -> Iterator[Html]:
    if not report.looks:
        yield tag("p", "None: no loop was run.")
        return
    yield tag(
        "p",
        "Left: what the runtime made. Right: the largest difference from PyTorch's picture in each block of pixels, "
        "made brighter by the factor below it.",
    )
    yield tag("div", *map(_look, report.looks), kind="grid")


def _look(look: Look) -> Html:
    shown, said = amplified(look.off)
    picture = frame.image(_jpeg(look.picture), kind="jpeg", alt=f"Final picture of {look.title}")
    if shown is None:
        return frame.figure(tag("div", picture, kind="pair"), caption=f"{look.title}. {said}")
    off = frame.image(_png(shown), kind="png", alt=f"Where the picture of {look.title} differs from PyTorch's. {said}")
    return frame.figure(tag("div", picture, off, kind="pair"), caption=f"{look.title}. {said}")


def amplified(off: np.ndarray) -> tuple[np.ndarray | None, str]:
    """A difference picture in which something shows, and what its brightness means.

    Black is 0 and white the largest difference; where a few pixels differ much more than all others, white is
    `OUTLIER` times what 99 % of the pixels that differ stay within.

    Args:
        off: h×w, uint8, in steps of 8 bits.

    Returns:
        h×w, uint8, or None where nothing differs; a sentence.
    """
    differing = off[off > 0]
    if not differing.size:
        return None, "No pixel differs from PyTorch's picture."
    largest = int(off.max())
    white = min(largest, OUTLIER * int(np.percentile(differing, 99, method="higher")))
    steps = f"{white} step{'s' if white > 1 else ''} of 8 bits"
    more = f" or more; the largest difference is {largest}" if largest > white else ", the largest difference"
    factor = 255 / white
    shown = np.minimum(np.rint(factor * off.astype(np.float64)), 255).astype(np.uint8)
    return shown, f"Difference × {factor:.3g}: white is {steps}{more}."


def _histograms(rows: tuple[Row, ...]) -> Iterator[Html]:
    yield tag(
        "p",
        "How many float32 numbers lie between a value of the runtime and PyTorch's: networks alone. The height of a "
        "bar is the number of values on a logarithmic scale; each bar stands for twice the distance of the one before.",
    )
    figures = []
    for row in rows:
        if row.measured is None or row.measured.ulps is None or row.input == "loop":
            continue
        title = f"{row.variant} {row.runtime}: {row.what}, {row.input}, {row.graph}, {size_of(row)}"
        found = row.measured.ulps
        said = f"median {found.median}, largest {found.largest} ULP"
        figures.append(frame.figure(_bars(found, f"{title}: {said}"), caption=f"{title}; {said}"))
    yield (
        frame.details(f"{len(figures)} histograms", tag("div", *figures, kind="grid")) if figures else tag("p", "None.")
    )


def _bars(found: Ulps, label: str) -> Html:
    total = sum(found.histogram)
    used = max((index for index, count in enumerate(found.histogram) if count), default=0)
    bars = []
    for index, count in enumerate(found.histogram[: used + 1]):
        share = 0.0 if count == 0 else 1 - math.log(count / total) / math.log(1 / total) if total > 1 else 1.0
        span = str(index) if index < 2 else f"{2 ** (index - 1)}–{2**index - 1}"
        height = 0 if count == 0 else max(4, round(100 * share))
        bars.append(Html(f'<i style="height:{height}%" title="{span} ULP: {count} of {total}"></i>'))
    chart = Html(f'<div class="bars" role="img" aria-label="{frame.text(label)}">{"".join(bars)}</div>')
    last = str(used) if used < 2 else f"{2 ** (used - 1)}–{2**used - 1} ULP"
    return Html(chart + tag("div", tag("span", "equal"), tag("span", last if used else ""), kind="scale"))


def _manifest(report: Report) -> Iterator[Html]:
    hashes = [(name, tag("code", sha256)) for name, sha256 in sorted(report.artifacts.items())]
    yield frame.table("Artefacts", ("artefact", "SHA-256"), hashes)
    seconds = [(name, f"{each:.1f}") for name, each in report.seconds.items()]
    yield frame.table("Time", ("runtime", "seconds for all rows"), seconds, numbers=("seconds for all rows",))
    yield frame.table("Versions", ("tool", "version"), list(report.tools.items()))


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def _jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=88)
    return file.getvalue()
