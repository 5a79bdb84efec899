"""Layers that more than one network uses."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenNorm(nn.BatchNorm2d):
    """Batch norm that normalises by its running statistics in training, too, and never changes them.

    For inputs whose distribution differs from batch to batch, as from level to level of the loop: what a batch gives
    does not depend on what else is in it, nor on what came before. `training.known_start` sets the statistics.
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class ConvBNReLU(nn.Sequential):
    """Convolution without bias, batch norm, ReLU (or LeakyReLU with `slope`); zero padding keeps the size."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        slope: float = 0.0,
        norm: type[nn.BatchNorm2d] = nn.BatchNorm2d,
    ) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False),
            norm(outputs),
            nn.LeakyReLU(slope) if slope else nn.ReLU(),
        )


class Bottleneck(nn.Module):
    """The kernel network's residual block: 1×1 → 64, 3×3, 1×1 → outputs.

    It strides in its last 1×1 and in its projection; the projection has a ReLU after its batch norm.
    """

    MID = 64

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvBNReLU(inputs, self.MID, 1),
            ConvBNReLU(self.MID, self.MID, 3),
            nn.Conv2d(self.MID, outputs, 1, stride, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else ConvBNReLU(inputs, outputs, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), then ReLU: two 3×3 convolutions with bias and no normalisation."""

    def __init__(self, channels: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        with torch.no_grad():
            self.conv2.weight.mul_(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))


class FoldedConv(nn.Conv2d):
    """A 3×3 convolution over the input folded to channels by 2×2 blocks, as one strided convolution: 6×6, stride 2.

    (N, inputs, 2h, 2w) → (N, outputs, h, w). Folding by pixel-unshuffle would cost a transposition of rank 6, which the
    Neural Engine does not take.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 6, stride=2, padding=2)


class TripleFeatures(nn.Module):
    """The feature network: four convolutions with reflected borders, bias and ReLU, all outputs kept.

    (N, inputs, h, w) in [0, 1] → (N, 3 · learned, h, w). With the input pictures in front, channel i + 3j is feature j
    of colour i.
    """

    KERNELS = (3, 5, 5, 5)

    def __init__(self, inputs: int, *, learned: int = 30) -> None:
        """`learned` features a colour: the layers have 1, 1, ½ and ½ times that many outputs, 3 · learned in all."""
        super().__init__()
        convolutions = []
        widths = (learned, learned, (learned + 1) // 2, learned // 2)
        for outputs, kernel in zip(widths, self.KERNELS, strict=True):
            convolutions.append(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, padding_mode="reflect"))
            inputs = outputs
        self.convolutions = nn.ModuleList(convolutions)

    def forward(self, pictures: Tensor) -> Tensor:
        outputs = []
        for convolution in self.convolutions:
            pictures = F.relu(convolution(pictures))
            outputs.append(pictures)
        return torch.cat(outputs, 1)

    @staticmethod
    def weigh(features: Tensor, weights: Tensor) -> Tensor:
        """Equation 2: out_i = Σ_j weights_j · features_(i + 3j); (N, 3·c, h, w), (N, c, h, w) → (N, 3, h, w)."""
        return torch.cat([(weights * features[:, i::3]).sum(1, keepdim=True) for i in range(3)], 1)


def upsample_2x(x: Tensor) -> Tensor:
    """Bilinear ×2 with half-pixel centres (align_corners=False)."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def disc_kernel(radius: float, size: int, *, samples: int = 64) -> Tensor:
    """A disc of `radius` pixels as a (1, 1, size, size) kernel that sums to 1: each weight is the disc's area there.

    The area is counted on `samples`² points a pixel. A disc wider than the kernel is cut off and still sums to 1.
    """
    offsets = (torch.arange(size * samples, dtype=torch.float64) + 0.5) / samples - size / 2
    inside = (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius * radius).to(torch.float64)
    area = inside.view(size, samples, size, samples).sum((1, 3)) / samples**2
    assert math.isclose(float(area.sum()), math.pi * radius * radius, rel_tol=1e-2) or size < 2 * radius
    return (area / area.sum()).to(torch.float32).view(1, 1, size, size)


def one_hot_taps(offsets: tuple[int, ...]) -> Tensor:
    """Convolution weights (len(offsets)², 1, s, s) that copy the pixel at each (row, column) offset to a channel."""
    reach = max(abs(offset) for offset in offsets)
    size = 2 * reach + 1
    taps = torch.zeros(len(offsets) ** 2, 1, size, size)
    for i, row in enumerate(offsets):
        for j, column in enumerate(offsets):
            taps[i * len(offsets) + j, 0, reach + row, reach + column] = 1.0
    return taps
