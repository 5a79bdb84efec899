"""`deeplens licences`: under which licences the code, the shipped weights and the data are."""

from typing import Any

import typer

from deeplens.console.options import JsonTarget
from deeplens.console.report import console_for, table, write_json
from deeplens.export.licences import listed

COLUMNS = ("what", "name", "part", "licence", "count")


def licences(json: JsonTarget = None) -> None:
    """List the licences of the code, of what the shipped weights were trained on, and of data and samples."""
    rows = listed()
    console = console_for(json)
    console.print(table("Licences", COLUMNS, ([getattr(row, name) for name in COLUMNS] for row in rows)))
    unknown = [row.name for row in rows if row.licence == ""]
    if unknown:
        typer.echo(f"note: no licence is stated for {', '.join(sorted(set(unknown)))}", err=True)
    report: dict[str, Any] = {"licences": [vars(row) for row in rows]}
    write_json(json, report)
