"""From the scores of pictures to tables: means, paired differences, and how sure they are."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from deeplens.evaluation.evaluate import Name, SceneScores
from deeplens.evaluation.sets import PictureSet, setting

METRICS = {
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 4),
    "psnr_band": ("PSNR at edges, dB", 2),
    "ssim_band": ("SSIM at edges", 4),
}
"""Metric → its title and the decimals it is printed with."""

AHEAD = ("psnr", "psnr_band")
"""Metrics whose difference to the first variant, picture by picture, has a column."""

DEPTH_HEADERS = ("depth", "MAE, 5 even knots", "MAE, 5 quantile knots")

CONDITIONS = (
    "8-bit sRGB pictures in [0, 1], peak 1.0; SSIM with a Gaussian window, σ 1.5, 11×11, mean over the channels. "
    "Mean ± standard error over settings: pictures of one setting are averaged first, and settings of one set share "
    "photos and objects. At edges: pixels within the largest radius of the blur of an edge in the true depth. Depth: "
    "mean absolute error of [0, 1] after a 5-knot linear spline, fitted to each picture."
)


@dataclass(frozen=True)
class Estimate:
    """A mean over settings.

    Attributes:
        mean: None where there is no value.
        error: standard error, s / √count; None for fewer than two values.
        count: settings with a value; pictures without a depth edge have none in the band.
    """

    mean: float | None
    error: float | None
    count: int

    def text(self, digits: int, *, signed: bool = False) -> str:
        """ "31.24 ± 0.12" """
        if self.mean is None:
            return "–"
        mean = f"{self.mean:{'+' if signed else ''}.{digits}f}"
        return mean if self.error is None else f"{mean} ± {self.error:.{digits}f}"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        picture, depth: what made the pictures, from which depth.
        values: metric → estimate.
        ahead: metric → by how much the first variant, with the same depth, is ahead, picture by picture; empty for
            itself. What takes no depth is compared with the first variant on the first kind of depth.
    """

    picture: str
    depth: str
    values: dict[str, Estimate]
    ahead: dict[str, Estimate]

    def cells(self) -> tuple[str, ...]:
        """As `Summary.headers` says."""
        numbers = [self.values[name].text(digits) for name, (_, digits) in METRICS.items()]
        numbers += [self.ahead[name].text(2, signed=True) if self.ahead else "" for name in AHEAD]
        return (self.picture, self.depth, *numbers)


@dataclass(frozen=True)
class Summary:
    """What one set says.

    Attributes:
        name, title: of the set.
        variant: the first one.
        rows: a row for each method and depth.
        depth: kind of depth → its errors.
        pictures: scene → "method|depth" → metric → value, for who wants to look closer.
    """

    name: str
    title: str
    variant: str
    rows: list[Row]
    depth: dict[str, dict[str, Estimate]]
    pictures: dict[str, dict[str, dict[str, float | None]]]

    @property
    def headers(self) -> tuple[str, ...]:
        ahead = (f"{self.variant} ahead, dB", f"{self.variant} ahead at edges, dB")
        return ("picture", "depth", *(title for title, _ in METRICS.values()), *ahead)

    def depth_cells(self) -> list[tuple[str, ...]]:
        """As `DEPTH_HEADERS` says."""
        return [(kind, *(each.text(3) for each in errors.values())) for kind, errors in self.depth.items()]

    def markdown(self) -> str:
        """A line of text, and one or two tables."""
        text = f"{self.title}.\n\n{markdown_table(self.headers, [row.cells() for row in self.rows], labels=2)}"
        return text + (f"\n{markdown_table(DEPTH_HEADERS, self.depth_cells(), labels=1)}" if self.depth else "")

    def json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return asdict(self)


def summarise(results: Mapping[str, SceneScores], pictures: PictureSet, *, variant: str) -> Summary:
    """The summary of a set's scores, as `evaluation.evaluate.evaluate` gives them."""
    names = list(dict.fromkeys(name for scene in results.values() for name in scene))
    methods = [name for name in names if name[0] != "depth"]
    kinds = [kind for made_by, kind in names if made_by == variant]
    rows = []
    for kind in ("", *kinds):
        for name in methods:
            if name[1] == kind:
                rival = (variant, kind or kinds[0])
                ahead = {} if name == rival else {each: _ahead(results, rival, name, each) for each in AHEAD}
                values = {each: _estimate(results, lambda s, n=name, m=each: s[n][m]) for each in METRICS}
                rows.append(Row(*name, values, ahead))
    depth = {
        kind: {
            each: _estimate(results, lambda s, n=(made_by, kind), m=each: s[n][m]) for each in ("mae", "mae_quantile")
        }
        for made_by, kind in names
        if made_by == "depth"
    }
    raw = {scene: {"|".join(name): values for name, values in found.items()} for scene, found in results.items()}
    return Summary(pictures.name, pictures.title, variant, rows, depth, raw)


def estimate(values: Iterable[float | None]) -> Estimate:
    """Mean and standard error of those that are not None."""
    known = [value for value in values if value is not None]
    error = stdev(known) / math.sqrt(len(known)) if len(known) > 1 else None
    return Estimate(fmean(known) if known else None, error, len(known))


def _estimate(results: Mapping[str, SceneScores], value: Any) -> Estimate:
    """Over settings, each the mean of its pictures that have a value."""
    settings: dict[str, list[float]] = {}
    for name, scene in results.items():
        found = value(scene)
        if found is not None:
            settings.setdefault(setting(name), []).append(found)
    return estimate(fmean(values) for values in settings.values())


def _ahead(results: Mapping[str, SceneScores], method: Name, other: Name, metric: str) -> Estimate:
    """method − other, in each picture that has both."""

    def difference(scene: SceneScores) -> float | None:
        a, b = scene[method][metric], scene[other][metric]
        return None if a is None or b is None else a - b

    return _estimate(results, difference)


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, labels: int) -> str:
    """A table in Markdown; all but the first `labels` columns stand on the right."""
    lines = [headers, ("---",) * labels + ("--:",) * (len(headers) - labels), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
