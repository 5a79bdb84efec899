"""From the scores of scenes to tables: means, paired differences, and how sure they are."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from evaluation.evaluate import BILINEAR, DEPTHS, TRUE_BASE, UNBLURRED, Name, SceneScores
from training.scenes import PhotoConfig
from training.sources import Sources

METRICS = {
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 4),
    "psnr_band": ("PSNR at edges, dB", 2),
    "ssim_band": ("SSIM at edges", 4),
}
"""Metric → its title and the decimals it is printed with."""

HEADERS = ("picture", "depth", *(title for title, _ in METRICS.values()))

CONDITIONS = (
    "8-bit sRGB pictures in [0, 1], peak 1.0; SSIM with a Gaussian window, σ 1.5, 11×11, mean over the channels. "
    "Mean ± standard error over scenes, which share photos and cut-outs. At edges: pixels within the largest radius of "
    "the blur of an edge in the true depth."
)


@dataclass(frozen=True)
class Estimate:
    """A mean over scenes.

    Attributes:
        mean: None where there is no value.
        error: standard error, s / √count; None for fewer than two values.
        count: values; scenes without a depth edge have none in the band.
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
    """One line of a table: metric → estimate. A difference is positive in the method's favour."""

    picture: str
    depth: str
    values: dict[str, Estimate]

    def cells(self, *, signed: bool = False) -> tuple[str, ...]:
        """As `HEADERS` says."""
        numbers = (self.values[name].text(digits, signed=signed) for name, (_, digits) in METRICS.items())
        return (self.picture, self.depth, *numbers)


@dataclass(frozen=True)
class Summary:
    """What the scenes of one size say.

    Attributes:
        size: of the square scenes, in pixels.
        steps: ×2 steps that the harness takes.
        radius: largest radius of the blur, and width of the band at edges, in pixels.
        scenes: how many.
        backgrounds, cutouts: distinct photos and cut-outs that the split has.
        means: a row for each picture and depth.
        differences: method − baseline, scene by scene, for each baseline and depth.
    """

    size: int
    steps: int
    radius: float
    scenes: int
    backgrounds: int
    cutouts: int
    means: list[Row]
    differences: list[Row]

    @property
    def caption(self) -> str:
        scenes = f"{self.scenes} scene{'s' if self.scenes > 1 else ''} of {self.size}×{self.size} px"
        steps = f"{self.steps} ×2 step{'s' if self.steps > 1 else ''}"
        made = f"from {self.backgrounds} photos and {self.cutouts} cut-outs"
        return f"{scenes} {made}, {steps}, blur of up to {self.radius:g} px in radius"

    def markdown(self) -> str:
        """Two tables under a line of text."""
        rows = _markdown(row.cells() for row in self.means)
        differences = _markdown(row.cells(signed=True) for row in self.differences)
        return f"{self.caption}.\n\n{rows}\nThe same scene by scene:\n\n{differences}"

    def json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return asdict(self)


def summarise(results: Sequence[SceneScores], *, variant: str, config: PhotoConfig, sources: Sources) -> Summary:
    """The summary of scenes of one configuration."""
    means = [
        Row(*name, {metric: estimate(scene[name][metric] for scene in results) for metric in METRICS})
        for name in _names(variant)
    ]
    differences = [
        Row(
            f"{variant} − {baseline[0]}",
            depth,
            {metric: estimate(_paired(results, (variant, depth), baseline, metric)) for metric in METRICS},
        )
        for depth in DEPTHS
        for baseline in (UNBLURRED, (BILINEAR, depth))
    ]
    return Summary(
        size=config.size,
        steps=config.steps,
        radius=config.radius,
        scenes=len(results),
        backgrounds=len(sources.backgrounds),
        cutouts=len(sources.cutouts),
        means=means,
        differences=differences,
    )


def estimate(values: Iterable[float | None]) -> Estimate:
    """Mean and standard error of those that are not None."""
    known = [value for value in values if value is not None]
    error = stdev(known) / math.sqrt(len(known)) if len(known) > 1 else None
    return Estimate(fmean(known) if known else None, error, len(known))


def _names(variant: str) -> list[Name]:
    return [UNBLURRED, *((made, depth) for depth in DEPTHS for made in (BILINEAR, variant)), TRUE_BASE]


def _paired(results: Sequence[SceneScores], method: Name, baseline: Name, metric: str) -> list[float]:
    """method − baseline in each scene that has both."""
    pairs = ((scene[method][metric], scene[baseline][metric]) for scene in results)
    return [a - b for a, b in pairs if a is not None and b is not None]


def _markdown(rows: Iterable[Sequence[str]]) -> str:
    lines = [HEADERS, ("---",) * 2 + ("--:",) * len(METRICS), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
