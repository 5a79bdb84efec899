"""Does depth tell subject from background? On real photos with a point of each, marked by eye: `focus_picks.tsv`.

$ python -m deeplens.evaluation.focus_picks [--variant edge] [--depth-model FILE …] [--sheet JPG] [--json FILE]

A pair of points is right when the disparity at the subject's, as a click reads it, is larger than at the background's;
a photo counts by the share of its pairs that are. Points were set on the photos alone, not on any depth. In most photos
what is behind is also higher up, which a vertical ramp knows too: hence the pairs that are level, or in which the
background is the lower one, have a column of their own. Photos of the depth network's training split are apart.
"""

import csv
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from deeplens.console.errors import InputError, MissingError
from deeplens.console.files import check_outputs, replacing
from deeplens.console.options import JsonTarget
from deeplens.console.progress import progress_bar
from deeplens.console.report import console_for, table, write_json
from deeplens.console.script import run_script
from deeplens.evaluation.contact_sheet import as_grey, marked, sheet
from deeplens.evaluation.depth_sources import Choice, open_sources, shown
from deeplens.evaluation.summary import estimate, markdown_table
from deeplens.runtimes.disparity import focal_disparity_at, normalise_disparity
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
from deeplens.runtimes.photo import read_photo, to_8_bit, write_photo
from deeplens.scenes.sources import read_table

TABLE = Path(__file__).resolve().with_name("focus_picks.tsv")

HEADERS = (
    "depth", "unseen photos, right", "their level pairs, right", "margin", "training photos, right", "level", "margin"
)  # fmt: skip

LEVEL = 0.1
"""A background this much of the height above its subject, or less, or below it, makes a level pair."""

CELL = 240
"""Long side of a picture on the sheet, in pixels."""

ACROSS = 4
"""Photos with their depth in a row of the sheet."""


@dataclass(frozen=True)
class Pick:
    """A pair of points in a photo, in 0..1 from the top left.

    Attributes:
        photo: from the root of the project; `data/` stands for the data folder.
        subject, background: what is there.
        split: of the photo; "train" is what the depth network was trained on.
    """

    photo: str
    subject: str
    subject_at: tuple[float, float]
    background: str
    background_at: tuple[float, float]
    split: str

    @property
    def unseen(self) -> bool:
        """Whether no depth network of ours was trained on the photo."""
        return self.split != "train"

    @property
    def level(self) -> bool:
        """Whether the height in the picture does not tell the background."""
        return self.background_at[1] > self.subject_at[1] - LEVEL


Margins = dict[Pick, dict[str, float]]
"""Pair → source → disparity at the subject − at the background, each map in [0, 1]; right above 0."""


def read_picks(path: Path = TABLE) -> list[Pick]:
    """The marked photos.

    Raises:
        InputError: a point outside its photo, or a line that is not of the table's columns.
    """
    picks = []
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            try:
                points = [(float(row[f"{what}_x"]), float(row[f"{what}_y"])) for what in ("subject", "background")]
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"{path}: '{row.get('photo')}' needs two points given as numbers: {error}") from error
            if not all(0 <= side <= 1 for point in points for side in point):
                raise InputError(
                    f"{path}: a point of {row['photo']} lies outside the photo: x and y must be from 0 to 1"
                )
            picks.append(Pick(row["photo"], row["subject"], points[0], row["background"], points[1], row["split"]))
    return picks


def photo_path(pick: Pick, *, data: Path) -> Path:
    """Where a photo lies."""
    inside = pick.photo.removeprefix("data/")
    return data / inside if inside != pick.photo else TABLE.parent.parent / pick.photo


def may_be_shown(pick: Pick) -> bool:
    """Whether the photo's licence asks no more of who shows it than to be named: not the GPL's family."""
    licences = [entry.licence for entry in read_table() if entry.name == Path(pick.photo).name]
    return not any(word in licence for licence in licences for word in ("GPL", "GFDL"))


def margin(disparity: np.ndarray, pick: Pick) -> float:
    """Disparity in [0, 1] at the subject − at the background."""
    values = normalise_disparity(disparity)
    return focal_disparity_at(values, *pick.subject_at) - focal_disparity_at(values, *pick.background_at)


def cells(margins: Margins, source: str) -> list[str]:
    """A row of the table without its name: for unseen photos, then for those of training."""
    found = []
    for unseen in (True, False):
        photos: dict[str, list[float]] = {}
        level = [values[source] > 0 for pick, values in margins.items() if pick.unseen == unseen and pick.level]
        for pick, values in margins.items():
            if pick.unseen == unseen:
                photos.setdefault(pick.photo, []).append(values[source])
        right = sum(fmean(value > 0 for value in values) for values in photos.values())
        found += [
            _share(right, len(photos)),
            _share(sum(level), len(level)),
            estimate(fmean(values) for values in photos.values()).text(2, signed=True),
        ]
    return found


def _share(right: float, count: int) -> str:
    return f"{right / count:.0%} ({right:g} of {count})" if count else "–"


def sheet_of(pictures: list[tuple[list[Pick], np.ndarray, np.ndarray]]) -> np.ndarray:
    """Photos with their points (1 the subject, the others background) beside their depth: H×W×3, uint8."""
    drawn = []
    for picks, photo, disparity in pictures:
        right = sum(margin(disparity, pick) > 0 for pick in picks)
        points = [picks[0].subject_at, *(pick.background_at for pick in picks)]
        square = np.asarray(Image.fromarray(photo).resize((CELL, CELL), Image.Resampling.LANCZOS))
        grey = as_grey(np.clip(shown(normalise_disparity(disparity), (CELL, CELL)), 0, 1))
        drawn.append((Path(picks[0].photo).stem[:24], marked(square, points)))
        drawn.append((f"right: {right} of {len(picks)}", marked(grey, points)))
    width = 2 * ACROSS
    return sheet([drawn[start : start + width] for start in range(0, len(drawn), width)])


def main(
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
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table to FILE as Markdown.")] = None,
    sheet_file: Annotated[
        Path | None,
        typer.Option(
            "--sheet", metavar="PICTURE", help="Write the photos and the depth of the last source to PICTURE."
        ),
    ] = None,
    shippable: Annotated[
        bool, typer.Option("--shippable", help="Show only unseen photos with a free licence in that picture.")
    ] = False,
) -> None:
    """The share of photos in which the marked subject is nearer than the marked background, for each source."""
    check_outputs((json, None), (markdown, (".md",)), (sheet_file, (".jpg", ".png")), inputs=(depth_model,))
    chosen = depth_model_from(
        depth_model,
        size=depth_model_size,
        mean=depth_model_mean,
        std=depth_model_std,
        channels=depth_model_channels,
        output=depth_model_output,
        output_name=depth_model_output_name,
        aspect=depth_model_aspect,
        multiple=depth_model_multiple,
    )
    names = tuple(variant) if variant else None
    choice = Choice(names, runtime, weights_from(weights), artifacts, chosen, depth_network)
    sources = open_sources(choice, data=data)
    del sources["mean depth"]  # it never tells the two apart
    last, console = list(sources)[-1], console_for(json)
    photos: dict[Path, list[Pick]] = {}
    for pick in read_picks():
        photos.setdefault(photo_path(pick, data=data), []).append(pick)
    margins: Margins = {}
    pictures = []
    with progress_bar("Focus picks") as progress:
        for index, (path, picks) in enumerate(photos.items()):
            progress(index / len(photos))
            if not path.is_file():
                console.print(f"left out: {path} does not exist")
                continue
            photo = to_8_bit(read_photo(path).pixels)
            found = {name: predict(photo) for name, predict in sources.items()}
            margins |= {pick: {name: margin(each, pick) for name, each in found.items()} for pick in picks}
            pictures.append((picks, photo, found[last]))
    if not margins:
        raise MissingError(f"{data} has none of the marked photos: run `make data`")
    rows = [(name, *cells(margins, name)) for name in sources]
    title = f"Subject nearer than background: {len(margins)} pairs of points in {len(pictures)} photos"
    console.print(table(title, HEADERS, rows))
    if markdown is not None:
        with replacing(markdown) as file:
            file.write(markdown_table(HEADERS, rows, labels=1).encode())
    if sheet_file is not None:
        free = [each for each in pictures if each[0][0].unseen and may_be_shown(each[0][0])]
        write_photo(sheet_file, sheet_of(free if shippable else pictures))
    write_json(json, {"pairs": [{**asdict(pick), "margins": values} for pick, values in margins.items()]})


if __name__ == "__main__":
    run_script(main)
