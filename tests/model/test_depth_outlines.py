"""The outlines of `edge` depth: nothing before they are trained, then steps as steep as the pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter
from scipy.special import expit

from deeplens.console.errors import MismatchError
from deeplens.model.build import build, load
from deeplens.model.cost import cost
from deeplens.model.depth import STEEP_REACH, STEEP_SLOPE, STEEP_SPAN, EdgeDepth, Outlines, steepened
from deeplens.model.layers import upsample_2x
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
    torch.testing.assert_close(disparity, upsample_2x(depth.depth_head(decoded)))
    torch.testing.assert_close(segmentation, torch.sigmoid(upsample_2x(depth.segmentation_head(decoded))))


@torch.no_grad()
def test_a_side_decides_between_two_smooth_maps() -> None:
    """With a steep side the map jumps from middle − half to middle + half between two pixels."""
    depth, picture = network(), torch.rand(1, 3, 320, 320, generator=torch.Generator().manual_seed(1))
    before = depth(picture)

    class Step(torch.nn.Module):
        def forward(self, picture: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
            assert features.shape[1:] == (64, 160, 160)
            side = torch.full((1, 2, *picture.shape[2:]), -50.0)
            side[..., 101:] = 50.0
            return side

    depth.outlines = Step()  # type: ignore[assignment]
    torch.nn.init.constant_(depth.step_head.bias, 0.3)  # type: ignore[arg-type]
    sides = torch.cat((before[..., :101] - 0.3, before[..., 101:] + 0.3), 3)
    torch.testing.assert_close(depth(picture), steepened(sides))
    torch.testing.assert_close(steepened(sides), sides, atol=0.01, rtol=0)


def steep_by_hand(disparity: NDArray[np.float64]) -> NDArray[np.float64]:
    """`steepened` from its definition, in float64, with SciPy's filters."""
    window = 2 * STEEP_REACH + 1
    near, far = maximum_filter(disparity, window, mode="nearest"), minimum_filter(disparity, window, mode="nearest")
    share = expit(STEEP_SLOPE * (2 * (disparity - far) / np.maximum(near - far, STEEP_SPAN[0]) - 1))
    fade = np.interp(near - far, STEEP_SPAN, (0, 1))
    return disparity * (1 - fade) + fade * (far + (near - far) * share)


def test_steepened_is_the_shock_filter_of_its_definition() -> None:
    disparity = gaussian_filter(np.random.default_rng(0).random((60, 70)), 2) * 4
    assert np.ptp(disparity) > 0.5
    steep = steepened(torch.from_numpy(disparity)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(steep, steep_by_hand(disparity), atol=1e-12)
    assert np.abs(steep - disparity).max() > 0.05


@given(
    slope=st.floats(-0.02, 0.02), across=st.floats(-0.02, 0.02), noise=st.floats(0, 0.02), seed=st.integers(0, 2**16)
)
def test_an_even_slope_and_small_steps_keep_their_values(slope: float, across: float, noise: float, seed: int) -> None:
    rows, columns = np.mgrid[0:40, 0:40]
    plane = torch.from_numpy(0.5 + slope * (rows - 20) + across * (columns - 20))[None, None]
    inner = (..., slice(STEEP_REACH, -STEEP_REACH), slice(STEEP_REACH, -STEEP_REACH))
    torch.testing.assert_close(steepened(plane)[inner], plane[inner], atol=1e-9, rtol=0)
    flat = torch.from_numpy(0.5 + noise * np.random.default_rng(seed).random((1, 1, 40, 40)))
    torch.testing.assert_close(steepened(flat), flat, atol=0, rtol=0)


@pytest.mark.parametrize("wide", [2.0, 4.0, 7.0])
@pytest.mark.parametrize("middle", [29.5, 30.2])
def test_a_soft_step_becomes_narrow_and_stays_where_it_is(wide: float, middle: float) -> None:
    """10 to 90 % of the step within 62 % of its width, or what pixels allow; the middle within 0.2 pixels."""
    at = np.arange(60)
    ramp = np.clip(0.5 + (at - middle) / wide, 0, 1)
    row = steepened(torch.from_numpy(np.tile(ramp, (20, 1)))[None, None])[0, 0, 10].numpy()
    assert (np.diff(row) >= 0).all()
    low, crossing, high = (float(np.interp(level, row, at)) for level in (0.1, 0.5, 0.9))
    assert high - low <= max(0.62 * 0.8 * wide, 1.65)
    assert crossing == pytest.approx(middle, abs=0.2)


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
