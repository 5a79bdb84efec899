"""The outlines of `edge` depth: nothing before they are trained, then steps as steep as the pixels."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from deeplens.console.errors import MismatchError
from deeplens.model.build import build, load
from deeplens.model.cost import cost
from deeplens.model.depth import EdgeDepth, Outlines
from deeplens.model.layers import upsample_2x
from deeplens.model.map_filters import STEEP_SLOPES, sharpened, steepened
from deeplens.model.shipped import weights_file

BUDGET = 2.5e9
"""Multiplications that a phone has for depth."""


def network() -> EdgeDepth:
    made = build("edge", "depth")
    assert isinstance(made, EdgeDepth)
    return made


@torch.no_grad()
def test_untrained_outlines_change_nothing() -> None:
    depth, picture = network(), torch.rand(1, 3, 320, 320, generator=torch.Generator().manual_seed(1))
    decoded, _ = depth._decode(picture * (255 / 128) - 127 / 128)
    disparity, segmentation = depth.heads(picture)
    torch.testing.assert_close(disparity, sharpened(upsample_2x(depth.depth_head(decoded)), picture))
    torch.testing.assert_close(segmentation, torch.sigmoid(upsample_2x(depth.segmentation_head(decoded))))


@torch.no_grad()
def test_a_side_decides_between_two_smooth_maps() -> None:
    """With a steep side the map jumps from middle − half to middle + half between two pixels."""
    depth, picture = network(), torch.rand(1, 3, 320, 320, generator=torch.Generator().manual_seed(1))
    middle = upsample_2x(depth.depth_head(depth._decode(picture * (255 / 128) - 127 / 128)[0]))

    class Step(torch.nn.Module):
        def forward(self, picture: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
            assert features.shape[1:] == (64, 160, 160)
            side = torch.full((1, 2, *picture.shape[2:]), -50.0)
            side[..., 101:] = 50.0
            return side

    depth.outlines = Step()  # type: ignore[assignment]
    torch.nn.init.constant_(depth.step_head.bias, 0.3)  # type: ignore[arg-type]
    sides = torch.cat((middle[..., :101] - 0.3, middle[..., 101:] + 0.3), 3)
    torch.testing.assert_close(depth(picture), sharpened(sides, picture))
    torch.testing.assert_close(steepened(sides, STEEP_SLOPES[0]), sides, atol=0.01, rtol=0)


def test_full_resolution_is_full_resolution() -> None:
    """One pixel of the picture moves what `Outlines` says of it, and of no pixel farther than its kernels reach."""
    outlines = Outlines(4)
    torch.nn.init.normal_(outlines.last.weight, generator=torch.Generator().manual_seed(0))
    picture, features = torch.zeros(1, 3, 32, 32, requires_grad=True), torch.zeros(1, 4, 16, 16)
    outlines(picture + 0.1, features)[0, 0, 16, 16].backward()
    assert picture.grad is not None
    rows, columns = picture.grad.abs().sum((0, 1)).nonzero(as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (12, 20)
    assert (int(columns.min()), int(columns.max())) == (12, 20)


def test_it_is_within_a_phone_s_budget() -> None:
    assert cost("edge", "depth", 320, 320)["multiplications"] <= BUDGET


def test_weights_without_outlines_load_and_halves_do_not(tmp_path: Path) -> None:
    """The weights of a fit before there were outlines are a network whose outlines change nothing."""
    state = {name: value.clone() for name, value in network().state_dict().items()}
    older = {name: value for name, value in state.items() if not name.startswith(("outlines.", "step_head."))}
    save_file(older, tmp_path / "older.safetensors")
    depth = load("edge", "depth", tmp_path / "older.safetensors")
    assert isinstance(depth, EdgeDepth)
    assert not depth.outlines.last.weight.any()
    half = {name: value for name, value in state.items() if name != "outlines.last.bias"}
    save_file(half, tmp_path / "half.safetensors")
    with pytest.raises(MismatchError, match=r"outlines\.last\.bias"):
        load("edge", "depth", tmp_path / "half.safetensors")


def test_the_shipped_weights_load() -> None:
    path = weights_file("edge", "depth")
    assert path is not None
    assert {name for name in load_file(path) if name.startswith("decode1.")}
    load("edge", "depth")
