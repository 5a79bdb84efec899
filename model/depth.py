"""Depth: the whole photo at a fixed size → disparity (section 3.1), with a segmentation head for training.

Input: picture (N, 3, 320, 320) in [0, 1]. Output: disparity (N, 1, 320, 320), near = large, not normalised.
`heads` gives the segmentation (N, 1, 320, 320) in [0, 1] too; no exported graph holds that head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deeplens.model.layers import ConvBNReLU, ResidualBlock, upsample_2x
from deeplens.model.map_filters import sharpened

RESNET_STAGES = ((64, 3, 1, 1), (128, 4, 2, 1), (256, 6, 1, 2))
"""ResNet-50's first residual stages: (middle channels, blocks, stride, dilation); res4 keeps stride 8."""

LITE0_STAGES = (
    (1, 16, 3, 1, 1),
    (2, 24, 3, 2, 6),
    (2, 40, 5, 2, 6),
    (3, 80, 3, 2, 6),
    (3, 112, 5, 1, 6),
    (4, 192, 5, 2, 6),
    (1, 320, 3, 1, 6),
)
"""EfficientNet-Lite0: (blocks, channels, kernel, stride of the first block, expansion)."""


class ResNetBlock(nn.Module):
    """ResNet v1 bottleneck: the stride sits in the first 1×1, the shortcut is projected where the shape changes."""

    def __init__(self, inputs: int, mid: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        outputs = 4 * mid
        self.body = nn.Sequential(
            ConvBNReLU(inputs, mid, 1, stride=stride),
            ConvBNReLU(mid, mid, 3, dilation=dilation),
            nn.Conv2d(mid, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = (
            nn.Identity()
            if inputs == outputs
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class PyramidPooling(nn.Module):
    """Average pools to several grid sizes by fixed kernels, 1×1 each, bilinear back, concatenated to the input.

    The input is square and its side a multiple of each of `bins`; the kernels follow from it, and are constants in a
    graph of fixed size.
    """

    def __init__(self, channels: int, *, bins: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.bins = bins
        self.branches = nn.ModuleList(ConvBNReLU(channels, width, 1) for _ in bins)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [x]
        for bins, branch in zip(self.bins, self.branches, strict=True):
            kernel = x.shape[-1] // bins
            small = branch(F.avg_pool2d(x, kernel))
            pooled.append(F.interpolate(small, scale_factor=float(kernel), mode="bilinear", align_corners=False))
        return torch.cat(pooled, 1)


class PaperHead(nn.Module):
    """3×3, residual 3×3, dropout, 1×1 → one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ConvBNReLU(64, 64, 3, slope=0.2)
        self.second = ConvBNReLU(64, 64, 3, slope=0.2)
        self.last = nn.Sequential(nn.Dropout(0.05), nn.Conv2d(64, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x + self.second(x))


class PaperDepth(nn.Module):
    """ResNet-50 to res4f with dilation, pyramid pooling, a decoder with skips, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64), nn.ReLU())
        stages, inputs = [], 64
        for mid, blocks, stride, dilation in RESNET_STAGES:
            layers = []
            for block in range(blocks):
                layers.append(ResNetBlock(inputs, mid, stride=stride if block == 0 else 1, dilation=dilation))
                inputs = 4 * mid
            stages.append(nn.Sequential(*layers))
        self.res2, self.res3, self.res4 = stages
        self.reduce = ConvBNReLU(1024, 256, 1)
        self.pyramid = PyramidPooling(256, bins=(1, 2, 4, 8), width=32)
        self.decode3 = ConvBNReLU(384, 64, 3, slope=0.2)
        self.skip2 = ConvBNReLU(256, 64, 3, slope=0.2)
        self.decode2 = ConvBNReLU(128, 64, 3, slope=0.2)
        self.skip1 = ConvBNReLU(64, 64, 3, slope=0.2)
        self.decode1 = ConvBNReLU(128, 64, 3, slope=0.2)
        self.depth_head = PaperHead()
        self.segmentation_head = PaperHead()

    def _decode(self, picture: Tensor) -> Tensor:
        x1 = self.conv1(picture - 0.5)
        x2 = self.res2(F.max_pool2d(x1, 3, 2, 1))
        x = self.decode3(self.pyramid(self.reduce(self.res4(self.res3(x2)))))
        x = self.decode2(torch.cat((upsample_2x(x), self.skip2(x2)), 1))
        x = self.decode1(torch.cat((upsample_2x(x), self.skip1(x1)), 1))
        return upsample_2x(x)

    def forward(self, picture: Tensor) -> Tensor:
        return self.depth_head(self._decode(picture))

    def heads(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Disparity and segmentation (section 3.1); the second is for training only."""
        decoded = self._decode(picture)
        return self.depth_head(decoded), torch.sigmoid(self.segmentation_head(decoded))


class LiteBlock(nn.Module):
    """EfficientNet-Lite's inverted residual: 1×1 expand, depthwise, 1×1 project, ReLU6, no squeeze-excite."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        mid = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [nn.Conv2d(inputs, mid, 1, bias=False), nn.BatchNorm2d(mid, eps=1e-3), nn.ReLU6()]
        layers += [
            nn.Conv2d(mid, mid, kernel, stride, kernel // 2, groups=mid, bias=False),
            nn.BatchNorm2d(mid, eps=1e-3),
            nn.ReLU6(),
            nn.Conv2d(mid, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3),
        ]
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


class Outlines(nn.Module):
    """Where depth steps, at full resolution: a side from −1 (behind) to 1 (before), and the segmentation's own share.

    picture (N, 3, 2h, 2w) in about [-1, 1] and features (N, inputs, h, w) of half the size → (N, 2, 2h, 2w), not
    bounded: the logits of the side, and what is added to those of the segmentation. Both are 0 at first.
    """

    def __init__(self, inputs: int, *, width: int = 16) -> None:
        super().__init__()
        self.picture = nn.Conv2d(3, width, 3, padding=1)
        self.context = nn.Conv2d(inputs, width, 1)
        self.block = ResidualBlock(width)
        self.last = nn.Conv2d(width, 2, 3, padding=1)
        _set(self.last, bias=0.0)

    def forward(self, picture: Tensor, features: Tensor) -> Tensor:
        x = F.relu(self.picture(picture) + upsample_2x(self.context(features)))
        return self.last(self.block(x))


class EdgeDepth(nn.Module):
    """EfficientNet-Lite0 encoder, pyramid pooling at stride 32, a light decoder, two heads, sharp outlines.

    The decoder ends at half the input's size. Disparity there is two smooth maps, one before and one behind an outline:
    middle ± half their distance. Which of them a pixel takes is decided at full resolution (`Outlines`), so that a step
    is as steep as the input's pixels, whatever is smooth. Weights of a network without it fit in: it changes nothing
    until it is trained. Filters without weights (`model.map_filters`) then make steps steep and put them on the edges
    of the picture.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32, eps=1e-3), nn.ReLU6())
        stages, inputs = [], 32
        for blocks, outputs, kernel, stride, expansion in LITE0_STAGES:
            layers = []
            for block in range(blocks):
                layers.append(
                    LiteBlock(inputs, outputs, kernel, stride=stride if block == 0 else 1, expansion=expansion)
                )
                inputs = outputs
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.reduce = ConvBNReLU(320, 128, 1)
        self.pyramid = PyramidPooling(128, bins=(1, 2, 5), width=32)
        self.decode4 = ConvBNReLU(128 + 3 * 32 + 112, 96, 3)
        self.decode3 = ConvBNReLU(96 + 40, 64, 3)
        self.decode2 = ConvBNReLU(64 + 24, 48, 3)
        self.decode1 = ConvBNReLU(48 + 16, 32, 3)
        self.depth_head = _edge_head()
        self.step_head = nn.Conv2d(32, 1, 3, padding=1)
        _set(self.step_head, bias=0.1)
        self.outlines = Outlines(32 + 32)
        self.segmentation_head = _edge_head()

    def _decode(self, scaled: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's and the stem's features, each (N, 32, h / 2, w / 2)."""
        stem = x = self.stem(scaled)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        x = self.pyramid(self.reduce(x))
        x = self.decode4(torch.cat((upsample_2x(x), outputs[4]), 1))
        x = self.decode3(torch.cat((upsample_2x(x), outputs[2]), 1))
        x = self.decode2(torch.cat((upsample_2x(x), outputs[1]), 1))
        return self.decode1(torch.cat((upsample_2x(x), outputs[0]), 1)), stem

    def _layers(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The decoder's features, what `Outlines` gives, and the disparity."""
        scaled = picture * (255 / 128) - 127 / 128
        decoded, stem = self._decode(scaled)
        logits = self.outlines(scaled, torch.cat((decoded, stem), 1))
        middle, half = upsample_2x(self.depth_head(decoded)), upsample_2x(self.step_head(decoded))
        disparity = middle + half * (2 * torch.sigmoid(logits[:, :1]) - 1)
        if disparity.dtype != picture.dtype:  # in a fit with bfloat16, which has too few digits for the filters
            disparity = disparity.to(picture.dtype)
        return decoded, logits, sharpened(disparity, picture)

    def forward(self, picture: Tensor) -> Tensor:
        return self._layers(picture)[2]

    def heads(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Disparity and segmentation (section 3.1); the second is for training only."""
        decoded, logits, disparity = self._layers(picture)
        return disparity, torch.sigmoid(upsample_2x(self.segmentation_head(decoded)) + logits[:, 1:])


def _edge_head() -> nn.Sequential:
    return nn.Sequential(ConvBNReLU(32, 16, 3), nn.Conv2d(16, 1, 1))


def _set(convolution: nn.Conv2d, *, bias: float) -> None:
    """Make a convolution give `bias` whatever it sees."""
    assert convolution.bias is not None
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.bias.fill_(bias)
