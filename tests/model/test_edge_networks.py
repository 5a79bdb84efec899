"""The `edge` lens blur and step against their equations, and the trained loop."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter, minimum_filter

from deeplens.model.build import build
from deeplens.model.contract import R_MAX
from deeplens.model.layers import FoldedConv, upsample_2x
from deeplens.model.lens_blur import EdgeLensBlur
from deeplens.model.upsampler import EdgeUpsampler
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.photo import read_photo
from deeplens.runtimes.pytorch import TorchRuntime
from deeplens.scenes.renderer import srgb_to_linear
from tests.conftest import ROOT
from tests.model.test_edge_operations import scrambled, weights_file_exists
from tests.support.tiny import random_inputs

SAMPLE = ROOT / "samples" / "bridge.jpg"


# --- Lens blur


def edge_blur() -> EdgeLensBlur:
    module = build("edge", "lens_blur")
    assert isinstance(module, EdgeLensBlur)
    return module


def test_membership_is_a_hat_around_each_centre() -> None:
    blur = edge_blur()
    centres = sorted(blur.centres)
    middles = [(a + b) / 2 for a, b in itertools.pairwise(centres)]
    radii = np.unique(np.concatenate([centres, middles, np.linspace(-1.2 * R_MAX, 1.2 * R_MAX, 101)]))
    signed_depth = torch.tensor(radii / R_MAX, dtype=torch.float32).view(1, 1, 1, -1)
    found = blur.membership(signed_depth)[0, :, 0].numpy()
    for index, centre in enumerate(blur.centres):
        hat = np.interp(radii, centres, [float(each == centre) for each in centres])
        np.testing.assert_allclose(found[index], hat, atol=2e-6)
    np.testing.assert_allclose(found.sum(0), 1, atol=2e-6)
    for middle in middles:
        at = found[:, np.flatnonzero(radii == middle)[0]]
        np.testing.assert_allclose(sorted(at)[-2:], 0.5, atol=2e-6)


@torch.no_grad()
def test_folded_convolution_is_3x3_over_the_folded_picture() -> None:
    torch.manual_seed(0)
    convolution = FoldedConv(5, 7)
    x = torch.randn(2, 5, 12, 16)
    # Tap (u, v) of 6×6 lies in block (u // 2, v // 2) of 3×3, at place (u % 2, v % 2) of the block.
    weight = convolution.weight.view(7, 5, 3, 2, 3, 2).permute(0, 1, 3, 5, 2, 4).reshape(7, 20, 3, 3)
    expected = F.conv2d(F.pixel_unshuffle(x, 2), weight, convolution.bias, padding=1)
    assert torch.allclose(convolution(x), expected, atol=1e-5)
    swapped = F.conv2d(F.pixel_unshuffle(x.mT.contiguous(), 2), weight, convolution.bias, padding=1).mT
    assert not torch.allclose(swapped, expected, atol=1e-2)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.0, 1.0, 20.0]))
@torch.no_grad()
def test_blur_gives_the_photo_back_where_all_is_in_focus(seed: int, scale: float) -> None:
    blur = scrambled(edge_blur(), seed=seed, scale=scale)
    picture, _ = random_inputs("lens_blur", 32, 40, seed=seed)
    picture[:, :, :8] = 0.0
    assert (blur(picture, torch.zeros(1, 1, 32, 40)) - picture).abs().max() <= 1e-4
    if scale <= 1:
        assert (blur(picture, torch.full((1, 1, 32, 40), 0.5)) - picture).abs().max() > 0.1, "the control: out of focus"


BLUR_REACH = 12
"""Pixels that light can travel: 8 by the widest disc, the rest by the half size that it is blurred at."""


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.0, 1.0, 20.0]), patch=st.sampled_from([1, 4, 16]))
@torch.no_grad()
def test_blur_is_a_mean_of_the_neighbourhood(seed: int, scale: float, patch: int) -> None:
    blur = scrambled(edge_blur(), seed=seed, scale=scale)
    picture, signed_depth = random_inputs("lens_blur", 48, 64, seed=seed)
    picture = picture[:, :, ::patch, ::patch].repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    signed_depth = signed_depth[:, :, ::patch, ::patch].repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    found = blur(picture, signed_depth)[0].numpy()
    size = (1, 2 * BLUR_REACH + 1, 2 * BLUR_REACH + 1)
    planes = picture[0].numpy()
    assert (found >= minimum_filter(planes, size) - 1e-4).all()
    assert (found <= maximum_filter(planes, size) + 1e-4).all()
    assert np.abs(found - planes).max() > 0.05


@torch.no_grad()
def test_blur_spreads_light_over_its_disc() -> None:
    """A bright pixel at one depth, with initial weights: the spot grows with |signed depth|, in linear light."""
    blur = edge_blur()
    picture = torch.full((1, 3, 48, 48), 0.1)
    picture[:, :, 24, 24] = 1.0
    spreads = []
    for radius in (0.0, 1.0, 2.0, 3.0, 6.0):
        spot = blur(picture, torch.full((1, 1, 48, 48), -radius / R_MAX))[0, 0]
        found = srgb_to_linear(spot.numpy()).astype(np.float64) - srgb_to_linear(np.full(1, 0.1, np.float32))[0]
        rows, columns = np.indices(found.shape)
        assert found.sum() == pytest.approx(1 - 0.01, rel=0.05), "no light is lost"
        spreads.append((found * np.hypot(rows - 24, columns - 24) ** 2).sum() / found.sum())
    assert spreads == sorted(spreads)
    # A disc of radius r has the mean square r²/2; hats and the half size add to it.
    np.testing.assert_allclose(spreads[1:4], [0.5, 2.0, 4.5], atol=0.4)
    assert spreads[4] == pytest.approx(18, rel=0.2)


def test_light_is_that_of_srgb() -> None:
    blur = edge_blur()
    values = torch.linspace(0, 1, 256)
    found = (blur.light(values) / blur.LIGHT_SCALE).numpy()
    np.testing.assert_allclose(found, srgb_to_linear(values.numpy()), atol=0.003)
    assert np.abs(values.numpy() ** 2 - srgb_to_linear(values.numpy())).max() > 0.04, "the control: a plain square"


@torch.no_grad()
def test_learned_discs_only_ever_average() -> None:
    """Whatever is learned, a disc's weights are not negative and sum to 1: a bright field stays what it is."""
    blur = edge_blur()
    torch.manual_seed(0)
    for name, disc in blur.named_parameters():
        if name.startswith("disc"):
            disc.copy_(torch.randn_like(disc))
    for radius in blur.centres:
        picture = torch.full((1, 3, 64, 64), 0.7)
        picture[:, :, :, 32:] = 0.2
        found = blur(picture, torch.full((1, 1, 64, 64), radius / R_MAX))
        assert found.min() >= 0.2 - 1e-4
        assert found.max() <= 0.7 + 1e-4
        assert (found[:, :, :, :16] - 0.7).abs().max() < 1e-3


# --- Step


def edge_step() -> EdgeUpsampler:
    module = build("edge", "upsample")
    assert isinstance(module, EdgeUpsampler)
    return module


@torch.no_grad()
def test_step_with_open_gates_gives_the_high_picture_back() -> None:
    step = edge_step()
    weight, bias = step.predict.parameters()
    weight.zero_()
    bias[16:] = 1.0
    picture_high, picture, _, signed_depth = random_inputs("upsample", 32, 40)
    far = torch.full_like(signed_depth, -step.CLOSING[1] / R_MAX)
    signed_depth *= step.CLOSING[0] / R_MAX
    assert (step(picture_high, picture, picture, signed_depth) - picture_high).abs().max() < 1e-6
    assert torch.equal(step(picture_high, picture, picture, far), step(1 - picture_high, picture, picture, far)), (
        "closed by a large circle of confusion, whatever is predicted: nothing of the high picture is left"
    )
    bias[16:] = -2.0
    found = step(picture_high, picture, picture, signed_depth)[:, :, 2:-2, 2:-2]
    bilinear = upsample_2x(picture)[:, :, 2:-2, 2:-2]
    assert (found - bilinear).abs().max() < 0.01, "closed gates: interpolation, bilinear to begin with"
    assert (bilinear - picture_high[:, :, 2:-2, 2:-2]).abs().max() > 0.3


@torch.no_grad()
def test_step_takes_each_band_of_the_detail() -> None:
    """With one gate open at a time, what comes beside interpolation is that band; the three together are all of it."""
    step = edge_step()
    weight, bias = step.predict.parameters()
    weight.zero_()
    picture_high, picture, _, signed_depth = random_inputs("upsample", 32, 40)
    blurred = torch.full_like(picture, 0.5)  # has kept nothing: the gates start from 0
    signed_depth *= 0.1 / R_MAX
    bands = []
    for band in range(3):
        bias[16:] = -2.0
        closed = step(picture_high, picture, blurred, signed_depth)
        bias[16 + 4 * band : 20 + 4 * band] = 1.0
        bands.append(step(picture_high, picture, blurred, signed_depth) - closed)
    kernel = torch.outer(*2 * [torch.tensor([0.25, 0.5, 0.25])]).expand(3, 1, 3, 3)
    smooth = F.conv2d(F.pad(picture_high, (1, 1, 1, 1), mode="reflect"), kernel, groups=3)
    assert (bands[0] - (picture_high - smooth)).abs().max() < 1e-5
    whole = (picture_high - upsample_2x(picture))[:, :, 2:-2, 2:-2]
    assert (sum(bands)[:, :, 2:-2, 2:-2] - whole).abs().max() < 0.01
    assert all(band.abs().max() > 0.1 for band in bands)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
@torch.no_grad()
def test_step_with_closed_gates_stays_within_the_low_neighbours(seed: int) -> None:
    step = scrambled(edge_step(), seed=seed)
    assert isinstance(step, EdgeUpsampler)
    weight, bias = step.predict.parameters()
    weight[16:], bias[16:] = 0.0, -2.0
    inputs = random_inputs("upsample", 32, 40, seed=seed)
    found = step(*inputs)[0].numpy()
    planes = inputs[2][0].numpy()
    low, high = (f(planes, (1, 3, 3)).repeat(2, 1).repeat(2, 2) for f in (minimum_filter, maximum_filter))
    inner = (slice(None), slice(2, -2), slice(2, -2))  # the border is reflected, SciPy's repeats its pixel
    assert (found[inner] >= low[inner] - 1e-6).all()
    assert (found[inner] <= high[inner] + 1e-6).all()


@torch.no_grad()
def test_step_reads_the_right_neighbours() -> None:
    """With all weight on one of the four low pixels around a high pixel, the step copies that one."""
    step = edge_step()
    weight, bias = step.predict.parameters()
    picture_high, picture, blurred, signed_depth = random_inputs("upsample", 32, 40)
    for k in range(4):
        weight.zero_()
        bias[:16] = -1.0
        bias[k:16:4] = 1e5
        bias[16:] = -2.0
        found = step(picture_high, picture, blurred, signed_depth)
        rows = torch.arange(64) // 2 + torch.tensor([-1, 0]).repeat(32) + k // 2
        columns = torch.arange(80) // 2 + torch.tensor([-1, 0]).repeat(40) + k % 2
        expected = blurred[:, :, rows[2:-2]][:, :, :, columns[2:-2]]
        assert (found[:, :, 2:-2, 2:-2] - expected).abs().max() < 1e-5


# --- Trained


@pytest.mark.skipif(
    not all(map(weights_file_exists, ("lens_blur", "upsample"))), reason="no edge weights are shipped yet"
)
def test_the_trained_loop_gives_the_photo_back_at_zero_signed_depth() -> None:
    pixels = read_photo(SAMPLE).pixels[300:700, 200:1000]
    flat = np.full((320, 320), 0.5, np.float32)

    def psnr(aperture: float, focal: float) -> float:
        with TorchRuntime(threads=1) as runtime:
            found = Harness(runtime).refocus(pixels, flat, focal_disparity=focal, aperture=aperture)
        error = np.square((found.astype(np.float64) - pixels) / 255).mean()
        return float(-10 * np.log10(max(error, 1e-12)))

    assert psnr(aperture=1.0, focal=0.5) >= 45
    assert psnr(aperture=1.0, focal=0.0) < 40, "the control: out of focus"
