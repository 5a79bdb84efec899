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
from deeplens.runtimes import depth_store
from deeplens.runtimes.options import Artifacts, DepthNetwork, Trust, Weights, weights_from

FOLDER, LOOP_FOLDER = Path("artifacts/golden"), Path("artifacts/golden_loop")


def golden(
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder to write the golden vectors to.",
            show_default=f"{FOLDER}; --end-to-end: {LOOP_FOLDER}",
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Check the runtimes with the golden vectors in DIR instead of writing new ones; with --end-to-end: "
            "check what another implementation of the whole way wrote to DIR.",
        ),
    ] = None,
    end_to_end: Annotated[
        bool,
        typer.Option("--end-to-end", help="Vectors of the whole way from photo to photo, not of each network alone."),
    ] = False,
    vectors: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="For --end-to-end --check: folder of the vectors to compare with.",
            show_default=str(LOOP_FOLDER),
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
    depth_network: DepthNetwork = None,
    json: JsonTarget = None,
) -> None:
    """Write golden vectors (inputs with PyTorch's outputs), or check the runtimes with them.

    With --end-to-end: vectors of the whole way from photo to photo, for those who write it anew (docs/harness.md).

    Exit status of a check: 5 if one fails, 4 if none could be run.
    """
    from deeplens.parity_tests import release

    named = [depth_network] if depth_network is not None else []
    if depth_network is not None:
        if variant:
            raise InputError("give --variant or --depth-network, not both")
        depth_store.find(depth_network)
    for name in variant or ():
        if name not in VARIANTS:
            raise InputError(f"unknown variant '{name}': choose {' or '.join(VARIANTS)}")
    if end_to_end:
        if runtime:
            raise InputError("--runtime does not go with --end-to-end, which compares files")
        if check is None:
            _make_loop(out or LOOP_FOLDER, variant or [VARIANT], weights, json)
        else:
            _check_loop(check, vectors or LOOP_FOLDER, variant, precision, json)
        return
    if vectors is not None:
        raise InputError("--vectors goes with --end-to-end only: give the folder of the vectors to --check")
    if check is None:
        out = out or FOLDER
        made = release.make(
            out,
            variants=named or variant or [VARIANT],
            weights=weights_from(weights),
            report=lambda line: typer.echo(line, err=json is not None),
        )
        _tell_made(out, made, "networks", json)
        return
    found = [
        each
        for candidate in candidates(runtime or COMPARED, precision)
        for each in release.check(
            check,
            candidate,
            variants=named or variant,
            artifacts=artifacts,
            weights=weights_from(weights),
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


def _tell_made(folder: Path, made: list[Path], what: str, json: Path | None) -> None:
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    typer.echo(f"{len(made)} {what}, {size / 1e6:.2f} MB in {folder}", err=json is not None)
    write_json(json, {"folder": str(folder), "files": [path.name for path in made], "bytes": size})


def _make_loop(out: Path, variants: list[str], weights: str, json: Path | None) -> None:
    from deeplens.parity_tests import harness_vectors

    made = harness_vectors.make(
        out,
        variants=variants,
        weights=weights_from(weights),
        report=lambda line: typer.echo(line, err=json is not None),
    )
    _tell_made(out, made, "photos", json)


def _check_loop(
    results: Path, vectors: Path, variants: list[str] | None, precision: list[str] | None, json: Path | None
) -> None:
    from deeplens.parity_tests import harness_check

    if precision and len(precision) > 1:
        raise InputError("give one --precision: it says whose limits hold for all that is checked")
    found = harness_check.check(
        results, vectors, variants=variants, precision=precision[0] if precision else harness_check.PRECISIONS[0]
    )
    rows = [each.row() for each in found]
    console_for(json).print(table(f"{results} against {vectors}", harness_check.COLUMNS, rows))
    wrong = [each for each in found if each.departure is not None]
    write_json(json, {"ok": not wrong, "cases": [harness_check.to_json(each) for each in found]})
    if wrong:
        raise MismatchError(f"{len(wrong)} of {len(found)} cases depart, the first is {wrong[0].sentence()}")
