import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplens.console.errors import MismatchError
from deeplens.model.contract import ALIGNMENT, MIN_SIZE
from deeplens.runtimes.tiling import Span, spans, split

aligned = st.integers(MIN_SIZE // ALIGNMENT, 120).map(lambda count: count * ALIGNMENT)
halos = st.integers(0, 8).map(lambda count: count * ALIGNMENT)
spare = st.integers(1, 20).map(lambda count: count * ALIGNMENT)


def check_axis(found: tuple[Span, ...], length: int, size: int, halo: int) -> None:
    assert [span.keep_start for span in found] == [0, *(span.keep_stop for span in found[:-1])]
    assert found[-1].keep_stop == length
    for span in found:
        assert 0 <= span.start <= span.keep_start < span.keep_stop <= span.stop <= length
        assert span.start % ALIGNMENT == 0
        assert span.stop - span.start == min(size, length)
        assert span.start == 0 or span.keep_start - span.start >= halo
        assert span.stop == length or span.stop - span.keep_stop >= halo


@given(aligned, aligned, halos, spare)
def test_windows_cover_a_picture_once_with_a_halo_around_what_they_keep(
    height: int, width: int, halo: int, spare: int
) -> None:
    tile = max(MIN_SIZE, 2 * halo + spare)
    tiles = split(height, width, halo=halo, tile=tile)
    assert tiles.height <= tile
    assert tiles.width <= tile
    assert min(tiles.height, tiles.width) >= MIN_SIZE
    check_axis(tiles.rows, height, tiles.height, halo)
    check_axis(tiles.columns, width, tiles.width, halo)
    assert len(list(tiles)) == len(tiles.rows) * len(tiles.columns)
    assert len(tiles.rows) == len(spans(height, tile, halo))  # smaller windows, but not more of them


@given(aligned, aligned, halos, spare, st.integers(2, 5))
def test_no_lane_has_more_to_do_than_with_the_fewest_windows(
    height: int, width: int, halo: int, spare: int, lanes: int
) -> None:
    tile = max(MIN_SIZE, 2 * halo + spare)
    fewest, tiles = (split(height, width, halo=halo, tile=tile, lanes=count) for count in (1, lanes))
    check_axis(tiles.rows, height, tiles.height, halo)
    check_axis(tiles.columns, width, tiles.width, halo)
    assert tiles.height <= tile
    assert tiles.width <= tile
    most, least = (-(-len(list(each)) // lanes) * each.height * each.width for each in (fewest, tiles))
    assert least <= most


def test_an_odd_number_of_windows_is_split_further_where_that_is_faster() -> None:
    """The last level of 2048×1536 at 384: nine windows would be five turns of two lanes, twelve smaller ones six."""
    assert len(list(split(768, 1024, halo=12, tile=384))) == 9
    assert len(list(split(768, 1024, halo=12, tile=384, lanes=2))) == 12


@given(aligned, halos, spare)
def test_windows_of_a_fixed_size_keep_it(length: int, halo: int, spare: int) -> None:
    fixed = max(MIN_SIZE, 2 * halo + spare)
    tiles = split(length, length, halo=halo, tile=40, fixed_size=(fixed, 2 * fixed))
    assert (tiles.height, tiles.width) == (fixed, 2 * fixed)
    check_axis(tiles.rows, length, fixed, halo)
    check_axis(tiles.columns, length, 2 * fixed, halo)


def test_a_picture_that_fits_is_one_window() -> None:
    tiles = split(192, 256, halo=64, tile=256)
    assert list(tiles) == [(Span(0, 192, 0, 192), Span(0, 256, 0, 256))]
    assert len(list(split(4096, 8000, halo=64, tile=None))) == 1


def test_slices_are_scaled() -> None:
    span = Span(8, 40, 16, 32)
    assert (span.read(2), span.keep(2), span.core(2)) == (slice(16, 80), slice(32, 64), slice(16, 48))


@pytest.mark.parametrize("halo", [32, 40])
def test_a_window_without_room_between_its_halos_is_refused(halo: int) -> None:
    with pytest.raises(MismatchError, match="too small"):
        split(64, 512, halo=halo, tile=256, fixed_size=(64, 64))
    assert split(64, 64, halo=halo, tile=256, fixed_size=(64, 64)).width == 64
