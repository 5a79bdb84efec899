"""Blocks of a level that need no network, at random."""

import numpy as np
from hypothesis import strategies as st

from deeplens.model.contract import ALIGNMENT, MIN_SIZE
from deeplens.runtimes.parts import BLOCK, Blocks

SIDES = st.integers(MIN_SIZE // ALIGNMENT, 40).map(lambda count: ALIGNMENT * count)
"""Sides of a level, in low-resolution pixels."""


def blobs(size: tuple[int, int], seed: int) -> Blocks:
    """Some blocks that are soft, some that are sharp, some of both, in lumps."""
    rng = np.random.default_rng(seed)
    shape = size[0] // BLOCK, size[1] // BLOCK
    masks = []
    for share in rng.uniform(0, 1.2, 2):
        lumps = rng.random((-(-shape[0] // 9), -(-shape[1] // 7))) < share
        masks.append(lumps.repeat(9, 0).repeat(7, 1)[: shape[0], : shape[1]])
    return Blocks(*masks)
