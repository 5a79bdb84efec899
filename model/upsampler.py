"""The guided ×2 upsampling step (section 3.2.3), looped to full resolution with the same weights each time.

Input: picture_high (N, 3, 2h, 2w), picture (N, 3, h, w), blurred (N, 3, h, w), all in [0, 1], and
signed_depth (N, 1, h, w) in [-1, 1]. Output: blurred_high (N, 3, 2h, 2w).
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deeplens.model.contract import R_MAX
from deeplens.model.layers import ConvBNReLU, FoldedConv, FrozenNorm, TripleFeatures, upsample_2x


class PaperUpsampler(nn.Module):
    """The released step: 32 features a colour at the high size, weighed by maps W ≥ 0 that sum to 1.

    The first two features are the upsampled blurred picture and the high picture: with weight on these two alone the
    step is equation 3, H = M_A ⊙ A + M_L ⊙ L̂. Norms use their running statistics in training too: the levels of the
    loop differ in distribution, and weight maps that follow the batches never get exact.
    """

    WEIGHT_FLOOR = 1e-4
    """Added to each weight before the division, so that the sum is never 0."""

    def __init__(self) -> None:
        super().__init__()
        layer = partial(ConvBNReLU, kernel=3, norm=FrozenNorm)
        self.down0 = layer(7, 32)
        self.down1 = layer(32, 64, stride=2)
        self.down2 = layer(64, 128, stride=2)
        self.down3 = nn.Sequential(layer(128, 256, stride=2), layer(256, 256))
        self.up2 = layer(256, 128)
        self.up1 = layer(128, 64)
        self.up0 = layer(64, 32)
        self.out_low = layer(32, 32)
        self.out_high = layer(32, 32)
        self.weigh = nn.Sequential(layer(35, 32), *(layer(32, 32) for _ in range(3)), nn.Conv2d(32, 32, 3, padding=1))
        self.features = TripleFeatures(6)

    def weights(self, picture_high: Tensor, picture: Tensor, blurred: Tensor, signed_depth: Tensor) -> Tensor:
        """Weight maps (N, 32, 2h, 2w): non-negative, summing to 1 over the channels."""
        x0 = self.down0(torch.cat((picture, blurred, signed_depth), 1))
        x1 = self.down1(x0)
        x2 = self.down2(x1)
        y = upsample_2x(self.up2(self.down3(x2))) + x2
        y = upsample_2x(self.up1(y)) + x1
        y = upsample_2x(self.up0(y)) + x0
        low = self.out_high(upsample_2x(self.out_low(y)))
        weights = F.relu(self.weigh(torch.cat((picture_high, low), 1))) + self.WEIGHT_FLOOR
        return weights / weights.sum(1, keepdim=True)

    def forward(self, picture_high: Tensor, picture: Tensor, blurred: Tensor, signed_depth: Tensor) -> Tensor:
        weights = self.weights(picture_high, picture, blurred, signed_depth)
        pictures = torch.cat((upsample_2x(blurred), picture_high), 1)
        return self.features.weigh(torch.cat((pictures, self.features(pictures)), 1), weights)


class EdgeUpsampler(nn.Module):
    """Ours: all convolutions at the low size or below; at the high size only three products a colour.

    The high picture enters by a strided convolution. Predicted for each high pixel: weights w ≥ 0, summing to 1, of its
    four nearest low pixels (bilinear interpolation to begin with), and two detail gates m, n in [0, 1]:

        H = U(L) + g_0 · (A − G∗A) + g_1 · (G∗A − G∗G∗A) + g_2 · (G∗G∗A − U(a)),   U(x) = Σ_k w_k x_k,

    with A the high picture, a the low one, L its blurred version and G a small binomial blur: three bands of A's
    detail, finest first. In focus L = a, and gates of 1 give A exactly; out of focus they close, the finest first, and
    U follows the blurred picture without crossing edges. The gates start from what the low level shows: the share of
    a's detail that L has kept (`kept_detail`). They are closed where the circle of confusion is so large that no detail
    can be left (`CLOSING`): traces of strong edges would stay visible in smooth blur.
    """

    CLOSING = (3.0, 4.5)
    """Radius of the circle of confusion, in low pixels, from which the gates close and at which they are closed."""

    STRETCHES = (4.0, 16.0)
    """Copies of the signed depth, times these, end at radii of 2 and of half a low pixel."""

    DETAIL_FLOOR = 1e-4
    """Energy of detail, per pixel and in [0, 1]², that is noise rather than detail."""

    neighbours: Tensor
    add: Tensor
    binomial: Tensor

    def __init__(self, width: int = 32, inner: int = 48) -> None:
        super().__init__()
        self.stem = nn.Conv2d(10, width, 3, padding=1)
        self.stem_high = FoldedConv(3, width)
        self.down = nn.Conv2d(width, inner, 3, stride=2, padding=1)
        self.context = nn.Conv2d(inner, inner, 3, padding=2, dilation=2)
        self.narrow = nn.Conv2d(inner, width, 1)
        self.fuse = nn.Conv2d(width, width, 3, padding=1)
        self.predict = nn.Conv2d(width, 28, 1)
        weight, bias = self.predict.parameters()
        with torch.no_grad():
            weight.zero_()  # to begin with: bilinear, and the gate as the low level shows it
            near = torch.tensor([0.75, 0.25])
            for sub in range(4):
                rows, columns = near.flip(0) if sub < 2 else near, near.flip(0) if sub % 2 == 0 else near
                bias[4 * sub : 4 * sub + 4] = torch.outer(rows, columns).flatten()
            bias[16:28] = 0.0
        self._register_constants()

    def _register_constants(self) -> None:
        # Channel 4·sub + k of the gathered copies: the k-th of the four low pixels around high pixel `sub` of a cell.
        taps = torch.zeros(16, 1, 3, 3)
        for sub in range(4):
            for k in range(4):
                taps[4 * sub + k, 0, sub // 2 + k // 2, sub % 2 + k % 2] = 1.0
        self.register_buffer("neighbours", taps.repeat(6, 1, 1, 1), persistent=False)
        self.register_buffer("add", torch.ones(24, 4, 1, 1), persistent=False)
        binomial = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("binomial", torch.outer(binomial, binomial).repeat(3, 1, 1, 1), persistent=False)

    def kept_detail(self, picture: Tensor, blurred: Tensor) -> Tensor:
        """The share of the low picture's detail that its blurred version has kept, (N, 1, h, w) in [0, 1].

        Least squares over 3×3 pixels and the colours: Σ (a − G∗a)(L − G∗a) / Σ (a − G∗a)², 1 in focus, 0 far out of it.

        Args:
            picture, blurred: of the low size, (N, 3, h, w).
        """
        smooth = self._smooth(picture)
        # Times 16, so that FP16 keeps the squares of faint detail.
        detail, kept = 16 * (picture - smooth), 16 * (blurred - smooth)
        sums = torch.cat(((detail * kept).sum(1, keepdim=True), (detail * detail).sum(1, keepdim=True)), 1)
        covariance, variance = F.conv2d(sums, self.binomial[:2], padding=1, groups=2).split(1, 1)
        return torch.clamp(covariance / (variance + 256 * self.DETAIL_FLOOR), 0.0, 1.0)

    def _smooth(self, picture: Tensor) -> Tensor:
        """G∗picture, (N, 3, h, w): the binomial blur, the border reflected."""
        return F.conv2d(F.pad(picture, (1, 1, 1, 1), mode="reflect"), self.binomial, groups=3)

    def forward(self, picture_high: Tensor, picture: Tensor, blurred: Tensor, signed_depth: Tensor) -> Tensor:
        pair = F.pad(torch.cat((blurred, picture), 1), (1, 1, 1, 1), mode="reflect")
        kept = self.kept_detail(picture, blurred)
        # Depths near the focal plane decide between sharp and soft: stretched copies resolve them.
        stretched = (torch.clamp(times * signed_depth, -1.0, 1.0) for times in self.STRETCHES)
        low = self.stem(torch.cat((picture, blurred, signed_depth, *stretched, kept), 1))
        fine = F.relu(low + self.stem_high(picture_high))
        context = self.narrow(F.relu(self.context(F.relu(self.down(fine)))))
        predicted = self.predict(F.relu(self.fuse(F.relu(fine + upsample_2x(context)))))

        weights = F.relu(predicted[:, :16]) + 1e-3
        copies = F.conv2d(pair, self.neighbours, groups=6) * torch.cat([weights] * 6, 1)
        total = F.conv2d(weights, self.add[:4], groups=4)
        mixed = F.conv2d(copies, self.add, groups=24) / torch.cat([total] * 6, 1)
        upsampled = F.pixel_shuffle(mixed, 2)
        soft, base = upsampled[:, :3], upsampled[:, 3:]

        first, closed = self.CLOSING
        may_open = torch.clamp((closed - R_MAX * signed_depth.abs()) / (closed - first), 0.0, 1.0)
        opened = torch.clamp(predicted[:, 16:] + torch.cat([kept] * 12, 1), 0.0, 1.0)
        gates = F.pixel_shuffle(opened * may_open, 2)
        smooth = self._smooth(picture_high)
        smoother = self._smooth(smooth)
        fine, middle, coarse = picture_high - smooth, smooth - smoother, smoother - base
        return soft + gates[:, :1] * fine + gates[:, 1:2] * middle + gates[:, 2:] * coarse
