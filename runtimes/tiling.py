"""Which windows a network runs on, so that memory is bounded and the stitched result equals the whole. Pure Python.

Windows are counted in low-resolution pixels. Neighbours overlap by twice the halo, and each keeps the part of its
output that lies at least a halo away from its inner edges. A window never reaches past the picture: the last one is
shifted inward, so that an edge that touches the border is the picture's own border, as it is in the whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from model.contract import ALIGNMENT, MIN_SIZE
from model.errors import MismatchError


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


def _fitted(length: int, tile: int, halo: int) -> int:
    """The smallest aligned window that covers `length` in as few windows as `tile` does: saves needless overlap."""
    if length <= tile:
        return length
    count = -(-(length - 2 * halo) // (tile - 2 * halo))
    step = -(-(length - 2 * halo) // count)
    return max(MIN_SIZE, -(-step // ALIGNMENT) * ALIGNMENT + 2 * halo)


def plan(height: int, width: int, *, halo: int, tile: int | None, fixed_size: tuple[int, int] | None = None) -> Tiles:
    """The windows for a picture of `height` × `width` low-resolution pixels.

    Args:
        height, width: multiples of `ALIGNMENT`.
        halo: low-resolution pixels on each side that an output pixel depends on; a multiple of `ALIGNMENT`.
        tile: the largest height and width of a window, a multiple of `ALIGNMENT` and more than 2·halo; None: the whole
            picture at once.
        fixed_size: the only height and width that the artefact takes; None: any. It overrules `tile`.

    Raises:
        MismatchError: the windows are no larger than twice the halo, so that nothing of one could be kept.
    """
    size = (height, width)
    windows = fixed_size or tuple(side if tile is None else _fitted(side, tile, halo) for side in size)
    for side, window in zip(size, windows, strict=True):
        if side > window and window <= 2 * halo:
            raise MismatchError(
                f"windows of {windows[1]}×{windows[0]} pixels are too small for a picture of {width}×{height} with a "
                f"halo of {halo}: use windows, or an artefact of a size, of more than {2 * halo} pixels"
            )
    return Tiles(spans(height, windows[0], halo), spans(width, windows[1], halo), *windows)
