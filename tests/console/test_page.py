"""The frame of HTML reports: escaping, tables, plots for light and dark."""

import re
from io import BytesIO

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from deeplens.console import page as frame
from deeplens.console.page import Html, tag


def test_all_that_is_no_html_is_escaped() -> None:
    made = frame.page("a < b", [tag("p", "<i>&", Html("<b>bold</b>")), frame.figure(caption='"<x>"')])
    assert "<title>a &lt; b</title>" in made
    assert "<h1>a &lt; b</h1>" in made
    assert "<p>&lt;i&gt;&amp;<b>bold</b></p>" in made
    assert "<x>" not in made
    table = frame.table("<c>", ("<n>", "m"), [("<r>", Html("<b>v</b>"))])
    assert re.findall(r"<[cnr]>", table) == []
    assert "<td><b>v</b></td>" in table


def test_a_page_for_every_width_and_for_light_and_dark() -> None:
    made = frame.page("title", [])
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in made
    assert "prefers-color-scheme: dark" in made
    assert not re.search(r"url\(|@import|https?:|src=|href=", made)


def test_a_table_has_a_caption_scopes_and_a_box_that_scrolls() -> None:
    made = frame.table("what it shows", ("name", "value"), [("one", "1")], numbers=("value",))
    assert made.startswith('<div class="box" role="region" tabindex="0" aria-label="what it shows"><table>')
    assert "<caption><span>what it shows</span></caption>" in made
    assert '<th scope="col">name</th><th scope="col" class="number">value</th>' in made
    assert '<th scope="row">one</th><td class="number">1</td>' in made
    assert ".box { overflow-x: auto" in frame.STYLE
    assert re.search(r"th\[scope=row\] \{[^}]*position: sticky; left: 0", frame.STYLE)


def test_columns_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two columns have one name"):
        frame.table("", ("allowed", "max", "allowed"), [])
    with pytest.raises(ValueError, match="zip"):
        frame.table("", ("a", "b"), [("1",)])


def _contrast(first: str, second: str) -> float:
    """The contrast ratio of the Web Content Accessibility Guidelines: 1 to 21."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_can_be_read(dark: bool) -> None:
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)
    light, other = frame.STYLE.split("@media (prefers-color-scheme: dark)")[:2]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", other if dark else light))
    pairs = [("ink", "page"), ("ink", "card"), ("soft", "page"), ("soft", "card"), ("link", "page")]
    pairs += [("good", "good-back"), ("bad", "bad-back"), ("good", "page"), ("bad", "page")]
    for text, ground in pairs:
        assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    plot = frame.DARK if dark else frame.LIGHT
    assert plot == {"page": colours["card"], **{name: colours[name] for name in ("ink", "soft", "line")}}


def test_a_plot_is_drawn_for_light_and_for_dark() -> None:
    def draw() -> Figure:
        figure = Figure(figsize=(2, 2))
        figure.subplots().plot([0, 1])
        return figure

    for colours in (frame.LIGHT, frame.DARK):
        corner = np.asarray(Image.open(BytesIO(frame.themed(draw, colours))).convert("RGB"))[0, 0]
        assert "#" + bytes(corner.tolist()).hex() == colours["page"]
    made = frame.drawn(draw, alt="a line <up>")
    assert made.count("data:image/png;base64,") == 2
    assert 'alt="a line &lt;up&gt;"' in made
