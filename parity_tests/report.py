"""The third room: what was found, and what it means. The forms that it takes: `tables`, `junit`, `page`, `plot`."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from deeplens.console.errors import MismatchError, MissingError
from deeplens.parity_tests.cases import Case, LoopCase
from deeplens.parity_tests.compare import Measured, Row
from deeplens.parity_tests.metrics import difference
from deeplens.parity_tests.outputs import EIGHT_BIT, Outputs

LOOK_SIDE = 400
"""Pixels of the longest side of a picture in the report."""

OFF_SIDE = 200
"""The same of a difference picture: few enough that one pixel that differs can be seen."""


@dataclass(frozen=True, eq=False)
class Look:
    """The final picture of a runtime beside its difference from PyTorch's, small.

    Attributes:
        title: variant, runtime and loop.
        picture: h×w×3, uint8.
        off: h×w, uint8: the largest difference of the pixels and channels that one pixel stands for, in steps of 8
            bits.
    """

    title: str
    picture: np.ndarray
    off: np.ndarray


@dataclass(frozen=True)
class Located:
    """Where the first difference arises, or why none was found: see `parity_tests.locate`.

    Attributes:
        where: variant, runtime and network.
        operation: the first operation that departs; None where none does.
        module: the path of the PyTorch module that it belongs to, "" of the network itself.
        said: for people.
    """

    where: str
    operation: str | None
    module: str | None
    said: str


@dataclass(frozen=True)
class Report:
    """All rows, and what they were measured on.

    Attributes:
        photo: its name, or None.
        tools: library → version.
        machine: what the runtimes ran on.
        looks: final pictures.
        artifacts: path of each artefact that was run → its SHA-256.
        seconds: variant and runtime → how long it took.
        located: for what failed, or was asked for.
    """

    rows: tuple[Row, ...]
    photo: str | None
    tools: dict[str, str]
    machine: str = ""
    looks: tuple[Look, ...] = ()
    artifacts: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    located: tuple[Located, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Status → number of rows."""
        return dict(Counter(row.status for row in self.rows))

    @property
    def wrong(self) -> tuple[Row, ...]:
        """Rows that failed or are stale."""
        return tuple(row for row in self.rows if row.status in ("failed", "stale"))

    @property
    def ok(self) -> bool:
        """Something was compared, and all of it passed."""
        return not self.wrong and any(row.status == "passed" for row in self.rows)

    @property
    def worst(self) -> Row | None:
        """The row that is farthest over its limit, else the one closest to it; None where nothing was compared."""
        if self.wrong:  # first those without a number: they gave nothing that could be compared
            return max(self.wrong, key=lambda row: math.inf if row.measured is None else limit_used(row))
        compared = [row for row in self.rows if row.measured is not None]
        return max(compared, key=limit_used, default=None)

    def check(self) -> None:
        """Say nothing if the report is `ok`.

        Raises:
            MismatchError: a row failed or is stale.
            MissingError: nothing could be compared.
        """
        if self.wrong:
            row = self.wrong[0]
            where = f"{row.variant} {row.what} on {row.runtime} ({row.input}, {row.graph}, {size_of(row)})"
            why = row.note if row.measured is None else numbers(row.measured, row)
            found = f"; {self.located[0].said}" if self.located else ""
            raise MismatchError(
                f"{len(self.wrong)} of {len(self.rows)} parity checks fail, the first is {where}: {why}{found}"
            )
        if not self.ok:
            why = self.rows[0].note if self.rows else "no runtime was named"
            raise MissingError(f"nothing could be compared: {why}")

    def summary(self) -> str:
        """One line: how many rows have which status, on which photo, with which tools."""
        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items()) or "no rows"
        tools = ", ".join(f"{name} {version}" for name, version in self.tools.items())
        where = f" {self.machine}." if self.machine else ""
        return f"{counts}. Photo: {self.photo or 'none'}.{where} {tools}."

    def to_json(self) -> dict[str, Any]:
        """The same as plain objects; numbers that are not finite are null."""
        return {
            "ok": self.ok,
            "counts": self.counts,
            "photo": self.photo,
            "machine": self.machine,
            "tools": self.tools,
            "artifacts": dict(self.artifacts),
            "seconds": dict(self.seconds),
            "located": [asdict(each) for each in self.located],
            "rows": [_plain(asdict(row)) for row in self.rows],
        }


def size_of(row: Row) -> str:
    """Height × width; empty for a row without a case."""
    return f"{row.size[0]}×{row.size[1]}" if row.graph else ""


def limit_used(row: Row) -> float:
    """Share of the tightest limit that a row takes: 1 is the limit, more fails; infinite for what is not finite.

    A PSNR counts by its error, the root of the mean square: 6 dB above the limit are a half. Whole steps of an 8-bit
    picture that are allowed do not count: one of one allowed says nothing.
    """
    found, gate = row.measured, row.gate
    if found is None:
        return 0.0
    whole = found.shares is not None and max(found.max_abs, found.judge) <= gate.absolute
    pairs = [(found.relative, gate.relative), (found.mean_abs, gate.mean)]
    if not whole:
        pairs += [(found.max_abs, gate.absolute), (found.judge, gate.absolute)]
    if found.psnr is not None:
        pairs.append((10 ** ((gate.decibels - found.psnr) / 20), 1.0))
    if found.shares is not None:
        pairs.append((found.shares.more, gate.more))
    return max(_share(value, limit) for value, limit in pairs)


def _share(value: float, limit: float) -> float:
    if value == 0:
        return 0.0
    share = value / limit if limit else math.inf
    return math.inf if math.isnan(share) else share


def row_name(row: Row) -> str:
    """Which row it is, for a sentence."""
    return ", ".join(filter(None, (f"{row.variant} {row.what} on {row.runtime}", row.input, row.graph, size_of(row))))


def numbers(measured: Measured, row: Row) -> str:
    """What was measured against what is allowed."""
    gate = row.gate
    parts = [
        f"max |d| {measured.max_abs:.2g}, from float64 {measured.judge:.2g}, at most {gate.absolute:.2g}",
        f"over the spread {measured.relative:.2g}, at most {gate.relative:.2g}",
    ]
    if gate.mean < math.inf:
        parts.append(f"mean |d| {measured.mean_abs:.2g}, at most {gate.mean:.2g}")
    if measured.psnr is not None and gate.decibels > -math.inf:
        parts.append(f"{measured.psnr:.1f} dB, at least {gate.decibels:g}")
    if measured.shares is not None and gate.more < math.inf:
        parts.append(f"{100 * measured.shares.more:.2g} % of pixels off by more than 1, at most {100 * gate.more:g} %")
    return "; ".join(parts)


def looks_of(variant: str, runtime: str, cases: Sequence[Case], found: Outputs, reference: Outputs) -> tuple[Look, ...]:
    """The final picture of the largest loop that a runtime did; none where it did none."""
    loops = [case for case in cases if isinstance(case, LoopCase) and f"{case.name}/{EIGHT_BIT}" in found.arrays]
    if not loops:
        return ()
    name = max(loops, key=lambda case: case.size).name
    picture, due = found.arrays[f"{name}/{EIGHT_BIT}"], reference.arrays[f"{name}/{EIGHT_BIT}"]
    if picture.shape != due.shape:
        return ()
    longest = max(due.shape[:2])
    block = -(-longest // OFF_SIDE)
    off = difference(picture, due).max(axis=2).astype(np.uint8)
    height, width = (-(-size // block) * block for size in off.shape)
    padded = np.zeros((height, width), np.uint8)
    padded[: off.shape[0], : off.shape[1]] = off
    worst = padded.reshape(height // block, block, width // block, block).max(axis=(1, 3))
    small = np.asarray(Image.fromarray(picture).reduce(-(-longest // LOOK_SIDE)))
    return (Look(f"{variant} {runtime}, {name}", small, worst),)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
