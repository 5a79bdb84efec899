"""Where the fit of `paper` starts: at a blur and a step that already do something, instead of at noise.

The layers are those of the paper; only their first values are chosen.
"""

import torch
from torch import nn

from model.layers import TripleFeatures, disc_kernel
from model.lens_blur import PaperLensBlur
from model.upsampler import PaperUpsampler

RADII = ((0.6, 1.0, 1.5), (1.0, 1.5, 2.0, 2.5), (1.5, 2.0, 2.5), (2.0, 2.5))
"""Radii, in pixels, of the discs that each convolution of the features begins with, in turns: one after another they
blur by up to 2.5 px at each of four layers."""

NOISE = 0.3
"""Share of the usual initial weights that is kept beside the discs, so that no two features are alike."""

QUIET = 0.1
"""Share of the usual weights that the last layer of kernels and weight maps keeps: its biases decide at first."""


@torch.no_grad()
def start_known(lens_blur: PaperLensBlur, upsample: PaperUpsampler) -> None:
    """Give both networks their first values, in place; deterministic where the caller has seeded PyTorch.

    Features: copies of the colours, blurred by small discs. Kernels: mostly the picture itself (feature 0). Weight maps
    of the step: mostly the upsampled blurred picture (feature 0), a little the sharp one (feature 1).
    """
    for features in (lens_blur.features, upsample.features):
        _blurred_copies(features)
    for last, favoured in ((lens_blur.join[-1], {0: 1.0}), (upsample.weigh[-1], {0: 1.0, 1: 0.2})):
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        last.weight.mul_(QUIET)
        last.bias.fill_(0.02)
        for channel, weight in favoured.items():
            last.bias[channel] = weight


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
