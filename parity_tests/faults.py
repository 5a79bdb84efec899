"""Twelve faults, each planted in a real artefact or in the loop: is it caught, and is the right module named?

    python -m deeplens.parity_tests.faults [--weights W] [--json FILE]

Status 5 unless all are caught and `DUE` of them located. Weights are lively ones (`parity_tests.lively`), under which
every layer shows, unless others are given.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from deeplens.console.errors import MismatchError
from deeplens.console.options import JsonTarget
from deeplens.console.report import console_for, table, write_json
from deeplens.console.script import run_script
from deeplens.parity_tests.fault_bench import Bench, Found
from deeplens.parity_tests.planted import FAULTS, Fault
from deeplens.runtimes.options import weights_from

DUE = 10
"""Faults of the twelve whose module has to be named."""

COLUMNS = ("fault", "planted in", "caught by", "named", "expected", "result")


@dataclass(frozen=True)
class Outcome:
    """What became of one fault."""

    fault: Fault
    found: Found

    @property
    def located(self) -> bool:
        return self.found.named == self.fault.expected

    def row(self) -> tuple[str, ...]:
        """As `COLUMNS` says."""
        caught = self.found.caught or "nothing"
        result = "caught" if self.found.caught else "MISSED"
        result += ", located" if self.located else ", located elsewhere"
        return (
            self.fault.name,
            self.fault.planted,
            caught,
            _shown(self.found.named),
            _shown(self.fault.expected),
            result,
        )


def _shown(named: str | None) -> str:
    return "nothing" if named is None else named or "(the network itself)"


def outcomes(bench: Bench, report: Callable[[str], None] = lambda _: None) -> list[Outcome]:
    """Plant each fault in turn."""
    found = []
    for fault in FAULTS:
        report(fault.name)
        found.append(Outcome(fault, fault.plant(bench)))
    return found


def command(
    weights: Annotated[
        str,
        typer.Option(
            metavar="WEIGHTS", help="Weights: lively (made for this test), shipped, initial, a file or a folder."
        ),
    ] = "lively",
    json: JsonTarget = None,
) -> None:
    """Plant twelve faults, and show which of them the parity tests catch and locate."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), None if weights == "lively" else weights_from(weights))
        found = outcomes(bench, lambda line: typer.echo(line, err=True))
    console_for(json).print(table("Planted faults", COLUMNS, [each.row() for each in found]))
    caught, located = sum(bool(each.found.caught) for each in found), sum(each.located for each in found)
    console_for(json).print(f"{caught} of {len(found)} caught, {located} located")
    rows = [dict(zip(COLUMNS, each.row(), strict=True)) | {"said": each.found.said} for each in found]
    write_json(json, {"caught": caught, "located": located, "faults": rows})
    if caught < len(found) or located < DUE:
        raise MismatchError(
            f"{len(found) - caught} of {len(found)} faults were missed, {located} located ({DUE} needed)"
        )


if __name__ == "__main__":
    run_script(command)
