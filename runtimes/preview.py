"""A picture that a person waits for: the base at once, then level by level, until something newer is asked for."""

from collections.abc import Callable, Iterator
from threading import Event, Lock

import numpy as np

from deeplens.console.errors import Cancelled
from deeplens.runtimes.assembly import Progress

Level = Callable[[int, Progress], np.ndarray]
"""Gives the picture of a level; what the progress raises ends it."""


class Preview(Iterator[np.ndarray]):
    """The levels of a refocused photo from the base up, each made when it is asked for.

    Made by `Refocuser.preview`. The next preview of the same photo cancels this one, from whatever thread it is asked
    for: what is being made here ends after the tile in work, and `next` raises `Cancelled`. Previews of one photo never
    work at the same time: a newer one begins when the older one has stopped.

    Args:
        make: gives a level.
        last: the last level.
        turn: held while a level is made.
    """

    def __init__(self, make: Level, last: int, turn: Lock) -> None:
        self._make, self._last, self._turn = make, last, turn
        self._level = 0
        self._cancelled = Event()
        self._why = ""

    def cancel(self, why: str = "this preview was cancelled") -> None:
        """It is not wanted any more; from any thread.

        Args:
            why: what `Cancelled` says.
        """
        self._why = why
        self._cancelled.set()

    def __next__(self) -> np.ndarray:
        """The next level, H×W×3.

        Raises:
            StopIteration: the last level was given.
            Cancelled: a newer preview was asked for, or `cancel` was called.
        """
        if self._level > self._last:
            raise StopIteration
        self._check()
        with self._turn:
            self._check()
            picture = self._make(self._level, self._check)
        self._level += 1
        return picture

    def _check(self, _share: float = 0.0) -> None:
        if self._cancelled.is_set():
            raise Cancelled(self._why)
