"""The differentiable loop of the fits against the harness, which runs at inference: the same numbers."""

import numpy as np
import pytest
import torch

from deeplens.model.build import build
from deeplens.runtimes import pyramid as levels_of
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.pytorch import TorchRuntime
from deeplens.training.loop import halve, pyramid, run_loop
from tests.support.fake_runtime import with_edge
from tests.support.tiny import textured

HEIGHT, WIDTH = 128, 1216
"""Halved twice to 32 × 304, a base that needs no padding and is a little smaller than the largest."""


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]


def test_halving_is_that_of_the_pyramid() -> None:
    pixels = textured(64, 96, seed=0)
    pixels[:8] = 0
    picture = tensor(pixels)
    expected = np.sqrt(np.square(picture.double().numpy()).reshape(1, 3, 32, 2, 48, 2).mean((3, 5)))
    assert np.abs(halve(picture).numpy() - expected).max() < 2e-6
    assert np.abs(levels_of.halve(picture.numpy()) - expected).max() < 1e-6
    plain = torch.nn.functional.avg_pool2d(picture, 2).numpy()
    assert np.abs(plain - expected).max() > 1e-3, "the control: a mean that is not of light"


def test_the_gradient_of_halving_is_finite_in_black() -> None:
    picture = torch.zeros(1, 3, 4, 4, requires_grad=True)
    halve(picture).sum().backward()
    assert picture.grad is not None
    assert picture.grad.isfinite().all()


def test_pyramid_has_the_levels_of_the_harness() -> None:
    pixels = textured(HEIGHT, WIDTH, seed=1)
    geometry = levels_of.geometry(HEIGHT, WIDTH)
    assert geometry.steps == 2
    assert geometry.padded(2) == (HEIGHT, WIDTH)
    expected = levels_of.picture_levels(pixels, geometry)
    found = pyramid(tensor(pixels), 2)
    assert len(found) == 3
    for one, other in zip(found, expected, strict=False):
        assert one.shape == other.shape
        assert np.abs(one.numpy() - other).max() < 2e-6
    assert torch.equal(found[2], tensor(pixels))


@pytest.mark.slow
@torch.no_grad()
def test_the_loop_gives_the_numbers_of_the_harness() -> None:
    pixels = textured(HEIGHT, WIDTH, seed=2)
    geometry = levels_of.geometry(HEIGHT, WIDTH)
    rng = np.random.default_rng(0)
    blocks = (
        rng.random((8, 76), np.float32).repeat(8, 0).repeat(8, 1)
    )  # at half size, the finest that the harness keeps
    focal, aperture = 0.4, 0.8
    expected: dict[int, np.ndarray] = {}

    def observe(level: int, _network: str, arrays: Arrays) -> None:
        expected[level] = arrays["blurred" if level == 0 else "blurred_high"].copy()

    # A map as fine as level 1 would be asked there again, which the fits do not do.
    with TorchRuntime(weights="initial", threads=1) as runtime, with_edge(sharp_bound=None):
        Harness(runtime, tile=None).refocus(pixels, blocks, focal_disparity=focal, aperture=aperture, observe=observe)

    assert geometry.blur_scale == 0.95  # what the harness multiplies α by, so that the same blur comes out at any size
    disparity = torch.from_numpy(blocks.repeat(2, 0).repeat(2, 1))[None, None]
    signed_depth = (disparity - focal) * (aperture * geometry.blur_scale)
    networks = (build("edge", "lens_blur"), build("edge", "upsample"))
    found = run_loop(*networks, pyramid(tensor(pixels), 2), signed_depth, by_level=True)
    assert [level.shape for level in found] == [expected[level].shape for level in range(3)]
    for level, result in enumerate(found):
        assert np.abs(result.numpy() - expected[level]).max() <= 1e-5, level
    unscaled = run_loop(*networks, pyramid(tensor(pixels), 2), (disparity - focal) * aperture, by_level=True)
    assert np.abs(unscaled[2].numpy() - expected[2]).max() > 1e-3
    same_at_each_level = run_loop(*networks, pyramid(tensor(pixels), 2), signed_depth)
    assert torch.equal(same_at_each_level[1], found[1]), "at the base both are D̃"
    assert np.abs(same_at_each_level[2].numpy() - expected[2]).max() > 1e-3
    assert np.abs(tensor(pixels).numpy() - expected[2]).max() > 0.1
