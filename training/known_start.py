"""Where the fit of `paper` starts: at a blur and a step that already do something, instead of at noise.

The layers are those of the paper; only their first values are chosen.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deeplens.model.layers import ConvBNReLU, FrozenNorm, TripleFeatures, disc_kernel
from deeplens.model.lens_blur import PaperLensBlur
from deeplens.model.upsampler import PaperUpsampler

RADII = ((0.6, 1.0, 1.5), (1.0, 1.5, 2.0, 2.5), (1.5, 2.0, 2.5), (2.0, 2.5))
"""Radii, in pixels, of the discs that each convolution of the features begins with, in turns: one after another they
blur by up to 2.5 px at each of four layers."""

NOISE = 0.3
"""Share of the usual initial weights that is kept beside the discs, so that no two features are alike."""

QUIET = 0.1
"""Share of the usual weights that the last layer of kernels and weight maps keeps: its biases decide at first."""


IN_FOCUS = 24.0
"""The step begins with 1 − this · |signed depth|, where positive, as its weight of the sharp picture: 0 from a circle
of confusion of 2/3 pixel in radius at level 1."""

FAVOUR = 10.0
"""Sum of the weights of the upsampled and of the sharp picture at first; the other 30 have 0.02 each."""


@torch.no_grad()
def start_lens_blur(lens_blur: PaperLensBlur) -> None:
    """Give the lens blur its first values, in place; deterministic where the caller has seeded PyTorch.

    Features: copies of the colours, blurred by small discs. Kernels: mostly the picture itself (feature 0).
    """
    _blurred_copies(lens_blur.features)
    _quiet(lens_blur.join[-1], {0: 1.0})


@torch.no_grad()
def start_step(upsample: PaperUpsampler, inputs: Sequence[Tensor]) -> None:
    """Give the step its first values, in place; deterministic where the caller has seeded PyTorch.

    Features as those of the lens blur. Weight maps: in focus the sharp picture (feature 1), elsewhere the upsampled
    blurred one (feature 0), by channel 0 of each layer on the way from the signed depth: 24 D⁺ and 24 D⁻, then
    1 − 24 |D|. All else is random. The norms know the statistics of `inputs` and begin as the identity.

    Args:
        inputs: picture_high, picture, blurred and signed_depth of a batch, as `PaperUpsampler.forward` takes them.
    """
    _blurred_copies(upsample.features)
    favoured = _quiet(upsample.weigh[-1], {0: FAVOUR, 1: 0.0})
    favoured.weight[:2] = 0.0
    favoured.weight[0, 0, 1, 1], favoured.weight[1, 0, 1, 1] = -FAVOUR, FAVOUR
    for layer, wanted in (
        (upsample.down0, {(0, 6): IN_FOCUS, (1, 6): -IN_FOCUS}),
        (upsample.out_low, {(0, 0): -1.0, (0, 1): -1.0}),
        (upsample.out_high, {(0, 0): 1.0}),
        *((layer, {(0, 0 if place else 3): 1.0}) for place, layer in enumerate(list(upsample.weigh)[:-1])),
    ):
        weight = _weight(layer)
        weight[[output for output, _ in wanted]] = 0.0
        for (output, source), value in wanted.items():
            weight[output, source, 1, 1] = value
    _weight(upsample.up0)[:2] *= QUIET**2  # they are added to 24 D⁺ and 24 D⁻
    norm = upsample.out_low[1]
    assert isinstance(norm, FrozenNorm)
    _know(upsample, inputs, shift=(norm, 1.0))


def _know(upsample: PaperUpsampler, inputs: Sequence[Tensor], *, shift: tuple[FrozenNorm, float]) -> None:
    """Set all norms' statistics to those of what reaches them, and their scales and shifts so that they change nothing.

    Args:
        shift: what a norm is to add to its channel 0 nevertheless.
    """

    def measure(norm: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, FrozenNorm)
        mean, variance = arguments[0].mean((0, 2, 3)), arguments[0].var((0, 2, 3))
        norm.load_state_dict(
            {"running_mean": mean, "running_var": variance, "bias": mean, "weight": torch.sqrt(variance + norm.eps)},
            strict=False,
        )
        if norm is shift[0]:
            norm.bias[0] += shift[1]

    handles = [each.register_forward_pre_hook(measure) for each in upsample.modules() if isinstance(each, FrozenNorm)]
    upsample(*inputs)
    for handle in handles:
        handle.remove()


def _quiet(last: nn.Module, biases: dict[int, float]) -> nn.Conv2d:
    """Let a last layer's biases decide at first: `biases`, by channel, and 0.02 elsewhere. Gives the layer."""
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    last.weight.mul_(QUIET)
    last.bias.fill_(0.02)
    for channel, value in biases.items():
        last.bias[channel] = value
    return last


def _weight(layer: nn.Module) -> Tensor:
    """Of the convolution that a ConvBNReLU begins with."""
    assert isinstance(layer, ConvBNReLU)
    convolution = layer[0]
    assert isinstance(convolution, nn.Conv2d)
    return convolution.weight


def _blurred_copies(features: TripleFeatures) -> None:
    """Channel c of each layer is a disc's blur of channel c (modulo the inputs) of the one before: same colour."""
    for convolution, radii in zip(features.convolutions, RADII, strict=True):
        assert isinstance(convolution, nn.Conv2d)
        assert convolution.bias is not None
        convolution.weight.mul_(NOISE)
        convolution.bias.zero_()
        size = convolution.kernel_size[0]
        for channel in range(convolution.out_channels):
            disc = disc_kernel(radii[channel // 3 % len(radii)], size)[0, 0]
            convolution.weight[channel, channel % convolution.in_channels] += disc
