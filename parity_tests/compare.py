"""The second room: what a runtime gave against PyTorch in float32, with float64 as the judge. Nothing is run here.

A limit is never a matter of taste: it is a factor (`FACTORS`) times what the model's own rounding costs on the same
input, and under a ceiling (`GATES`) besides. FP32 shows a wrong graph: there the rounding is that of PyTorch float32,
from float64. Below FP32 it is that of PyTorch in FP16 (`parity_tests.half`), from float32.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.model.whole_contract import WHOLE_NETWORKS
from deeplens.parity_tests.cases import Case, NetworkCase, Size
from deeplens.parity_tests.metrics import (
    Shares,
    Ulps,
    cosine,
    difference,
    max_abs,
    pixel_shares,
    psnr,
    relative_to_spread,
    ssim_if_possible,
    ulps,
)
from deeplens.parity_tests.other_scale import ceilings
from deeplens.parity_tests.outputs import EIGHT_BIT, Outputs

Status = Literal["passed", "failed", "stale", "not run", "compiles"]


@dataclass(frozen=True)
class Gate:
    """What a difference may be at most.

    Attributes:
        absolute: max |difference|, from PyTorch float32 and from float64 alike.
        relative: max |difference| from PyTorch float32 over the spread of its output; infinite: not looked at.
        decibels: PSNR of a picture, at least.
        more: share of the 8-bit picture's pixels that may be off by more than one step.
        mean: mean |difference| from PyTorch float32.
    """

    absolute: float
    relative: float
    decibels: float = -math.inf
    more: float = math.inf
    mean: float = math.inf


@dataclass(frozen=True)
class Factors:
    """How many times the model's own rounding a runtime's difference may be.

    Attributes:
        worst: of the largest |difference|. Two ways to round differ where they are unlucky, and not in the same places.
        mean: of the mean |difference|, which hardly depends on luck.
    """

    worst: float
    mean: float


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

APPLE = 50.0
"""dB that Apple asks of an FP16 port."""

SUMS_MORE = 1e-2
"""Largest share of the pixels off by more than one step where partial sums are FP16 too: the worst a device may do."""

INVESTIGATE = 40.0
"""dB below which Apple says of a port: investigate. What INT8 has to reach, in the 8-bit picture too.

The root mean square is then at most 2.5 steps of 8 bits, so shares of pixels off by more than one say nothing of INT8.
"""

GATES = {
    "fp32": (NETWORK, LEVEL, PICTURE),
    "fp16": (
        Gate(math.inf, 2e-2, decibels=PSNR),
        Gate(math.inf, math.inf, decibels=PSNR),  # where depth maps differ, single pixels differ much
        Gate(math.inf, math.inf, more=MORE),
    ),
    "fp16 sums": (
        Gate(math.inf, 5e-2, decibels=APPLE),
        Gate(math.inf, math.inf, decibels=APPLE),
        Gate(math.inf, math.inf, more=SUMS_MORE),
    ),
    "bf16": 3 * (Gate(math.inf, math.inf, decibels=INVESTIGATE),),
    "bf16 products": 3 * (Gate(math.inf, math.inf, decibels=APPLE),),
    "int8": 3 * (Gate(math.inf, math.inf, decibels=INVESTIGATE),),
    "mixed": 3 * (Gate(math.inf, math.inf, decibels=INVESTIGATE),),
}
"""Way of rounding → the ceilings of a network alone, of a level of the loop, of the 8-bit picture.

"fp16": weights and the results of operations; sums in float32. "fp16 sums": partial sums in FP16 too, as the executor
can and hardware may. "bf16": every result rounded. "bf16 products": as OpenVINO, with sums in float32, and in float32
too what lies before the first and behind the last convolution of a network."""

FACTORS = {
    "fp32": Factors(8, 6),
    "fp16": Factors(4, 2),
    "fp16 sums": Factors(8, 6),
    "bf16": Factors(32, 16),
    "bf16 products": Factors(16, 8),
    "mixed": Factors(64, 32),
    "int8": Factors(64, 32),
}
"""Way of rounding → factors. Another order of sums gives up to 5 times PyTorch's own rounding in FP32, and so does one
with FP16 sums in FP16. BF16 has 3 bits less than FP16: 8 times; where only products are rounded it is 7.3 and 4.0 times
at most over all rows. INT8 has 3 bits less than FP16 in a weight and in an activation: 8 times, and as much again for
activations that share one scale a tensor."""

FLOOR = 8
"""Smallest limit in FP32, in units in the last place of the output's largest value: PyTorch may happen to be exact."""


@dataclass(frozen=True)
class Measured:
    """Numbers of one comparison; in the 8-bit picture differences count steps of 8 bits.

    Attributes:
        max_abs, mean_abs: |runtime − PyTorch float32|.
        judge: max |runtime − float64|.
        own, own_mean: |PyTorch float32 − float64|, the largest and the mean: the model's own rounding.
        half, half_mean: |PyTorch FP16 − PyTorch float32|; None where it was not run.
        relative: max_abs over the spread of PyTorch's output.
        scale: the largest |value| of PyTorch's output.
        cosine: of the angle between runtime and PyTorch float32.
        psnr: in dB, data range 1.0, infinite for equal results; None for what is no picture.
        ssim: of the 8-bit picture; None for all else, and where SciPy is not installed.
        ulps: float32 numbers between the two; None for the 8-bit picture and where a value is not finite.
        shares: of the 8-bit picture's pixels; None for all else.
    """

    max_abs: float
    mean_abs: float
    judge: float
    own: float
    own_mean: float
    half: float | None
    half_mean: float | None
    relative: float
    scale: float
    cosine: float
    psnr: float | None
    ssim: float | None
    ulps: Ulps | None
    shares: Shares | None

    def passes(self, gate: Gate) -> bool:
        """False also where a number is NaN."""
        close = self.max_abs <= gate.absolute and self.judge <= gate.absolute and self.relative <= gate.relative
        close = close and self.mean_abs <= gate.mean
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
        gate: what was allowed, the model's own rounding taken into account where something was compared.
        status: "stale": made from other weights than the reference, so that no number is compared. "compiles": a
            compiler took it; nothing was run.
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
    half: Outputs | None = None,
    precision: str = "fp32",
) -> list[Row]:
    """A row for each output of each case, or one for a case that has none.

    Args:
        runtime: as the rows name it.
        half: of PyTorch in FP16; None: the ceilings alone hold for a precision below FP32.
        precision: the way of rounding, a key of `GATES`.

    Raises:
        MismatchError: the reference or the judge failed, so that there is nothing to compare with. One that could not
            run, since a network has no weights, makes a row that says so.
    """
    sides = _Sides(candidate, reference, judge, half)
    return [row for case in cases for row in _rows(variant, runtime, case, sides, precision)]


@dataclass(frozen=True)
class _Sides:
    candidate: Outputs
    reference: Outputs
    judge: Outputs
    half: Outputs | None


def _rows(variant: str, runtime: str, case: Case, sides: _Sides, precision: str) -> Iterator[Row]:
    alone = isinstance(case, NetworkCase)
    network_gate, level_gate, picture_gate = GATES[precision]
    candidate, reference = sides.candidate, sides.reference
    for side, outputs in (("PyTorch", reference), ("PyTorch in float64", sides.judge)):
        if case.name in outputs.broken:
            raise MismatchError(f"{case.name}: {side} gave no result to compare with ({outputs.broken[case.name]})")

    def row(what: str, gate: Gate, status: Status, note: str, measured: Measured | None = None) -> Row:
        kind = case.input if isinstance(case, NetworkCase) else "loop"
        return Row(variant, runtime, what, kind, case.graph, case.size, gate, status, note, measured)

    if isinstance(case, NetworkCase) and case.network in WHOLE_NETWORKS:  # it carries all errors of a loop
        network_gate = level_gate
    whole, gate = (case.network, network_gate) if isinstance(case, NetworkCase) else ("all levels", level_gate)
    missing = reference.missing.get(case.name) or candidate.missing.get(case.name)
    if missing is not None:
        yield row(whole, gate, "not run", f"not run: needs {missing}")
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
        half = None if sides.half is None else sides.half.arrays.get(name)
        try:
            measured = measure(candidate.arrays[name], reference.arrays[name], sides.judge.arrays[name], half)
        except MismatchError as error:
            yield row(what, gate, "failed", str(error))
            continue
        if what != EIGHT_BIT:
            gate = narrowed(scaled(gate, variant, what, measured, reference.arrays[name]), measured, precision)
        yield row(what, gate, "passed" if measured.passes(gate) else "failed", _note(measured, gate), measured)


def scaled(gate: Gate, variant: str, what: str, measured: Measured, reference: np.ndarray) -> Gate:
    """The ceilings for an output of another scale than ours: see `parity_tests.other_scale`."""
    given = {"absolute": gate.absolute, "relative": gate.relative, "own": measured.own}
    return replace(gate, **ceilings(variant, what, reference=reference, **given))


def narrowed(gate: Gate, measured: Measured, precision: str) -> Gate:
    """The ceilings brought down to `FACTORS` times the model's own rounding; never up.

    The distance from float64 may be the own rounding of float32 more, which is part of it.
    """
    factors = FACTORS[precision]
    if precision == "fp32":
        floor = FLOOR * float(np.spacing(np.float32(measured.scale))) if math.isfinite(measured.scale) else math.inf
        own, own_mean = max(factors.worst * measured.own, floor), max(factors.mean * measured.own_mean, floor)
    elif measured.half is None or measured.half_mean is None:
        return gate
    else:
        own, own_mean = factors.worst * measured.half, factors.mean * measured.half_mean
    absolute, mean = (each if not math.isnan(each) else math.inf for each in (own, own_mean))
    return replace(gate, absolute=min(gate.absolute, absolute), mean=min(gate.mean, mean))


def stale(found: dict[str, str], expected: dict[str, str]) -> str | None:
    """Which network's artefact comes from other weights than the reference's; None where none does."""
    for network, sha256 in expected.items():
        if found[network] != sha256:
            return (
                f"the {network} artefact comes from weights {found[network][:12]}…, PyTorch has "
                f"{sha256[:12]}…: export it again, or give the weights it was made from"
            )
    return None


def measure(result: np.ndarray, reference: np.ndarray, judge: np.ndarray, half: np.ndarray | None = None) -> Measured:
    """All numbers of one output.

    Raises:
        MismatchError: the shapes differ.
    """
    eight_bit = reference.dtype == np.uint8
    picture = eight_bit or (reference.ndim == 4 and reference.shape[1] == 3)
    scale = 1 / 255 if eight_bit else 1.0
    off, own = difference(result, reference), difference(reference, judge)
    rounding = None if half is None else difference(half, reference)
    return Measured(
        max_abs=float(off.max()),
        mean_abs=float(off.mean()),
        judge=max_abs(result, judge),
        own=float(own.max()),
        own_mean=float(own.mean()),
        half=None if rounding is None else float(rounding.max()),
        half_mean=None if rounding is None else float(rounding.mean()),
        relative=relative_to_spread(result, reference),
        scale=float(np.abs(reference).max()),
        cosine=cosine(result, reference),
        psnr=psnr(scale * result, scale * reference) if picture else None,
        ssim=ssim_if_possible(result, reference) if eight_bit else None,
        ulps=None if eight_bit else ulps(result, reference),
        shares=pixel_shares(result, reference) if eight_bit else None,
    )


def _note(measured: Measured, gate: Gate) -> str:
    if measured.own > gate.absolute and not measured.passes(gate):
        return f"PyTorch float32 itself is {measured.own:.1e} from float64, more than is allowed: try another photo"
    if measured.max_abs == 0.0:
        return "exactly equal: both sides may run the same kernels, so this checks graph and weights, not arithmetic"
    if measured.shares is not None:
        return f"{100 * measured.shares.one:.2g} % of pixels off by 1, {100 * measured.shares.more:.2g} % by more"
    return ""
