"""Tables and figures of the ablations: the statistics against SciPy's, and what is left out when runs are missing."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import ttest_rel

from deeplens.console.errors import MissingError
from deeplens.research.ablations import REFERENCE, SEEDS, UPSAMPLING, jobs
from deeplens.research.arms import ARMS
from deeplens.research.findings import (
    compared,
    comparisons,
    document,
    load_results,
    main,
    markdown_table,
    outstanding,
    seen,
)
from deeplens.research.findings_data import FINDINGS, Finding, Results, Row, Table

PAIR = Table("net", (Row("one", "a", "true"), Row("two", "b", "true")))


def scores(psnr: float) -> dict[str, float]:
    return {"psnr": psnr, "ssim": psnr / 100, "psnr_band": psnr - 5}


def every_result(seeds: int) -> list[dict[str, object]]:
    """A line for each job, as `research.ablations` writes them; each arm has a level of its own."""
    rng = np.random.default_rng(0)
    lines: list[dict[str, object]] = []
    shown = [row for finding in FINDINGS for table in finding.tables for row in (*table.rows, *table.constants)]
    for place, (name, seed) in enumerate(jobs(seeds)):
        rows = {row.tested for row in shown if row.name == name}
        found = {row: scores(25 + place + 0.1 * float(rng.normal())) for row in sorted(rows)}
        lines.append({"name": name, "seed": seed, "scores": found})
    return lines


def write(folder: Path, lines: list[dict[str, object]]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


# --- Statistics


@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_two_rows_are_a_paired_t_test(seeds: int) -> None:
    values = np.random.default_rng(seeds).normal(30, 1, (2, seeds))
    (found,) = comparisons(values)
    interval = ttest_rel(values[1], values[0]).confidence_interval(0.95)
    assert found.mean - found.interval == pytest.approx(interval.low)
    assert found.mean + found.interval == pytest.approx(interval.high)
    assert found.clear == (ttest_rel(values[1], values[0]).pvalue < 0.05)


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        truth = np.array([[0.0], [0.3], [-1.0], [0.0]])
        values = truth + rng.normal(0, 3, (1, 2)) + rng.normal(0, 0.2, (4, 2))  # seeds differ more than rows
        found = comparisons(values)[1]
        inside += abs(found.mean + 1.0) <= found.interval
    assert 0.93 < inside / 2000 < 0.97


def test_only_seeds_that_all_rows_have_are_compared() -> None:
    results: Results = {
        ("a", "true"): {0: scores(30.0), 1: scores(31.0), 2: scores(99.0)},
        ("b", "true"): {0: scores(31.0), 1: scores(32.2)},
    }
    assert compared(PAIR, results, "psnr")["two"].mean == pytest.approx(1.1)
    del results["b", "true"][1]
    assert compared(PAIR, results, "psnr") == {}
    assert compared(PAIR, {("b", "true"): {0: scores(1.0), 1: scores(2.0)}}, "psnr") == {}


# --- The document


def test_a_table_by_hand() -> None:
    results: Results = {
        ("a", "true"): {0: scores(30.0), 1: scores(31.0)},
        ("b", "true"): {0: scores(32.0), 1: scores(33.0)},
    }
    lines = markdown_table(PAIR, results).splitlines()
    assert lines[2] == "| one | 30.50 ± 0.71 | 0.3050 ± 0.0071 | 25.50 ± 0.71 |  | 2 |"
    assert lines[3] == "| two | 32.50 ± 0.71 | 0.3250 ± 0.0071 | 27.50 ± 0.71 | +2.00 ± 0.00 | 2 |"
    assert len({line.count("|") for line in lines}) == 1


def test_the_verdict_tells_noise_from_a_difference() -> None:
    finding = Finding("x", "X", "", (PAIR,))

    def verdict(*second: float) -> str:
        first = dict(enumerate(map(scores, (30.0, 30.4, 30.2))))
        return seen(finding, {("a", "true"): first, ("b", "true"): dict(enumerate(map(scores, second)))})

    better = "- net:\n    - PSNR, dB: better than one: two (+2.00).\n    - SSIM: better than one: two (+0.0200)."
    assert verdict(32.0, 32.4, 32.2) == better
    assert "PSNR, dB: worse than one: two (-2.00)." in verdict(28.0, 28.4, 28.2)
    assert "PSNR, dB: within the noise of the seeds: two (+0.03)." in verdict(30.3, 30.1, 30.3)
    assert "too few seeds" in seen(finding, {("a", "true"): {0: scores(30.0)}})


def test_every_row_is_of_a_job_that_there_is(tmp_path: Path) -> None:
    results = load_results(write(tmp_path, every_result(SEEDS)) / "results.jsonl")
    text = document(results, images="images")
    assert "–" not in text
    assert "too few" not in text
    assert "Not finished" not in text
    for finding in FINDINGS:
        assert f"(images/findings_{finding.slug}.png)" in text
        for table in finding.tables:
            assert {row.name for row in table.rows} <= {*ARMS, UPSAMPLING}
            assert {row.name for row in table.constants} == {REFERENCE}
            assert all((row.name, row.tested) in results for row in (*table.rows, *table.constants))


def test_missing_runs_are_named(tmp_path: Path) -> None:
    left_out = {("l1", 0), ("l1", 1), ("l2", 1)}
    lines = [line for line in every_result(SEEDS) if (line["name"], line["seed"]) not in left_out]
    results = load_results(write(tmp_path, lines) / "results.jsonl")
    assert outstanding(results) == ["`l1` (seed 0, 1)", "`l2` (seed 1)"]
    text = document(results, images="images")
    assert "Not finished yet: `l1` (seed 0, 1), `l2` (seed 1)." in text
    assert "| L1 | – | – | – |  | 0 |" in text


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 5, None], ids=["one run", "five runs", "all runs"])
def test_the_command_writes_document_and_figures(tmp_path: Path, count: int | None) -> None:
    runs = write(tmp_path / "runs", every_result(SEEDS)[:count])
    main(runs=runs, out=tmp_path / "docs" / "findings.md")
    for finding in FINDINGS:
        with Image.open(tmp_path / "docs" / "images" / f"findings_{finding.slug}.png") as figure:
            assert np.asarray(figure.convert("L")).std() > 5
    assert (tmp_path / "docs" / "findings.md").read_text().startswith("# The paper's findings, re-measured\n")
    assert {path.name for path in (tmp_path / "docs").iterdir()} == {"findings.md", "images"}


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="has no results"):
        main(runs=tmp_path, out=tmp_path / "findings.md")
