"""The report as one HTML page that needs no other file: table, difference pictures, histograms, curves, manifest."""

import base64
import html
import io
import math
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from deeplens.console.errors import MissingError
from deeplens.parity_tests import plot
from deeplens.parity_tests.compare import Row
from deeplens.parity_tests.metrics import Ulps
from deeplens.parity_tests.report import GAIN, Report, size_of
from deeplens.parity_tests.tables import COLUMNS, DIGEST, LEGEND, cells, digest

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 110em; padding: 0 1em; color: #1d2125 }
table { border-collapse: collapse; font-size: 12px } th, td { padding: 2px 7px; text-align: left; white-space: nowrap }
th { background: #eef1f4; position: sticky; top: 0 } tr { border-bottom: 1px solid #e3e6e9 }
td:last-child { white-space: normal; min-width: 22em }
.passed td:last-child { color: #13612e } .failed td, .stale td { background: #fde7e7 }
.not-run td, .compiles td { color: #777 }
.scroll { overflow: auto; max-height: 80vh; border: 1px solid #d5d9dd } figure { display: inline-block; margin: 8px }
figcaption { font-size: 12px; max-width: 34em } .bars { display: flex; align-items: flex-end; height: 60px; gap: 1px }
.bars i { width: 9px; background: #3a6ea5 } code { font-size: 11px }
"""


def page(report: Report) -> str:
    """The whole page."""
    verdict = "All that was compared agrees." if report.ok else f"{len(report.wrong)} of {len(report.rows)} rows fail."
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Parity with PyTorch float32</title>",
        f"<style>{STYLE}</style><h1>Parity with PyTorch float32</h1>",
        f"<p><b>{_text(verdict)}</b> {_text(report.summary())}</p>",
    ]
    if report.located:
        parts.append("<h2>Where differences arise</h2><ul>")
        parts += [f"<li><b>{_text(each.where)}</b>: {_text(each.said)}</li>" for each in report.located]
        parts.append("</ul>")
    parts += ["<h2>In short</h2>", *_lines(DIGEST, digest(report))]
    parts += ["<h2>Table</h2>", f"<p>{_text(LEGEND)}</p>", *_table(report.rows)]
    parts += ["<h2>Error along the loop</h2>", _curves(report)]
    parts += ["<h2>Final pictures, and their differences</h2>", *_looks(report)]
    parts += [
        "<h2>Units in the last place</h2>",
        *_histograms(report.rows),
        "<h2>What was run</h2>",
        *_manifest(report),
    ]
    return "\n".join(parts) + "\n</html>\n"


def _table(rows: tuple[Row, ...]) -> Iterator[str]:
    yield "<div class=scroll><table><tr>" + "".join(f"<th>{_text(name)}</th>" for name in COLUMNS) + "</tr>"
    for row in rows:
        values = "".join(f"<td>{_text(value)}</td>" for value in cells(row))
        yield f'<tr class="{row.status.replace(" ", "-")}">{values}</tr>'
    yield "</table></div>"


def _lines(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "<table><tr>" + "".join(f"<th>{_text(name)}</th>" for name in columns) + "</tr>"
    for line in lines:
        yield "<tr>" + "".join(f"<td>{_text(value)}</td>" for value in line) + "</tr>"
    yield "</table>"


def _curves(report: Report) -> str:
    try:
        picture = plot.png(report)
    except MissingError as error:
        return f"<p>Not drawn: {_text(str(error))}</p>"
    if picture is None:
        return "<p>Not drawn: no loop was compared.</p>"
    return f'<img alt="error against level" src="{_data(picture)}">'


def _looks(report: Report) -> Iterator[str]:
    if not report.looks:
        yield "<p>None: no loop was run.</p>"
    for look in report.looks:
        yield f'<figure><img alt="" src="{_png(look.picture)}"> <img alt="" src="{_png(look.off)}">'
        said = f"{look.title}. Right: the largest difference in a block of pixels, steps of 8 bits × {GAIN}"
        yield f"<figcaption>{_text(said)}</figcaption></figure>"


def _histograms(rows: tuple[Row, ...]) -> Iterator[str]:
    yield (
        "<p>Float32 numbers between runtime and PyTorch, value by value; bars on a logarithmic scale: equal, 1, 2–3, "
        "4–7, … Networks alone.</p>"
    )
    for row in rows:
        if row.measured is None or row.measured.ulps is None or row.input == "loop":
            continue
        title = f"{row.variant} {row.runtime}: {row.what}, {row.input}, {row.graph}, {size_of(row)}"
        yield f"<figure>{_bars(row.measured.ulps)}<figcaption>{_text(title)}</figcaption></figure>"


def _bars(found: Ulps) -> str:
    total = sum(found.histogram)
    used = max((index for index, count in enumerate(found.histogram) if count), default=0)
    bars = []
    for index, count in enumerate(found.histogram[: used + 1]):
        share = 0.0 if count == 0 else 1 - math.log(count / total) / math.log(1 / total) if total > 1 else 1.0
        span = str(index) if index < 2 else f"{2 ** (index - 1)}–{2**index - 1}"
        height = 0 if count == 0 else max(4, round(100 * share))
        bars.append(f'<i style="height:{height}%" title="{span} ULP: {count} of {total}"></i>')
    return f"<div class=bars>{''.join(bars)}</div>"


def _manifest(report: Report) -> Iterator[str]:
    yield from _lines(("artefact", "SHA-256"), sorted(report.artifacts.items()))
    yield from _lines(("runtime", "seconds"), [(name, f"{each:.1f}") for name, each in report.seconds.items()])
    yield from _lines(("tool", "version"), list(report.tools.items()))


def _png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return _data(file.getvalue())


def _data(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _text(value: str) -> str:
    return html.escape(value)
