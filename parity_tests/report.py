"""The third room: every runtime against PyTorch, as a table for people, as Markdown and as JSON."""

import math
import platform
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from deeplens.report import table
from model.contract import NETWORKS, VARIANTS
from model.errors import InputError, MismatchError, MissingError
from parity_tests.cases import Plan, photo_cases, random_cases
from parity_tests.compare import GATES, MORE, NETWORK, PSNR, Measured, Row, compare
from parity_tests.produce import artefact_opener, produce, torch_opener
from runtimes import RUNTIMES
from runtimes.photo import read_photo, to_8_bit

if TYPE_CHECKING:
    from model.build import Weights

REFERENCE = "torch"

COMPARED = tuple(name for name in RUNTIMES if name != REFERENCE)
"""Runtimes that are compared with PyTorch."""

FIXED_ONLY = ("coreml",)
"""Runtimes whose artefacts all have fixed shapes: cases with free sizes are not for them."""

COLUMNS = (
    "variant",
    "runtime",
    "what",
    "input",
    "graph",
    "size",
    "max |d|",
    "from float64",
    "torch from float64",
    "allowed",
    "max |d| / spread",
    "allowed",
    "PSNR dB",
    "result",
)

LEGEND = (
    "max |d|: largest |runtime − PyTorch float32|. From float64: the same from PyTorch in float64, the judge. Torch "
    "from float64: PyTorch float32's own rounding. The 8-bit picture counts steps of 8 bits. Sizes are height×width: "
    "of a network's low-resolution input, of the loop's photo. A row passes if max |d|, from float64 and max |d| "
    "over the spread are all within what is allowed. Of FP16 the pictures have to reach "
    f"{PSNR:g} dB, and at most {100 * MORE:g} % of the 8-bit picture's pixels may be off by more than 1."
)


@dataclass(frozen=True)
class Report:
    """All rows, and what they were measured on.

    Attributes:
        photo: its name, or None.
        tools: library → version.
    """

    rows: tuple[Row, ...]
    photo: str | None
    tools: dict[str, str]

    @property
    def counts(self) -> dict[str, int]:
        """Status → number of rows."""
        return dict(Counter(row.status for row in self.rows))

    def check(self) -> None:
        """Say nothing if something was compared and all of it passed.

        Raises:
            MismatchError: a row failed or is stale.
            MissingError: nothing could be compared.
        """
        wrong = [row for row in self.rows if row.status in ("failed", "stale")]
        if wrong:
            row = wrong[0]
            where = f"{row.variant} {row.what} on {row.runtime} ({row.input}, {row.graph}, {_size(row)})"
            why = row.note if row.measured is None else _numbers(row.measured, row)
            raise MismatchError(f"{len(wrong)} of {len(self.rows)} parity checks fail, the first is {where}: {why}")
        if not any(row.status == "passed" for row in self.rows):
            why = self.rows[0].note if self.rows else "no runtime was named"
            raise MissingError(f"nothing could be compared: {why}")

    def table(self) -> Table:
        """For the terminal."""
        return table("Parity with PyTorch float32", COLUMNS, (_cells(row) for row in self.rows))

    def markdown(self) -> str:
        """A table with what was measured and what is allowed, and what the columns mean."""
        lines = ["# Parity with PyTorch float32", "", self.summary(), "", LEGEND, ""]
        lines.append("| " + " | ".join(COLUMNS) + " |")
        lines.append("|" + " --- |" * len(COLUMNS))
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(row)) + " |" for row in self.rows]
        return "\n".join(lines).replace("| max |d|", "| max \\|d\\|") + "\n"

    def summary(self) -> str:
        """One line: how many rows have which status, on which photo, with which tools."""
        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items()) or "no rows"
        tools = ", ".join(f"{name} {version}" for name, version in self.tools.items())
        return f"{counts}. Photo: {self.photo or 'none'}. {tools}."

    def to_json(self) -> dict[str, Any]:
        """The same as plain objects; numbers that are not finite are null."""
        rows = [_plain(asdict(row)) for row in self.rows]
        failed = any(row.status in ("failed", "stale") for row in self.rows)
        passed = any(row.status == "passed" for row in self.rows)
        return {
            "ok": passed and not failed,
            "counts": self.counts,
            "photo": self.photo,
            "tools": self.tools,
            "rows": rows,
        }


def run(
    *,
    variants: Sequence[str],
    runtimes: Sequence[str] = COMPARED,
    precisions: Sequence[str] = ("fp32",),
    artifacts: Path | None = None,
    weights: "Weights" = "shipped",
    photo: Path | None = None,
    plan: Plan | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Report:
    """Compare each runtime with PyTorch, for each variant.

    Args:
        precisions: of the artefacts, "fp32" or "fp16"; each has its own gates (`parity_tests.compare.GATES`).
        artifacts: the folder with `manifest.json`; None: `export.manifest.DEFAULT_FOLDER`.
        weights: PyTorch's, as in `model.build.load`. An artefact made from others is stale, and no number is compared.
        photo: for real inputs and the loop; None: these rows are not run.
        plan: which cases; None: `Plan()`.
        report: gets a line before each long piece of work.

    Raises:
        InputError: an unknown variant, runtime or precision, or a photo that can't be read.
        MissingError: PyTorch is not installed.
        MismatchError: PyTorch itself gave values that are not finite.
    """
    for name in variants:
        if name not in VARIANTS:
            raise InputError(f"unknown variant '{name}': choose {' or '.join(VARIANTS)}")
    for name in runtimes:
        if name not in COMPARED:
            why = "is what the others are compared with" if name == REFERENCE else "is unknown"
            raise InputError(f"runtime '{name}' {why}: choose {' or '.join(COMPARED)}")
    for name in precisions:
        if name not in GATES:
            raise InputError(f"parity of precision '{name}' is not defined: choose {' or '.join(GATES)}")
    rows: list[Row] = []
    candidates = [(name, precision) for name in runtimes for precision in precisions]
    for variant in variants:
        rows += _variant_rows(variant, candidates, artifacts, weights, photo, plan or Plan(), report)
    return Report(tuple(rows), photo.name if photo else None, _tools())


def _variant_rows(
    variant: str,
    candidates: Sequence[tuple[str, str]],
    artifacts: Path | None,
    weights: "Weights",
    photo: Path | None,
    plan: Plan,
    report: Callable[[str], None],
) -> list[Row]:
    open_reference = torch_opener(variant, weights=weights, fixed_size=plan.fixed_size)
    open_judge = torch_opener(variant, weights=weights, fixed_size=plan.fixed_size, dtype="float64")
    cases = random_cases(plan)
    with open_reference("dynamic") as torch:
        try:
            for network in NETWORKS:
                torch.open(network)
        except MissingError as error:
            need = f"the reference: {error}"
            return [_not_run(variant, _label(name, precision), "all", need) for name, precision in candidates]
        if photo is not None:
            cases += photo_cases(plan, torch, to_8_bit(read_photo(photo).pixels))
    report(f"{variant}: PyTorch")
    reference = produce(open_reference, cases)
    report(f"{variant}: PyTorch in float64")
    judge = produce(open_judge, cases)
    rows = []
    for name, precision in candidates:
        label = _label(name, precision)
        report(f"{variant}: {label}")
        opener = artefact_opener(name, variant, artifacts=artifacts, fixed_size=plan.fixed_size, precision=precision)
        chosen = [case for case in cases if name not in FIXED_ONLY or case.graph == "fixed"]
        outputs = produce(opener, chosen)
        rows += compare(
            variant, label, chosen, candidate=outputs, reference=reference, judge=judge, precision=precision
        )
        if photo is None:
            rows.append(_not_run(variant, label, "real inputs and the loop", "a photo: --photo FILE"))
    return rows


def _label(name: str, precision: str) -> str:
    """A runtime as the table names it: with its precision, and how it computes where that is not its name."""
    if name == "coreml" and sys.platform != "darwin":
        return f"coreml {precision}, executor in {'float32' if precision == 'fp32' else 'fp16'}"
    return name if precision == "fp32" else f"{name} {precision}"


def _not_run(variant: str, runtime: str, what: str, need: str) -> Row:
    return Row(variant, runtime, what, "", "", (0, 0), NETWORK, "not run", f"not run: needs {need}")


def _tools() -> dict[str, str]:
    versions = {"Python": platform.python_version()}
    for library in ("torch", "onnxruntime", "coremltools", "numpy"):
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _size(row: Row) -> str:
    return f"{row.size[0]}×{row.size[1]}" if row.graph else ""


def _cells(row: Row) -> tuple[str, ...]:
    where = (row.variant, row.runtime, row.what, row.input, row.graph, _size(row))
    result = row.note if row.status == "not run" else ": ".join(each for each in (row.status, row.note) if each)
    if row.measured is None:
        return (*where, *[""] * 7, result)
    found = row.measured
    absolute, relative = (
        "any" if each == math.inf else f"{each:.2g}" for each in (row.gate.absolute, row.gate.relative)
    )
    numbers = (f"{each:.2g}" for each in (found.max_abs, found.judge, found.own))
    decibels = "" if found.psnr is None else f"{found.psnr:.1f}"
    return (*where, *numbers, absolute, f"{found.relative:.2g}", relative, decibels, result)


def _numbers(measured: Measured, row: Row) -> str:
    gate = row.gate
    parts = [
        f"max |d| {measured.max_abs:.2g}, from float64 {measured.judge:.2g}, at most {gate.absolute:.2g}",
        f"over the spread {measured.relative:.2g}, at most {gate.relative:.2g}",
    ]
    if measured.psnr is not None and gate.decibels > -math.inf:
        parts.append(f"{measured.psnr:.1f} dB, at least {gate.decibels:g}")
    if measured.shares is not None and gate.more < math.inf:
        parts.append(f"{100 * measured.shares.more:.2g} % of pixels off by more than 1, at most {100 * gate.more:g} %")
    return "; ".join(parts)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
