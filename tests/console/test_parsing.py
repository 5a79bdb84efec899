import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplens.console.errors import InputError
from deeplens.console.parsing import parse_point, parse_size, parse_three
from tests.conftest import ROOT


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.sampled_from("x×"))
def test_a_size_is_width_then_height(width: int, height: int, sign: str) -> None:
    assert parse_size(f"{width}{sign}{height}") == (width, height)


@pytest.mark.parametrize("text", ["256", "256x", "x", "axb", "-8x8", "8x8x8", "8.0x8", "0x8", " 8x8", "８x８", ""])
def test_no_size(text: str) -> None:
    with pytest.raises(InputError, match="is not WxH: give two whole numbers, such as 2048x1536"):
        parse_size(text)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_point(x: float, y: float) -> None:
    assert parse_point(f"{x!r},{y!r}") == (x, y)


@pytest.mark.parametrize("text", ["", "0.5", "a,b", "0.5,0.5,0.5", "1.1,0.5", "0.5,-0.1", "nan,0.5", "inf,0"])
def test_no_point(text: str) -> None:
    with pytest.raises(InputError, match="0 to 1"):
        parse_point(text)


def test_three_numbers_or_one_for_all() -> None:
    assert parse_three("0.1,0.2,0.3") == (0.1, 0.2, 0.3)
    assert parse_three("0.5") == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", "a", "1,nan,2", "inf"])
def test_no_three_numbers(text: str) -> None:
    with pytest.raises(InputError, match="is not R,G,B"):
        parse_three(text)


def test_nothing_else_parses_points_sizes_or_numbers() -> None:
    """A pattern of a size, or a split at a comma or an x that makes numbers, stands in `console.parsing` alone."""
    own = re.compile(r"""\[x×\]|split\("[x×]"\)|partition\("[x×,]"\)|float\(\w+\) for \w+ in \w+\.split""")
    rooms = [link.name for link in (ROOT / "src" / "deeplens").iterdir() if link.is_symlink()]
    files = [path for room in (*rooms, "src/deeplens/commands") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 200
    found = {str(path.relative_to(ROOT)) for path in files if own.search(path.read_text(encoding="utf-8"))}
    assert found == {"console/parsing.py"}
