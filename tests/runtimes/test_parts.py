"""Windows around what needs a network: they cover it with a halo, and the rest is filled once."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens.model.contract import ALIGNMENT, MIN_SIZE
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.parts import BLOCK, Blocks, Part, all_near, around, of_tiles, smallest
from deeplens.runtimes.tiling import split
from tests.support.blocks import SIDES, blobs
from tests.support.fake_runtime import OPEN, FakeRuntime, depth_map, photo, small_halos


@settings(max_examples=150, deadline=None)
@given(
    SIDES,
    SIDES,
    st.integers(0, 2**32 - 1),
    st.sampled_from([8, 12, 16]),
    st.sampled_from([64, 96]),
    st.sampled_from([1, 2, 4]),
)
def test_every_pixel_is_made_once_and_in_the_right_way(
    height: int, width: int, seed: int, halo: int, tile: int, lanes: int
) -> None:
    size, blocks = (height, width), blobs((height, width), seed)
    made = np.zeros(size, int)
    for part in around(size, blocks, halo=halo, tile=tile, lanes=lanes):
        rows, columns = part.rows.keep(), part.columns.keep()
        made[rows, columns] += 1
        if part.kind != "run":
            mask = blocks.soft if part.kind == "soft" else blocks.sharp
            where = tuple(slice(each.start // BLOCK, each.stop // BLOCK) for each in (rows, columns))
            assert mask[where].all()
            continue
        for span, length in ((part.rows, height), (part.columns, width)):
            side = span.stop - span.start
            assert side % ALIGNMENT == 0
            assert MIN_SIZE <= side <= tile
            assert span.start % BLOCK == 0
            assert 0 <= span.start <= span.keep_start < span.keep_stop <= span.stop <= length
            assert span.start == 0 or span.keep_start - span.start >= halo
            assert span.stop == length or span.stop - span.keep_stop >= halo
    assert (made == 1).all()


def test_it_runs_little_more_than_what_is_needed() -> None:
    """A band across the level and a spot: not the tiles that they touch, and not the rectangle around both."""
    size = (768, 1024)
    left_out = np.ones((192, 256), bool)
    left_out[50:100] = False
    left_out[180:184, 8:12] = False
    blocks = Blocks(left_out, np.zeros_like(left_out))

    def pixels(parts: list[Part]) -> int:
        runs = [part for part in parts if part.kind == "run"]
        return sum((p.rows.stop - p.rows.start) * (p.columns.stop - p.columns.start) for p in runs)

    grid = pixels(of_tiles(split(*size, halo=12, tile=256, lanes=2), blocks))
    found = pixels(around(size, blocks, halo=12, tile=256, lanes=2))
    assert found < 1.4 * 200 * 1024 < 0.75 * grid


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1), st.integers(0, 30))
def test_near_counts_whole_blocks_within_the_reach(rows: int, columns: int, seed: int, reach: int) -> None:
    blocks = np.random.default_rng(seed).random((rows, columns)) < 0.9
    steps = -(-reach // BLOCK)
    due = [
        [blocks[max(0, r - steps) : r + steps + 1, max(0, c - steps) : c + steps + 1].all() for c in range(columns)]
        for r in range(rows)
    ]
    np.testing.assert_array_equal(all_near(blocks, reach), due)


def test_the_smallest_of_a_block() -> None:
    values = np.random.default_rng(0).random((8, 12))
    assert smallest(values)[1, 2] == values[4:8, 8:12].min()


def test_the_picture_is_that_of_a_loop_that_runs_everything() -> None:
    """With networks that give the photo in focus and the enlarged picture far from it, as the variant says."""
    disparity = depth_map(40, 60)
    disparity[:20] = 0.4  # in focus
    disparity[28:, 20:] = 1.0
    pixels = photo(700, 1050)
    with small_halos():
        free, all_run = FakeRuntime(any_size=True), FakeRuntime()
        found = Harness(free, tile=96).refocus(pixels, disparity, **OPEN)
        due = Harness(all_run, tile=96).refocus(pixels, disparity, observe=lambda *_: None, **OPEN)
    np.testing.assert_array_equal(found, due)
    assert (found != pixels).any()

    def work(runtime: FakeRuntime) -> int:
        return sum(height * width for network, (height, width) in runtime.runs if network == "upsample")

    assert work(free) < 0.7 * work(all_run)
