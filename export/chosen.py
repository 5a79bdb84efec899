"""What an export command makes unless told otherwise: `edge`, with trained weights. Imports no torch."""

from collections.abc import Callable, Sequence
from pathlib import Path

from deeplens.console.errors import MissingError
from deeplens.export.precision_plan import PLANNED, read
from deeplens.model.contract import NETWORKS
from deeplens.model.shipped import WEIGHTS, Weights

VARIANT = "edge"
"""The variant that is exported unless another is named."""


def chosen_variants(variants: Sequence[str] | None, precision: str, plan: Path | None) -> tuple[str, ...]:
    """The variants that were named; else the one that a precision plan is of, where one is given; else `VARIANT`."""
    if variants:
        return tuple(variants)
    return (read(plan).variant,) if plan is not None and precision in PLANNED else (VARIANT,)


def chosen_networks(
    variants: Sequence[str], networks: Sequence[str] | None, weights: Weights, *, report: Callable[[str], None]
) -> dict[str, tuple[str, ...]]:
    """Variant → its networks that are exported. An untrained network is one of them only if `weights` is "initial".

    Args:
        networks: those that were named; None: all that have trained weights.
        weights: "shipped", "initial", a file or a folder, which is looked into later.
        report: gets a line for each network that is left out because it has no trained weights.

    Raises:
        MissingError: a network that was named has no trained weights, or none is left.
    """
    found = {}
    for variant in variants:
        wanted = tuple(networks or NETWORKS)
        untrained = [
            name
            for name in wanted
            if weights == "shipped" and not (WEIGHTS / f"{variant}_{name}.safetensors").is_file()
        ]
        found[variant] = tuple(name for name in wanted if name not in untrained)
        if untrained and (networks or not found[variant]):
            raise MissingError(
                f"no trained weights are shipped for the {variant} {untrained[0]} network: give your own with "
                "--weights, or --weights initial for untrained ones (parity and benchmarks only)"
            )
        for name in untrained:
            report(
                f"note: {variant} {name} is left out, because no trained weights are shipped for it: "
                f"add --network {name} --weights initial to export it untrained"
            )
    return found
