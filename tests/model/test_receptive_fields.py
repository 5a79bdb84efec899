"""Receptive fields: measured by a NaN, which every operation hands on, against what the layers add up to."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from deeplens.model.build import build
from deeplens.model.contract import ALIGNMENT, CONTRACTS, VARIANTS
from deeplens.model.layers import TripleFeatures
from tests.support.tiny import random_inputs

pytestmark = pytest.mark.slow

# --- Receptive fields: measured by a NaN, which every operation hands on, against what the layers say

Reach = Callable[[int, int], tuple[int, int]]
"""First and last output position → first and last input position that they depend on."""


def conv(kernel: int, *, stride: int = 1, dilation: int = 1) -> Reach:
    side = dilation * (kernel // 2)
    return lambda low, high: (stride * low - side, stride * high + side)


def folded(low: int, high: int) -> tuple[int, int]:
    return 2 * low - 2, 2 * high + 3


def bilinear(scale: int) -> Reach:
    def source(position: int) -> int:
        return (2 * position + 1 - scale) // (2 * scale)  # floor((position + 1/2) / scale − 1/2)

    return lambda low, high: (source(low), source(high) + 1)


def pool(low: int, high: int) -> tuple[int, int]:
    return 2 * low, 2 * high + 1


def shuffle(low: int, high: int) -> tuple[int, int]:
    return low // 2, high // 2


def chain(*layers: Reach) -> Reach:
    """Layers in the order in which data passes them."""

    def reach(low: int, high: int) -> tuple[int, int]:
        for layer in reversed(layers):
            low, high = layer(low, high)
        return low, high

    return reach


def hull(*branches: Reach) -> Reach:
    def reach(low: int, high: int) -> tuple[int, int]:
        ends = [branch(low, high) for branch in branches]
        return min(end[0] for end in ends), max(end[1] for end in ends)

    return reach


FEATURES = chain(conv(3), conv(5), conv(5), conv(5))
DEEP = chain(conv(7, stride=4), conv(3), conv(3), conv(1, stride=2), conv(3), bilinear(8))
THREE = chain(conv(3), conv(3), conv(3))
PAPER_BLUR = hull(FEATURES, chain(hull(conv(7), DEEP), THREE))

DOWN = [conv(3), conv(3, stride=2), conv(3, stride=2), chain(conv(3, stride=2), conv(3))]
UP = chain(conv(3), bilinear(2))
LOW0 = DOWN[0]
LOW1 = chain(LOW0, DOWN[1])
LOW2 = chain(LOW1, DOWN[2])
DECODED = hull(chain(hull(chain(hull(chain(LOW2, DOWN[3], UP), LOW2), UP), LOW1), UP), LOW0)
PAPER_STEP = hull(
    chain(hull(chain(DECODED, conv(3), bilinear(2), conv(3)), shuffle), *[conv(3)] * 5),
    chain(hull(bilinear(2), shuffle), FEATURES),
)
"""From an output pixel to the low-resolution inputs; the high picture counts as its 2×2 blocks."""

RESIDUAL = chain(conv(3), conv(3))
CONTEXT = chain(
    hull(folded, chain(folded, conv(3, stride=2), RESIDUAL, chain(*[conv(3, dilation=2)] * 2), bilinear(2))), conv(3)
)
REFINED = hull(chain(CONTEXT, shuffle), conv(7))
WIDE = chain(pool, conv(7), conv(3), bilinear(2))
DISCS = hull(conv(7), WIDE)
STACK = chain(REFINED, DISCS)
EDGE_BLUR = hull(STACK, chain(hull(chain(CONTEXT, conv(3)), chain(hull(REFINED, STACK), folded)), RESIDUAL, shuffle))
FINE = hull(conv(3), THREE)
EDGE_STEP = chain(hull(FINE, chain(FINE, conv(3, stride=2), conv(3, dilation=2), bilinear(2))), conv(3), shuffle)

REACHES = {
    ("paper", "lens_blur"): PAPER_BLUR,
    ("paper", "upsample"): PAPER_STEP,
    ("edge", "lens_blur"): EDGE_BLUR,
    ("edge", "upsample"): EDGE_STEP,
}


def extremes(reach: Reach, scale: int = 1) -> tuple[int, int]:
    """Farthest input before and after a low-resolution pixel of the output, over all phases of the strides."""
    ends = [(pixel, reach(scale * pixel, scale * pixel + scale - 1)) for pixel in range(800, 800 + ALIGNMENT)]
    return max(pixel - low for pixel, (low, _) in ends), max(high - pixel for pixel, (_, high) in ends)


@torch.no_grad()
def measured(module: nn.Module, network: str, *names: str, length: int = 136) -> tuple[int, int]:
    """The same, by experiment: a row of NaN in the named inputs (or all), at each phase, and the rows it reaches."""
    contract = CONTRACTS[network]
    middle, scale = (length - 8) // 2, contract.outputs[0].scale
    before = after = 0
    for row in range(middle, middle + ALIGNMENT):
        inputs = random_inputs(network, length, 32)
        for tensor, values in zip(contract.inputs, inputs, strict=True):
            if not names or tensor.name in names:
                values[:, :, tensor.scale * row : tensor.scale * (row + 1)] = torch.nan
        reached = torch.nonzero(module(*inputs).isnan().any(1).any(-1)[0]).flatten() // scale
        first, last = int(reached[0]), int(reached[-1])
        assert 0 < first <= last < length - 1, "the row must not reach the ends, or there is more than is seen"
        before, after = max(before, last - row), max(after, row - first)
    return before, after


@torch.no_grad()
def test_a_pixel_of_the_paper_s_features_sees_15_by_15() -> None:
    picture = torch.rand(1, 3, 31, 33)
    picture[:, :, 15, 16] = torch.nan
    reached = TripleFeatures(3)(picture)[0].isnan()
    expected = torch.zeros(31, 33, dtype=torch.bool)
    expected[15 - 7 : 15 + 8, 16 - 7 : 16 + 8] = True
    assert torch.equal(reached[-15:].all(0), expected)
    assert torch.equal(reached.any(0), expected)
    assert int(reached[:30].any(0).sum()) == 9, "the first layer alone: 3×3"


def test_the_deep_path_sees_59_pixels() -> None:
    """33 before and 26 after a pixel: so the farthest rows are the 59 of reference_networks.md apart.

    They are not reached from one pixel. The path proper is 39 wide (7, then three 3×3 at strides 4, 4 and 8); resizing
    by 8 reads the two nearest of its outputs, whose grid is centred on every eighth pixel and so lies to one side (up
    to 11 before, 4 after), and the three 3×3 of the join add 3 on each side.
    """
    blur = build("paper", "lens_blur")
    kernels = chain(hull(conv(7), DEEP), THREE)
    assert chain(conv(7, stride=4), conv(3), conv(3), conv(1, stride=2), conv(3))(0, 0) == (-19, 19)
    assert extremes(kernels) == (33, 26)
    assert measured(blur, "lens_blur", "signed_depth") == (33, 26)


@pytest.mark.parametrize(("variant", "network"), list(REACHES))
def test_nothing_beyond_the_halo_matters(variant: str, network: str) -> None:
    module = build(variant, network)
    convolutions = [each for each in module.modules() if isinstance(each, nn.Conv2d)]
    assert all(len({*each.kernel_size}) == len({*each.stride}) == 1 for each in convolutions), "rows stand for columns"
    found = measured(module, network)
    assert found == extremes(REACHES[variant, network], CONTRACTS[network].outputs[0].scale)
    half = ALIGNMENT // 2
    assert -(-max(found) // half) * half == VARIANTS[variant].halo[network]
