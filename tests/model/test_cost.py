"""The counts against sums written by hand and against the figures of the paper's networks."""

import pytest
from torch import nn

from deeplens.console.errors import InputError
from deeplens.model.build import build
from deeplens.model.cost import cost, table


def test_edge_step_by_hand() -> None:
    """Multiplications for each low-resolution pixel, layer by layer: inputs × outputs / groups × kernel / stride²."""
    layers = (
        3 * 9,  # kept detail: smooth
        2 * 9,  # kept detail: sums
        10 * 32 * 9,  # stem
        3 * 32 * 36,  # stem_high
        32 * 48 * 9 / 4,  # down
        48 * 48 * 9 / 4,  # context
        48 * 32 / 4,  # narrow
        32 * 32 * 9,  # fuse
        32 * 28,  # predict
        96 * 9,  # neighbours
        4 * 4,  # sum of weights
        24 * 4,  # sums of products
        2 * 4 * 3 * 9,  # binomial twice, at the high size
    )
    found = cost("edge", "upsample", 40, 64)
    assert found["multiplications"] == sum(layers) * 40 * 64
    assert found["per_pixel"] == sum(layers) / 4
    assert (found["variant"], found["network"], found["height"], found["width"]) == ("edge", "upsample", 40, 64)


def test_the_paper_s_step_by_hand() -> None:
    """What reference_networks.md says of the released step: 96 k a pixel at the high size, 302 G for 2048×1536."""
    high = 35 * 32 * 9 + 4 * 32 * 32 * 9  # weights
    high += 32 * 32 * 9  # the last of the low path
    high += 6 * 30 * 9 + 30 * 30 * 25 + 30 * 15 * 25 + 15 * 15 * 25  # features
    assert high == pytest.approx(96e3, rel=0.02)
    assert high * 2048 * 1536 == pytest.approx(302e9, rel=0.02)
    down = 7 * 32 * 9 + (32 * 64 / 4 + 64 * 128 / 16 + 128 * 256 / 64 + 256 * 256 / 64) * 9
    up = (256 * 128 / 64 + 128 * 64 / 16 + 64 * 32 / 4 + 32 * 32) * 9
    found = cost("paper", "upsample", 768, 1024)
    assert found["per_pixel"] == high + (down + up) / 4
    assert found["multiplications"] == found["per_pixel"] * 2048 * 1536


@pytest.mark.parametrize("variant", ["paper", "edge"])
def test_parameters_are_those_of_the_shipped_file(variant: str) -> None:
    network = build(variant, "depth")
    head = network.segmentation_head
    assert isinstance(head, nn.Module)
    everything = sum(p.numel() for p in network.parameters())
    assert cost(variant, "depth", 320, 320)["parameters"] == everything - sum(p.numel() for p in head.parameters())


def test_table_has_each_network_at_each_size() -> None:
    rows = table(((32, 40), (64, 48)))
    found = [(row["variant"], row["network"], row["height"], row["width"]) for row in rows]
    assert found == [
        (variant, network, *size)
        for variant in ("paper", "edge")
        for network in ("depth", "lens_blur", "upsample")
        for size in ([(320, 320)] if network == "depth" else [(32, 40), (64, 48)])
    ]
    assert all(row["multiplications"] > 0 and row["parameters"] > 0 for row in rows)


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(InputError, match="unknown variant 'tiny'"):
        cost("tiny", "upsample", 32, 32)
