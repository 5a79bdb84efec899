"""Where the fit of `paper` starts: at networks that already do something."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import uniform_filter
from torch import Tensor

from model.build import build
from model.lens_blur import PaperLensBlur
from model.upsampler import PaperUpsampler
from tests.tiny import make_sources
from training.fit_blur import BlurConfig, BlurTask
from training.loop import pyramid

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> tuple[PaperLensBlur, PaperUpsampler]:
    sources = make_sources(tmp_path_factory.mktemp("sources"))
    module = BlurTask(BlurConfig(variant="paper"), train=sources, validation=sources).module().eval()
    assert isinstance(module.lens_blur, PaperLensBlur)
    assert isinstance(module.upsample, PaperUpsampler)
    return module.lens_blur, module.upsample


@pytest.fixture(scope="module")
def picture() -> Tensor:
    photo = Image.open(ROOT / "samples" / "bridge.jpg").resize((192, 128), Image.Resampling.LANCZOS)
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
def test_both_begin_close_to_what_is_known(started: tuple[PaperLensBlur, PaperUpsampler], picture: Tensor) -> None:
    low, high = pyramid(picture, 1)
    depth = torch.zeros(1, 1, *low.shape[2:])
    blurred = started[0](low, depth)
    assert float((blurred - low).abs().mean()) < 0.06
    step = started[1](high, low, low, depth)
    bilinear = F.interpolate(low, scale_factor=2.0, mode="bilinear", align_corners=False)
    assert float((step - bilinear).abs().mean()) < 0.06
    plain = build("paper", "upsample")(high, low, low, depth)
    assert float((plain - bilinear).abs().mean()) > 2 * float((step - bilinear).abs().mean())


@torch.no_grad()
def test_what_the_step_sees_reaches_its_weight_maps(
    started: tuple[PaperLensBlur, PaperUpsampler], picture: Tensor
) -> None:
    """Its norms know the batch from the first step on; untouched they do nothing, and the low path fades away."""
    low, high = pyramid(picture, 1)

    def spread(step: PaperUpsampler) -> float:
        seen: list[Tensor] = []
        handle = step.out_high.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        step(high, low, low, torch.zeros(1, 1, *low.shape[2:]))
        handle.remove()
        return float(seen[0].std())

    untouched = deepcopy(started[1]).eval()
    assert spread(deepcopy(started[1]).train()) > 0.3
    assert spread(untouched) < 0.1


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
