"""`deeplens info` and `deeplens verify`: what is there, and whether it is what it says."""

import platform
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from deeplens.console import machine as inventory
from deeplens.console.errors import DeepLensError, MismatchError, MissingError
from deeplens.console.machine import core_count
from deeplens.console.options import JsonTarget
from deeplens.console.package import VERSION, pip_install
from deeplens.console.report import console_for, table, write_json
from deeplens.model.shipped import shipped_weights
from deeplens.runtimes import folders, manifest
from deeplens.runtimes.options import Artifacts, Trust


def info(
    artifacts: Artifacts = None,
    _trust: Trust = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="Also show parameters and multiplications of every network; needs PyTorch.")
    ] = False,
    json: JsonTarget = None,
) -> None:
    """Show versions, missing extras, the processor, the shipped weights and the artefacts."""
    places = folders.search_path() if artifacts is None else (artifacts,)
    report: dict[str, Any] = {
        "deeplens": VERSION,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": {"name": inventory.processor(), "cores": core_count()},
        "extras": inventory.extras(),
        "weights": [
            {"file": each.path.name, "card": each.card.name if each.card else None, "sha256": each.sha256}
            for each in shipped_weights()
        ],
        "artifacts": [
            {
                "path": str(folder / entry.path),
                "variant": entry.variant,
                "network": entry.network,
                "runtime": entry.runtime,
                "precision": entry.precision,
                "dynamic": entry.dynamic,
                "sha256": entry.sha256,
                "tools": dict(entry.tools),
            }
            for folder in places
            for entry in manifest.read(folder)
        ],
    }
    if cost:
        report["cost"] = costs()
    _show(report, json)
    write_json(json, report)


def costs() -> list[dict[str, Any]]:
    """`model.cost.table`, at the sizes of the steps of a 2048×1536 photo.

    Raises:
        MissingError: PyTorch is not installed.
    """
    try:
        from deeplens.model import cost
    except ImportError as error:
        raise MissingError(f"--cost needs PyTorch ({error}): {pip_install('torch')}") from error
    return cost.table()


def _show(report: dict[str, Any], json: Path | None) -> None:
    console = console_for(json)
    console.print(f"deeplens {report['deeplens']}, Python {report['python']}, {report['system']}")
    console.print(f"{report['processor']['name']}, {report['processor']['cores']} cores\n")
    rows = []
    for extra, libraries in report["extras"].items():
        if extra == "all":
            continue
        missing = [name for name, version in libraries.items() if version is None]
        there = ", ".join(f"{name} {version}" for name, version in libraries.items() if version is not None)
        install = pip_install(extra)
        rows.append((extra or "(base)", there, f"{', '.join(missing)}: {install}" if missing else ""))
    console.print(table("Extras", ("extra", "installed", "missing"), rows))
    weights = [(each["file"], each["card"] or "none", each["sha256"][:12]) for each in report["weights"]]
    console.print()
    console.print(table("Weights shipped", ("file", "card", "SHA-256"), weights) if weights else "No weights shipped.")
    console.print()
    made = [
        (each["path"], each["precision"], "any" if each["dynamic"] else "fixed", each["sha256"][:12])
        for each in report["artifacts"]
    ]
    if made:
        console.print(table("Artefacts", ("file", "precision", "size", "SHA-256"), made))
    else:
        console.print("There are no artefacts: run `deeplens export onnx`.")
    if "cost" in report:
        columns = tuple(report["cost"][0])
        console.print()
        console.print(table("Cost", columns, (tuple(row[name] for name in columns) for row in report["cost"])))


def verify(artifacts: Artifacts = None, _trust: Trust = None, json: JsonTarget = None) -> None:
    """Check the SHA-256 of every artefact against its manifest, and of the shipped weights against their cards."""
    places = folders.search_path() if artifacts is None else (artifacts,)
    results = list(_verdicts(places))
    if not results:
        raise MissingError("nothing to verify: no weights are shipped, and there are no artefacts")
    wrong = [(path, verdict) for path, verdict in results if verdict is not None]
    rows = [(path, "as described" if verdict is None else verdict) for path, verdict in results]
    console_for(json).print(table("Verified", ("file", "verdict"), rows))
    write_json(
        json,
        {
            "ok": not wrong,
            "files": [{"path": path, "ok": verdict is None, "error": verdict} for path, verdict in results],
        },
    )
    if wrong:
        raise MismatchError(f"{len(wrong)} of {len(results)} files are wrong, the first: {wrong[0][1]}")


def _verdicts(places: Iterable[Path]) -> Iterator[tuple[str, str | None]]:
    """File → what is wrong with it; None when nothing is."""
    checks: list[tuple[Path, Callable[[], object]]] = [
        *((weights.path, weights.verify) for weights in shipped_weights()),
        *(
            (folder / entry.path, partial(manifest.verify, folder, entry))
            for folder in places
            for entry in manifest.read(folder)
        ),
    ]
    for path, check in checks:
        try:
            check()
            yield str(path), None
        except DeepLensError as error:
            yield str(path), str(error)
