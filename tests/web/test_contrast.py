"""The colours of the page keep WCAG's AA: text 4.5 to 1, edges of controls 3 to 1, in light and in dark."""

import re

import pytest

from tests.conftest import ROOT

STYLE = (ROOT / "web" / "page" / "style.css").read_text(encoding="utf-8")

TEXT = [
    ("text", "ground"), ("text", "panel"), ("quiet", "ground"), ("quiet", "panel"), ("accent", "ground"),
    ("on-primary", "primary"), ("bad", "bad-soft"), ("text", "accent-soft"),
]  # fmt: skip
EDGES = [("edge", "panel"), ("edge", "ground"), ("accent", "ground")]


def colours(block: str) -> dict[str, tuple[int, ...]]:
    found = re.findall(r"--([\w-]+): #([0-9a-f]{6});", block)
    return {name: tuple(int(value[i : i + 2], 16) for i in (0, 2, 4)) for name, value in found}


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """WCAG 2.2's contrast ratio of two sRGB colours."""

    def luminance(colour: tuple[int, ...]) -> float:
        linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


LIGHT = colours(STYLE.split("@media")[0])
DARK = {**LIGHT, **colours(STYLE.split("@media (prefers-color-scheme: dark)")[1].split("* {")[0])}


def test_the_ratio_is_that_of_wcag() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((0x77, 0x77, 0x77), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme: str) -> None:
    found = LIGHT if scheme == "light" else DARK
    for pairs, least in ((TEXT, 4.5), (EDGES, 3.0)):
        for one, other in pairs:
            assert contrast(found[one], found[other]) >= least, f"{one} on {other}"
