"""Is a saved Core ML package the network that it came from? The executor runs it on golden vectors made by PyTorch."""

from pathlib import Path

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.export.coreml_recipe import Recipe
from deeplens.export.golden import Golden, agreement
from deeplens.model.contract import Contract

TOLERANCE = 1e-5
"""Largest |executor − PyTorch| of an FP32 package, as a share of the output's spread."""


def compare(package: Path, contract: Contract, recipe: Recipe, golden: Golden, *, allowed: float = 0.0) -> float:
    """Run the first function of a package on the golden inputs: in float32, or with FP16 values and float32 sums.

    An FP32 package must be within `TOLERANCE`, which catches a wrong graph or weight; an FP16 one must reach its gate
    in the golden vectors; of compressed weights the loss is told.

    Args:
        allowed: |difference| that an FP32 package may have beside `TOLERANCE`.

    Returns:
        the agreement with PyTorch's float32 output, in dB (`golden.agreement`).

    Raises:
        MismatchError: the package is outside these bounds, or can't be run.
    """
    from deeplens.runtimes.coreml.executor import Executor
    from deeplens.runtimes.coreml.program import load

    images = recipe.image_names(contract)
    inputs = {name: array * np.float32(255) if name in images else array for name, array in golden.inputs.items()}
    executor = Executor(
        load(package, next(iter(recipe.functions))), mode="float32" if recipe.precision == "fp32" else "fp16"
    )
    name, expected = next(iter(golden.outputs.items()))
    found = executor.run(inputs)[name]
    decibels = agreement(found, expected)
    if recipe.precision == "fp32":
        spread = float(np.ptp(expected))
        share, limit = float(np.abs(found - expected).max()) / spread, max(TOLERANCE, allowed / spread)
        if not share <= limit:
            raise MismatchError(
                f"{contract.network}: package and PyTorch differ by {share:.2g} of the spread (at most {limit:.2g})"
            )
    elif decibels < golden.least.get(recipe.precision, -np.inf):
        raise MismatchError(
            f"{contract.network}: package and PyTorch agree to only {decibels:.2f} dB (at least "
            f"{golden.least[recipe.precision]:.2f} needed): use --precision fp32"
        )
    return decibels
