"""Depth networks of others as PyTorch modules that keep the contract of ours: a picture in, its disparity out."""

import json
from collections.abc import Callable
from importlib import import_module
from io import BytesIO
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from deeplens.console.errors import InputError, MismatchError, MissingError, one_line
from deeplens.console.package import pip_install
from deeplens.model.build import tensors_of
from deeplens.model.depth_registry import DepthCard

NEAREST = 1e-6
"""Depth is at least this before it is inverted, in its own unit."""

CONFIG = "config.json"
"""What a folder of the transformers library says of its network."""


class ForeignDepth(nn.Module):
    """A depth network of others behind our contract.

    It takes `picture`, (1, 3, H, W), RGB in [0, 1], normalises it as the network wants, and gives `disparity`,
    (1, 1, H, W), near = large, of any scale and offset. H and W are those that the network takes.

    Attributes:
        network: the network itself.
        one: (1, 1, 1, 1): the number 1.
        mean, scale: (1, 3, 1, 1): what is subtracted from pixels, and what they are multiplied with then.
    """

    one: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, network: nn.Module, card: DepthCard) -> None:
        super().__init__()
        self.network = network
        self._output = card.output
        self._name = card.output_name
        self._swapped = card.channels == "bgr"
        mean, std = card.mean or (0.0, 0.0, 0.0), card.std or (1.0, 1.0, 1.0)
        # A division by a tensor: 1 / x with a plain number becomes `reciprocal`, to which Core ML adds 1e-4.
        self.register_buffer("one", torch.ones(1, 1, 1, 1), persistent=False)
        # (x − mean) · (1 / std): coremltools makes a product and then a sum a batch norm, which fails for iOS 18.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([1 / each for each in std]).view(1, 3, 1, 1))

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """(1, 3, H, W) in [0, 1] → (1, 1, H, W)."""
        ordered = picture.flip(1) if self._swapped else picture
        values = _map(self.network((ordered - self.mean) * self.scale), self._name)
        if values.shape[2:] != picture.shape[2:]:
            values = functional.interpolate(values, picture.shape[2:], mode="bilinear", align_corners=False)
        return self.one / values.clamp(min=NEAREST) if self._output == "depth" else values


Read = Callable[[str], bytes]
"""Gives the bytes of a network's file by its name, after their hash was checked."""


def load(card: DepthCard, read: Read, weights: str) -> ForeignDepth:
    """The network with its weights, in float32 and evaluation mode. Each file is read once.

    Args:
        card: of kind "transformers" or "module".
        read: gives the bytes of the network's files.
        weights: name of the file of the weights.

    Raises:
        InputError: a class that can't be made or run on, or a file that can't be read.
        MissingError: a library or the named class is not there, or the network is an ONNX file.
        MismatchError: the weights are not this network's.
    """
    if card.kind == "transformers":
        network = _of_transformers(card, read, weights)
    elif card.kind == "module":
        network = _of_module(card, read, weights)
    else:
        raise MissingError(
            f"PyTorch weights of {card.name}, which is an ONNX file: use --runtime onnx, or add its weights as another "
            "network"
        )
    return ForeignDepth(network.float().eval(), card).eval().requires_grad_(False)


def _of_transformers(card: DepthCard, read: Read, weights: str) -> nn.Module:
    try:
        from transformers import CONFIG_MAPPING, MODEL_FOR_DEPTH_ESTIMATION_MAPPING
        from transformers.utils import logging
    except ImportError as error:
        raise MissingError(
            f"{card.name} needs the transformers library ({error}): {pip_install('depth-networks')}"
        ) from error
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        settings = json.loads(read(CONFIG))
        config = CONFIG_MAPPING[settings["model_type"]].from_dict(settings)
        kind: Any = MODEL_FOR_DEPTH_ESTIMATION_MAPPING[type(config)]
        network, told = kind.from_pretrained(
            None,
            config=config,
            state_dict=tensors_of(read(weights), weights, again="bring the file again"),
            attn_implementation="eager",  # the fused operation becomes tests for NaN, which Core ML has not
            output_loading_info=True,
            dtype=torch.float32,
        )
    except (InputError, MismatchError, MissingError):
        raise
    except Exception as error:  # a configuration that is none fails in many ways
        raise MismatchError(f"transformers can't load {card.name} ({one_line(error)[:300]})") from error
    missing = sorted(told["missing_keys"])
    if missing:
        raise MismatchError(
            f"the file of {card.name} lacks {len(missing)} of its weights, the first is {missing[0]}: bring the file "
            "again"
        )
    return network


def _of_module(card: DepthCard, read: Read, weights: str) -> nn.Module:
    assert card.module is not None
    place, _, name = card.module.partition(":")
    try:
        kind: Any = getattr(import_module(place), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise MissingError(
            f"the class {card.module} of {card.name} can't be imported ({one_line(error)}): install its package, or "
            "add the network again with --module PACKAGE.MODULE:CLASS"
        ) from error
    try:
        network = kind(**(card.arguments or {}))
    except Exception as error:  # it is the user's own class
        raise InputError(f"{card.module} can't be made ({one_line(error)}): give --module-arguments JSON") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"{card.module} makes a {type(network).__name__}, which is no torch.nn.Module")
    state = _state(read(weights), weights)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise MismatchError(
            f"{weights} does not hold the weights of {card.module} ({one_line(error)[:300]})"
        ) from error
    return network


def _state(data: bytes, name: str) -> dict[str, torch.Tensor]:
    """The weights in a file of safetensors or of PyTorch; of the latter nothing but tensors is loaded."""
    if name.lower().endswith(".safetensors"):
        return tensors_of(data, name, again="bring the file again")
    try:
        state = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"the weights in {name} can't be read ({one_line(error)[:200]})") from error
    except Exception as error:  # an unpickling error, of a module that is not public
        raise InputError(f"{name} holds more than tensors, which is not loaded ({one_line(error)[:200]})") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(each, torch.Tensor) for each in state.values()):
        raise InputError(f"{name} holds no dictionary of tensors: save the module's state_dict()")
    return dict(state)


def _map(result: Any, name: str | None) -> torch.Tensor:
    """(1, 1, h, w) of what a network gives: a tensor, or the named one of several."""
    if not isinstance(result, torch.Tensor):
        values = getattr(result, name or "predicted_depth", None)
        if values is None and isinstance(result, dict):
            values = result.get(name or "predicted_depth")
        if values is None and isinstance(result, tuple | list) and len(result) == 1:
            values = result[0]
        if not isinstance(values, torch.Tensor):
            raise InputError(
                f"the depth network gives a {type(result).__name__} without '{name or 'predicted_depth'}': wrap it in "
                "a module that gives one map"
            )
        result = values
    if result.ndim == 4 and result.shape[1] == 1:
        return result
    if result.ndim == 3:
        return result[:, None]
    raise InputError(f"the depth network gives {tuple(result.shape)}, expected one map, (1, 1, height, width)")
