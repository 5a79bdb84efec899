"""The frame of all HTML reports: one page that needs no other file, for light and dark, for a desk and a phone.

All texts are escaped here: what is of the type `Html` goes in as it is, any other string is escaped.
"""

import html
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Html(str):
    """A piece of a page, HTML already."""

    __slots__ = ()


STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --card: #f4f6f8; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de;
  --good: #116329; --good-back: #d9f2e0; --bad: #a40e26; --bad-back: #ffe3e6; --link: #0550ae }
@media (prefers-color-scheme: dark) {
  :root { --page: #14181d; --card: #1d232a; --ink: #e6eaef; --soft: #a3adb8; --line: #39424d;
    --good: #7ee2a0; --good-back: #143523; --bad: #ff9aa5; --bad-back: #4a1a21; --link: #79b8ff } }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body { margin: 0 auto; max-width: 82rem; padding: 1.25rem 2rem 4rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .4rem 0 .8rem } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem }
p, ul { max-width: 62rem; margin: .5rem 0 } .soft { color: var(--soft) } .wide { max-width: none }
.lead { font-size: 1.06rem }
code { font: .86em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace }
.box { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0 1rem; max-width: 100%;
  width: fit-content; position: relative }
.box:focus-visible, summary:focus-visible { outline: 2px solid var(--link); outline-offset: 2px }
table { border-collapse: separate; border-spacing: 0; font-size: 12.5px; line-height: 1.35; overflow-wrap: normal }
caption { text-align: left; font-weight: 600; font-size: 13.5px; padding: .45rem .6rem }
caption > span { position: sticky; left: .6rem }
th, td { padding: .28rem .42rem; text-align: left; white-space: nowrap; border-top: 1px solid var(--line) }
thead th { background: var(--card); color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal;
  min-width: 3.2rem }
thead th.wordy { min-width: 7.5rem }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
td.long { white-space: normal; min-width: 13rem; max-width: 40rem }
th[scope=row] { font-weight: 600; position: sticky; left: 0; background: var(--page); z-index: 1 }
thead th:first-child { position: sticky; left: 0; z-index: 2 }
.good { color: var(--good) } .bad { color: var(--bad) }
.chip { display: inline-block; padding: 0 .45em; border-radius: 4px; background: var(--card); color: var(--soft);
  border: 1px solid var(--line); font-weight: 600 }
.chip.good { background: var(--good-back); color: var(--good); border-color: transparent }
.chip.bad { background: var(--bad-back); color: var(--bad); border-color: transparent }
td > code { white-space: pre-wrap }
.grid { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 23rem), 1fr));
  margin: .6rem 0 }
figure { margin: 0; padding: .6rem; background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  min-width: 0 }
figcaption { font-size: 13px; margin-top: .4rem; color: var(--soft) }
img { max-width: 100%; height: auto; display: block; border-radius: 3px }
summary { cursor: pointer; margin: .6rem 0; color: var(--link) }
@media (max-width: 40rem) {
  body { padding: .8rem .9rem 3rem; font-size: 14.5px } h1 { font-size: 1.35rem }
  table { font-size: 12px } th, td { padding: .28rem .4rem } td.long { min-width: 12rem }
  thead th.number { min-width: 4.4rem } }
"""

LIGHT = {"page": "#f4f6f8", "ink": "#1b1f24", "soft": "#57606a", "line": "#d0d7de"}
DARK = {"page": "#1d232a", "ink": "#e6eaef", "soft": "#a3adb8", "line": "#39424d"}
"""Colours of plots: those of `--card`, `--ink`, `--soft` and `--line`."""

CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#c79a00", "#56a3d9", "#8c6bb1", "#7f7f7f", "#a65628", "#4daf4a")
"""Colours of curves, told apart on both grounds and by most of the colour-blind (Okabe and Ito's, made to fit both)."""


COLOURS = 128
"""Of a plot, at most: a third of the bytes, and nothing is seen of it."""


def page(title: str, parts: Iterable[str], *, style: str = "") -> str:
    """A whole page.

    Args:
        title: also its heading.
        parts: in their order.
        style: CSS beside that of the frame.
    """
    said = html.escape(title)
    head = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{said}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<style>{STYLE}{style}</style>\n</head>\n'
    )
    body = "\n".join(map(text, parts))
    return f"{head}<body>\n<main>\n<h1>{said}</h1>\n{body}\n</main>\n</body>\n</html>\n"


def text(value: str) -> Html:
    """The string, escaped where it is no HTML."""
    return value if isinstance(value, Html) else Html(html.escape(value))


def tag(name: str, *inner: str, kind: str = "") -> Html:
    """An element with texts or HTML in it.

    Args:
        kind: its classes.
    """
    return Html(f"<{name}{_class(kind)}>{_joined(inner)}</{name}>")


def chip(value: str, kind: str = "") -> Html:
    """A short word in a coloured box. `kind` is "good", "bad" or "" (neither)."""
    return tag("span", value, kind=f"chip {kind}".strip())


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[str] = (),
    long: Sequence[str] = (),
) -> Html:
    """A table in a box of its own, which scrolls sideways where the page is narrower; the first column stays in sight.

    Args:
        caption: what the table shows.
        columns: their names, no two alike.
        rows: a cell a column.
        numbers: columns whose cells stand on the right.
        long: columns whose cells may break into lines.

    Raises:
        ValueError: two columns have one name, or a row has another number of cells.
    """
    if len(set(columns)) < len(columns):
        raise ValueError(f"two columns have one name: {columns}")
    kinds = {name: "number" if name in numbers else "long" if name in long else "" for name in columns}
    head = "".join(
        f'<th scope="col"{_class(" ".join(filter(None, (kinds[name], "wordy" if len(name) > 24 else ""))))}>'
        f"{html.escape(name)}</th>"
        for name in columns
    )
    lines = []
    for row in rows:
        cells = []
        for place, (name, value) in enumerate(zip(columns, row, strict=True)):
            kind = _class(kinds[name])
            cells.append(f'<th scope="row"{kind}>{text(value)}</th>' if place == 0 else f"<td{kind}>{text(value)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    said = html.escape(caption)
    return Html(
        f'<div class="box" role="region" tabindex="0" aria-label="{said}"><table>'
        f"<caption><span>{said}</span></caption>\n<thead><tr>{head}</tr></thead>\n<tbody>"
        + "\n".join(lines)
        + "</tbody></table></div>"
    )


def figure(*inner: str, caption: str) -> Html:
    """Pictures with a caption below them."""
    return tag("figure", *inner, tag("figcaption", caption))


def details(summary: str, *inner: str) -> Html:
    """What is shown when its summary is clicked."""
    return tag("details", tag("summary", summary), *inner)


def image(data: bytes, *, kind: str, alt: str) -> Html:
    """A picture that lies in the page itself.

    Args:
        data: the bytes of a file.
        kind: "png" or "jpeg".
        alt: what it shows, for who can't see it.
    """
    return Html(f'<img alt="{html.escape(alt)}" src="{_url(data, kind)}">')


def drawn(draw: "Callable[[], Figure]", *, alt: str) -> Html:
    """A plot in two forms, for light pages and for dark ones.

    Args:
        draw: makes the figure. It takes all colours that are not data from matplotlib's settings. Needs matplotlib.
        alt: what it shows.
    """
    light, dark = (themed(draw, colours) for colours in (LIGHT, DARK))
    return Html(
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{_url(dark, "png")}">'
        f"{image(light, kind='png', alt=alt)}</picture>"
    )


def themed(draw: "Callable[[], Figure]", colours: dict[str, str]) -> bytes:
    """The figure that `draw` makes in `colours` (`LIGHT`, `DARK`), as the bytes of a PNG file."""
    import matplotlib as mpl
    from cycler import cycler

    settings: dict[Any, Any] = {
        **dict.fromkeys(
            ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor"), colours["page"]
        ),
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor"), colours["ink"]),
        **dict.fromkeys(("xtick.color", "ytick.color", "axes.edgecolor"), colours["soft"]),
        **dict.fromkeys(("grid.color", "legend.edgecolor"), colours["line"]),
        "axes.prop_cycle": cycler(color=CYCLE),
    }
    file = BytesIO()
    with mpl.rc_context(settings):
        draw().savefig(file, dpi=150, format="png", metadata={"Software": None})
    small = BytesIO()
    Image.open(file).convert("RGB").quantize(COLOURS).save(small, "PNG", optimize=True)
    return small.getvalue()


def _joined(parts: Iterable[str]) -> str:
    return "".join(map(text, parts))


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(data).decode()}"
