"""Lens blur: picture + signed depth at the base size → shallow depth-of-field picture (section 3.2.1, equation 2).

Both variants compute L_i = Σ_j K_j · F_ij with kernels K ≥ 0 that sum to 1 over the features j and are the same for
the three colours i. They differ in what the features are.
"""

from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deeplens.model.contract import R_MAX
from deeplens.model.discs import DISCS, Disc, check
from deeplens.model.layers import (
    Bottleneck,
    ConvBNReLU,
    FoldedConv,
    ResidualBlock,
    TripleFeatures,
    disc_kernel,
    one_hot_taps,
    upsample_2x,
)


class PaperLensBlur(nn.Module):
    """The released network: 31 features a colour, kernels from a shallow and a deep path.

    Feature 0 is the picture itself, the others are learned. `features` other than 31 are for the ablation (figure 12).

    Input: picture (N, 3, h, w) in [0, 1], signed_depth (N, 1, h, w) in [-1, 1]. Output: (N, 3, h, w).
    """

    KERNEL_FLOOR = 1e-4
    """Added to each kernel weight before the division, so that the sum is never 0."""

    def __init__(self, *, features: int = 31) -> None:
        super().__init__()
        self.features = TripleFeatures(3, learned=features - 1)
        self.shallow = ConvBNReLU(4, 64, 7)
        self.deep = nn.Sequential(
            ConvBNReLU(1, 64, 7, stride=4), Bottleneck(64, 128), Bottleneck(128, 256, stride=2), Bottleneck(256, 256)
        )
        self.join = nn.Sequential(
            Bottleneck(320, 128), Bottleneck(128, 256), Bottleneck(256, 256), nn.Conv2d(256, features, 1)
        )

    def kernels(self, picture: Tensor, signed_depth: Tensor) -> Tensor:
        """Kernel weights (N, features, h, w): non-negative, summing to 1 over the channels."""
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
    pixel softly into the bins of the table `discs`; each bin's pixels are blurred by the disc of that bin, colour (in
    approximate linear light, x²) and coverage M alike, and so are unions of all that is not nearer than the focal
    plane, which stand for what a blurred foreground hides. The predicted kernels weigh these features,

        L² = Σ_j k_j · blur(m_j · I²) / Σ_j k_j · M_j,

    which is equation 2 with K_j = k_j M_j / Σ k M and F_j = blur(m_j I²) / M_j: L is always a weighted mean of the
    picture's own pixels, so that colours can't shift, and it is the picture itself where the signed depth is 0. Each
    k_j is a predicted number in (0, 1) times what the coverage of nearer features leaves of feature j: the network
    starts from compositing and learns where that is wrong.

    Input: picture (N, 3, h, w) in [0, 1], signed_depth (N, 1, h, w) in [-1, 1]. Output: (N, 3, h, w) in [0, 1].
    """

    TAPS = (-3, -1, 0, 1, 3)
    """Offsets, in pixels along each axis, of the neighbours whose signed depth a pixel may take."""

    LIGHT_SCALE = 256.0
    """Linear light runs in [0, 256] inside, so that FP16 keeps the shadows: (1/255)² would be subnormal."""

    LIGHT_BEND = 0.15
    """How far sRGB's curve is from a square."""

    COVERAGE_FLOOR = 1e-3
    """Weight of the pixel itself in the quotient, which keeps it defined where no feature covers the pixel."""

    HIDDEN_SHARE = 0.02
    """Share of a feature that the network can still use where nearer ones cover it fully."""

    rise: Tensor
    rise_at: Tensor
    fall: Tensor
    fall_at: Tensor
    behind: Tensor
    taps: Tensor
    hides: Tensor
    total: Tensor
    near: Tensor

    def __init__(self, width: int = 48, *, discs: tuple[Disc, ...] = DISCS) -> None:
        super().__init__()
        check(discs)
        self.discs = discs
        self.centres = [centre for disc in discs for centre in disc.centres]
        taps, features = len(self.TAPS) ** 2, sum(disc.features for disc in discs)
        self.stem = FoldedConv(4, 32)
        self.down = nn.Conv2d(32, width, 3, stride=2, padding=1)
        self.context = nn.Sequential(ResidualBlock(width), ResidualBlock(width, dilation=2), nn.Conv2d(width, 32, 1))
        self.fuse = nn.Conv2d(32, 32, 3, padding=1)
        self.refine = nn.Conv2d(32, 4 * taps, 1)
        self.gather = nn.Conv2d(32, width, 3, padding=1)
        self.gather_folded = FoldedConv(1 + features, width)
        self.mix = nn.Sequential(ResidualBlock(width), nn.Conv2d(width, 4 * features, 1))
        # To begin with: plain compositing of the layers, and each pixel keeps its own depth.
        for parameter in (*self.refine.parameters(), *self.mix[1].parameters()):
            nn.init.zeros_(parameter)
        with torch.no_grad():
            list(self.refine.parameters())[1].view(taps, 4)[taps // 2] = 4.0
        self._register_bins()
        self._register_discs()
        self._register_occlusion()

    def _register_bins(self) -> None:
        order = sorted(self.centres)
        rise, rise_at, fall, fall_at = [], [], [], []
        for centre in self.centres:
            place = order.index(centre)
            # m_j = relu(min(rise, fall)): a hat between the neighbouring centres; the outermost bins stay at 1 outside.
            up = 1 / (centre - order[place - 1]) if place else 0.0
            down = 1 / (order[place + 1] - centre) if place + 1 < len(order) else 0.0
            rise.append(up)
            rise_at.append(1 - up * centre)
            fall.append(down)
            fall_at.append(1 + down * centre)
        # As 1×1 convolutions of the signed depth: a product of 1 channel with 13 is not for every compiler.
        self.register_buffer("rise", R_MAX * torch.tensor(rise).view(-1, 1, 1, 1), persistent=False)
        self.register_buffer("fall", -R_MAX * torch.tensor(fall).view(-1, 1, 1, 1), persistent=False)
        self.register_buffer("rise_at", torch.tensor(rise_at), persistent=False)
        self.register_buffer("fall_at", torch.tensor(fall_at), persistent=False)
        behind = torch.tensor([float(centre <= 0) for centre in self.centres])
        self.register_buffer("behind", behind.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("taps", one_hot_taps(self.TAPS), persistent=False)

    def _register_discs(self) -> None:
        # Learned, from the disc's area in each pixel: what averaging, halving and upsampling do is learned with it.
        for disc in self.discs:
            for name, (radius, side) in disc.kernels.items():
                self.register_parameter(name, nn.Parameter(disc_kernel(radius, side)))
        # total sums the weighed stack of features into light (3) and coverage (1);
        # near sums the coverage of what is nearer than the focal plane.
        total, near = [], []
        for disc in self.discs:
            for value in range(4):
                total += [[float(value == row) for row in range(4)]] * len(_depths(disc))
            near += [float(depth is not None and depth > 0) for depth in _depths(disc)]
        self.register_buffer("total", torch.tensor(total).T.reshape(4, -1, 1, 1), persistent=False)
        self.register_buffer("near", torch.tensor(near).view(1, -1, 1, 1), persistent=False)

    def _register_occlusion(self) -> None:
        # Weights, 15×15, that turn the features' coverage into what is left of each behind nearer ones: a bin
        # loses what all nearer bins cover, a union stands in only where the bins it unites leave a gap.
        depths = [depth for disc in self.discs for depth in _depths(disc)]
        hides = [
            [float(other is not None and (depth is None or other > depth)) for other in depths] for depth in depths
        ]
        self.register_buffer("hides", torch.tensor(hides).view(len(depths), -1, 1, 1), persistent=False)

    def light(self, picture: Tensor) -> Tensor:
        """Linear light of sRGB, in [0, `LIGHT_SCALE`]: the square of b·x² + (1 − b)·x, b = `LIGHT_BEND`.

        It is within 0.003 of the standard's curve and, unlike that, a few products in FP16; `forward` ends with its
        inverse in the form that does not cancel.
        """
        root = picture * (self.LIGHT_BEND * picture + (1 - self.LIGHT_BEND))
        return self.LIGHT_SCALE * root * root

    def membership(self, signed_depth: Tensor) -> Tensor:
        """Soft bins m (N, 13, h, w) of the signed radius: in [0, 1], summing to 1 over the channels."""
        rising = F.conv2d(signed_depth, self.rise, self.rise_at)
        return F.relu(torch.minimum(rising, F.conv2d(signed_depth, self.fall, self.fall_at)))

    def refined(self, context: Tensor, signed_depth: Tensor) -> Tensor:
        """Signed depth (N, 1, h, w) after each pixel has chosen among its neighbours' values."""
        choice = torch.softmax(F.pixel_shuffle(self.refine(context), 2), 1)
        reach = max(self.TAPS)
        near = F.conv2d(F.pad(signed_depth, (reach,) * 4, mode="reflect"), self.taps)
        return (choice * near).sum(1, keepdim=True)

    def _encode(self, picture: Tensor, signed_depth: Tensor) -> Tensor:
        """Context (N, 32, h/2, w/2) of picture and signed depth."""
        fine = F.relu(self.stem(torch.cat((picture, signed_depth), 1)))
        coarse = upsample_2x(self.context(F.relu(self.down(fine))))
        return F.relu(self.fuse(F.relu(fine + coarse)))

    def _features(self, light: Tensor, bins: Tensor) -> list[Tensor]:
        """Blurred features, one tensor a group: (N, 4·f, h, w), red, green, blue light and coverage of f features."""
        union = (bins * self.behind).sum(1, keepdim=True)
        layers, first = [], 0
        for disc in self.discs:
            mask = bins[:, first : first + len(disc.centres)]
            first += len(disc.centres)
            mask = torch.cat((mask, union), 1) if disc.union else mask
            layers.append(torch.cat([*(light[:, c : c + 1] * mask for c in range(3)), mask], 1))
        wide = [index for index, disc in enumerate(self.discs) if disc.at_half_size]
        half = F.avg_pool2d(torch.cat([layers[index] for index in wide], 1), 2)
        ends = list(accumulate((layers[index].shape[1] for index in wide), initial=0))
        parts = [half[:, start:end] for start, end in pairwise(ends)]
        spread = [self._blurred(part, self.discs[index]) for part, index in zip(parts, wide, strict=True)]
        blurred = upsample_2x(torch.cat(spread, 1))
        narrow = len(self.discs) - len(wide)
        fine = [self._blurred(layer, disc) for layer, disc in zip(layers[:narrow], self.discs, strict=False)]
        return [*fine, *(blurred[:, start:end] for start, end in pairwise(ends))]

    def _blurred(self, layers: Tensor, disc: Disc) -> Tensor:
        """The layers through all kernels of a disc."""
        for name in disc.kernels:
            layers = _spread(layers, self.get_parameter(name))
        return layers

    def forward(self, picture: Tensor, signed_depth: Tensor) -> Tensor:
        context = self._encode(picture, signed_depth)
        refined = self.refined(context, signed_depth)
        light = self.light(picture)
        groups = self._features(light, self.membership(refined))
        stack = torch.cat(groups, 1)
        coverage = torch.cat([group[:, 3 * group.shape[1] // 4 :] for group in groups], 1)
        seen = self.gather(context) + self.gather_folded(torch.cat((refined, coverage), 1))
        left = torch.clamp(1 - F.conv2d(coverage, self.hides), 0.0, 1.0)
        kernels = torch.sigmoid(F.pixel_shuffle(self.mix(F.relu(seen)), 2)) * (self.HIDDEN_SHARE + left)

        # What a foreground hides can show only where that foreground is blurred.
        near = F.conv2d(coverage, self.near)
        weights, start = [], 0
        for disc in self.discs:
            weight = kernels[:, start : start + len(disc.centres)]
            start += len(disc.centres)
            if disc.union:
                weight = torch.cat((weight, kernels[:, start : start + 1] * near), 1)
                start += 1
            weights += [weight] * 4
        summed = F.conv2d(stack * torch.cat(weights, 1), self.total)
        floor = self.COVERAGE_FLOOR
        mixed = (summed[:, :3] + floor * light) / (summed[:, 3:] + floor)
        root = torch.sqrt(mixed + 1e-6) / self.LIGHT_SCALE**0.5
        bend = self.LIGHT_BEND
        return 2 * root / (1 - bend + torch.sqrt((1 - bend) ** 2 + 4 * bend * root))


def _depths(disc: Disc) -> tuple[float | None, ...]:
    """Signed radius of each feature of a disc; None: the union of several."""
    return (*disc.centres, None) if disc.union else disc.centres


def _spread(layers: Tensor, disc: Tensor) -> Tensor:
    """Each channel convolved with the one kernel (1, 1, k, k), made non-negative and of sum 1."""
    kernel = F.relu(disc)
    kernel = (kernel / kernel.sum()).repeat(layers.shape[1], 1, 1, 1)
    return F.conv2d(layers, kernel, padding=kernel.shape[-1] // 2, groups=layers.shape[1])
