"""Where the fit of `paper` starts: at networks that already do something."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import uniform_filter
from torch import Tensor, nn

from deeplens.model.layers import FrozenNorm
from deeplens.model.lens_blur import PaperLensBlur
from deeplens.model.upsampler import PaperUpsampler
from deeplens.training.fit_blur import BlurConfig, BlurTask
from deeplens.training.known_start import IN_FOCUS, start_step
from deeplens.training.loop import pyramid
from tests.conftest import ROOT
from tests.support.tiny import make_sources

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> tuple[PaperLensBlur, PaperUpsampler]:
    sources = make_sources(tmp_path_factory.mktemp("sources"))
    module = BlurTask(BlurConfig(variant="paper"), train=sources, validation=sources).module().eval()
    assert isinstance(module.lens_blur, PaperLensBlur)
    assert isinstance(module.upsample, PaperUpsampler)
    return module.lens_blur, module.upsample


@pytest.fixture(scope="module")
def picture() -> Tensor:
    return load_picture("bridge.jpg")


def load_picture(name: str) -> Tensor:
    """A sample at 192×128, (1, 3, 128, 192)."""
    photo = Image.open(ROOT / "samples" / name).resize((192, 128), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(photo, np.float32) / 255).permute(2, 0, 1)[None]


@torch.no_grad()
def test_features_are_blurred_copies_of_their_own_colour(
    started: tuple[PaperLensBlur, PaperUpsampler], picture: Tensor
) -> None:
    features = started[0].features(picture)
    colours = picture - picture.mean((2, 3), keepdim=True)
    detail = []
    for channel in range(features.shape[1]):
        feature = features[0, channel] - features[0, channel].mean()
        likeness = [float(F.cosine_similarity(feature.flatten(), colours[0, c].flatten(), 0)) for c in range(3)]
        assert max(likeness) > 0.8, channel
        # A copy of the colour that it will be weighed for (i of channel i + 3j), blurred: less detail, layer by layer.
        own = picture[0, channel % 3].numpy()
        slope = np.polyfit(own.ravel(), features[0, channel].numpy().ravel(), 1)[0]
        assert 0.3 < slope < 2.0, channel
        fine = features[0, channel].numpy() - uniform_filter(features[0, channel].numpy(), 5)
        detail.append(float(np.std(fine) / np.std(features[0, channel].numpy())))
    first, second, third, fourth = (np.mean(part) for part in np.split(np.array(detail), [30, 60, 75]))
    assert first > second > third > fourth


@torch.no_grad()
def test_the_lens_blur_begins_close_to_a_copy(started: tuple[PaperLensBlur, PaperUpsampler], picture: Tensor) -> None:
    low, _ = pyramid(picture, 1)
    blurred = started[0](low, torch.zeros(1, 1, *low.shape[2:]))
    assert float((blurred - low).abs().mean()) < 0.06


@torch.no_grad()
def test_the_step_begins_sharp_in_focus_and_bilinear_elsewhere(started: tuple[PaperLensBlur, PaperUpsampler]) -> None:
    """The signed depth alone decides: on the left 0, then ± 1/48, where half of each is due, then ± 1/8."""
    step = started[1]
    low, high = pyramid(load_picture("stream.jpg"), 1)
    depth = torch.zeros(1, 1, *low.shape[2:])
    depth[..., 32:64], depth[..., 64:] = 0.5 / IN_FOCUS, 0.125
    bilinear = F.interpolate(low, scale_factor=2.0, mode="bilinear", align_corners=False)
    for sign in (1, -1):
        weights = step.weights(high, low, low, sign * depth)
        assert float((weights[:, 1] - 0.94).abs()[..., 4:56].max()) < 0.03
        assert float((weights[:, :2] - 0.47).abs()[..., 72:120].max()) < 0.03
        assert float((weights[:, 0] - 0.94).abs()[..., 136:-4].max()) < 0.03
        found = step(high, low, low, sign * depth)
        detail = (high - bilinear).abs()
        assert float((found - high).abs()[..., 4:56].mean()) < 0.15 * float(detail[..., 4:56].mean())
        assert float((found - bilinear).abs()[..., 136:-4].mean()) < 0.15 * float(detail[..., 136:-4].mean())


@torch.no_grad()
def test_its_norms_know_what_reaches_them_and_change_nothing() -> None:
    """Without the norms of the step, but for the one that turns 24 |D| into 1 − 24 |D|, it is the same step."""
    torch.manual_seed(3)
    step = PaperUpsampler().eval()
    inputs = (torch.rand(2, 3, 32, 32), torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16))
    start_step(step, inputs)
    found = step(*inputs)
    norms = {name: module for name, module in step.named_modules() if isinstance(module, FrozenNorm)}
    assert len(norms) == 14
    for name, norm in norms.items():
        assert norm.running_mean is not None
        assert norm.running_mean.abs().max() > 1e-3, name
        parent, _, last = name.rpartition(".")
        one = torch.zeros(norm.num_features)
        one[0] = float(name.startswith("out_low"))
        step.get_submodule(parent)[int(last)] = Shift(one)  # type: ignore[operator]
    torch.testing.assert_close(step(*inputs), found, rtol=1e-3, atol=1e-4)


class Shift(nn.Module):
    def __init__(self, by: Tensor) -> None:
        super().__init__()
        self.by = by.view(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.by


def test_it_is_always_the_same_start(started: tuple[PaperLensBlur, PaperUpsampler], tmp_path: Path) -> None:
    sources = make_sources(tmp_path)
    torch.manual_seed(5)
    again = BlurTask(BlurConfig(variant="paper"), train=sources, validation=sources).module()
    for one, other in zip(started, (again.lens_blur, again.upsample), strict=True):
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name
    plain = BlurTask(BlurConfig(variant="paper", known_start=False), train=sources, validation=sources).module()
    one, other = (module.lens_blur.state_dict()["join.3.bias"] for module in (plain, again))
    assert not torch.equal(one, other)
