"""Depth networks of others behind the contract of ours: their sizes, and which runtimes have them. No torch."""

from pathlib import Path

from deeplens.console.errors import InputError
from deeplens.model.contract import CONTRACTS, VARIANTS, Contract, depth_contract, part_of
from deeplens.model.depth_registry import DepthCard
from deeplens.runtimes import depth_store, folders, manifest
from deeplens.runtimes.fit import Fit
from deeplens.runtimes.spec import RUNTIMES, has_library

LIBRARY = {"transformers": "transformers", "module": "torch"}
"""Kind of a network → the library that PyTorch needs beside itself."""


def fit_of(card: DepthCard, *, native: bool = False) -> Fit:
    """How photos are put into a network.

    Args:
        card: of a network that was added: its size and aspect are known.
        native: it takes any size, as PyTorch does.
    """
    assert card.size is not None
    assert card.aspect is not None
    mean = card.mean or (0.0, 0.0, 0.0)
    return Fit(
        card.size,
        multiple=card.multiple or 1,
        aspect=card.aspect,
        resample=card.resample or "bilinear",
        frame=mean if card.channels == "rgb" else mean[::-1],
        native=native and card.aspect == "keep",
    )


def contract_of_card(card: DepthCard) -> Contract:
    """The contract of our depth network at this one's size."""
    return depth_contract(card.size, card.aspect)


def sized_contract(variant: str, network: str) -> Contract:
    """The contract of a variant's network: of a composed variant's depth network at that network's size.

    Raises:
        InputError, MissingError: as `runtimes.depth_store.find`.
    """
    name = part_of(variant, network)
    return CONTRACTS[network] if name in VARIANTS else contract_of_card(depth_store.find(name).card)


def check_variant(variant: str) -> None:
    """Raise InputError unless a name is that of a variant, composed or not, whose parts are known."""
    own, depth = part_of(variant, "lens_blur"), part_of(variant, "depth")
    if own not in VARIANTS:
        raise InputError(f"unknown variant '{variant}': choose {' or '.join(VARIANTS)}")
    if depth != own:
        depth_store.find(depth)


def can_run(variant: str, runtime: str, *, precision: str, artifacts: Path | None) -> bool:
    """Whether a runtime has the depth network of a composed variant; True for any other."""
    name = part_of(variant, "depth")
    if name in VARIANTS:
        return True
    card = depth_store.find(name).card
    if runtime == "torch":
        return card.kind != "onnx" and has_library(LIBRARY[card.kind])
    if runtime == "onnx" and card.kind == "onnx":
        return True
    spec = RUNTIMES[runtime]
    return has_artefact(variant, spec.stored_as, precision=spec.stored_precision(precision), artifacts=artifacts)


def has_artefact(variant: str, stored_as: str, *, precision: str, artifacts: Path | None) -> bool:
    """Whether the depth network of a composed variant was exported.

    Args:
        stored_as: what the manifest calls the runtime; `precision` is that of the artefact.
    """
    name = part_of(variant, "depth")
    folder = folders.opened_folder(
        stored_as, variant=part_of(variant, "lens_blur"), precision=precision, artifacts=artifacts
    )
    wanted = ("depth", name, stored_as, precision)
    return any((each.network, each.variant, each.runtime, each.precision) == wanted for each in manifest.read(folder))


def runtimes_of(name: str) -> tuple[str, ...]:
    """The runtimes that a network can be exported for."""
    kind = depth_store.find(name).card.kind
    return tuple(each for each in RUNTIMES if each != "torch" and not (kind == "onnx" and each == "coreml"))
