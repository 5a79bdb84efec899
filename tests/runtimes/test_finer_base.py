"""The loop that begins at level 1, where the lens blur reaches there: when it does, and what it is worth."""

import numpy as np
import pytest
import torch

from deeplens.model.build import load
from deeplens.model.contract import FINER_BASE, R_MAX
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.photo import read_photo
from deeplens.runtimes.pyramid import geometry
from deeplens.runtimes.pytorch import TorchRuntime
from deeplens.scenes.renderer import Plane, linear_to_srgb, render_exact, srgb_to_linear
from deeplens.training.loop import halve, run_loop
from tests.conftest import ROOT
from tests.model.test_edge_operations import weights_file_exists
from tests.support.fake_runtime import FakeRuntime, Focus, depth_map, from_the_base, photo

pytestmark = pytest.mark.slow

SAMPLE = ROOT / "samples" / "drum.jpg"

needs_weights = pytest.mark.skipif(
    not all(weights_file_exists(network) for network in ("lens_blur", "upsample")), reason="no weights are shipped"
)


def networks(runtime: FakeRuntime) -> list[str]:
    return [network for network, _ in runtime.runs]


@pytest.mark.parametrize(("height", "width", "steps"), [(300, 640, 1), (700, 1280, 2), (200, 310, 0)])
@pytest.mark.parametrize(("focal", "aperture", "reaches"), [(0.0, 0.49, True), (0.0, 0.6, False), (0.5, 1.0, True)])
def test_it_begins_at_level_1_where_no_blur_is_wider_than_the_lens_blur_reaches(
    height: int, width: int, steps: int, focal: float, aperture: float, reaches: bool
) -> None:
    assert geometry(height, width).steps == steps
    runtime = FakeRuntime()
    disparity = np.linspace(0, 1, 320, dtype=np.float32)[:, None].repeat(320, 1)
    shares: list[float] = []
    Harness(runtime, tile=None).refocus(
        photo(height, width), disparity, focal_disparity=focal, aperture=aperture, progress=shares.append
    )
    begins = 1 if reaches and steps else 0
    sizes = {network: size for network, size in runtime.runs if network == "lens_blur"}
    assert sizes["lens_blur"] == geometry(height, width).padded(begins)
    assert networks(runtime).count("upsample") == steps - begins
    assert shares[-1] == pytest.approx(1.0)


def test_an_observer_and_paper_begin_at_the_base() -> None:
    pixels, focus = photo(300, 640), Focus(focal_disparity=0.5, aperture=0.5)
    runtime, levels = FakeRuntime(), list[int]()
    Harness(runtime).refocus(pixels, depth_map(), **focus, observe=lambda level, *_: levels.append(level))
    assert levels == [0, 1]
    with from_the_base():
        runtime = FakeRuntime()
        Harness(runtime).refocus(pixels, depth_map(), **focus)
    assert "upsample" in networks(runtime)


def test_the_lens_blur_sees_twice_as_much_at_once_there() -> None:
    """Its halo is 52 pixels: in windows of the usual 256 it would do four times the work."""
    runtime = FakeRuntime()
    Harness(runtime).refocus(photo(768, 1024), depth_map(), focal_disparity=0.5, aperture=0.5)
    assert [size for network, size in runtime.runs if network == "lens_blur"] == [(384, 512)]


@needs_weights
@torch.no_grad()
def test_the_harness_begins_as_the_loop_in_pytorch_does() -> None:
    """Two levels above the base: the lens blur on level 1 with twice the signed depth, then one step."""
    side = 768
    pixels = np.asarray(read_photo(SAMPLE).pixels)[:side, :side]
    rows = np.linspace(0, 1, side, dtype=np.float32)[:, None].repeat(side, 1)
    found = Harness(TorchRuntime(variant="edge"), tile=None).refocus(pixels, rows, focal_disparity=0.2, aperture=0.5)
    scale = geometry(side, side).blur_scale
    picture = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    signed = torch.from_numpy((rows - 0.2) * 0.5 * scale)[None, None]
    blur, step = (load("edge", network).eval() for network in ("lens_blur", "upsample"))
    # As if level 1 were the base of a loop of one step, whose discs are given in its own pixels.
    outputs = run_loop(blur, step, [halve(picture), picture], (2 * signed).clamp(-1, 1), by_level=False)
    expected = outputs[-1][0].clamp(0, 1).permute(1, 2, 0).numpy()
    inner = slice(32, -32)  # depth is resampled at the borders
    difference = np.abs(found.astype(np.float32) / 255 - expected)[inner, inner]
    assert np.percentile(difference, 99.9) < 0.01
    with from_the_base():
        other = Harness(TorchRuntime(variant="edge"), tile=None).refocus(
            pixels, rows, focal_disparity=0.2, aperture=0.5
        )
    control = np.abs(other.astype(np.float32) / 255 - expected)[inner, inner]
    assert np.percentile(control, 99.9) > 0.03


@needs_weights
def test_its_pictures_are_nearer_to_the_truth() -> None:
    """Bars of a photo before another part of it, by the exact renderer: what the base can't resolve."""
    side, margin = 640, 24
    pixels = srgb_to_linear(np.asarray(read_photo(SAMPLE).pixels).astype(np.float32) / np.float32(255))
    canvas = side + 2 * margin
    behind, before = pixels[:canvas, :canvas], pixels[canvas : 2 * canvas, :canvas]
    coverage = np.zeros((canvas, canvas), np.float32)
    for column in range(40, canvas, 70):
        coverage[:, column : column + 3] = 1
    planes = [
        Plane(behind, np.ones_like(coverage), (0.2, 0.0, 0.0)),
        Plane(before * coverage[..., None], coverage, (0.7, 0.0, 0.0)),
    ]
    inner = slice(margin, margin + side)
    radius = R_MAX * 2 * 0.5
    truth = linear_to_srgb(render_exact(planes, focal=0.2, radius=radius, points=256))[inner, inner]
    clear = behind * (1 - coverage[..., None]) + before * coverage[..., None]
    photo_ = np.rint(linear_to_srgb(clear[inner, inner]) * 255).astype(np.uint8)
    disparity = np.where(coverage > 0, np.float32(0.7), np.float32(0.2))[inner, inner]

    def decibels() -> float:
        found = Harness(TorchRuntime(variant="edge")).refocus(photo_, disparity, focal_disparity=0.2, aperture=0.5)
        return float(-10 * np.log10(np.square(found / np.float32(255) - truth).mean()))

    finer = decibels()
    with from_the_base():
        assert finer > decibels() + 1


@needs_weights
def test_nothing_jumps_when_the_aperture_moves() -> None:
    """Across both ends of the range in which both beginnings are mixed; without it the first moves by 20 of 255."""
    pixels = np.asarray(read_photo(SAMPLE).pixels)[:480, :640]
    rows = np.repeat(np.array([0, 1], np.float32), 240)[:, None].repeat(640, 1)
    harness = Harness(TorchRuntime(variant="edge"))

    def at(aperture: float) -> np.ndarray:
        return harness.refocus(pixels, rows, focal_disparity=0.0, aperture=aperture).astype(np.int16)

    for end in FINER_BASE:
        assert np.abs(at(end - 1e-4) - at(end + 1e-4)).max() <= 2
    assert np.abs(at(FINER_BASE[0]) - at(FINER_BASE[1])).max() > 4
