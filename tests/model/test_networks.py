"""The paper's networks against their numbers, and what both variants share."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import correlate, zoom
from torch import Tensor, nn

from deeplens.model.build import build
from deeplens.model.contract import CONTRACTS, NETWORKS, VARIANTS
from deeplens.model.depth import PaperDepth, PyramidPooling, ResNetBlock
from deeplens.model.layers import Bottleneck, FrozenNorm, TripleFeatures, disc_kernel, one_hot_taps, upsample_2x
from deeplens.model.lens_blur import PaperLensBlur
from deeplens.model.upsampler import PaperUpsampler
from tests.support.tiny import random_inputs

# --- Shapes and weights


@pytest.mark.parametrize("size", [(32, 32), (40, 104), (256, 192)], ids=str)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_output_has_the_shape_of_the_contract(variant: str, network: str, size: tuple[int, int]) -> None:
    contract = CONTRACTS[network]
    size = contract.fixed_size or size
    inputs = [torch.empty(tensor.shape(*size), device="meta") for tensor in contract.inputs]
    output = build(variant, network).to("meta")(*inputs)
    assert output.shape == contract.outputs[0].shape(*size)


def weights_of(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for name, p in module.named_parameters() if "segmentation" not in name)


def test_weight_counts() -> None:
    depth, blur, step = (build("paper", network) for network in NETWORKS)
    assert isinstance(blur, PaperLensBlur)
    assert weights_of(depth) == pytest.approx(9.47e6, rel=0.01)
    assert weights_of(blur.features) == pytest.approx(0.040e6, rel=0.01)
    assert weights_of(blur.shallow, blur.deep, blur.join) == pytest.approx(0.521e6, rel=0.01)
    assert weights_of(step) == pytest.approx(1.475e6, rel=0.01)
    assert weights_of(blur) == weights_of(blur.features, blur.shallow, blur.deep, blur.join)


# --- Equations 2 and 3


@pytest.mark.parametrize("fill", [None, 0.0])
@torch.no_grad()
def test_kernels_are_not_negative_and_sum_to_one(fill: float | None) -> None:
    """With random inputs, and where no kernel has weight: all inputs 0, all kernels cut off by the last ReLU."""
    blur, step = build("paper", "lens_blur"), build("paper", "upsample")
    assert isinstance(blur, PaperLensBlur)
    assert isinstance(step, PaperUpsampler)
    cases: tuple[tuple[str, int, nn.Module, Callable[..., Tensor]], ...] = (
        ("lens_blur", 31, blur.join[-1], blur.kernels),
        ("upsample", 32, step.weigh[-1], step.weights),
    )
    for network, channels, last, kernels in cases:
        inputs = random_inputs(network, 32, 40)
        if fill is not None:
            inputs = [torch.full_like(each, fill) for each in inputs]
            last.get_parameter("bias").fill_(-100.0)
        weights = kernels(*inputs)
        assert weights.shape[1] == channels
        assert weights.min() >= 0
        assert (weights.sum(1) - 1).abs().max() < 1e-6
        if fill is None:
            assert weights.amax(1).std() > 1e-4, "the weights should differ from place to place"
        else:
            assert torch.allclose(weights, torch.full_like(weights, 1 / channels))


@torch.no_grad()
def test_equation_2() -> None:
    blur = build("paper", "lens_blur")
    assert isinstance(blur, PaperLensBlur)
    picture, signed_depth = random_inputs("lens_blur", 32, 40)
    features = torch.cat((picture, blur.features(picture)), 1).double().numpy()
    kernels = blur.kernels(picture, signed_depth).double().numpy()
    by_colour = features.reshape(1, 31, 3, 32, 40)  # feature j of colour i is channel i + 3j
    expected = np.einsum("njhw,njihw->nihw", kernels, by_colour)
    assert np.abs(blur(picture, signed_depth).numpy() - expected).max() < 1e-5
    assert np.abs(np.einsum("njhw,nijhw->nihw", kernels, features.reshape(1, 3, 31, 32, 40)) - expected).max() > 1e-2


@torch.no_grad()
def test_equation_3_is_a_special_case_of_the_step() -> None:
    step = build("paper", "upsample")
    assert isinstance(step, PaperUpsampler)
    last = step.weigh[-1]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    # Only the two pictures get weight; so much that the floor of the others is nothing beside it.
    last.weight[:2] *= 3e9
    last.bias[:2] = 1e7
    last.weight[2:], last.bias[2:] = 0.0, -1.0
    picture_high, picture, blurred, signed_depth = random_inputs("upsample", 32, 40)
    maps = step.weights(picture_high, picture, blurred, signed_depth)
    from_low, from_high = maps[:, 0:1], maps[:, 1:2]
    assert (from_low + from_high - 1).abs().max() < 1e-6
    assert from_low.std() > 0.05, "the maps should differ from place to place"

    enlarged = np.stack(
        [zoom(plane.double().numpy(), 2, order=1, mode="nearest", grid_mode=True) for plane in blurred[0]]
    )
    expected = from_high.double().numpy() * picture_high.double().numpy() + from_low.double().numpy() * enlarged
    found = step(picture_high, picture, blurred, signed_depth).numpy()
    assert np.abs(found - expected).max() < 1e-5
    swapped = from_low.numpy() * picture_high.numpy() + from_high.numpy() * enlarged
    assert np.abs(found - swapped).max() > 0.05


# --- Details that change numbers

KINDS = ("running_mean", "running_var", "num_batches_tracked")


def trained_and_then_used(network: str) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Outputs for one input in training and right after it, and the norms' statistics that have moved."""
    torch.manual_seed(0)
    module, inputs = build("paper", network).train(), random_inputs(network, 32, 32)
    before = deepcopy(module.state_dict())
    module(*random_inputs(network, 64, 32, seed=1))  # another distribution first: not all that is seen counts the same
    trained = module(*inputs)
    moved = [name for name, value in module.state_dict().items() if not torch.equal(value, before[name])]
    return trained.detach(), module.eval()(*inputs).detach(), moved


@pytest.mark.slow
def test_the_step_always_uses_its_running_statistics_and_they_stay() -> None:
    trained, used, moved = trained_and_then_used("upsample")
    torch.testing.assert_close(trained, used)
    norms = [name for name, module in build("paper", "upsample").named_modules() if isinstance(module, FrozenNorm)]
    assert len(norms) == 14
    assert not moved
    trained, used, moved = trained_and_then_used("lens_blur")
    assert (trained - used).abs().max() > 1e-3, "the control: the lens blur's depend on the batch"
    assert moved


def test_a_frozen_norm_is_a_batch_norm_in_use_and_gives_gradients() -> None:
    torch.manual_seed(0)
    norm, reference = FrozenNorm(4).train(), nn.BatchNorm2d(4).eval()
    state = {"running_mean": torch.randn(4), "running_var": torch.rand(4) + 0.5, "weight": torch.randn(4)}
    for each in (norm, reference):
        each.load_state_dict(state, strict=False)
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    torch.testing.assert_close(norm(norm(x)), reference(reference(x)))
    norm(norm(x)).square().sum().backward()
    assert x.grad is not None
    assert norm.weight.grad is not None
    assert torch.isfinite(x.grad).all()


@torch.no_grad()
def test_feature_network_reflects_at_its_borders() -> None:
    torch.manual_seed(0)
    features = TripleFeatures(3)
    picture = torch.rand(1, 3, 9, 11)
    convolution = features.convolutions[0]
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.bias is not None

    def first_layer(mode: str) -> np.ndarray:
        """By SciPy, whose `mirror` does not repeat the border pixel and whose `reflect` does."""
        planes = picture[0].double().numpy()
        kernels, bias = convolution.weight.double().numpy(), convolution.bias.double().numpy()  # type: ignore[union-attr]
        sums = [
            sum(correlate(plane, part, mode=mode) for plane, part in zip(planes, kernel, strict=True)) + offset
            for kernel, offset in zip(kernels, bias, strict=True)
        ]
        return np.maximum(np.stack(sums), 0)

    found = features(picture)[0, :30].numpy()
    assert np.abs(found - first_layer("mirror")).max() < 1e-6
    for other in ("reflect", "constant"):
        assert np.abs(found - first_layer(other)).max() > 1e-3
    flat = features(torch.full((1, 3, 16, 16), 0.5))
    assert flat.shape[1] == 90
    assert flat.std((2, 3)).max() < 1e-6, "a border that is not reflected would show on a flat picture, in any layer"


@torch.no_grad()
def test_kernel_bottleneck_strides_last_and_its_projection_is_rectified() -> None:
    torch.manual_seed(0)
    strided, plain = Bottleneck(128, 256, stride=2).eval(), Bottleneck(128, 256).eval()
    plain.load_state_dict(strided.state_dict())
    x = torch.randn(1, 128, 12, 12)
    assert torch.allclose(strided(x), plain(x)[:, :, ::2, ::2], atol=1e-6)
    assert strided.body[1](strided.body[0](x)).shape[2:] == (12, 12), "the 3×3 works at the full size"
    assert [module.stride for module in strided.modules() if isinstance(module, nn.Conv2d)] == [
        (1, 1), (1, 1), (2, 2), (2, 2),
    ]  # fmt: skip
    shortcut = strided.shortcut(x)
    assert shortcut.min() == 0
    assert shortcut.max() > 0
    assert isinstance(Bottleneck(256, 256).shortcut, nn.Identity)


@torch.no_grad()
def test_resnet_block_strides_in_its_first_convolution() -> None:
    torch.manual_seed(0)
    strided, plain = ResNetBlock(64, 32, stride=2).eval(), ResNetBlock(64, 32).eval()
    plain.load_state_dict(strided.state_dict())
    x = torch.randn(1, 64, 12, 12)
    assert torch.allclose(strided(x), plain(x[:, :, ::2, ::2]), atol=1e-6)
    assert not torch.allclose(strided(x), plain(x)[:, :, ::2, ::2], atol=1e-2), "as v1.5 would"


def test_encoder_keeps_stride_8_with_dilation() -> None:
    depth = build("paper", "depth").to("meta")
    assert isinstance(depth, PaperDepth)
    shapes = {}
    for name in ("conv1", "res2", "res3", "res4", "pyramid"):
        depth.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: shapes.update({name: tuple(output.shape[1:])})
        )
    depth(torch.empty(1, 3, 320, 320, device="meta"))
    assert shapes == {
        "conv1": (64, 160, 160), "res2": (256, 80, 80), "res3": (512, 40, 40), "res4": (1024, 40, 40),
        "pyramid": (384, 40, 40),
    }  # fmt: skip
    kernels = [m for m in depth.res4.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert {m.dilation for m in kernels} == {(2, 2)}
    assert {m.dilation for m in depth.res3.modules() if isinstance(m, nn.Conv2d)} == {(1, 1)}
    assert depth.conv1[0].bias is not None


@torch.no_grad()
def test_depth_subtracts_one_half_and_no_mean() -> None:
    depth = build("paper", "depth")
    assert isinstance(depth, PaperDepth)
    seen: list[Tensor] = []

    class StopError(Exception):
        pass

    def stop(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])
        raise StopError

    depth.conv1.register_forward_pre_hook(stop)
    picture = torch.rand(1, 3, 320, 320)
    with pytest.raises(StopError):
        depth(picture)
    assert torch.equal(seen[0], picture - 0.5)


@pytest.mark.parametrize("side", [40, 24])
@torch.no_grad()
def test_pyramid_pooling_with_fixed_kernels_is_adaptive_pooling(side: int) -> None:
    torch.manual_seed(0)
    pyramid = PyramidPooling(6, bins=(1, 2, 4, 8), width=3).eval()
    x = torch.randn(1, 6, side, side)
    expected = [x]
    for size, branch in zip((1, 2, 4, 8), pyramid.branches, strict=True):
        small = branch(F.adaptive_avg_pool2d(x, size))
        expected.append(F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False))
    assert torch.allclose(pyramid(x), torch.cat(expected, 1), atol=1e-6)


def test_bilinear_upsampling_has_half_pixel_centres() -> None:
    x = torch.rand(1, 1, 5, 7)
    expected = zoom(x[0, 0].double().numpy(), 2, order=1, mode="nearest", grid_mode=True)
    assert np.abs(upsample_2x(x)[0, 0].numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("radius", [1.0, 2.0, 2.25, 3.0])
def test_disc_kernels_are_discs(radius: float) -> None:
    kernel = disc_kernel(radius, 7)[0, 0].double().numpy()
    offsets = np.arange(7) - 3
    distance = np.hypot(offsets[:, None], offsets[None, :])
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    # A uniform disc has the mean square r²/2; the pixels that carry it add about 1/12 on each axis.
    assert (kernel * distance**2).sum() == pytest.approx(radius**2 / 2 + 1 / 6, abs=0.12)
    assert kernel[distance > radius + 0.71].max(initial=0) == 0
    assert kernel.max() == pytest.approx(1 / (np.pi * radius**2), rel=0.02)


def test_one_hot_taps_copy_the_neighbour_at_each_offset() -> None:
    picture = torch.arange(49.0).view(1, 1, 7, 7)
    found = F.conv2d(picture, one_hot_taps((-2, 0, 1)))[0, :, 1, 1]  # around row 3, column 3
    expected = [picture[0, 0, 3 + row, 3 + column] for row in (-2, 0, 1) for column in (-2, 0, 1)]
    assert found.tolist() == [float(each) for each in expected]
