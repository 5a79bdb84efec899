"""Answers for people and for programs: tables on standard output, JSON where it was asked for."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from deeplens.console.files import is_stdout, replacing


def write_json(target: Path | None, report: Mapping[str, Any]) -> None:
    """Write `report` to `target`, to standard output for - or its other names, nowhere for None.

    Raises:
        InputError: the file can't be written.
    """
    if target is None:
        return
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    if is_stdout(target):
        encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
        sys.stdout.write(text if encoding == "utf8" else json.dumps(report, indent=2) + "\n")
        return
    with replacing(target) as file:
        # A name that is not UTF-8 has surrogates, whose backslash form is JSON's own.
        file.write(text.encode("utf-8", "backslashreplace"))


def console_for(target: Path | None) -> Console:
    """Where text for people goes: standard output, or standard error when the JSON `target` is standard output."""
    console = Console(stderr=target is not None and is_stdout(target), highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 240  # a file or a pipe has no width to keep to
    return console


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A plain table; numbers stand on the right."""
    rows = [tuple(row) for row in rows]
    result = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        result.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        result.add_row(*map(_cell, row))
    return result


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if isinstance(value, float) else str(value)
