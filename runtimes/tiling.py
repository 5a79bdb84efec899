"""Which windows a network runs on, so that memory is bounded and the stitched result equals the whole. Pure Python.

Windows are counted in low-resolution pixels. Neighbours overlap by twice the halo, and each keeps the part of its
output that lies at least a halo away from its inner edges. A window never reaches past the picture: the last one is
shifted inward, so that an edge that touches the border is the picture's own border, as it is in the whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from deeplens.console.errors import MismatchError
from deeplens.model.contract import ALIGNMENT, MIN_SIZE

TILE = 256
"""Largest height and width of a window unless told otherwise, in low-resolution pixels."""


@dataclass(frozen=True)
class Span:
    """One window along one axis: it reads [start, stop) and keeps [keep_start, keep_stop) of it."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    def read(self, scale: int = 1) -> slice:
        """What it reads, in an array `scale` times the low-resolution size."""
        return slice(self.start * scale, self.stop * scale)

    def keep(self, scale: int = 1) -> slice:
        """What it gives, in an array `scale` times the low-resolution size."""
        return slice(self.keep_start * scale, self.keep_stop * scale)

    def core(self, scale: int = 1) -> slice:
        """What it gives, in the window's own output."""
        return slice((self.keep_start - self.start) * scale, (self.keep_stop - self.start) * scale)


@dataclass(frozen=True)
class Tiles:
    """The windows for a picture, all run at `height` × `width`.

    Attributes:
        rows, columns: the windows along each axis; every pair is a tile.
        height, width: the size to run at. Larger than what a span reads only where an artefact of a fixed size is
            larger than the picture.
    """

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """`height` and `width`."""
        return self.height, self.width

    def __iter__(self) -> Iterator[tuple[Span, Span]]:
        """Rows and columns of each tile, from the top left."""
        return ((row, column) for row in self.rows for column in self.columns)


def spans(length: int, window: int, halo: int) -> tuple[Span, ...]:
    """Windows of `window` pixels (more than 2·`halo`) that cover `length`; one of `length` where it fits."""
    if length <= window:
        return (Span(0, length, 0, length),)
    step = window - 2 * halo
    count = -(-(length - 2 * halo) // step)
    starts = [min(index * step, length - window) for index in range(count)]
    edges = [0, *(start + halo for start in starts[1:]), length]
    return tuple(
        Span(start, start + window, first, last)
        for start, first, last in zip(starts, edges[:-1], edges[1:], strict=True)
    )


def _count(length: int, tile: int, halo: int) -> int:
    """How many windows of `tile` pixels cover `length`."""
    return 1 if length <= tile else -(-(length - 2 * halo) // (tile - 2 * halo))


def _fitted(length: int, count: int, halo: int) -> int:
    """The smallest aligned window that covers `length` in `count` windows: saves needless overlap."""
    if count == 1:
        return length
    step = -(-(length - 2 * halo) // count)
    return max(MIN_SIZE, -(-step // ALIGNMENT) * ALIGNMENT + 2 * halo)


def _shares(height: int, width: int, halo: int, tile: int, lanes: int) -> tuple[int, int]:
    """Windows along each axis: of those that `tile` allows, the ones whose largest share of pixels for a lane is least.

    More windows read more twice, but an odd number of them leaves a lane idle at the end. One lane: as few as can be.
    However many lanes there are, no windows that keep less than twice what they only read.
    """

    def choices(length: int) -> range:
        fewest = _count(length, tile, halo)
        most = max(fewest, (length - 2 * halo) // max(4 * halo, MIN_SIZE))
        return range(fewest, min(most, fewest + lanes - 1) + 1)

    def cost(counts: tuple[int, int]) -> tuple[int, int]:
        rows, columns = counts
        window = _fitted(height, rows, halo) * _fitted(width, columns, halo)
        return -(-rows * columns // lanes) * window, rows * columns

    return min(((rows, columns) for rows in choices(height) for columns in choices(width)), key=cost)


def split(
    height: int,
    width: int,
    *,
    halo: int,
    tile: int | None,
    fixed_size: tuple[int, int] | None = None,
    lanes: int = 1,
) -> Tiles:
    """The windows for a picture of `height` × `width` low-resolution pixels.

    Args:
        height, width: multiples of `ALIGNMENT`.
        halo: low-resolution pixels on each side that an output pixel depends on; a multiple of `ALIGNMENT` / 2.
        tile: the largest height and width of a window, a multiple of `ALIGNMENT` and more than 2·halo; None: the whole
            picture at once.
        fixed_size: the only height and width that the artefact takes; None: any. It overrules `tile`.
        lanes: windows that run at the same time: the picture is split so that the busiest lane has the least to do.

    Raises:
        MismatchError: the windows are no larger than twice the halo, so that nothing of one could be kept.
    """
    size = (height, width)
    if fixed_size is not None:
        windows = fixed_size
    elif tile is None:
        windows = size
    else:
        counts = _shares(height, width, halo, tile, lanes)
        windows = _fitted(height, counts[0], halo), _fitted(width, counts[1], halo)
    for side, window in zip(size, windows, strict=True):
        if side > window and window <= 2 * halo:
            raise MismatchError(
                f"windows of {windows[1]}×{windows[0]} pixels are too small for a picture of {width}×{height} with a "
                f"halo of {halo}: use windows, or an artefact of a size, of more than {2 * halo} pixels"
            )
    return Tiles(spans(height, windows[0], halo), spans(width, windows[1], halo), *windows)
