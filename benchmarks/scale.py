"""`deeplens scale`: how long and how dear a million photos are, from what a folder's run measured."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from deeplens.console.errors import InputError
from deeplens.console.files import check_outputs
from deeplens.console.inputs import read_json
from deeplens.console.options import JsonTarget
from deeplens.console.report import console_for, table, write_json

LEAST = 10
"""Photos that a measured run must have, so that its start counts for little."""


def scale(
    report: Annotated[
        Path, typer.Argument(metavar="REPORT", help="JSON file written by `deeplens refocus DIR --json REPORT`.")
    ],
    photos: Annotated[int, typer.Option(metavar="N", min=1, help="Number of photos.")] = 1_000_000,
    price: Annotated[
        float, typer.Option(metavar="PRICE", min=0, help="Price of one core for an hour, in any currency.")
    ] = 0.04,
    cores: Annotated[int, typer.Option(metavar="N", min=1, help="Number of cores of all machines together.")] = 64,
    storage: Annotated[float, typer.Option(metavar="PRICE", min=0, help="Price of storing one GB for a month.")] = 0.02,
    efficiency: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0.01,
            max=1,
            help="Share of the measured speed of one core that each core keeps when many run.",
        ),
    ] = 0.9,
    json: JsonTarget = None,
) -> None:
    """Estimate time and cost of many photos. The prices are assumptions: give those of your provider."""
    check_outputs((json, None), inputs=(report,))
    try:
        measured = read_json(report)
        found = estimate(measured, photos=photos, price=price, cores=cores, storage=storage, efficiency=efficiency)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise InputError(
            f"{report} was not written by `deeplens refocus DIR --json` ({error}): give such a file"
        ) from error
    rows = [(name.replace("_", " "), f"{value:,.4g}") for name, value in found.items()]
    console_for(json).print(table(f"{photos:,} photos as in {report}", ("what", "value"), rows))
    write_json(
        json, {"assumptions": {"price": price, "cores": cores, "storage": storage, "efficiency": efficiency}, **found}
    )


def estimate(
    measured: Mapping[str, Any], *, photos: int, price: float, cores: int, storage: float, efficiency: float
) -> dict[str, float]:
    """What a run of a folder says about many photos.

    Args:
        measured: as `commands.folder.refocus_folder`, with the threads that it had.
        price: of a core's hour; storage: of a GB for a month.
        efficiency: of a core among many, relative to one of the measured ones.

    Returns:
        photos_a_second (measured), core_seconds_a_photo, megapixels_a_photo, busy_cores (of those it had, by processor
        time), hours (of all photos on `cores`), core_hours, cost_of_computing, gigabytes, cost_of_a_month.

    Raises:
        InputError: too few photos were done in the run.
    """
    done = measured["done"]
    if done < LEAST:
        raise InputError(f"the run processed {done} photos: measure at least {LEAST}, into an empty output folder")
    core_seconds = measured["seconds"] * measured["threads"] / done
    core_hours = photos * core_seconds / efficiency / 3600
    gigabytes = photos * measured["bytes"] / done / 1e9
    return {
        "photos_a_second": done / measured["seconds"],
        "megapixels_a_photo": measured["megapixels"] / done,
        "core_seconds_a_photo": core_seconds,
        "busy_cores": measured["cpu_seconds"] / measured["seconds"],
        "core_hours": core_hours,
        "hours": core_hours / min(cores, math.ceil(photos)),
        "cost_of_computing": core_hours * price,
        "gigabytes": gigabytes,
        "cost_of_a_month": gigabytes * storage,
    }
