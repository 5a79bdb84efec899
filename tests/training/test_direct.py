"""Direct regression: the U-Net's size and sense of scale, its fit, and the function that the evaluation calls."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.evaluation.baselines import Blur
from deeplens.evaluation.baselines.direct import direct_blur
from deeplens.model.cost import cost
from deeplens.scenes.planes import SceneConfig
from deeplens.training.direct import RADIUS_UNIT, DirectConfig, DirectTask, DirectUNet, DirectWithLoss
from deeplens.training.fit import Machine, fit
from tests.support.tiny import make_sources, textured

SMALL = SceneConfig(size=32, steps=1)


def lively(seed: int = 0) -> DirectUNet:
    """A U-Net whose last layer is not zero."""
    torch.manual_seed(seed)
    network = DirectUNet().eval()
    torch.nn.init.normal_(network.last.weight, std=0.05)
    return network


@pytest.fixture
def blur(tmp_path: Path) -> Blur:
    save_file(lively().state_dict(), tmp_path / "direct_unet.safetensors")
    return direct_blur(tmp_path)


def test_it_costs_what_the_paper_s_networks_do() -> None:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        DirectUNet().to("meta")(torch.empty(1, 3, 96, 96, device="meta"), torch.empty(1, 1, 96, 96, device="meta"))
    paper = sum(int(cost("paper", network, 48, 48)["multiplications"]) for network in ("lens_blur", "upsample"))
    assert counter.get_total_flops() / 2 == pytest.approx(paper, rel=0.1)
    assert 2e5 < sum(parameter.numel() for parameter in DirectUNet().parameters()) < 7e5


@torch.no_grad()
def test_it_starts_as_the_photo() -> None:
    picture, radius = torch.rand(2, 3, 24, 40), torch.rand(2, 1, 24, 40)
    assert torch.equal(DirectUNet().eval()(picture, radius), picture)
    assert not torch.equal(lively()(picture, radius), picture), "the control"


@torch.no_grad()
def test_it_sees_as_far_as_the_largest_blur() -> None:
    """A changed pixel changes the output beyond RADIUS_UNIT pixels, and the far side of the picture not at all."""
    network = lively()
    picture, radius = torch.rand(1, 3, 16, 256), torch.zeros(1, 1, 16, 256)
    changed = picture.clone()
    changed[..., 0] = 1 - changed[..., 0]
    difference = (network(picture, radius) - network(changed, radius)).abs().amax((0, 1, 2))
    reach = int(difference.nonzero().max())
    assert RADIUS_UNIT <= reach < 100


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 2])
def test_samples_are_given_in_pixels(steps: int) -> None:
    """One step: a signed depth of 1 is a radius of 16 pixels; two: of 32."""
    module = DirectWithLoss().eval()
    module.network.load_state_dict(lively().state_dict())
    sample = {"picture": torch.rand(1, 3, 32, 32), "signed_depth": torch.rand(1, 1, 32, 32)}
    found = module.output(sample | {"steps": torch.tensor([steps])})
    pixels = sample["signed_depth"] * 8 * 2**steps
    assert torch.allclose(found, module.network(sample["picture"], pixels / RADIUS_UNIT), atol=1e-5)


def test_a_fit_writes_what_the_evaluation_loads(tmp_path: Path) -> None:
    sources = make_sources(tmp_path / "sources")
    config = DirectConfig(steps=2, batch=2, warmup=1, small=SMALL, large=SMALL)
    task = DirectTask(config, train=sources, validation=sources)
    run = tmp_path / "run"
    fit(task, out=run, machine=Machine(accelerator="cpu", workers=0, threads=1, progress=False))
    assert '"psnr_unblurred"' in (run / "metrics.jsonl").read_text()
    photo = textured(32, 32, seed=1)
    disparity = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
    found = direct_blur(run)(photo, disparity, focal=0.5, aperture=1.0, radius=16)
    again = direct_blur(run / "direct_unet.safetensors")(photo, disparity, focal=0.5, aperture=1.0, radius=16)
    assert np.array_equal(found, again)
    assert np.abs(found.astype(int) - photo).max() < 60, "two steps from the photo itself"


@pytest.mark.parametrize("size", [(1, 1), (7, 50), (33, 8), (64, 48)])
def test_any_size(blur: Blur, size: tuple[int, int]) -> None:
    photo = textured(*size, seed=2)
    result = blur(photo, np.full(size, 0.3, np.float32), focal=0.8, aperture=0.7, radius=16)
    assert result.shape == photo.shape
    assert result.dtype == np.uint8


def test_radius_aperture_and_depth_are_one_number(blur: Blur) -> None:
    photo = textured(40, 40, seed=3)
    disparity = np.random.default_rng(0).random((40, 40), np.float32)
    one = blur(photo, disparity, focal=0.5, aperture=1.0, radius=8)
    assert np.array_equal(one, blur(photo, disparity, focal=0.5, aperture=0.5, radius=16))
    assert not np.array_equal(one, blur(photo, disparity, focal=0.5, aperture=1.0, radius=16))
    assert not np.array_equal(one, blur(photo, disparity, focal=0.4, aperture=1.0, radius=8))


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no weights at .*direct_unet.safetensors: train them"):
        direct_blur(tmp_path)
    path = tmp_path / "direct_unet.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(MismatchError, match="does not hold the weights of the U-Net of direct regression"):
        direct_blur(path)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="can't be read as safetensors"):
        direct_blur(path)
