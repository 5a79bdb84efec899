"""`deeplens lint`: which operations of a Core ML package the Neural Engine is likely to run. Advice, by rules."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from deeplens.console.files import check_outputs
from deeplens.console.options import JsonTarget
from deeplens.console.report import console_for, table, write_json
from deeplens.export import placement
from deeplens.export.placement import DEFAULT_CHIP, UNITS, Placed
from deeplens.export.placement_rules import CHIPS, VERDICTS, Rule

ADVICE = (
    "Advice by rules from public sources, not a compiler's answer: only Core ML's choice on the device itself decides."
)

WORDS = {"engine": "remark", "uncertain": "uncertain", "not": "not on it"}
"""Verdict of a rule → what the table calls it."""


def lint(
    packages: Annotated[list[Path], typer.Argument(metavar="PACKAGE…", help="Core ML packages (.mlpackage).")],
    chip: Annotated[
        str, typer.Option(metavar="CHIP", help=f"Chip to judge for: {', '.join(CHIPS)}; for later ones {CHIPS[-1]}.")
    ] = (DEFAULT_CHIP),
    core_ml: Annotated[
        bool | None,
        typer.Option(
            "--core-ml/--no-core-ml",
            show_default="on macOS",
            help="On a Mac: also show the devices that Core ML itself chooses.",
        ),
    ] = None,
    compute_units: Annotated[
        str, typer.Option(metavar="UNITS", help=f"Compute units that Core ML may choose from: {', '.join(UNITS)}.")
    ] = "all",
    json: JsonTarget = None,
) -> None:
    """Say for each operation of a package whether it is likely to run on the Neural Engine.

    Each verdict names its rule and the rule's source. This is advice: the exit status is always 0.
    """
    check_outputs((json, None), inputs=packages)
    console = console_for(json)
    reports = []
    for package in packages:
        placed = placement.lint_package(package, chip=chip)
        if sys.platform == "darwin" if core_ml is None else core_ml:
            placed = placement.with_chosen(placed, placement.chosen_devices(package, units=compute_units))
        reports.append(_report(package, placed))
        console.print(table(f"{package}, {chip}", *_broken(placed)))
        console.print(_summary(placed), "\n")
    console.print(ADVICE)
    write_json(json, {"advice": ADVICE, "chip": chip, "packages": reports})


def _report(package: Path, placed: Sequence[Placed]) -> dict[str, Any]:
    return {
        "path": str(package),
        "counts": placement.counts(placed),
        "operations": [each.to_json() for each in placed],
    }


def _broken(placed: Sequence[Placed]) -> tuple[Sequence[str], list[tuple[object, ...]]]:
    """A row for each rule that something breaks, the worst first."""
    found: dict[Rule, list[str]] = {}
    for each in placed:
        for finding in each.findings:
            where = "" if each.function == "main" else f"{each.function}: "
            example = f"{where}{each.operation.kind} {each.operation.name}, {finding.what}"
            found.setdefault(finding.rule, []).append(example)
    rows: list[tuple[object, ...]] = [
        (WORDS[rule.verdict], rule.name, len(found[rule]), found[rule][0], rule.says, "; ".join(rule.sources))
        for rule in sorted(found, key=lambda rule: -VERDICTS.index(rule.verdict))
    ]
    return ("verdict", "rule", "operations", "such as", "which says", "by"), rows


def _summary(placed: Sequence[Placed]) -> str:
    counts = placement.counts(placed)
    text = (
        f"{len(placed)} operations: {counts['engine']} Neural Engine, {counts['uncertain']} uncertain, "
        f"{counts['not']} not on it"
    )
    return "; ".join((text, *_chosen(placed)))


def _chosen(placed: Sequence[Placed]) -> Iterator[str]:
    devices = [each.chosen for each in placed if each.chosen is not None]
    if devices:
        by = ", ".join(f"{devices.count(device)} {device}" for device in sorted(set(devices)))
        off = [each for each in placed if each.chosen not in (None, "neural engine")]
        against = sum(each.verdict == "engine" for each in off)
        yield f"Core ML prefers here: {by} ({against} of those elsewhere were expected on the engine)"
