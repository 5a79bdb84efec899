"""Which operations of a saved program the Neural Engine is likely to run: advice by rules, and Core ML's own choice.

The rules (`export.placement_rules`) need neither a Mac nor a phone; they are advice, not a compiler. On macOS the
devices that Core ML chooses on this machine stand beside them: `chosen_devices`.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deeplens.console.errors import InputError, MismatchError, MissingError, one_line
from deeplens.export.placement_checks import Operation, Shape
from deeplens.export.placement_rules import CHIPS, RULES, VERDICTS, Rule, Verdict
from deeplens.runtimes.coreml import program

if TYPE_CHECKING:
    from coremltools import ComputeUnit
    from coremltools.models.compute_plan import MLComputePlan

DEFAULT_CHIP = "A15"
"""The oldest chip with mirrored borders and a resampler: iPhone 13, M2."""

UNITS = {"all": "ALL", "cpu-and-ne": "CPU_AND_NE", "cpu-and-gpu": "CPU_AND_GPU", "cpu": "CPU_ONLY"}
"""What Core ML may use → its name in coremltools."""

SMALL = 64
"""Constants of more numbers than this are weights, which the rules look at by shape alone."""

Device = Literal["neural engine", "gpu", "cpu"]

DEVICES: Mapping[str, Device] = {
    "MLNeuralEngineComputeDevice": "neural engine",
    "MLGPUComputeDevice": "gpu",
    "MLCPUComputeDevice": "cpu",
}
"""Class of coremltools → device."""


@dataclass(frozen=True)
class Finding:
    """A rule that an operation breaks, and by what."""

    rule: Rule
    what: str


@dataclass(frozen=True)
class Placed:
    """One operation and what is said of it.

    Attributes:
        function: that holds it: "main", or a level's name in a multifunction package.
        chosen: the device that Core ML prefers for it here; None where it was not asked or did not say.
    """

    function: str
    operation: Operation
    findings: tuple[Finding, ...]
    chosen: Device | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of its findings."""
        return max((finding.rule.verdict for finding in self.findings), key=VERDICTS.index, default="engine")

    def to_json(self) -> dict[str, Any]:
        """As `deeplens lint --json` writes it."""
        return {
            "function": self.function,
            "name": self.operation.name,
            "kind": self.operation.kind,
            "shapes": [list(shape) for shape in self.operation.shapes],
            "verdict": self.verdict,
            "chosen": self.chosen,
            "findings": [
                {"rule": each.rule.name, "verdict": each.rule.verdict, "what": each.what, "says": each.rule.says}
                | {"sources": list(each.rule.sources)}
                for each in self.findings
            ],
        }


def lint_package(package: Path, *, chip: str = DEFAULT_CHIP) -> list[Placed]:
    """`lint` of every function of an `.mlpackage`.

    Raises:
        InputError: an unknown chip.
        MissingError: coremltools is not installed, or nothing is at `package`.
        MismatchError: it is not a whole package of an ML program.
    """
    first = program.load(package)
    description = program.import_coremltools().utils.load_spec(str(package)).description
    inputs = [each for part in (description, *description.functions) for each in part.input]
    enumerated = any(
        each.type.multiArrayType.WhichOneof("ShapeFlexibility") == "enumeratedShapes"
        or each.type.imageType.WhichOneof("SizeFlexibility") == "enumeratedSizes"
        for each in inputs
    )
    others = (each.name for each in description.functions if each.name != first.name)
    functions = (first, *(program.load(package, name) for name in others))
    return [placed for each in functions for placed in lint(each, chip=chip, enumerated=enumerated)]


def lint(function: program.Function, *, chip: str = DEFAULT_CHIP, enumerated: bool = False) -> list[Placed]:
    """What the rules say of every operation of a function, in its order; what unpacks constants is left out.

    Args:
        chip: one of `CHIPS`.
        enumerated: the package's inputs list several shapes. The function alone does not tell.

    Raises:
        InputError: an unknown chip.
    """
    if chip not in CHIPS:
        raise InputError(
            f"unknown chip {chip!r}: choose one of {', '.join(CHIPS)} (for a later one choose {CHIPS[-1]})"
        )
    placed = []
    for operation in describe(function):
        described = replace(operation, enumerated=enumerated)
        placed.append(Placed(function.name, described, tuple(findings(described, chip=chip))))
    return placed


def findings(operation: Operation, *, chip: str) -> Iterator[Finding]:
    """The rules that an operation breaks on a chip."""
    for rule in RULES:
        if rule.applies(operation, chip):
            what = rule.broken(operation)
            if what is not None:
                yield Finding(rule, what)


def describe(function: program.Function) -> Iterator[Operation]:
    """What the rules look at, of every operation but those that unpack constants."""
    shapes: dict[str, Shape] = {value.name: value.shape for value in function.inputs}
    shapes |= {name: np.shape(value) for name, value in function.constants.items()}
    unpacked: dict[str, str] = {}
    for each in function.operations:
        shapes |= {value.name: value.shape for value in each.outputs}
        if each.kind.startswith("constexpr_"):
            unpacked |= {value.name: each.kind for value in each.outputs}
            continue
        operands, constants, values, compressed = [], {}, {}, None
        for argument, names in each.inputs.items():
            for name in (names,) if isinstance(names, str) else names:
                if name not in function.constants and name not in unpacked:
                    operands.append(shapes[name])
                    continue
                constants[argument] = shapes[name]
                if argument == "weight":
                    compressed = unpacked.get(name)
                if name in function.constants and np.size(function.constants[name]) <= SMALL:
                    values[argument] = function.constants[name]
        yield Operation(
            name=each.outputs[0].name,
            kind=each.kind,
            shapes=tuple(value.shape for value in each.outputs),
            dtypes=tuple(value.dtype for value in each.outputs),
            operands=tuple(operands),
            constants=constants,
            values=values,
            compressed=compressed,
        )


def chosen_devices(package: Path, *, units: str = "all") -> dict[tuple[str, str], Device]:
    """The device that Core ML prefers for each operation on this Mac: (function, first output's name) → device.

    Args:
        package: an `.mlpackage`, which is compiled for this.
        units: one of `UNITS`: what Core ML may use.

    Raises:
        InputError: unknown units.
        MissingError: not macOS.
        MismatchError: Core ML can't compile the package, or does not tell its choice (before macOS 14.4).
    """
    if sys.platform != "darwin":
        raise MissingError(
            "Core ML's choice of devices needs macOS 14.4 or later: leave out --core-ml to judge by the rules alone"
        )
    allowed = _units(units)
    from coremltools.models.compute_plan import MLComputePlan
    from coremltools.models.utils import compile_model

    with tempfile.TemporaryDirectory() as folder:
        try:
            compiled = compile_model(str(package), str(Path(folder) / "compiled.mlmodelc"))
            choice = MLComputePlan.load_from_path(compiled, compute_units=allowed)
        except Exception as error:  # coremltools passes on whatever Core ML raised
            reason = one_line(error)
            raise MismatchError(
                f"Core ML can't say where {package} would run ({reason}): macOS 14.4 or later is needed"
            ) from error
        return devices(choice)


def _units(units: str) -> "ComputeUnit":
    import coremltools as ct

    if units not in UNITS:
        raise InputError(f"unknown compute units {units!r}: choose one of {', '.join(UNITS)}")
    return ct.ComputeUnit[UNITS[units]]


def devices(choice: "MLComputePlan") -> dict[tuple[str, str], Device]:
    """The preferred device, not the supported ones, of each operation in Core ML's choice; constants have none.

    Raises:
        MismatchError: it is not of an ML program.
    """
    program = choice.model_structure.program
    if program is None:
        raise MismatchError("the package has no ML program: export it again with `deeplens export coreml`")
    found: dict[tuple[str, str], Device] = {}
    for name, function in program.functions.items():
        for operation in function.block.operations:
            usage = choice.get_compute_device_usage_for_mlprogram_operation(operation)
            if usage is not None and operation.outputs:
                found[name, operation.outputs[0].name] = DEVICES[type(usage.preferred_compute_device).__name__]
    return found


def with_chosen(placed: Sequence[Placed], devices: Mapping[tuple[str, str], Device]) -> list[Placed]:
    """The same operations, with the device that Core ML prefers: see `chosen_devices`."""
    return [replace(each, chosen=devices.get((each.function, each.operation.name))) for each in placed]


def counts(placed: Sequence[Placed]) -> dict[Verdict, int]:
    """Operations by verdict, all three named."""
    found = Counter(each.verdict for each in placed)
    return {verdict: found[verdict] for verdict in VERDICTS}
