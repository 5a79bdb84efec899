"""The golden vectors of a release: made from PyTorch by one command, and checked by each runtime.

Small: inputs are made by a rule (`export.golden_inputs`), outputs are of 64×64 low-resolution pixels (the depth
network's are of its only size). The largest difference allowed is that of the parity table: a multiple of the model's
own rounding.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deeplens.console.errors import MissingError
from deeplens.console.progress import progress_bar
from deeplens.export import golden
from deeplens.export.golden_inputs import golden_inputs
from deeplens.model.contract import NETWORKS, VARIANTS
from deeplens.parity_tests.candidates import REFERENCE, Candidate
from deeplens.parity_tests.cases import NetworkCase
from deeplens.parity_tests.compare import GATES, measure, narrowed, scaled, stale
from deeplens.parity_tests.metrics import max_abs
from deeplens.parity_tests.produce import TorchKind, produce, torch_opener
from deeplens.runtimes.depth_networks import sized_contract

if TYPE_CHECKING:
    from deeplens.model.shipped import Weights

SIZE = (64, 64)
"""Low-resolution height and width, but for the network that has one size."""

COLUMNS = ("vectors", "runtime", "max |d|", "allowed", "agreement, dB", "at least", "result")


@dataclass(frozen=True)
class Checked:
    """One network's vectors on one runtime.

    Attributes:
        status: "passed", "failed" or "not run".
        largest: max |difference|; None where it was not run.
        decibels: as `export.golden.agreement`.
    """

    vectors: str
    runtime: str
    status: str
    note: str
    largest: float | None = None
    allowed: float | None = None
    decibels: float | None = None
    due: float | None = None

    def row(self) -> tuple[str, ...]:
        """As `COLUMNS` says."""
        differences = ("" if each is None else f"{each:.3g}" for each in (self.largest, self.allowed))
        decibels = ("" if each is None else f"{each:.2f}" for each in (self.decibels, self.due))
        result = self.note if self.status == "not run" else ": ".join(filter(None, (self.status, self.note)))
        return (self.vectors, self.runtime, *differences, *decibels, result)


def make(
    folder: Path, *, variants: Sequence[str], weights: "Weights" = "shipped", report: Callable[[str], None]
) -> list[Path]:
    """Write the vectors of each network whose weights are there.

    Args:
        variants: names of depth networks of others too, which have this one network.

    Returns:
        the JSON files.

    Raises:
        MissingError: PyTorch is not installed, or no network's weights are there.
    """
    made = []
    with progress_bar("Making golden vectors") as progress:
        pairs = [pair for pair in product(variants, NETWORKS) if pair[0] in VARIANTS or pair[1] == "depth"]
        for variant, network in progress.each(pairs, " ".join):
            try:
                made.append(written(folder, variant, network, weights))
            except MissingError as error:
                report(f"{variant} {network}: none ({error})")
                continue
            report(str(made[-1]))
    if not made:
        raise MissingError("there are no weights for any network: give them with --weights")
    return made


def written(folder: Path, variant: str, network: str, weights: "Weights") -> Path:
    """Write one network's vectors, and return the JSON file; MissingError where its weights are not there."""
    contract = sized_contract(variant, network)
    size = contract.fixed_size or SIZE
    case = NetworkCase(network, "golden", "dynamic", size, golden_inputs(contract, size))
    kinds: tuple[TorchKind, ...] = ("float32", "float64", "float16")
    sides = [produce(torch_opener(variant, weights=weights, fixed_size=size, dtype=kind), [case]) for kind in kinds]
    if case.name in sides[0].missing:
        raise MissingError(sides[0].missing[case.name])
    from deeplens.export.foreign_depth import network_module

    reference, judge, half = (side.arrays[case.name] for side in sides)
    measured = measure(reference, reference, judge, half)
    gates = {name: scaled(GATES[name][0], variant, network, measured, reference) for name in GATES}
    limits = {name: narrowed(gate, measured, name).absolute for name, gate in gates.items()}
    return golden.write(
        folder,
        network_module(variant, network, weights),
        contract,
        variant=variant,
        size=size,
        sha256=sides[0].weights[case.name][network],
        tolerance={name: limit for name, limit in limits.items() if math.isfinite(limit)},
    )


def check(
    folder: Path,
    candidate: Candidate,
    *,
    variants: Collection[str] | None = None,
    artifacts: Path | None,
    weights: "Weights" = "shipped",
) -> list[Checked]:
    """Run a runtime on each of the vectors in a folder.

    Args:
        variants: those whose vectors are checked; None: all that are in the folder.

    Raises:
        MissingError: there are none.
        InputError, MismatchError: from `export.golden.read`.
    """
    paths = sorted(folder.glob("*.json"))
    if variants is not None:
        paths = [path for path in paths if golden.variant_of(path) in variants]
    if not paths:
        asked = "".join(f"--{'variant' if each in VARIANTS else 'depth-network'} {each} " for each in variants or ())
        kind = f" of {' and '.join(variants)}" if variants else ""
        raise MissingError(
            f"there are no golden vectors{kind} in {folder}: make them with `deeplens golden {asked}--out {folder}`"
        )
    with progress_bar(f"Checking {candidate.label}") as progress:
        return [_checked(path, candidate, artifacts, weights) for path in progress.each(paths, lambda path: path.stem)]


def _checked(path: Path, candidate: Candidate, artifacts: Path | None, weights: "Weights") -> Checked:
    found = golden.read(path)
    graph = "fixed" if candidate.runtime == "coreml" else "dynamic"
    case = NetworkCase(found.network, "golden", graph, found.size, found.inputs)  # type: ignore[arg-type]
    if candidate.runtime == REFERENCE:
        opener = torch_opener(found.variant, weights=weights, fixed_size=found.size)
    else:
        opener = candidate.opener(found.variant, artifacts=artifacts, weights=weights, fixed_size=found.size)
    outputs = produce(opener, [case])
    label = "torch" if candidate.runtime == REFERENCE else candidate.label
    if case.name in outputs.missing:
        return Checked(path.stem, label, "not run", f"not run: needs {outputs.missing[case.name]}")
    if case.name in outputs.broken:
        return Checked(path.stem, label, "failed", outputs.broken[case.name])
    other = stale(outputs.weights[case.name], {found.network: found.weights_sha256})
    if other is not None:
        return Checked(path.stem, label, "failed", other.replace("PyTorch has", "the golden vectors"))
    (due,) = found.outputs.values()
    array = outputs.arrays[case.name].astype(np.float32)
    largest = max_abs(array, due)
    decibels = golden.agreement(array, due) if np.isfinite(array).all() else -math.inf
    allowed, gate = found.tolerance.get(candidate.rounding), found.least.get(candidate.rounding)
    if candidate.runtime == "coreml" and candidate.mode is None:  # a Mac, of which Apple asks its number
        gate = golden.GATES.get(candidate.precision)
    passed = (allowed is None or largest <= allowed) and (gate is None or decibels >= gate) and largest == largest
    return Checked(path.stem, label, "passed" if passed else "failed", "", largest, allowed, decibels, gate)
