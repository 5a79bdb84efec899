"""How sharply, and where, depth crosses the outlines of things: width, offset and steps, for every source of depth.

$ python -m deeplens.evaluation.outlines [--set photos] [--variant edge] [--sheet PICTURE] [--markdown FILE]

Width and offset are `training.outlines`'s, in thousandths of the long side; precision, recall and F1 of depth steps
`evaluation.boundary`'s. On real photos the outline is a fine matte's, and of the steps the recall alone is known.
"""

from collections.abc import Mapping, Sequence
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
from deeplens.evaluation.boundary import boundary, matte_recall
from deeplens.evaluation.depth_sources import Choice, Source, open_sources, shown
from deeplens.evaluation.outline_sets import SETS, Outlined, read_set
from deeplens.evaluation.outline_sheet import sheet_of
from deeplens.evaluation.summary import Estimate, estimate, markdown_table
from deeplens.model.contract import DEPTH_SIZE
from deeplens.runtimes.options import (
    Artifacts,
    DepthModelChannels,
    DepthModelFile,
    DepthModelMean,
    DepthModelOutput,
    DepthModelSize,
    DepthModelStd,
    Runtime,
    Weights,
    depth_model_from,
    weights_from,
)
from deeplens.runtimes.photo import write_photo
from deeplens.scenes.renderer import Array
from deeplens.training.outlines import at_matte, at_steps

TRUTH = "the truth, at 320 px"
"""The row of what a network with 320×320 values could have at best: truth, or what is inside a matte, made so small."""

MEASURES = {"width": 1, "offset": 1, "found": 2, "recall": 2, "precision": 2, "f1": 2}
"""Measure → decimals."""

HEADERS = ("depth", "pictures", "width", "offset", "has a step", "recall of steps", "precision", "F1")

CONDITIONS = (
    "Width: from 10 to 90 % of the step at an outline; offset: from the outline to the step's middle; both in "
    "thousandths of the long side, medians over a picture's outlines. Has a step: the share of outlines at which the "
    "map has one; width and offset are of those. Steps: pairs of pixels 1/160 of the long side apart that differ by 5 "
    "to 25 % of the range. Mean ± standard error over pictures."
)

Scores = dict[str, float | None]
"""Measure → value; None where there is none."""


def scores_of(disparity: Array, picture: Outlined) -> Scores:
    """All measures of one map of one picture. The map may be of any size; it is brought to that of what is known."""
    found: Scores = dict.fromkeys(MEASURES)
    if picture.matte is not None:
        values = shown(disparity, picture.matte.shape)
        outline = at_matte(values, picture.matte)
        found["recall"] = matte_recall(values, picture.matte)
    else:
        assert picture.truth is not None
        known = np.isfinite(picture.truth)
        truth = np.where(known, picture.truth, 0)
        values = shown(disparity, truth.shape)
        span = float(np.ptp(truth[known])) if known.any() else 0.0
        outline = at_steps(values, (truth - truth[known].min()) / span) if span and known.all() else None
        steps = boundary(values, truth, known=known)
        if steps is not None:
            found |= {"precision": steps.precision, "recall": steps.recall, "f1": steps.f1}
    if outline is not None:
        found |= {"width": outline.width, "offset": outline.offset, "found": outline.found}
    return found


def truth_of(picture: Outlined) -> Array:
    """What is known of a picture as a map of the networks' size, (320, 320)."""
    known = (picture.matte > 0.5) if picture.matte is not None else picture.truth
    assert known is not None
    return shown(np.nan_to_num(known).astype(np.float32), (DEPTH_SIZE, DEPTH_SIZE))


def rows_of(scores: Mapping[str, Sequence[Scores]]) -> list[tuple[str, int, dict[str, Estimate]]]:
    """Source, number of pictures and an estimate of each measure, over the pictures that have it."""
    rows = []
    for name, pictures in scores.items():
        values = {key: [each[key] for each in pictures if each[key] is not None] for key in MEASURES}
        rows.append((name, len(pictures), {key: estimate(found) for key, found in values.items()}))
    return rows


def cells(row: tuple[str, int, dict[str, Estimate]]) -> tuple[str, ...]:
    """A row as text, by `HEADERS`."""
    name, count, estimates = row
    return (name, str(count), *(estimates[key].text(digits) for key, digits in MEASURES.items()))


def main(
    on: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SET", help=f"{', '.join(SETS)}; may be repeated. (default: all)"),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(metavar="V", help="May be repeated.", show_default="those whose weights are there"),
    ] = None,
    runtime: Runtime = "torch",
    artifacts: Artifacts = None,
    weights: Weights = "shipped",
    depth_model: DepthModelFile = None,
    depth_model_size: DepthModelSize = None,
    depth_model_mean: DepthModelMean = None,
    depth_model_std: DepthModelStd = None,
    depth_model_channels: DepthModelChannels = None,
    depth_model_output: DepthModelOutput = None,
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder that `make data` filled.")] = Path("data"),
    json: JsonTarget = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables as Markdown.")] = None,
    sheet_file: Annotated[
        Path | None, typer.Option("--sheet", metavar="PICTURE", help="Write crops at 100 % along the photos' outlines.")
    ] = None,
) -> None:
    """How depth by every source crosses outlines: a matte, our networks, a depth model, and the truth itself."""
    check_outputs((json, None), (markdown, (".md",)), (sheet_file, (".jpg", ".png")), inputs=(depth_model,))
    chosen = depth_model_from(
        depth_model,
        size=depth_model_size,
        mean=depth_model_mean,
        std=depth_model_std,
        channels=depth_model_channels,
        output=depth_model_output,
    )
    names = tuple(variant) if variant else None
    sources = open_sources(Choice(names, runtime, weights_from(weights), artifacts, chosen), data=data)
    for blind in ("mean depth", "vertical ramp", "mask before a ramp"):  # no outlines, or another row's
        del sources[blind]
    console, text, report = console_for(json), [], []
    for name in on or SETS:
        try:
            title, pictures = read_set(name, data)
        except MissingError as error:
            if on:
                raise
            console.print(f"left out: {error}")
            continue
        scores, maps = _scores(sources, pictures, title)
        rows = [cells(row) for row in rows_of(scores)]
        console.print(table(f"{title}: {len(pictures)} pictures", HEADERS, rows))
        console.print()
        text.append(f"{title}.\n\n{markdown_table(HEADERS, rows, labels=1)}")
        report.append({"name": name, "title": title, "rows": _plain(scores), "pictures": _by_picture(scores, pictures)})
        if name == "photos" and sheet_file is not None:
            write_photo(sheet_file, sheet_of(pictures, maps))
    if not report:
        raise MissingError("no set is there: run `make data`")
    console.print(CONDITIONS)
    if markdown is not None:
        with replacing(markdown) as file:
            file.write("\n".join([*text, f"{CONDITIONS}\n"]).encode())
    write_json(json, {"conditions": CONDITIONS, "sets": report})


def _scores(
    sources: Mapping[str, Source], pictures: Sequence[Outlined], title: str
) -> tuple[dict[str, list[Scores]], list[dict[str, Array]]]:
    """Source → the scores of each picture, the truth's last; and each picture's maps by source."""
    scores: dict[str, list[Scores]] = {name: [] for name in (*sources, TRUTH)}
    kept = []
    with progress_bar(title) as progress:
        for index, picture in enumerate(pictures):
            maps = {name: predict(picture.picture) for name, predict in sources.items()}
            for name, disparity in (maps | {TRUTH: truth_of(picture)}).items():
                scores[name].append(scores_of(disparity, picture))
            kept.append(maps)
            progress((index + 1) / len(pictures))
    return scores, kept


def _plain(scores: Mapping[str, Sequence[Scores]]) -> list[dict[str, Any]]:
    """The rows as plain data."""
    return [
        {"depth": name, "pictures": count, **{key: asdict(each) for key, each in estimates.items()}}
        for name, count, estimates in rows_of(scores)
    ]


def _by_picture(scores: Mapping[str, Sequence[Scores]], pictures: Sequence[Outlined]) -> dict[str, dict[str, Scores]]:
    return {
        picture.name: {name: each[index] for name, each in scores.items()} for index, picture in enumerate(pictures)
    }


if __name__ == "__main__":
    run_script(main)
