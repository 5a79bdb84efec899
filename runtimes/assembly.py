"""How a level is put together from its tiles, and how far a refocusing is. NumPy only."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Lock

import numpy as np

from deeplens.runtimes.parts import Part
from deeplens.runtimes.pyramid import Geometry
from deeplens.runtimes.tiling import Span

Progress = Callable[[float], None]


class Share:
    """Counts low-resolution pixels done, over all runs; `lows` are the levels that the runs see."""

    def __init__(self, levels: Geometry, lows: list[int], progress: Progress | None) -> None:
        self._total = sum(math.prod(levels.padded(low)) for low in lows)
        self._done = 0
        self._progress = progress

    def add(self, rows: Span, columns: Span) -> None:
        self._done += (rows.keep_stop - rows.keep_start) * (columns.keep_stop - columns.keep_start)
        if self._progress is not None:
            self._progress(self._done / self._total)


class Whole:
    """Puts a level of `size` together from its tiles.

    Args:
        raw: as the network gave it, in its dtype, a single tile without a copy; else as the next step takes it: clipped
            to [0, 1], float32.
    """

    def __init__(self, size: tuple[int, int], *, raw: bool) -> None:
        self._size = size
        self._raw = raw
        self._lock = Lock()
        self._array: np.ndarray | None = None

    def store(self, rows: slice, columns: slice, part: np.ndarray) -> None:
        with self._lock:
            if self._array is None:
                if self._raw and part.shape[2:] == self._size:
                    self._array = part
                    return
                self._array = np.empty((*part.shape[:2], *self._size), part.dtype if self._raw else np.float32)
        target = self._array[:, :, rows, columns]
        if self._raw:
            target[...] = part
        else:
            np.clip(part, 0.0, 1.0, out=target, casting="same_kind")

    @property
    def array(self) -> np.ndarray:
        """(1, 3, *size)."""
        assert self._array is not None
        return self._array


def each_part(work: Callable[[Part], None], parts: Sequence[Part], count: int, report: Share) -> None:
    """Do `work` on all parts, `count` at a time; the first error, also of the report, ends it."""
    if count == 1:
        for part in parts:
            work(part)
            report.add(part.rows, part.columns)
        return
    with ThreadPoolExecutor(count, thread_name_prefix="tile") as pool:
        futures = {pool.submit(work, part): part for part in parts}
        try:
            for future in as_completed(futures):
                future.result()
                report.add(futures[future].rows, futures[future].columns)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
