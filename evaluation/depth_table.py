"""How far depth is from measured depth, for every source of it, on sets that no depth network here was trained on.

$ python -m deeplens.evaluation.depth_table [--set real] [--variant edge] [--depth-model FILE …] [--json FILE] …

The error is `evaluation.depth_error`: the mean absolute error of [0, 1] after a 5-knot linear spline from the predicted
to the true disparity, by least squares, one for each picture, where the truth is known.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from deeplens.console.errors import MissingError
from deeplens.console.files import check_outputs, replacing
from deeplens.console.options import JsonTarget
from deeplens.console.progress import progress_bar
from deeplens.console.report import console_for, table, write_json
from deeplens.console.script import run_script
from deeplens.evaluation.depth_error import depth_mae
from deeplens.evaluation.depth_pairs import SETS, Pair, PairSet, open_pairs, smaller
from deeplens.evaluation.depth_sources import IGNORANT, Choice, Source, open_sources, shown
from deeplens.evaluation.summary import Estimate, estimate, markdown_table
from deeplens.runtimes.options import (
    Artifacts,
    DepthModelAspect,
    DepthModelChannels,
    DepthModelFile,
    DepthModelMean,
    DepthModelMultiple,
    DepthModelOutput,
    DepthModelOutputName,
    DepthModelSize,
    DepthModelStd,
    DepthNetwork,
    Runtime,
    ShippedVariants,
    Weights,
    depth_model_from,
    weights_from,
)

HEADERS = ("depth", "pictures", "MAE", "MAE, quantile knots", "ahead of mean depth", "of the ramp", "of the mask")

CONDITIONS = (
    "MAE: mean absolute error of disparity in [0, 1] after a 5-knot linear spline from prediction to truth, least "
    "squares, for each picture, where the truth is known; the spline is not forced to rise, so that a ramp or a mask "
    "the wrong way round scores alike. Knots evenly spaced over the prediction's range, or at its quantiles. Ahead: "
    "by how much the error is smaller, picture by picture, even knots. Mean ± standard error over pictures."
)

Errors = dict[str, dict[str, tuple[float, float]]]
"""Picture → source → error with even and with quantile knots."""


def errors_of(sources: Mapping[str, Source], pairs: Iterable[Pair]) -> Errors:
    """The errors of every source on every pair."""
    found: Errors = {}
    for name, picture, disparity in pairs:
        truth = smaller(disparity)
        known = np.isfinite(truth)
        filled = np.where(known, truth, 0)
        predicted = {source: shown(predict(picture), truth.shape) for source, predict in sources.items()}
        found[name] = {
            source: (
                depth_mae(values, filled, known=known),
                depth_mae(values, filled, known=known, knots="quantile"),
            )
            for source, values in predicted.items()
        }
    return found


def rows_of(errors: Errors) -> list[dict[str, Any]]:
    """A row for each source: its estimates by `HEADERS`."""
    pictures = list(errors.values())
    rows = []
    for source in pictures[0]:
        even = [scores[source][0] for scores in pictures]
        ahead = {
            other: estimate(scores[other][0] - scores[source][0] for scores in pictures) if other != source else None
            for other in IGNORANT
        }
        rows.append(
            {
                "depth": source,
                "pictures": len(even),
                "mae": estimate(even),
                "mae_quantile": estimate(scores[source][1] for scores in pictures),
                "ahead": ahead,
            }
        )
    return rows


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row as text, by `HEADERS`."""
    ahead: dict[str, Estimate | None] = row["ahead"]
    return (
        row["depth"],
        str(row["pictures"]),
        row["mae"].text(3),
        row["mae_quantile"].text(3),
        *("" if each is None else each.text(3, signed=True) for each in ahead.values()),
    )


def main(
    on: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SET",
            help=f"Data set: {', '.join(SETS)}, or KIND:DIR; may be repeated.",
            show_default="all",
        ),
    ] = None,
    variant: ShippedVariants = None,
    runtime: Runtime = "torch",
    artifacts: Artifacts = None,
    weights: Weights = "shipped",
    depth_model: DepthModelFile = None,
    depth_model_size: DepthModelSize = None,
    depth_model_mean: DepthModelMean = None,
    depth_model_std: DepthModelStd = None,
    depth_model_channels: DepthModelChannels = None,
    depth_model_output: DepthModelOutput = None,
    depth_model_output_name: DepthModelOutputName = None,
    depth_model_aspect: DepthModelAspect = None,
    depth_model_multiple: DepthModelMultiple = None,
    depth_network: DepthNetwork = None,
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder that `make data` filled.")] = Path("data"),
    json: JsonTarget = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables to FILE as Markdown.")] = None,
) -> None:
    """The error of depth by every source: knowing nothing, a matte, our networks, a depth model."""
    check_outputs((json, None), (markdown, (".md",)), inputs=(depth_model,))
    told = {
        "size": depth_model_size,
        "mean": depth_model_mean,
        "std": depth_model_std,
        "channels": depth_model_channels,
        "output": depth_model_output,
        "output_name": depth_model_output_name,
        "aspect": depth_model_aspect,
        "multiple": depth_model_multiple,
    }
    choice = Choice(
        tuple(variant) if variant else None,
        runtime,
        weights_from(weights),
        artifacts,
        depth_model_from(depth_model, **told),
        depth_network,
    )
    sets: list[PairSet] = [open_pairs(name, data=data) for name in on or SETS]
    sources, console = open_sources(choice, data=data), console_for(json)
    text, report = [], []
    for pairs in sets:
        try:
            ready = list(pairs.read())
        except MissingError as error:
            if on:
                raise
            console.print(f"left out: {error}")
            continue
        with progress_bar(pairs.title) as progress:
            errors: Errors = {}
            for index, pair in enumerate(ready):
                errors |= errors_of(sources, [pair])
                progress((index + 1) / len(ready))
        rows = rows_of(errors)
        console.print(table(f"{pairs.title}: {len(ready)} pictures", HEADERS, map(cells, rows)))
        console.print()
        text.append(f"{pairs.title}.\n\n{markdown_table(HEADERS, map(cells, rows), labels=1)}")
        named = [{**row, **_plain(row)} for row in rows]
        report.append({"name": pairs.name, "title": pairs.title, "rows": named, "pictures": errors})
    if not report:
        raise MissingError("there is no data set: run `make data`, or name one of your own with --set KIND:DIR")
    console.print(CONDITIONS)
    if markdown is not None:
        with replacing(markdown) as file:
            file.write("\n".join([*text, f"{CONDITIONS}\n"]).encode())
    write_json(json, {"conditions": CONDITIONS, "sets": report})


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """The row's estimates as plain data."""
    ahead = {name: None if each is None else asdict(each) for name, each in row["ahead"].items()}
    return {"mae": asdict(row["mae"]), "mae_quantile": asdict(row["mae_quantile"]), "ahead": ahead}


if __name__ == "__main__":
    run_script(main)
