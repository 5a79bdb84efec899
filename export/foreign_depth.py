"""A depth network of others, ready for the exporters: at one fixed size, behind the contract of ours."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from deeplens.console.errors import MissingError
from deeplens.console.package import pip_install
from deeplens.model.contract import VARIANTS, Contract, part_of
from deeplens.model.depth_registry import DepthCard
from deeplens.model.shipped import Weights
from deeplens.runtimes import depth_store
from deeplens.runtimes.depth_networks import contract_of_card, fit_of
from deeplens.runtimes.fit import Fit
from deeplens.runtimes.manifest_entry import FIT

if TYPE_CHECKING:
    import torch

MARGIN = 8.0
"""How many times the network's own rounding (|float32 − float64| in PyTorch) an FP32 artefact may be off."""


@dataclass(frozen=True, eq=False)
class Foreign:
    """A depth network of others in PyTorch.

    Attributes:
        card: what is known of it.
        module: as PyTorch runs it: the reference.
    """

    card: DepthCard
    module: "torch.nn.Module"

    @property
    def contract(self) -> Contract:
        """Of our depth network, at the size of this one."""
        return contract_of_card(self.card)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        assert self.card.size is not None
        return self.card.size

    @property
    def fit(self) -> Fit:
        """How an artefact's photos are put into it: in a frame, where the aspect ratio is kept."""
        return fit_of(self.card)

    @property
    def more(self) -> dict[str, Any]:
        """For an artefact's entry."""
        return {FIT: self.fit.to_json(), "licence": self.card.licence}

    @cached_property
    def fixed(self) -> "torch.nn.Module":
        """What the exporters trace: the network at its size, constants computed ahead of time."""
        from deeplens.export.frozen import frozen

        return frozen(self.module, self.size)


def foreign(name: str) -> Foreign:
    """A network that was added; what is loaded are the bytes that were hashed.

    Raises:
        InputError: no network is called so.
        MissingError: it was not added, it is an ONNX file, or a library is not there.
        MismatchError: its files are not those that were added, or not its weights.
    """
    found = depth_store.find(name)
    if found.card.kind == "onnx":
        raise MissingError(
            f"{name} is an ONNX file, which PyTorch can't trace: add its PyTorch weights as another network"
        )
    try:
        from deeplens.model.foreign import load
    except ImportError as error:
        raise MissingError(f"{name} needs PyTorch ({error}): {pip_install('depth-networks')}") from error
    return Foreign(found.card, load(found.card, found.read, found.weights.name))


def network_module(variant: str, network: str, weights: Weights = "shipped") -> "torch.nn.Module":
    """A network of a variant, composed or not, in PyTorch: see `model.build.load` and `foreign`."""
    from deeplens.model import build

    name = part_of(variant, network)
    return build.load(name, network, weights) if name in VARIANTS else foreign(name).module


def foreign_module(name: str) -> "torch.nn.Module | None":
    """The network in PyTorch; None of an ONNX file, which has no other form."""
    return None if depth_store.find(name).card.kind == "onnx" else foreign(name).module
