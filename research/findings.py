"""Tables and figures of what `research.ablations` measured.

$ python -m deeplens.research.findings [--runs runs/ablations] [--out docs/findings.md]

Writes the document and, beside it, images/findings_*.png. Runs that are not finished are left out and named.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from scipy.stats import t as student

from deeplens.console.errors import MissingError
from deeplens.console.files import replacing
from deeplens.console.script import run_script
from deeplens.research.ablations import EDGE_BAND, SEEDS, TEST_COUNT, TRAIN_COUNT, TRAIN_SCENES, jobs, read_results
from deeplens.research.arms import ARMS
from deeplens.research.findings_data import FINDINGS, METRICS, Finding, Results, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONFIDENCE = 0.95

JUDGED = ("psnr", "ssim")
"""The metrics that figures and verdicts are of."""


@dataclass(frozen=True)
class Comparison:
    """A row's difference from the first, over the seeds that all rows of the table have.

    Attributes:
        mean: positive where the row is better than the first.
        interval: half the width of the confidence interval of `CONFIDENCE`.
    """

    mean: float
    interval: float

    @property
    def clear(self) -> bool:
        """Whether the difference exceeds the seeds' noise."""
        return abs(self.mean) > self.interval


def comparisons(values: np.ndarray) -> list[Comparison]:
    """The rows of `values` (rows, seeds) against the first, one entry for each but the first.

    Two-way layout without interaction: what a seed does to all rows alike is taken out, and what is left is the noise
    of all rows together, with (rows − 1)(seeds − 1) degrees of freedom. Both counts must be 2 or more.
    """
    rows, seeds = values.shape
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    freedom = (rows - 1) * (seeds - 1)
    error = float(np.sqrt(np.square(rest).sum() / freedom * 2 / seeds))
    interval = float(student.ppf(0.5 + CONFIDENCE / 2, freedom)) * error
    return [Comparison(float(row.mean() - values[0].mean()), interval) for row in values[1:]]


def compared(table: Table, results: Results, metric: str) -> dict[str, Comparison]:
    """Label → comparison with the table's first row; empty with fewer than two seeds or rows finished."""
    rows = [row for row in table.rows if (row.name, row.tested) in results]
    if len(rows) < 2 or rows[0] != table.rows[0]:
        return {}
    found = [results[row.name, row.tested] for row in rows]
    seeds = sorted(set(found[0]).intersection(*found))
    if len(seeds) < 2:
        return {}
    values = np.array([[each[seed][metric] for seed in seeds] for each in found])
    return dict(zip((row.label for row in rows[1:]), comparisons(values), strict=True))


def load_results(path: Path) -> Results:
    """The results of `research.ablations`.

    Raises:
        MissingError: there are none.
    """
    results: Results = {}
    for line in read_results(path):
        for tested, values in line["scores"].items():
            results.setdefault((line["name"], tested), {})[line["seed"]] = values
    if not results:
        raise MissingError(f"{path} has no results: run python -m deeplens.research.ablations")
    return results


def markdown_table(table: Table, results: Results) -> str:
    """Mean ± standard deviation over the seeds; a row that is not finished has dashes."""
    differences = compared(table, results, "psnr")
    titles = [title for title, _ in METRICS.values()]
    first = table.rows[0].label
    lines = [
        f"| {table.title} | {' | '.join(titles)} | PSNR − {first}'s, dB | seeds |",
        f"| --- |{' --: |' * len(METRICS)} --: | --: |",
    ]
    for row in (*table.rows, *table.constants):
        runs = list(results.get((row.name, row.tested), {}).values())
        cells = [_mean([run[metric] for run in runs], digits) for metric, (_, digits) in METRICS.items()]
        difference = differences.get(row.label)
        text = f"{difference.mean:+.2f} ± {difference.interval:.2f}" if difference else ""
        count = "" if row in table.constants else str(len(runs))
        lines.append(f"| {row.label} | {' | '.join(cells)} | {text} | {count} |")
    return "\n".join(lines)


def _mean(values: Sequence[float], digits: int) -> str:
    if not values:
        return "–"
    mean = f"{fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {stdev(values):.{digits}f}"


def seen(finding: Finding, results: Results) -> str:
    """What the numbers say, a list for each table: which rows differ by more than the seeds' noise."""
    lines = []
    for table in finding.tables:
        lines.append(f"- {table.title}:")
        said = [_verdicts(table, results, metric) for metric in JUDGED]
        lines += [f"    - {each}." for each in said if each] or ["    - too few seeds are finished to compare."]
    return "\n".join(lines)


def _verdicts(table: Table, results: Results, metric: str) -> str:
    """Such as "PSNR, dB: worse than one: two (-0.30); within the noise: three (+0.02)"; "" with nothing to compare."""
    title, digits = METRICS[metric]
    by_verdict: dict[str, list[str]] = {}
    for label, difference in compared(table, results, metric).items():
        side = "better" if difference.mean > 0 else "worse"
        verdict = f"{side} than {table.rows[0].label}" if difference.clear else "within the noise of the seeds"
        by_verdict.setdefault(verdict, []).append(f"{label} ({difference.mean:+.{digits}f})")
    said = "; ".join(f"{verdict}: {', '.join(labels)}" for verdict, labels in by_verdict.items())
    return f"{title}: {said}" if said else ""


def wrapped(text: str) -> str:
    """Markdown with lines of at most 120 columns; the next lines of an item are indented as the item."""
    lines = []
    for line in text.split("\n"):
        bullet = line[: len(line) - len(line.lstrip(" -"))]
        lines += textwrap.wrap(
            line[len(bullet) :], 120, initial_indent=bullet, subsequent_indent=" " * len(bullet), break_on_hyphens=False
        ) or [""]
    return "\n".join(lines)


def draw(finding: Finding, results: Results) -> "Figure":
    """Two panels a table, PSNR and SSIM: mean and standard deviation over the seeds, each seed a dot."""
    from matplotlib.figure import Figure

    tables = finding.tables
    figure = Figure(figsize=(9.0, 0.6 + 2.4 * len(tables)), layout="constrained")
    axes = figure.subplots(len(tables), 2, squeeze=False)
    plot: Callable[[Axes, Table, Results, str], None] = _points if finding.axis is None else _line
    for table, pair in zip(tables, axes, strict=True):
        for axis, metric in zip(pair, JUDGED, strict=True):
            plot(axis, table, results, metric)
            unit = METRICS[metric][0]
            axis.grid(alpha=0.3)
            if finding.axis is None:
                axis.set_xlabel(unit, fontsize=8)
            else:
                axis.set_xlabel(finding.axis, fontsize=8)
                axis.set_ylabel(unit, fontsize=8)
            axis.tick_params(labelsize=8)
        pair[0].set_title(table.title.replace("`", ""), fontsize=9, loc="left")
    return figure


def _points(axis: "Axes", table: Table, results: Results, metric: str) -> None:
    for place, row in enumerate(table.rows):
        _spread(axis, results.get((row.name, row.tested), {}), metric, at=-place, vertical=False)
    axis.set_yticks([-place for place in range(len(table.rows))], [row.label for row in table.rows])
    axis.set_ylim(0.5 - len(table.rows), 0.5)
    axis.locator_params(axis="x", nbins=5)


def _line(axis: "Axes", table: Table, results: Results, metric: str) -> None:
    rows = sorted(table.rows, key=lambda row: int(row.label))
    means = []
    for row in rows:
        found = results.get((row.name, row.tested), {})
        _spread(axis, found, metric, at=int(row.label), vertical=True)
        means.append(fmean(run[metric] for run in found.values()) if found else np.nan)
    axis.plot([int(row.label) for row in rows], means, color="C0", linewidth=1)
    axis.set_xscale("log", base=2)
    axis.set_xticks([int(row.label) for row in rows], [row.label for row in rows])
    axis.minorticks_off()


def _spread(axis: "Axes", runs: dict[int, dict[str, float]], metric: str, *, at: float, vertical: bool) -> None:
    """Each seed as a dot, their mean with a bar of one standard deviation to each side."""
    values = [run[metric] for run in runs.values()]
    if not values:
        return
    error = stdev(values) if len(values) > 1 else None
    places = [at] * len(values)
    if vertical:
        axis.errorbar([at], [fmean(values)], yerr=error, fmt="o", color="C0", capsize=4)
        axis.plot(places, values, ".", color="0.4", markersize=4)
    else:
        axis.errorbar([fmean(values)], [at], xerr=error, fmt="o", color="C0", capsize=4)
        axis.plot(values, places, ".", color="0.4", markersize=4)


def outstanding(results: Results) -> list[str]:
    """`name` (seeds) of the jobs that are not done; some arms may have more seeds than all must have."""
    seeds = {name: set(found) for (name, _), found in results.items()}
    missing = [pair for pair in jobs(SEEDS) if pair[1] not in seeds.get(pair[0], ())]
    return [
        f"`{name}` (seed {', '.join(str(seed) for _, seed in group)})"
        for name, group in groupby(sorted(missing), key=lambda pair: pair[0])
    ]


def document(results: Results, *, images: str) -> str:
    """The Markdown document; figures are looked for in the folder `images`, relative to it."""
    standard, edge = ARMS["standard"], ARMS["edge-standard"]
    parts = [
        "# The paper's findings, re-measured",
        "Written by `python -m deeplens.research.findings` from the results of "
        "`python -m deeplens.research.ablations`.\n"
        "Run `make data` before those.\n"
        "Do not edit this page by hand.",
        "Each arm is one small fit that differs from its table's first row in one thing.\n"
        f"It has {standard.steps} steps (`edge`: {edge.steps}) of {standard.batch} scenes of "
        f"{TRAIN_SCENES.size}×{TRAIN_SCENES.size} px from a fixed set of {TRAIN_COUNT}.\n"
        f"The base has {TRAIN_SCENES.size // 2} px, and blur has a radius of up to {TRAIN_SCENES.radius:g} px at the "
        "full size.\n"
        f"The peak learning rate is {standard.learning_rate:g} (`edge`: {edge.learning_rate:g}).\n"
        f"Each arm is tested on {TEST_COUNT} scenes of the test split.\n"
        "A seed decides the initial weights and the order of the scenes.\n"
        "Where nothing else is said, an arm trains on corrupted depth with the normalised loss.",
        "**This is a small budget.**\n"
        "It ranks what learns fast, not what is best in the end.\n"
        "Absolute values are not comparable with the paper's or with [results.md](results.md).",
        "Test scenes with hardly any blur have the largest PSNR and weigh most in its mean; there the unblurred photo "
        "is hard to beat.\n"
        "SSIM says more about the others.",
        "Tables give mean ± standard deviation over seeds.\n"
        f"At edges means within {EDGE_BAND:g} px (at the full size) of an edge in the true depth.\n"
        f"Differences are paired by seed, ± their {CONFIDENCE:.0%} interval from the noise of all rows of the table "
        "together (two-way layout, Student's t).\n"
        "One row that differs much from seed to seed widens them all.\n"
        "Figures show one standard deviation, and each seed.",
    ]
    missing = outstanding(results)
    if missing:
        parts.append(f"Not finished yet: {', '.join(missing)}.")
    for finding in FINDINGS:
        parts += [f"## {finding.title}", finding.claim]
        parts += [markdown_table(table, results) for table in finding.tables]
        parts += [f"What we saw:\n\n{seen(finding, results)}"]
        parts.append(f"![{finding.title}]({images}/findings_{finding.slug}.png)")
    return "\n\n".join(part if part.startswith("| ") else wrapped(part) for part in parts) + "\n"


def main(
    runs: Annotated[Path, typer.Option(help="Folder of the runs of deeplens.research.ablations.")] = Path(
        "runs/ablations"
    ),
    out: Annotated[Path, typer.Option(help="Document to write; its figures go to images/ beside it.")] = Path(
        "docs/findings.md"
    ),
) -> None:
    """Write tables and figures of the findings."""
    results = load_results(runs / "results.jsonl")
    images = out.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    for finding in FINDINGS:
        with replacing(images / f"findings_{finding.slug}.png") as file:
            draw(finding, results).savefig(file, format="png", dpi=110)
    with replacing(out) as file:
        file.write(document(results, images="images").encode())
    typer.echo(out)


if __name__ == "__main__":
    run_script(main)
