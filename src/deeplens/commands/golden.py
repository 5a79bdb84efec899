"""`deeplens golden`: makes the golden vectors of a release, or checks a runtime with them."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.options import JsonTarget
from deeplens.console.report import console_for, table, write_json
from deeplens.export.chosen import VARIANT
from deeplens.model.contract import VARIANTS
from deeplens.parity_tests.candidates import COMPARED, PRECISIONS, candidates
from deeplens.runtimes.options import Artifacts, Trust, Weights, weights_from


def golden(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write the golden vectors to.")] = Path(
        "artifacts/golden"
    ),
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Check the runtimes with the golden vectors in DIR instead of writing new ones."
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VARIANT",
            help="Variant of the networks: edge or paper; may be repeated.",
            show_default="edge; --check: all in DIR",
        ),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUNTIME", help=f"Runtime to check: {', '.join(COMPARED)}; may be repeated.", show_default="all"
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PRECISION",
            help=f"Precision to check: {', '.join(PRECISIONS)}; may be repeated.",
            show_default="all",
        ),
    ] = None,
    artifacts: Artifacts = None,
    _trust: Trust = None,
    weights: Weights = "shipped",
    json: JsonTarget = None,
) -> None:
    """Write golden vectors (inputs with PyTorch's outputs), or check the runtimes with them.

    Exit status of a check: 5 if one fails, 4 if none could be run.
    """
    from deeplens.parity_tests import release

    for name in variant or ():
        if name not in VARIANTS:
            raise InputError(f"unknown variant '{name}': choose {' or '.join(VARIANTS)}")
    if check is None:
        made = release.make(
            out,
            variants=variant or [VARIANT],
            weights=weights_from(weights),
            report=lambda line: typer.echo(line, err=json is not None),
        )
        size = sum(path.stat().st_size for path in out.iterdir() if path.is_file())
        typer.echo(f"{len(made)} networks, {size / 1e6:.2f} MB in {out}", err=json is not None)
        write_json(json, {"folder": str(out), "files": [path.name for path in made], "bytes": size})
        return
    found = [
        each
        for candidate in candidates(runtime or COMPARED, precision)
        for each in release.check(
            check, candidate, variants=variant, artifacts=artifacts, weights=weights_from(weights)
        )
    ]
    console_for(json).print(table(f"Golden vectors of {check}", release.COLUMNS, [each.row() for each in found]))
    failed = [each for each in found if each.status == "failed"]
    passed = [each for each in found if each.status == "passed"]
    write_json(json, {"ok": bool(passed) and not failed, "checks": [asdict(each) for each in found]})
    if failed:
        first = failed[0]
        raise MismatchError(
            f"{len(failed)} of {len(found)} checks fail, the first is {first.vectors} on {first.runtime}"
        )
    if not passed:
        raise MissingError(f"no runtime could be checked: {found[0].note}")
