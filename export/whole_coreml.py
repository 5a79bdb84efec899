"""The whole effect → Core ML: a package for one size of photo, or a function for each of several in one package.

Arrays in and out, or with `images` the photo as an image of 8 bits both ways, as an app wants it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deeplens.console.errors import InputError, MismatchError
from deeplens.console.progress import progress_bar
from deeplens.export.coreml_package import save
from deeplens.export.coreml_recipe import IMAGES, Recipe
from deeplens.export.golden import agreement
from deeplens.export.own_rounding import FACTORS, FLOORS, in_fp16
from deeplens.export.whole_capture import Captured, captured, reference, told
from deeplens.export.whole_check import TOLERANCE, check, made_inputs
from deeplens.export.whole_sizes import Wanted, memory_of, parts_sha256
from deeplens.model.contract import Contract
from deeplens.model.whole_contract import SMALLEST, WHOLE, WHOLE_WITH_DEPTH, contract_named
from deeplens.runtimes import manifest
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.coreml.executor import Executor
from deeplens.runtimes.coreml.program import load
from deeplens.runtimes.publish import publish

if TYPE_CHECKING:
    from deeplens.model.shipped import Weights

TOOLS = ("torch", "coremltools", "numpy")

PRECISIONS = ("fp32", "fp16", "int8", "palette6", "palette4")

OWN_DEPTH = 40.0
"""dB that an FP16 graph with its own depth must reach at least: see `whole_check.OWN_DEPTH`."""


@dataclass(frozen=True, kw_only=True)
class WholeRecipe(Recipe):
    """What a package of the whole effect is to be. `sizes` are those of the photo, of any number of pixels."""

    def check_sizes(self, contract: Contract) -> None:
        """Raise InputError unless the graph can be made for each size, and in this precision."""
        if self.shapes == "enumerated":
            raise InputError(f"{contract.network} has other operations at each size: use fixed or multifunction shapes")
        if self.precision not in PRECISIONS:
            raise InputError(f"{contract.network} is made in {', '.join(PRECISIONS)}, not in {self.precision}")
        for height, width in self.sizes:
            if min(height, width) < SMALLEST:
                raise InputError(f"{width}x{height}: expected {SMALLEST}x{SMALLEST} or more")

    def file_name(self, variant: str, contract: Contract) -> str:
        """VARIANT_NETWORK_HxW[_HxW…][_image]_PRECISION_TARGET.mlpackage."""
        parts = [variant, contract.network, *(f"{height}x{width}" for height, width in self.sizes)]
        image = ["image"] if self.images else []
        return "_".join([*parts, *image, self.precision, self.target]) + ".mlpackage"


def recipes(
    sizes: Sequence[tuple[int, int]],
    targets: Sequence[str],
    precisions: Sequence[str],
    *,
    image: bool,
    compute_units: str,
) -> Iterator[WholeRecipe]:
    """The packages that a command asks for: one of each size, or where there are several one of all for iOS 18."""
    several = len(sizes) > 1
    for precision in precisions:
        for target in targets:
            together = several and target != "iOS17"
            for chosen in [tuple(sorted(sizes))] if together else [(size,) for size in sizes]:
                yield WholeRecipe(
                    precision=precision,
                    target=target,
                    shapes="multifunction" if together else "fixed",
                    sizes=chosen,
                    images=image,
                    compute_units=compute_units,
                )


def wanted(
    variants: Sequence[str], *, with_depth: bool, weights: "Weights" = "shipped", memory: int | None = None
) -> list["Programs"]:
    """The effect of each variant, of any size.

    Args:
        memory: MiB that the device has for it; None: `whole_memory.LIMITS`.
    """
    network = WHOLE_WITH_DEPTH if with_depth else WHOLE
    return [Programs(variant, network, weights, memory) for variant in variants]


def export_all(effects: "Sequence[Programs]", wanted: Sequence[WholeRecipe], *, out: Path) -> list[manifest.Entry]:
    """Export each package of each effect; what packages share is made once.

    Raises:
        InputError: a package that can't be, or a size that is too large for the device.
        MissingError: a library or the weights are not there.
        MismatchError: the package is not what the harness computes with PyTorch. Nothing is left behind.
    """
    jobs = [(effect, contract_named(effect.network), recipe) for effect in effects for recipe in wanted]
    for _, contract, recipe in jobs:
        recipe.check(contract)
    with progress_bar("Exporting the whole effect to Core ML") as progress:
        named = progress.each(jobs, lambda job: job[2].file_name(job[0].variant, job[1]))
        return [_export(recipe, effect, contract, out=out) for effect, contract, recipe in named]


class Programs:
    """Programs and references, each made when it is first asked for."""

    def __init__(self, variant: str, network: str, weights: "Weights", memory: int | None) -> None:
        self.variant, self.network, self.weights, self.memory = variant, network, weights, memory
        self._made: dict[tuple[tuple[int, int], bool, bool], Captured] = {}
        self._references: dict[tuple[int, int], tuple[Arrays, np.ndarray]] = {}

    def wanted(self, size: tuple[int, int]) -> Wanted:
        return Wanted(
            variant=self.variant,
            network=self.network,
            size=size,
            weights=self.weights,
            target="coreml",
            memory=self.memory,
        )

    def captured(self, size: tuple[int, int], *, half: bool, eight_bit: bool) -> Captured:
        key = (size, half, eight_bit)
        if key not in self._made:
            self._made[key] = captured(self.wanted(size), half=half, eight_bit=eight_bit)
        return self._made[key]

    def reference(self, size: tuple[int, int]) -> tuple[Arrays, np.ndarray]:
        if size not in self._references:
            inputs = made_inputs(self.network, size)
            self._references[size] = inputs, reference(self.wanted(size), inputs)
        return self._references[size]


def _export(recipe: WholeRecipe, programs: Programs, contract: Contract, *, out: Path) -> manifest.Entry:
    half = recipe.precision != "fp32"
    made = {size: programs.captured(size, half=half, eight_bit=recipe.images) for size in recipe.sizes}
    first = made[recipe.sizes[0]]
    sha256, weights = parts_sha256(first.hashes), str(programs.weights)
    tools = {tool: version(tool) for tool in TOOLS}
    notes = {
        "variant": programs.variant,
        "network": contract.network,
        "precision": recipe.precision,
        "shapes": recipe.shapes,
        "compute_units": recipe.compute_units,
        "weights": weights,
        "weights_sha256": sha256,
        **{f"{part}_weights_sha256": each for part, each in first.hashes.items()},
    }
    inputs, outputs = recipe.tensors(contract)
    with publish(out, f"coreml/{recipe.file_name(programs.variant, contract)}") as artefact:
        described = {f"deeplens.{key}": value for key, value in (notes | tools).items()}
        save({size: each.program for size, each in made.items()}, contract, recipe, artefact.file, notes=described)
        decibels = [_check(artefact.file, name, recipe, size, made, programs) for name, size in _functions(recipe)]
        return artefact.describe(
            network=contract.network,
            variant=programs.variant,
            runtime="coreml",
            precision=recipe.precision,
            weights_sha256=sha256,
            inputs=inputs,
            outputs=outputs,
            tools=tools,
            opset=None,
            dynamic=False,
            more={
                "target": recipe.target,
                "shapes": recipe.shapes,
                "sizes": [list(size) for size in recipe.sizes],
                "images": list(IMAGES[contract.network]) if recipe.images else [],
                "compute_units": recipe.compute_units,
                "weights": weights,
                "parts": dict(first.hashes),
                **memory_of(max(each.peaks["fp16" if half else "fp32"] for each in made.values()), "coreml"),
                "agreement_db": told(min(decibels)),
            },
        )


def _functions(recipe: WholeRecipe) -> Iterator[tuple[str, tuple[int, int]]]:
    for name, size in recipe.functions.items():
        assert size is not None
        yield name, size


def _check(
    package: Path,
    function: str,
    recipe: WholeRecipe,
    size: tuple[int, int],
    made: Mapping[tuple[int, int], Captured],
    programs: Programs,
) -> float:
    """Hold a function of the package, in the executor, against the harness with PyTorch: the agreement in dB."""
    inputs, expected = programs.reference(size)
    executor = Executor(load(package, function), mode="float32" if recipe.precision == "fp32" else "fp16")

    def run(given: Arrays) -> np.ndarray:
        fed = {**given, "picture": given["picture"] * np.float32(255)} if recipe.images else given
        result: np.ndarray = executor.run(fed)["refocused"]
        return result / np.float32(255) if recipe.images else result

    network = programs.network
    if recipe.precision == "fp32" and not recipe.images:
        return check(run, network, inputs, expected, precision="fp32")
    found = run(inputs)
    decibels = agreement(found, expected)
    if recipe.precision == "fp32" and network != WHOLE_WITH_DEPTH:
        largest, allowed = float(np.abs(found - expected).max()), 0.5 / 255 + TOLERANCE
        if not largest <= allowed:
            raise MismatchError(f"{network}: package and harness differ by {largest:.2g} (at most {allowed:.2g})")
    if recipe.precision == "fp16":
        _check_half(network, decibels, _own(made[size], inputs, expected), eight_bit=recipe.images)
    return decibels


def _own(made: Captured, inputs: Arrays, expected: np.ndarray) -> float:
    """Agreement of PyTorch in FP16 with the reference, in dB; infinite where it overflows itself."""
    try:
        return agreement(in_fp16(made.module, inputs), expected)
    except MismatchError:
        return math.inf


def _check_half(network: str, decibels: float, own: float, *, eight_bit: bool) -> None:
    """An FP16 package must reach the floor, and not be further off than the module's own rounding allows."""
    floor = OWN_DEPTH if network == WHOLE_WITH_DEPTH else FLOORS["fp16"]
    least = floor
    if math.isfinite(own) and not eight_bit:  # rounding to 8 bits alone is 58.9 dB
        least = max(floor, own - 20 * math.log10(FACTORS["fp16"])) if network != WHOLE_WITH_DEPTH else floor
    if not decibels >= least:
        raise MismatchError(
            f"{network}: package and harness agree to only {decibels:.2f} dB (at least {least:.2f} needed): use "
            "--precision fp32"
        )
