"""Samples for the depth network, and the encoders that it can start from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeplens.console.errors import MismatchError, MissingError
from deeplens.model.build import build
from deeplens.scenes.mattes import matte_path
from deeplens.scenes.sources import Sources
from deeplens.training.depth_data import DepthStream, furnished, ground, normalised, pseudo_disparity, stand
from deeplens.training.fit_depth import load_encoder, normalise, shrunk
from tests.support.tiny import make_sources, textured

# --- Samples


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sources, Path]:
    """Sources with one subject, and a data folder with a round matte of each photo."""
    root = tmp_path_factory.mktemp("data")
    sources = make_sources(root)
    Image.fromarray(textured(120, 160, seed=9)).save(root / "subject.png")
    sources = replace(sources, subjects=(root / "subject.png",))
    rows, columns = np.indices((320, 320))
    matte = (np.hypot(rows - 170, columns - 150) < 90).astype(np.uint8) * 255
    for photo in sources.backgrounds + sources.subjects:
        matte_path(photo, root).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(matte).save(matte_path(photo, root))
    return sources, root


def test_samples_are_what_they_say(data: tuple[Sources, Path]) -> None:
    stream = DepthStream(data[0], seed=0, data=data[1])
    for index in range(8):
        sample, kind = stream[index], ("composed", "photo", "composed", "matte")[index % 4]
        assert stream.kind(index) == kind
        assert sample["picture"].shape == (3, 320, 320)
        assert sample["valid"].all()
        for name in ("picture", "disparity", "valid", "segmentation"):
            assert sample[name].dtype == torch.float32
            assert sample[name].shape[1:] == (320, 320)
            assert sample[name].min() >= 0
            assert sample[name].max() <= 1
        assert float(sample["has_disparity"]) == (kind != "matte")
        assert float(sample["has_segmentation"]) == (kind == "matte")
        if kind == "matte":
            assert not sample["disparity"].any()
            assert 0.05 < sample["segmentation"].mean() < 0.9
        else:
            assert not sample["segmentation"].any()
            assert sample["disparity"].max() > 0.5
        if kind == "composed":
            assert float(sample["disparity"].min()) == 0
            assert float(sample["disparity"].max()) == 1


def test_a_sample_depends_on_its_seed_and_index_alone(data: tuple[Sources, Path]) -> None:
    one, other = (DepthStream(data[0], seed=seed, data=data[1]) for seed in (3, 4))
    first = {index: one[index] for index in (0, 1, 3)}
    for index in (3, 1, 0):
        sample = DepthStream(data[0], seed=3, data=data[1])[index]
        assert all(torch.equal(value, first[index][name]) for name, value in sample.items())
        assert not torch.equal(other[index]["picture"], first[index]["picture"])


def test_smaller_batches_are_the_same_ones_shrunk(data: tuple[Sources, Path]) -> None:
    stream = DepthStream(data[0], seed=0, data=data[1])
    samples = [stream[index] for index in range(4)]
    batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
    batch["valid"][0, :, :160] = 0
    small = shrunk(batch, 64)
    assert small["picture"].shape == (4, 3, 64, 64)
    assert torch.equal(small["has_disparity"], batch["has_disparity"])
    for name in ("picture", "disparity", "segmentation"):
        torch.testing.assert_close(small[name].mean((1, 2, 3)), batch[name].mean((1, 2, 3)), atol=2e-3, rtol=0)
    assert small["valid"][1:].all()
    assert not small["valid"][0, :, :32].any()
    assert small["valid"][0, :, 34:].all()
    assert shrunk(batch, 320) is batch


@pytest.mark.parametrize(("own", "covered"), [(0.5, 160), (1.2, 320)])
def test_a_cut_out_stands_behind_what_is_nearer(data: tuple[Sources, Path], own: float, covered: int) -> None:
    """Far left half, near right half: a cut-out wider than the picture covers what is not nearer, and nothing else."""
    picture = np.zeros((320, 320, 3), np.float32)
    disparity = np.repeat(np.array([0.1, 1.0], np.float32), 160)[None].repeat(320, 0)
    before = disparity.copy()
    stand(picture, disparity, data[0], np.random.default_rng(0), own=own, foot=400, column=160, height=900.0)
    changed = disparity != before
    assert changed.any()
    assert (disparity[changed] == np.float32(own)).all()
    assert not changed[:, covered:].any()
    assert not picture[:, covered:].any()
    assert changed[:, :covered].any(0).mean() > 0.8
    assert picture[changed].sum(-1).mean() > 0.2


def test_rooms_are_cut_flipped_and_normalised(data: tuple[Sources, Path], tmp_path: Path) -> None:
    """A room whose blue is its disparity: what happens to the picture happens to the label."""
    disparity = np.add.outer(np.linspace(0, 0.7, 320), np.linspace(0, 0.3, 320))
    picture = np.stack((0 * disparity, 0 * disparity, np.rint(disparity * 255)), 2).astype(np.uint8)
    path = tmp_path / "0_00000_0.npz"
    np.savez(path, picture=picture, disparity=np.rint(disparity * 65535).astype(np.uint16))
    flips = 0
    for seed in range(12):
        found, label = furnished(path, data[0], np.random.default_rng(seed))
        assert (found.shape, label.shape) == ((320, 320, 3), (320, 320))
        assert (label.min(), label.max()) == (0, 1)
        plain = found[..., :2].max(-1) == 0  # no cut-out
        blue = found[..., 2][plain]
        slope, offset = np.polyfit(blue, label[plain], 1)
        np.testing.assert_allclose(slope * blue + offset, label[plain], atol=0.02)
        flips += bool(found[0, 0, 2] > found[0, -1, 2])
    assert 0 < flips < 12


def test_missing_mattes_are_said(data: tuple[Sources, Path], tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"deeplens\.scenes\.mattes --data"):
        DepthStream(data[0], seed=0, data=tmp_path)[1]


def test_ground_rises_from_the_horizon() -> None:
    found = ground(100, horizon=0.4)
    assert found.shape == (100, 100)
    assert (np.ptp(found, axis=1) == 0).all()
    assert not found[:40].any()
    np.testing.assert_allclose(np.diff(found[41:, 0]), 0.01 / 0.6, rtol=1e-3)
    assert found[-1, 0] == pytest.approx(1 - 0.005 / 0.6)


def test_a_subject_stands_before_the_ground_at_its_feet() -> None:
    matte = np.zeros((100, 100), np.float32)
    matte[50:90, 30:60] = 1.0
    found = pseudo_disparity(matte, horizon=0.4)
    subject = found[matte > 0]
    assert np.ptp(subject) == 0
    assert subject[0] > found[89, 0]
    assert subject[0] == pytest.approx(max(0.7, 0.5 * (0.895 - 0.4) / 0.6 + 0.3))
    np.testing.assert_allclose(found[matte == 0], 0.5 * ground(100, horizon=0.4)[matte == 0])
    np.testing.assert_allclose(pseudo_disparity(0 * matte, horizon=0.4), ground(100, horizon=0.4))


def test_normalised_maps() -> None:
    found = normalised(np.array([[2.0, 3.0, 6.0]], np.float32))
    np.testing.assert_allclose(found, [[0, 0.25, 1]])
    assert not normalised(np.full((2, 2), 3.0, np.float32)).any()
    values = torch.rand(2, 1, 5, 5) * 7 - 3
    maps = normalise(values)
    assert torch.allclose(maps.amin((2, 3)), torch.zeros(2, 1))
    assert torch.allclose(maps.amax((2, 3)), torch.ones(2, 1), atol=1e-5)
    assert normalise(torch.ones(1, 1, 2, 2)).isfinite().all()


# --- Encoders


def resnet50() -> dict[str, torch.Tensor]:
    """Random tensors under the names, in the order and of the shapes of torchvision's ResNet-50."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{part}"] = torch.rand(channels, generator=generator)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def convolution(name: str, outputs: int, inputs: int, kernel: int) -> None:
        state[f"{name}.weight"] = torch.rand(outputs, inputs, kernel, kernel, generator=generator)

    convolution("conv1", 64, 3, 7)
    norm("bn1", 64)
    inputs = 64
    for layer, (mid, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 1)), 1):
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            for number, (ins, outs, kernel) in enumerate(((inputs, mid, 1), (mid, mid, 3), (mid, 4 * mid, 1)), 1):
                convolution(f"{name}.conv{number}", outs, ins, kernel)
                norm(f"{name}.bn{number}", outs)
            if block == 0:
                convolution(f"{name}.downsample.0", 4 * mid, inputs, 1)
                norm(f"{name}.downsample.1", 4 * mid)
            inputs = 4 * mid
    state["fc.weight"], state["fc.bias"] = torch.rand(10, 2048), torch.rand(10)
    return state


def efficientnet() -> dict[str, torch.Tensor]:
    """The same for EfficientNet-Lite0 (`_conv_stem`, `_bn0`, `_blocks.N…`), shapes from its table."""
    state: dict[str, torch.Tensor] = {}
    blocks = [
        (1, 16, 3, 1),
        (2, 24, 3, 6),
        (2, 40, 5, 6),
        (3, 80, 3, 6),
        (3, 112, 5, 6),
        (4, 192, 5, 6),
        (1, 320, 3, 6),
    ]

    def layer(conv: str, norm: str, *shape: int) -> None:
        state[f"{conv}.weight"] = torch.rand(shape)
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{part}"] = torch.rand(shape[0])
        state[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    layer("_conv_stem", "_bn0", 32, 3, 3, 3)
    inputs, number = 32, 0
    for count, outputs, kernel, expansion in blocks:
        for _ in range(count):
            name, mid = f"_blocks.{number}", inputs * expansion
            if expansion > 1:
                layer(f"{name}._expand_conv", f"{name}._bn0", mid, inputs, 1, 1)
            layer(f"{name}._depthwise_conv", f"{name}._bn1", mid, 1, kernel, kernel)
            layer(f"{name}._project_conv", f"{name}._bn2", outputs, mid, 1, 1)
            inputs, number = outputs, number + 1
    layer("_conv_head", "_bn1", 1280, 320, 1, 1)
    state["_fc.weight"], state["_fc.bias"] = torch.rand(1000, 1280), torch.rand(1000)
    return state


def loaded(variant: str, state: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    torch.save(state, path)
    network = build(variant, "depth")
    load_encoder(network, variant, path)
    return network.state_dict()


def test_resnet_50_by_torchvision_s_names(tmp_path: Path) -> None:
    theirs = resnet50()
    mine = loaded("paper", theirs, tmp_path / "a.pth")
    pairs = {
        "conv1.0.weight": "conv1.weight",
        "conv1.1.running_var": "bn1.running_var",
        "res2.0.body.0.0.weight": "layer1.0.conv1.weight",
        "res2.0.shortcut.0.weight": "layer1.0.downsample.0.weight",
        "res2.0.shortcut.1.running_mean": "layer1.0.downsample.1.running_mean",
        "res3.0.body.1.0.weight": "layer2.0.conv2.weight",
        "res3.3.body.3.bias": "layer2.3.bn3.bias",
        "res4.0.shortcut.1.weight": "layer3.0.downsample.1.weight",
        "res4.5.body.1.1.weight": "layer3.5.bn2.weight",
        "res4.5.body.2.weight": "layer3.5.conv3.weight",
    }
    for own, other in pairs.items():
        assert torch.equal(mine[own], theirs[other]), own
    assert not mine["conv1.0.bias"].any(), "torchvision's conv1 has no bias"
    untouched = build("paper", "depth").state_dict()
    assert torch.equal(mine["decode1.0.weight"], untouched["decode1.0.weight"])
    biased = loaded("paper", theirs | {"conv1.bias": torch.arange(64.0)}, tmp_path / "b.pth")
    assert torch.equal(biased["conv1.0.bias"], torch.arange(64.0))


def test_efficientnet_lite_by_its_names(tmp_path: Path) -> None:
    theirs = efficientnet()
    mine = loaded("edge", theirs, tmp_path / "a.pth")
    pairs = {
        "stem.0.weight": "_conv_stem.weight",
        "stem.1.running_mean": "_bn0.running_mean",
        "stages.0.0.body.0.weight": "_blocks.0._depthwise_conv.weight",
        "stages.2.1.body.3.weight": "_blocks.4._depthwise_conv.weight",
        "stages.5.3.body.6.weight": "_blocks.14._project_conv.weight",
        "stages.6.0.body.7.running_var": "_blocks.15._bn2.running_var",
    }
    for own, other in pairs.items():
        assert torch.equal(mine[own], theirs[other]), own


def test_a_wrong_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no encoder weights at"):
        load_encoder(build("edge", "depth"), "edge", tmp_path / "absent.pth")
    with pytest.raises(MismatchError, match=r"encoder tensors, but the edge encoder .*another file"):
        loaded("edge", resnet50(), tmp_path / "a.pth")
    with pytest.raises(MismatchError, match="the paper encoder"):
        loaded("paper", efficientnet(), tmp_path / "b.pth")
    wide = resnet50() | {"layer2.1.conv2.weight": torch.zeros(128, 128, 5, 5)}
    with pytest.raises(MismatchError, match=r"layer2\.1\.conv2\.weight is \(128, 128, 5, 5\), expected \(128, 128, 3"):
        loaded("paper", wide, tmp_path / "c.pth")
