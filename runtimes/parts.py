"""Which parts of a level need a network, and which windows hold them. NumPy only.

A step is left out where everything is very blurred, and both networks where everything is in focus. That is told block
by block. Where a session runs windows of any size, they are laid around the blocks that are left; else whole tiles of a
grid are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from deeplens.model.contract import ALIGNMENT, MIN_SIZE
from deeplens.runtimes.tiling import Span, Tiles, split

BLOCK = ALIGNMENT // 2
"""Side of a block in low-resolution pixels: what every tile keeps begins and ends at a multiple of it."""

RUN_PIXELS = 2048
"""A run costs as much as this many low-resolution pixels more than its own: so many small ones are not worth it."""

FULL = 0.9
"""A box of which more than this share is needed is not looked at any closer."""

FILLED_BLOCKS = 64
"""Largest side of a part that is filled without a network: it stays in the cache."""

Kind = Literal["run", "soft", "sharp"]


@dataclass(frozen=True)
class Part:
    """A part of a level: the network runs on what the spans read, or what they keep is filled without it."""

    kind: Kind
    rows: Span
    columns: Span


@dataclass(frozen=True)
class Blocks:
    """What needs no network, (rows, columns) of bool, block by block.

    Attributes:
        soft: the circle of confusion is so large that a step gives the blurred picture, enlarged.
        sharp: all that an output pixel there depends on is in focus.
    """

    soft: np.ndarray
    sharp: np.ndarray

    @classmethod
    def none(cls, size: tuple[int, int]) -> "Blocks":
        """Everything needs the network."""
        nothing = np.zeros((size[0] // BLOCK, size[1] // BLOCK), bool)
        return cls(nothing, nothing)


@dataclass(frozen=True)
class _Area:
    """Blocks [top, bottom) × [left, right)."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)


def smallest(values: np.ndarray) -> np.ndarray:
    """The smallest value of each block: (h, w) → (h / BLOCK, w / BLOCK)."""
    height, width = values.shape
    rows = values.reshape(height // BLOCK, BLOCK, width).min(1)
    least: np.ndarray = rows.reshape(height // BLOCK, width // BLOCK, BLOCK).min(2)
    return least


def all_near(blocks: np.ndarray, reach: int) -> np.ndarray:
    """Whether a block and all within `reach` low-resolution pixels of it are set; there is nothing past the border."""
    for axis in (0, 1):
        steps, length = -(-reach // BLOCK), blocks.shape[axis]
        unset = np.cumsum(~blocks, axis, dtype=np.int32)
        unset = np.concatenate((np.zeros_like(np.take(unset, [0], axis)), unset), axis)
        last = np.minimum(np.arange(length) + steps + 1, length)
        first = np.maximum(np.arange(length) - steps, 0)
        blocks = np.take(unset, last, axis) == np.take(unset, first, axis)
    return blocks


def of_tiles(tiles: Tiles, blocks: Blocks) -> list[Part]:
    """The tiles of a grid, each run or left out."""
    found = []
    for rows, columns in tiles:
        where = tuple(slice(each.keep_start // BLOCK, -(-each.keep_stop // BLOCK)) for each in (rows, columns))
        found.append(Part(_uniform(blocks, where) or "run", rows, columns))
    return found


def around(size: tuple[int, int], blocks: Blocks, *, halo: int, tile: int, lanes: int) -> list[Part]:
    """Windows around what needs the network, the largest first, and what is filled between them.

    Args:
        size: of the level, in low-resolution pixels, multiples of `ALIGNMENT`.
        halo, tile, lanes: as in `tiling.split`; a window is no larger than `tile`.
    """
    needed = ~(blocks.soft | blocks.sharp)
    division = _divided(needed, _Area(0, needed.shape[0], 0, needed.shape[1]), halo, tile)
    boxes = division.boxes
    runs = [
        Part("run", rows, columns)
        for box in boxes
        for rows, columns in _windows(box, size, halo, tile, lanes if len(boxes) == 1 else 1)
    ]
    runs.sort(key=lambda part: (part.rows.start - part.rows.stop) * (part.columns.stop - part.columns.start))
    return runs + [part for area in division.rest for part in _filled(area, blocks)]


def _uniform(blocks: Blocks, where: tuple[slice, ...]) -> Kind | None:
    """How all of some blocks are filled; None: not in one way."""
    return "sharp" if blocks.sharp[where].all() else "soft" if blocks.soft[where].all() else None


@dataclass(frozen=True)
class _Division:
    """An area as boxes that are run and the rest, and what the boxes cost."""

    cost: float
    boxes: tuple[_Area, ...]
    rest: tuple[_Area, ...]

    def __add__(self, other: "_Division") -> "_Division":
        return _Division(self.cost + other.cost, self.boxes + other.boxes, self.rest + other.rest)


def _divided(needed: np.ndarray, area: _Area, halo: int, tile: int) -> _Division:
    """Divide an area into boxes that hold all blocks that are needed, and the rest: cut in two as long as that pays."""
    inside = needed[area.slices]
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    if not rows.size:
        return _Division(0.0, (), (area,))
    top, bottom = area.top + int(rows[0]), area.top + int(rows[-1]) + 1
    left, right = area.left + int(columns[0]), area.left + int(columns[-1]) + 1
    box = _Area(top, bottom, left, right)
    around_it = (
        _Area(area.top, top, area.left, area.right),
        _Area(bottom, area.bottom, area.left, area.right),
        _Area(top, bottom, area.left, left),
        _Area(top, bottom, right, area.right),
    )
    rest = tuple(each for each in around_it if each.top < each.bottom and each.left < each.right)
    found = needed[box.slices]
    height, width = found.shape
    whole = _Division(float(_cost(np.array(height), np.array(width), halo, tile)), (box,), ())
    halves = _halves(found, box, whole.cost, halo, tile)
    if halves:
        parts = _divided(needed, halves[0], halo, tile) + _divided(needed, halves[1], halo, tile)
        whole = min(parts, whole, key=lambda each: each.cost)
    return whole + _Division(0.0, (), rest)


def _halves(found: np.ndarray, box: _Area, whole: float, halo: int, tile: int) -> tuple[_Area, _Area] | None:
    """The two parts that a box is tried in; None: it stays whole."""
    (across, row), (along, column) = _best_cut(found, halo, tile), _best_cut(found.T, halo, tile)
    if min(across, along) >= whole:  # no single cut pays: two may
        row, column = (_window_border(side, halo, tile) for side in found.shape)
        if found.mean() > FULL or row == column == 0:
            return None
        across, along = float(column > row), 0.5
    if across <= along:
        return _Area(box.top, box.top + row, box.left, box.right), _Area(box.top + row, box.bottom, box.left, box.right)
    middle = box.left + column
    return _Area(box.top, box.bottom, box.left, middle), _Area(box.top, box.bottom, middle, box.right)


def _window_border(blocks: int, halo: int, tile: int) -> int:
    """Where a side of so many blocks is cut into the windows that it takes, near its middle; 0: it takes one."""
    count = _count(blocks, halo, tile)
    return -(-blocks // count) * (count // 2)


def _count(blocks: int, halo: int, tile: int) -> int:
    """Windows that a side of so many blocks takes."""
    return -(-BLOCK * blocks // (tile - 2 * halo))


def _cost(rows: np.ndarray, columns: np.ndarray, halo: int, tile: int) -> np.ndarray:
    """What boxes of so many blocks cost, in pixels, halos and runs counted too."""
    sides, counts = [], []
    for blocks in (rows, columns):
        length = BLOCK * blocks
        count = -(-length // (tile - 2 * halo))
        sides.append(length + 2 * halo * count)
        counts.append(count)
    cost: np.ndarray = sides[0] * sides[1] + RUN_PIXELS * counts[0] * counts[1]
    return cost


def _best_cut(found: np.ndarray, halo: int, tile: int) -> tuple[float, int]:
    """The cheapest cut between two rows of a box, and the row below it; both parts are then drawn in."""
    if found.shape[0] < 2:
        return float("inf"), 0
    parts = []
    for each in (found, found[::-1]):
        occupied = np.logical_or.accumulate(each, 0)[:-1]
        width = found.shape[1] - occupied[:, ::-1].argmax(1) - occupied.argmax(1)
        height = np.maximum.accumulate(np.where(each.any(1), np.arange(len(each)) + 1, 0))[:-1]
        parts.append(_cost(height, width, halo, tile))
    costs = parts[0] + parts[1][::-1]
    best = int(costs.argmin())
    return float(costs[best]), best + 1


def _windows(box: _Area, size: tuple[int, int], halo: int, tile: int, lanes: int) -> Iterator[tuple[Span, Span]]:
    """Windows that keep a box, together and no more, and read a halo around it."""
    edges = ((box.top * BLOCK, box.bottom * BLOCK), (box.left * BLOCK, box.right * BLOCK))
    reads = [_read(start, stop, length, halo) for (start, stop), length in zip(edges, size, strict=True)]
    (top, bottom), (left, right) = reads
    for spans in split(bottom - top, right - left, halo=halo, tile=tile, lanes=lanes):
        rows, columns = (
            Span(
                span.start + first,
                span.stop + first,
                max(span.keep_start + first, start),
                min(span.keep_stop + first, stop),
            )
            for span, (first, _), (start, stop) in zip(spans, reads, edges, strict=True)
        )
        if rows.keep_start < rows.keep_stop and columns.keep_start < columns.keep_stop:
            yield rows, columns


def _read(start: int, stop: int, length: int, halo: int) -> tuple[int, int]:
    """[start, stop) and a halo around it, of an aligned size within [0, length)."""
    first, last = max(0, start - halo), min(length, stop + halo)
    wanted = max(MIN_SIZE, -(-(last - first) // ALIGNMENT) * ALIGNMENT)
    last = min(length, first + wanted)
    return last - wanted, last


def _filled(area: _Area, blocks: Blocks) -> Iterator[Part]:
    """Parts of an area without a needed block, each filled in one way."""
    height, width = area.bottom - area.top, area.right - area.left
    kind = _uniform(blocks, area.slices)
    if kind is not None and max(height, width) <= FILLED_BLOCKS:
        edges = (BLOCK * area.top, BLOCK * area.bottom), (BLOCK * area.left, BLOCK * area.right)
        rows, columns = (Span(start, stop, start, stop) for start, stop in edges)
        yield Part(kind, rows, columns)
        return
    if height >= width:
        middle = area.top + height // 2
        halves = _Area(area.top, middle, area.left, area.right), _Area(middle, area.bottom, area.left, area.right)
    else:
        middle = area.left + width // 2
        halves = _Area(area.top, area.bottom, area.left, middle), _Area(area.top, area.bottom, middle, area.right)
    for half in halves:
        yield from _filled(half, blocks)
