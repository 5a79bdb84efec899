"""How a level is run: what the blocks of its signed depth say of it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens.runtimes.level_run import extremes
from deeplens.runtimes.parts import BLOCK


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_the_least_and_the_most_of_each_block_whatever_its_sign(rows: int, columns: int, seed: int) -> None:
    """A block that the focal plane crosses is not in focus, and one behind it may be very blurred."""
    generator = np.random.default_rng(seed)
    depth = generator.choice([-1.0, -0.5, 0.0, 0.25, 1.0], (1, 1, BLOCK * rows, BLOCK * columns)).astype(np.float32)
    least, most = extremes(lambda down, across: depth[:, :, down, across], depth.shape[2:])
    blocks = np.abs(depth[0, 0]).reshape(rows, BLOCK, columns, BLOCK)
    np.testing.assert_array_equal(least, blocks.min((1, 3)))
    np.testing.assert_array_equal(most, blocks.max((1, 3)))
