"""What an export command makes unless told otherwise, and what it refuses. Imports no torch."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from deeplens.console.errors import InputError, MissingError
from deeplens.export.precision_plan import PLANNED, read
from deeplens.model.contract import ALIGNMENT, MIN_SIZE, NETWORKS, Contract
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


def check_choice(kind: str, name: str, choices: Collection[str]) -> None:
    """Raise InputError unless `name` is one of `choices`."""
    if name not in choices:
        raise InputError(f"unknown {kind} '{name}': choose {', '.join(choices)}")


def checked_shape(contract: Contract, shape: tuple[int, int]) -> tuple[int, int]:
    """`shape`, low-resolution (height, width); InputError where the network doesn't take it."""
    if contract.fixed_size is not None and shape != contract.fixed_size:
        raise InputError(f"{contract.network} has only one size, {contract.fixed_size[0]}x{contract.fixed_size[1]}")
    if any(size < MIN_SIZE or size % ALIGNMENT for size in shape):
        raise InputError(f"size {shape[1]}x{shape[0]}: give multiples of {ALIGNMENT} from {MIN_SIZE} up")
    return shape


def check_alone(others: Mapping[str, object]) -> None:
    """Raise InputError where an option is given that does not go with --depth-network."""
    for option, value in others.items():
        if value:
            raise InputError(
                f"{option} does not go with --depth-network, which exports one depth network at its own size: leave it "
                "out (`deeplens depth add NAME --size WxH --replace` chooses the size)"
            )
