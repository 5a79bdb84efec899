"""Makes the networks: with initial weights, or with trained ones from a safetensors file."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from deeplens.console.errors import InputError, MismatchError, one_line
from deeplens.console.files import bytes_sha256
from deeplens.console.inputs import read_bytes
from deeplens.model.contract import NETWORKS, VARIANTS
from deeplens.model.depth import EdgeDepth, PaperDepth
from deeplens.model.first_calls import make_first_calls
from deeplens.model.lens_blur import EdgeLensBlur, PaperLensBlur
from deeplens.model.shipped import Weights, check_card, weights_file
from deeplens.model.upsampler import EdgeUpsampler, PaperUpsampler

TRAINING_ONLY = "segmentation_head."
"""Begins the names of the weights that only training needs."""

_CLASSES: dict[tuple[str, str], type[nn.Module]] = {
    ("paper", "depth"): PaperDepth,
    ("paper", "lens_blur"): PaperLensBlur,
    ("paper", "upsample"): PaperUpsampler,
    ("edge", "depth"): EdgeDepth,
    ("edge", "lens_blur"): EdgeLensBlur,
    ("edge", "upsample"): EdgeUpsampler,
}


def build(variant: str, network: str) -> nn.Module:
    """The network with its initial weights: always the same (seed 0), in evaluation mode.

    Raises:
        InputError: an unknown variant or network.
    """
    if variant not in VARIANTS:
        raise InputError(f"unknown variant {variant!r}: choose one of {', '.join(VARIANTS)}")
    if network not in NETWORKS:
        raise InputError(f"unknown network {network!r}: choose one of {', '.join(NETWORKS)}")
    make_first_calls()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _CLASSES[variant, network]().eval()


def load(variant: str, network: str, weights: Weights = "shipped") -> nn.Module:
    """The network with trained weights, in evaluation mode.

    Args:
        weights: "shipped", "initial", a safetensors file, or a folder that holds VARIANT_NETWORK.safetensors.

    Raises:
        InputError: an unknown variant or network, or a file that is not safetensors.
        MissingError: the weights are not there.
        MismatchError: the file's tensors are not this network's.
    """
    module = build(variant, network)
    path = weights_file(variant, network, weights)
    if path is None:
        return module
    read_weights(module, path, what=f"the {variant} {network} network", needs_card=weights == "shipped")
    return module


def read_weights(module: nn.Module, path: Path, *, what: str, needs_card: bool = False) -> None:
    """Fill a module with the weights in a safetensors file. The training-only head may be missing there.

    The file is read once: what is checked against its card is what is loaded.

    Args:
        what: the module, for messages: "the … network".
        needs_card: refuse weights without a card, as well as those that are not their card's.

    Raises:
        InputError: the file can't be read as safetensors.
        MissingError: there is no card, and one is needed.
        MismatchError: its tensors are not this module's, or the card beside it is of another file.
    """
    again = "download the file or train the network again"
    try:
        data = read_bytes(path)
        check_card(path, bytes_sha256(data), needed=needs_card)
    except (OSError, ValueError, KeyError, OverflowError) as error:
        raise InputError(f"{path} can't be read as safetensors ({one_line(error)}): {again}") from error
    state = tensors_of(data, str(path), again=again)
    expected = module.state_dict()
    wrong = sorted(
        name
        for name in expected.keys() | state.keys()
        if name not in state or name not in expected or state[name].shape != expected[name].shape
    )
    optional = {name for name in wrong if _may_lack(name, state)}
    if set(wrong) - optional:
        first = sorted(set(wrong) - optional)[0]
        raise MismatchError(
            f"{path} does not hold the weights of {what}: {len(wrong)} tensors differ, the first is {first}"
        )
    module.load_state_dict(state, strict=not optional)


def tensors_of(data: bytes, name: str, *, again: str) -> dict[str, torch.Tensor]:
    """The tensors in the bytes of a safetensors file.

    Args:
        name: of the file, for messages.
        again: what to do where it is broken.

    Raises:
        InputError: the bytes are no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as load_bytes

    try:
        return dict(load_bytes(data))
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise InputError(f"{name} can't be read as safetensors ({one_line(error)}): {again}") from error


OPTIONAL = (TRAINING_ONLY, "outlines.", "step_head.")
"""Parts that a file may lack as a whole: the head of training, and what changes nothing until it is trained."""


def _may_lack(name: str, state: Mapping[str, torch.Tensor]) -> bool:
    """Whether a tensor belongs to an optional part of which the file holds nothing."""
    parts = [part for part in OPTIONAL if name.startswith(part)]
    return bool(parts) and not any(other.startswith(parts[0]) for other in state)


def weights_sha256(module: nn.Module) -> str:
    """SHA-256 over the sorted state dict: names, types, shapes and bytes. The training-only head is left out."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not name.startswith(TRAINING_ONLY):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
