"""Parameters and multiplications of each network, counted on shapes alone (nothing is computed)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from deeplens.model.build import build
from deeplens.model.contract import CONTRACTS, NETWORKS, VARIANTS

DEFAULT_SIZES = ((192, 256), (384, 512), (768, 1024))
"""Low-resolution sizes (height, width) of the three steps of a 2048×1536 photo."""


def cost(variant: str, network: str, height: int, width: int) -> dict[str, Any]:
    """Count one network at a low-resolution size of `height` × `width` pixels.

    Returns:
        variant, network, height, width; parameters (without the training-only head); multiplications of one run, in
        convolutions and matrix products (a multiply-add counts once; element-wise work is not counted);
        per_pixel, the multiplications divided by the pixels of the output.
    """
    contract = CONTRACTS[network]
    module = build(variant, network)
    parameters = sum(p.numel() for name, p in module.named_parameters() if not name.startswith("segmentation_head."))
    module = module.to("meta")
    inputs = [torch.empty(tensor.shape(height, width), device="meta") for tensor in contract.inputs]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    multiplications = counter.get_total_flops() // 2
    _, _, rows, columns = contract.outputs[0].shape(height, width)
    return {
        "variant": variant,
        "network": network,
        "height": height,
        "width": width,
        "parameters": parameters,
        "multiplications": multiplications,
        "per_pixel": multiplications / (rows * columns),
    }


def table(sizes: Sequence[tuple[int, int]] = DEFAULT_SIZES) -> list[dict[str, Any]]:
    """`cost` of each variant and network at each low-resolution size (height, width); depth at its fixed size only."""
    rows = []
    for variant in VARIANTS:
        for network in NETWORKS:
            fixed = CONTRACTS[network].fixed_size
            rows += [cost(variant, network, *size) for size in ([fixed] if fixed else sizes)]
    return rows
