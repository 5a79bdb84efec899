"""The second room: what a runtime gave against PyTorch in float32, with float64 as the judge. Nothing is run here.

FP32 shows a wrong graph: its gates are tight. Those of FP16, on top, bound what its rounding may cost.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from model.errors import MismatchError
from parity_tests.cases import Case, NetworkCase, Size
from parity_tests.metrics import Shares, max_abs, mean_abs, pixel_shares, psnr, relative_to_spread
from parity_tests.produce import EIGHT_BIT, Outputs

Status = Literal["passed", "failed", "stale", "not run"]


@dataclass(frozen=True)
class Gate:
    """What a difference may be at most.

    Attributes:
        absolute: max |difference|, from PyTorch float32 and from float64 alike.
        relative: max |difference| from PyTorch float32 over the spread of its output; infinite: not looked at.
        decibels: PSNR of a picture, at least.
        more: share of the 8-bit picture's pixels that may be off by more than one step.
    """

    absolute: float
    relative: float
    decibels: float = -math.inf
    more: float = math.inf


NETWORK = Gate(1e-5, 2e-5)
"""FP32, a network alone."""

LEVEL = Gate(5e-5, 5e-5)
"""FP32, the depth map and each level of the loop, which carry all errors from before."""

PICTURE = Gate(1.0, math.inf)
"""The 8-bit picture, in steps of 8 bits: a value on the edge between two may round either way."""

PSNR = 60.0
"""dB against PyTorch float32 that FP16 has to reach, data range 1.0."""

MORE = 1e-4
"""Largest share of the pixels that FP16 may put off by more than one step of 8 bits."""

GATES = {
    "fp32": (NETWORK, LEVEL, PICTURE),
    "fp16": (
        Gate(math.inf, 2e-2, decibels=PSNR),
        Gate(math.inf, math.inf, decibels=PSNR),  # where depth maps differ, single pixels differ much
        Gate(math.inf, math.inf, more=MORE),
    ),
}
"""Precision → the gates of a network alone, of a level of the loop, of the 8-bit picture."""


@dataclass(frozen=True)
class Measured:
    """Numbers of one comparison; in the 8-bit picture `max_abs`, `judge`, `own` and `mean_abs` count steps of 8 bits.

    Attributes:
        max_abs, mean_abs: |runtime − PyTorch float32|.
        judge: max |runtime − float64|.
        own: max |PyTorch float32 − float64|: the model's own rounding.
        relative: max_abs over the spread of PyTorch's output.
        psnr: in dB, data range 1.0, infinite for equal results; None for what is no picture.
        shares: of the 8-bit picture's pixels; None for all else.
    """

    max_abs: float
    mean_abs: float
    judge: float
    own: float
    relative: float
    psnr: float | None
    shares: Shares | None

    def passes(self, gate: Gate) -> bool:
        """False also where a number is NaN."""
        close = self.max_abs <= gate.absolute and self.judge <= gate.absolute and self.relative <= gate.relative
        loud = self.psnr is None or self.psnr >= gate.decibels
        return close and loud and (self.shares is None or self.shares.more <= gate.more)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: a network, or in the loop "depth map", "level k", "8-bit picture".
        input: "random" or "photo", or "loop" for a whole way.
        graph: "dynamic" or "fixed".
        size: height and width: of a network's low-resolution input, of the loop's photo.
        status: "stale": made from other weights than the reference, so that no number is compared.
        note: why not, for a status other than "passed"; else what there is to know.
        measured: None where nothing was compared.
    """

    variant: str
    runtime: str
    what: str
    input: str
    graph: str
    size: Size
    gate: Gate
    status: Status
    note: str = ""
    measured: Measured | None = None


def compare(
    variant: str,
    runtime: str,
    cases: Sequence[Case],
    *,
    candidate: Outputs,
    reference: Outputs,
    judge: Outputs,
    precision: str = "fp32",
) -> list[Row]:
    """A row for each output of each case, or one for a case that has none.

    Args:
        runtime: as the rows name it.
        precision: a key of `GATES`.

    Raises:
        MismatchError: the reference or the judge failed, so that there is nothing to compare with.
    """
    gates = GATES[precision]
    return [row for case in cases for row in _rows(variant, runtime, case, candidate, reference, judge, gates)]


def _rows(
    variant: str,
    runtime: str,
    case: Case,
    candidate: Outputs,
    reference: Outputs,
    judge: Outputs,
    gates: tuple[Gate, Gate, Gate],
) -> Iterator[Row]:
    alone = isinstance(case, NetworkCase)
    network_gate, level_gate, picture_gate = gates
    for side, outputs in (("PyTorch", reference), ("PyTorch in float64", judge)):
        if case.name in outputs.missing or case.name in outputs.broken:
            why = outputs.missing.get(case.name) or outputs.broken[case.name]
            raise MismatchError(f"{case.name}: {side} gave nothing to compare with ({why})")

    def row(what: str, gate: Gate, status: Status, note: str, measured: Measured | None = None) -> Row:
        kind = case.input if isinstance(case, NetworkCase) else "loop"
        return Row(variant, runtime, what, kind, case.graph, case.size, gate, status, note, measured)

    whole, gate = (case.network, network_gate) if isinstance(case, NetworkCase) else ("all levels", level_gate)
    if case.name in candidate.missing:
        yield row(whole, gate, "not run", f"not run: needs {candidate.missing[case.name]}")
        return
    if case.name in candidate.broken:
        yield row(whole, gate, "failed", candidate.broken[case.name])
        return
    other = stale(candidate.weights[case.name], reference.weights[case.name])
    if other is not None:
        yield row(whole, gate, "stale", other)
        return
    names = [case.name] if alone else [name for name in reference.arrays if name.startswith(f"{case.name}/")]
    for name in names:
        what = case.network if isinstance(case, NetworkCase) else name.removeprefix(f"{case.name}/")
        gate = network_gate if alone else picture_gate if what == EIGHT_BIT else level_gate
        try:
            measured = measure(candidate.arrays[name], reference.arrays[name], judge.arrays[name])
        except MismatchError as error:
            yield row(what, gate, "failed", str(error))
            continue
        yield row(what, gate, "passed" if measured.passes(gate) else "failed", _note(measured), measured)


def stale(found: dict[str, str], expected: dict[str, str]) -> str | None:
    """Which network's artefact comes from other weights than the reference's; None where none does."""
    for network, sha256 in expected.items():
        if found[network] != sha256:
            return (
                f"the {network} artefact comes from weights {found[network][:12]}…, PyTorch has "
                f"{sha256[:12]}…: export it again, or give the weights it was made from"
            )
    return None


def measure(result: np.ndarray, reference: np.ndarray, judge: np.ndarray) -> Measured:
    """All numbers of one output.

    Raises:
        MismatchError: the shapes differ.
    """
    eight_bit = reference.dtype == np.uint8
    picture = eight_bit or (reference.ndim == 4 and reference.shape[1] == 3)
    scale = 1 / 255 if eight_bit else 1.0
    return Measured(
        max_abs=max_abs(result, reference),
        mean_abs=mean_abs(result, reference),
        judge=max_abs(result, judge),
        own=max_abs(reference, judge),
        relative=relative_to_spread(result, reference),
        psnr=psnr(scale * result, scale * reference) if picture else None,
        shares=pixel_shares(result, reference) if eight_bit else None,
    )


def _note(measured: Measured) -> str:
    if measured.max_abs == 0.0:
        return "exactly equal: both sides may run the same kernels, so this checks graph and weights, not arithmetic"
    if measured.shares is not None:
        return f"{100 * measured.shares.one:.2g} % of pixels off by 1, {100 * measured.shares.more:.2g} % by more"
    return ""
