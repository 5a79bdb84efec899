"""What `edge` costs, and that it is made of operations that devices run in half precision."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from deeplens.console.errors import MissingError
from deeplens.model.build import build, load
from deeplens.model.contract import CONTRACTS, NETWORKS
from deeplens.model.cost import cost
from deeplens.model.shipped import weights_file
from tests.conftest import ROOT
from tests.support.tiny import random_inputs

SAMPLE = ROOT / "samples" / "bridge.jpg"


def scrambled(module: nn.Module, *, seed: int, scale: float = 1.0) -> nn.Module:
    """The module with other weights, far from the initial ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            spread = scale * (0.02 + float(parameter.std()) if parameter.numel() > 1 else 1.0)
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    return module


# --- Cost


@pytest.mark.slow
@pytest.mark.parametrize("size", [(32, 32), (192, 256), (768, 1024)], ids=str)
def test_budget(size: tuple[int, int]) -> None:
    assert cost("edge", "upsample", *size)["per_pixel"] <= 10_000
    assert cost("edge", "lens_blur", *size)["per_pixel"] <= 60_000
    assert cost("edge", "depth", 320, 320)["multiplications"] <= 2.5e9
    assert cost("paper", "upsample", *size)["per_pixel"] > 90_000, "the control: the released step is ten times dearer"


# --- Operations

ALLOWED = {
    "abs", "add", "avg_pool2d", "batch_norm", "cat", "clamp", "conv2d", "div", "getitem", "hardtanh", "max_pool2d",
    "maximum", "minimum", "mul", "neg", "pad", "pixel_shuffle", "relu", "rsub", "sigmoid", "slice", "softmax", "split",
    "split_with_sizes", "sqrt", "sub", "sum", "upsample_bilinear2d",
}  # fmt: skip
"""Those that design.md lists as safe in FP16 and on the Neural Engine, and element-wise ones."""


def faults(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[str]:
    """What in the exported graph breaks the rules for edge networks; what depends on weights alone is folded away."""
    program = torch.export.export(module, inputs, strict=False)
    names = set(program.graph_signature.user_inputs)
    found = []
    depends: set[Any] = set()
    for node in program.graph.nodes:
        if node.name in names or depends & set(node.all_input_nodes):
            depends.add(node)
        if node.op != "call_function" or node not in depends:
            continue
        name = getattr(node.target, "overloadpacket", node.target).__name__
        value, arguments = node.meta["val"], node.args
        if name not in ALLOWED:
            found.append(f"{name} is not on the list")
        if isinstance(value, Tensor) and value.ndim > 4:
            found.append(f"{name} of rank {value.ndim}")
        if name == "conv2d":
            kernel = arguments[1].meta["val"].shape[2:]
            stride = arguments[3] if len(arguments) > 3 else [1]
            dilation = arguments[5] if len(arguments) > 5 else [1]
            if max(kernel) > 7 or max(stride) > 2 or max(dilation) > 2:
                found.append(f"conv2d of kernel {tuple(kernel)}, stride {stride}, dilation {dilation}")
        if name == "max_pool2d" and (max(arguments[1]) > 7 or max(arguments[2]) > 2):
            found.append(f"max_pool2d of kernel {arguments[1]}, stride {arguments[2]}")
        if name == "softmax" and arguments[1] != 1:
            found.append("softmax not over the channels")
        if name == "upsample_bilinear2d":
            before, after = arguments[0].meta["val"].shape[2:], value.shape[2:]
            if arguments[2] or min(after) == 1 or any(b % a for a, b in zip(before, after, strict=True)):
                found.append(f"resize {tuple(before)} to {tuple(after)}, align_corners={arguments[2]}")
        if name == "sum" and (len(arguments) < 2 or list(arguments[1]) != [1]):
            found.append("sum not over the channels")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_only_safe_operations(network: str) -> None:
    inputs = random_inputs(network, *(CONTRACTS[network].fixed_size or (32, 48)))
    assert faults(build("edge", network), tuple(inputs)) == []


class Forbidden(nn.Module):
    """One of what the check must see."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.wide = nn.Conv2d(3, 3, 9, padding=4)
        self.strided = nn.Conv2d(3, 3, 3, stride=4)
        self.norm = nn.GroupNorm(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        grid = torch.zeros(1, 4, 4, 2)
        return {
            "pixel_unshuffle": lambda: F.pixel_unshuffle(x, 2),
            "bicubic": lambda: F.interpolate(x, scale_factor=2.0, mode="bicubic"),
            "grid_sample": lambda: F.grid_sample(x, grid, align_corners=False),
            "group_norm": lambda: self.norm(x),
            "layer_norm": lambda: F.layer_norm(x, x.shape[1:]),
            "gelu": lambda: F.gelu(x),
            "mish": lambda: F.mish(x),
            "wide kernel": lambda: self.wide(x),
            "long stride": lambda: self.strided(x),
            "wide pool": lambda: F.max_pool2d(x, 9, 1, 4),
            "rank": lambda: x.reshape(1, 3, 2, 4, 8).sum(1),
            "softmax": lambda: torch.softmax(x, 3),
            "align_corners": lambda: F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True),
        }[self.kind]()


@pytest.mark.parametrize(
    "kind",
    ["pixel_unshuffle", "bicubic", "grid_sample", "group_norm", "layer_norm", "gelu", "mish", "wide kernel",
     "long stride", "wide pool", "rank", "softmax", "align_corners"],
)  # fmt: skip
def test_the_check_sees_what_is_not_safe(kind: str) -> None:
    assert faults(Forbidden(kind), (torch.rand(1, 3, 8, 8),)) != []


class Peak(TorchDispatchMode):
    """The largest magnitude that any operation gave."""

    def __init__(self) -> None:
        super().__init__()
        self.value = 0.0

    def __torch_dispatch__(
        self, function: Any, _types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        result = function(*arguments, **(options or {}))
        if isinstance(result, Tensor) and result.is_floating_point() and result.numel():
            self.value = max(self.value, float(result.detach().abs().max()))
        return result


def peak(module: nn.Module, inputs: list[Tensor]) -> float:
    with torch.no_grad(), Peak() as mode:
        module(*inputs)
    return mode.value


@pytest.mark.parametrize("network", NETWORKS)
def test_no_value_overflows_half_precision(network: str) -> None:
    """On random inputs and on the extremes, with the shipped weights where there are any."""
    module = build("edge", network)
    if weights_file_exists(network):
        module = load("edge", network)
    inputs = random_inputs(network, *(CONTRACTS[network].fixed_size or (40, 48)))
    white_and_near = [torch.ones_like(each) for each in inputs]
    white_and_far = [*white_and_near[:-1], -white_and_near[-1]]
    for case in (inputs, white_and_near, white_and_far) if network != "depth" else (inputs, white_and_near):
        assert peak(module, case) < 65504 / 4


def test_the_peak_is_of_what_lies_inside() -> None:
    class Large(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 1e6) / 1e6

    assert peak(Large(), [torch.ones(1)]) == 1e6


def weights_file_exists(network: str) -> bool:
    try:
        return weights_file("edge", network) is not None
    except MissingError:
        return False
