"""Lens blur: picture + signed depth at the base size → shallow depth-of-field picture (section 3.2.1, equation 2).

Both variants compute L_i = Σ_j K_j · F_ij with kernels K ≥ 0 that sum to 1 over the features j and are the same for
the three colours i. They differ in what the features are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.contract import R_MAX
from model.layers import Bottleneck, ConvBNReLU, ResidualBlock, TripleFeatures, disc_kernel, one_hot_taps, upsample_2x


class PaperLensBlur(nn.Module):
    """The released network: 31 learned features a colour, kernels from a shallow and a deep path.

    Input: picture (N, 3, h, w) in [0, 1], signed_depth (N, 1, h, w) in [-1, 1]. Output: (N, 3, h, w).
    """

    KERNEL_FLOOR = 1e-4
    """Added to each kernel weight before the division, so that the sum is never 0."""

    def __init__(self) -> None:
        super().__init__()
        self.features = TripleFeatures(3)
        self.shallow = ConvBNReLU(4, 64, 7)
        self.deep = nn.Sequential(
            ConvBNReLU(1, 64, 7, stride=4), Bottleneck(64, 128), Bottleneck(128, 256, stride=2), Bottleneck(256, 256)
        )
        self.join = nn.Sequential(
            Bottleneck(320, 128), Bottleneck(128, 256), Bottleneck(256, 256), nn.Conv2d(256, 31, 1)
        )

    def kernels(self, picture: Tensor, signed_depth: Tensor) -> Tensor:
        """Kernel weights (N, 31, h, w): non-negative, summing to 1 over the channels."""
        shallow = self.shallow(torch.cat((picture - 0.5, signed_depth), 1))
        deep = F.interpolate(self.deep(signed_depth), scale_factor=8.0, mode="bilinear", align_corners=False)
        weights = F.relu(self.join(torch.cat((deep, shallow), 1))) + self.KERNEL_FLOOR
        return weights / weights.sum(1, keepdim=True)

    def forward(self, picture: Tensor, signed_depth: Tensor) -> Tensor:
        kernels = self.kernels(picture, signed_depth)
        return self.features.weigh(torch.cat((picture, self.features(picture)), 1), kernels)


class EdgeLensBlur(nn.Module):
    """Ours: the features are copies of the picture, split by circle of confusion and blurred by discs.

    The signed depth is first refined: each pixel takes a convex combination of its neighbours' values, with weights
    predicted from the picture, so that a depth edge can move to the picture's edge. Its signed radius then sorts every
    pixel softly into the bins `CENTRES`; each bin's pixels are blurred by the disc of that bin, colour (in approximate
    linear light, x²) and coverage M alike, and so are two unions of all that is not nearer than the focal plane, which
    stand for what a blurred foreground hides. The predicted kernels weigh these features,

        L² = Σ_j k_j · blur(m_j · I²) / Σ_j k_j · M_j,

    which is equation 2 with K_j = k_j M_j / Σ k M and F_j = blur(m_j I²) / M_j: L is always a weighted mean of the
    picture's own pixels, so that colours can't shift, and it is the picture itself where the signed depth is 0.

    Input: picture (N, 3, h, w) in [0, 1], signed_depth (N, 1, h, w) in [-1, 1]. Output: (N, 3, h, w) in [0, 1].
    """

    CENTRES = (-8.0, -6.0, -4.5, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.5, 6.0, 8.0)
    """Signed radii of the bins, in base pixels; positive is nearer than the focal plane."""

    TAPS = (-3, -1, 0, 1, 3)
    """Offsets, in pixels along each axis, of the neighbours whose signed depth a pixel may take."""

    LIGHT_SCALE = 256.0
    """Linear light runs in [0, 256] inside, so that FP16 keeps the shadows: (1/255)² would be subnormal."""

    FINE = (5, 7, 4, 8, 3, 9)
    """Bins blurred at full size, by pairs of equal radius: ±1, ±2, ±3. The last radius also blurs one union."""

    COARSE = (2, 10, 1, 11, 0, 12)
    """Bins blurred at half size, by pairs of equal radius: ±4.5, ±6, ±8. The last radius also blurs one union."""

    FEATURES = 15
    """In order: sharp, ±1, ±2, ±3 (far, near), union at 3, ±4.5, ±6, ±8, union at 8."""

    NEAR_FEATURES = (2, 4, 6, 9, 11, 13)
    UNION_FEATURES = (7, 14)

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        assert max(self.CENTRES) == R_MAX
        taps, features = len(self.TAPS) ** 2, self.FEATURES
        self.stem = nn.Conv2d(16, 32, 3, padding=1)
        self.down = nn.Conv2d(32, width, 3, stride=2, padding=1)
        self.context = nn.Sequential(ResidualBlock(width), ResidualBlock(width, dilation=2), nn.Conv2d(width, 32, 1))
        self.fuse = nn.Conv2d(32, 32, 3, padding=1)
        self.refine = nn.Conv2d(32, 4 * taps, 1)
        self.gather = nn.Conv2d(32 + 4 + 4 * features, width, 3, padding=1)
        self.mix = nn.Sequential(ResidualBlock(width), nn.Conv2d(width, 4 * features, 1))
        nn.init.zeros_(self.refine.weight)
        nn.init.zeros_(self.refine.bias)
        with torch.no_grad():
            self.refine.bias.view(taps, 4)[taps // 2] = 4.0
        self._register_constants()

    def _register_constants(self) -> None:
        centres = torch.tensor(self.CENTRES)
        gaps = centres.diff()
        ones = torch.ones(1)
        # m_j = relu(min(rise, fall)): a hat over the neighbouring centres; the outermost bins stay at 1 outside.
        rise, fall = 1 / torch.cat((ones, gaps)), 1 / torch.cat((gaps, ones))
        rise_at, fall_at = 1 - centres * rise, 1 + centres * fall
        rise[0], rise_at[0], fall[-1], fall_at[-1] = 0.0, 1.0, 0.0, 1.0
        shape = (1, -1, 1, 1)
        self.register_buffer("rise", rise.view(shape), persistent=False)
        self.register_buffer("rise_at", rise_at.view(shape), persistent=False)
        self.register_buffer("fall", fall.view(shape), persistent=False)
        self.register_buffer("fall_at", fall_at.view(shape), persistent=False)
        self.register_buffer("taps", one_hot_taps(self.TAPS), persistent=False)
        # Four channels (three colours and coverage) a bin, two bins a radius, one more for the unions.
        self.register_buffer("disc1", disc_kernel(1.0, 3).repeat(8, 1, 1, 1), persistent=False)
        self.register_buffer("disc2", disc_kernel(2.0, 5).repeat(8, 1, 1, 1), persistent=False)
        self.register_buffer("disc3", disc_kernel(3.0, 7).repeat(12, 1, 1, 1), persistent=False)
        half = torch.cat((disc_kernel(2.25, 7).repeat(8, 1, 1, 1), disc_kernel(3.0, 7).repeat(8, 1, 1, 1)))
        self.register_buffer("disc_half", half, persistent=False)
        # A disc of radius 4 at half size is 9 wide; 7 ∘ 3 keeps kernels within the Neural Engine's 7.
        self.register_buffer("disc8_inner", disc_kernel(3.3, 7).repeat(12, 1, 1, 1), persistent=False)
        self.register_buffer("disc8_outer", disc_kernel(1.0, 3).repeat(12, 1, 1, 1), persistent=False)

    def membership(self, signed_depth: Tensor) -> Tensor:
        """Soft bins m (N, 13, h, w) of the signed radius: in [0, 1], summing to 1 over the channels."""
        radius = R_MAX * signed_depth
        return F.relu(torch.minimum(radius * self.rise + self.rise_at, self.fall_at - radius * self.fall))

    def _encode(self, picture: Tensor, signed_depth: Tensor) -> Tensor:
        """Context (N, 32, h/2, w/2) of picture and signed depth."""
        folded = torch.cat((F.pixel_unshuffle(picture, 2), F.pixel_unshuffle(signed_depth, 2)), 1)
        fine = F.relu(self.stem(folded))
        coarse = self.context(F.relu(self.down(fine)))
        coarse = upsample_2x(coarse)
        return F.relu(self.fuse(F.relu(fine + coarse)))

    def _refined(self, context: Tensor, signed_depth: Tensor) -> Tensor:
        """Signed depth (N, 1, h, w) after each pixel has chosen among its neighbours' values."""
        choice = torch.softmax(F.pixel_shuffle(self.refine(context), 2), 1)
        reach = max(self.TAPS)
        near = F.conv2d(F.pad(signed_depth, (reach,) * 4, mode="reflect"), self.taps)
        return (choice * near).sum(1, keepdim=True)

    def _layers(self, light: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
        """Blurred light (N, 3·15, h, w), colour by colour within a feature, and coverage (N, 15, h, w)."""

        def layer(index: int) -> Tensor:
            mask = bins[:, index : index + 1]
            return torch.cat((light * mask, mask), 1)

        behind = bins[:, : len(self.CENTRES) // 2 + 1].sum(1, keepdim=True)
        union = torch.cat((light * behind, behind), 1)
        fine = [layer(i) for i in self.FINE]
        sharp = layer(len(self.CENTRES) // 2)
        r1 = F.conv2d(torch.cat(fine[0:2], 1), self.disc1, padding=1, groups=8)
        r2 = F.conv2d(torch.cat(fine[2:4], 1), self.disc2, padding=2, groups=8)
        r3 = F.conv2d(torch.cat((*fine[4:6], union), 1), self.disc3, padding=3, groups=12)
        coarse = F.avg_pool2d(torch.cat([*(layer(i) for i in self.COARSE), union], 1), 2)
        mid = F.conv2d(coarse[:, :16], self.disc_half, padding=3, groups=16)
        wide = F.conv2d(coarse[:, 16:], self.disc8_inner, padding=3, groups=12)
        wide = F.conv2d(wide, self.disc8_outer, padding=1, groups=12)
        blurred = upsample_2x(torch.cat((mid, wide), 1))
        stack = torch.cat((sharp, r1, r2, r3, blurred), 1)
        colours = [stack[:, 4 * j : 4 * j + 3] for j in range(self.FEATURES)]
        coverage = [stack[:, 4 * j + 3 : 4 * j + 4] for j in range(self.FEATURES)]
        # What a foreground hides can show only where that foreground is blurred.
        near = sum(coverage[j] for j in self.NEAR_FEATURES)
        for j in self.UNION_FEATURES:
            colours[j], coverage[j] = colours[j] * near, coverage[j] * near
        return torch.cat(colours, 1), torch.cat(coverage, 1)

    def forward(self, picture: Tensor, signed_depth: Tensor) -> Tensor:
        context = self._encode(picture, signed_depth)
        refined = self._refined(context, signed_depth)
        light = self.LIGHT_SCALE * picture * picture
        colours, coverage = self._layers(light, self.membership(refined))
        seen = torch.cat((context, F.pixel_unshuffle(refined, 2), F.pixel_unshuffle(coverage, 2)), 1)
        kernels = torch.sigmoid(F.pixel_shuffle(self.mix(F.relu(self.gather(seen))), 2))
        weight = (kernels * coverage).sum(1, keepdim=True)
        mixed = torch.cat([(kernels * colours[:, c::3]).sum(1, keepdim=True) for c in range(3)], 1)
        # The floor keeps the quotient defined where no feature covers the pixel, by the pixel itself.
        floor = 1e-3
        return torch.sqrt((mixed + floor * light) / (weight + floor) + 1e-6) / self.LIGHT_SCALE**0.5
