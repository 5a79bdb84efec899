"""How far the work is, and how long its parts took.

Standard error tells how far: a bar on a terminal, a line every few seconds where it is a pipe or a file. Nothing of
this ever goes to standard output.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from time import perf_counter
from typing import TextIO, TypeVar

from rich.console import Console

T = TypeVar("T")

EVERY = 5.0
"""Seconds between two lines where standard error is no terminal. Work that takes less writes none."""


@dataclass
class Stopwatch:
    """Seconds that each part of the work took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time until the block ends to the part `name`."""
        start = perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start


class Progress:
    """One piece of work. Call it with the share that is done, 0 to 1, and what is being done now.

    Attributes:
        doing: what was told last.
    """

    def __init__(self, show: Callable[[float, str], None]) -> None:
        self._show = show
        self._share, self.doing = 0.0, ""

    def __call__(self, share: float, doing: str | None = None) -> None:
        """Tell how far the work is.

        Args:
            share: done so far, 0 to 1.
            doing: what is being done now; None: the same as before.
        """
        self._share = min(max(share, 0.0), 1.0)
        self.doing = self.doing if doing is None else doing
        self._show(self._share, self.doing)

    def now(self, doing: str) -> None:
        """Tell what is being done now; the share stays."""
        self(self._share, doing)

    def each(self, items: Sequence[T], doing: Callable[[T], str] = str) -> Iterator[T]:
        """The items one after another; each takes the same share of the work.

        Args:
            doing: what is said while an item is worked on.
        """
        for index, item in enumerate(items):
            self(index / len(items), doing(item))
            yield item
        self(1.0, "")

    def within(self, index: int, count: int) -> Callable[[float], None]:
        """Takes the share done, 0 to 1, of item `index` of `count` items, and tells that of all."""
        return lambda share: self((index + share) / count)


class Lines:
    """Writes how far the work is as lines, at most one in `every` seconds."""

    def __init__(
        self, title: str, *, stream: TextIO, clock: Callable[[], float] = perf_counter, every: float | None = None
    ) -> None:
        self._title, self._stream, self._clock = title, stream, clock
        self._every = EVERY if every is None else every
        self._start = self._last = clock()
        self._lock = Lock()
        self._share, self._doing = 0.0, ""
        self._written = False

    def show(self, share: float, doing: str) -> None:
        """Note how far the work is, and write it when a line is due."""
        self._share, self._doing = share, doing
        self.tick()

    def tick(self) -> None:
        """Write a line if one is due."""
        with self._lock:
            if self._clock() - self._last < self._every:
                return
            self._last = self._clock()
            share = f"{int(100 * self._share)} %" if self._share else ""
            self._write(", ".join(filter(None, (share, self._doing, f"{self._last - self._start:.0f} s so far"))))

    def end(self) -> None:
        """Write that the work is done, if anything was written about it."""
        with self._lock:
            if self._written:
                self._write(f"done in {self._clock() - self._start:.0f} s")

    def _write(self, text: str) -> None:
        self._written = True
        with suppress(OSError, ValueError):  # whoever read it is gone: the work goes on
            self._stream.write(f"{self._title}: {text}\n")
            self._stream.flush()


shown: list[Progress] = []
"""The piece of work that is shown now, if there is one."""


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Tell on standard error how far a piece of work is, until the block ends.

    On a terminal this is a bar. Elsewhere it is a line every `EVERY` seconds, also while nothing is told:
    `Refocusing: 40 %, drum.jpg, 15 s so far`. Within another piece of work the outer one stays, and says the title of
    the inner one.
    """
    if shown:
        outer = shown[-1]
        before = outer.doing
        outer.now(title)
        yield Progress(lambda _share, doing: outer.now(", ".join(filter(None, (title, doing)))))
        outer.now(before)
        return
    console = Console(stderr=True)
    with _bar(title, console) if console.is_terminal else _lines(title) as progress:
        shown.append(progress)
        try:
            yield progress
        finally:
            shown.remove(progress)


@contextmanager
def _bar(title: str, console: Console) -> Iterator[Progress]:
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[doing]}", markup=False),
    )
    # What is printed meanwhile goes above the bar; standard output only where that is the same terminal.
    with Bar(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(title, total=None, doing="")
        yield Progress(lambda share, doing: bar.update(task, total=1.0, completed=share, doing=doing))


@contextmanager
def _lines(title: str) -> Iterator[Progress]:
    lines = Lines(title, stream=sys.stderr)
    ended = Event()

    def watch() -> None:
        while not ended.wait(max(0.01, min(1.0, EVERY))):
            lines.tick()

    thread = Thread(target=watch, daemon=True, name="progress")
    thread.start()
    try:
        yield Progress(lines.show)
    finally:
        ended.set()
        thread.join()
    lines.end()
