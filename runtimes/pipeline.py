"""Items through stages that overlap: each stage in a thread of its own, with a short queue before it. Pure Python."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from deeplens.console.errors import MismatchError

POLL = 0.1
"""Seconds after which a waiting stage looks whether all was called off."""

_END = object()


@dataclass
class Passage:
    """An item on its way.

    Attributes:
        item: what came in.
        value: what the last stage gave.
        error: what a stage raised for this item; the stages after it pass it on untouched.
        seconds: stage → time spent on this item.
    """

    item: Any
    value: Any
    error: Exception | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def pipeline(
    items: Iterable[Any], stages: Sequence[tuple[str, Callable[[Any], Any]]], *, ahead: int = 1
) -> Iterator[Passage]:
    """Send items through all stages, in order; each stage works on its item while the others work on theirs.

    Args:
        stages: name and function: takes what the stage before gave (the first: the item).
        ahead: how many finished items may wait between two stages; so at most len(stages) · (1 + ahead) are on the way.

    Yields:
        the items in order, failed ones too: an exception of a stage is that item's.

    Raises:
        MismatchError, which is about an artefact and so about all items; what is no `Exception`, such as
        KeyboardInterrupt; and what `items` raises. Then all stages are called off.
    """
    queues: list[queue.Queue[Any]] = [queue.Queue(ahead) for _ in range(len(stages) + 1)]
    off = threading.Event()
    faults: list[BaseException] = []

    def put(target: "queue.Queue[Any]", value: Any) -> bool:
        while not off.is_set():
            try:
                target.put(value, timeout=POLL)
                return True
            except queue.Full:
                continue
        return False

    def take(source: "queue.Queue[Any]") -> Any:
        while not off.is_set():
            try:
                return source.get(timeout=POLL)
            except queue.Empty:
                continue
        return _END

    def feed() -> None:
        for item in items:
            if not put(queues[0], Passage(item, item)):
                return
        put(queues[0], _END)

    def work(index: int) -> None:
        name, stage = stages[index]
        while (passage := take(queues[index])) is not _END:
            if passage.error is None:
                start = perf_counter()
                try:
                    passage.value = stage(passage.value)
                except MismatchError:
                    raise
                except Exception as error:  # decoders raise anything: one bad item must not stop the rest
                    passage.error, passage.value = error, None
                passage.seconds[name] = perf_counter() - start
            if not put(queues[index + 1], passage):
                return
        put(queues[index + 1], _END)

    def guarded(run: Callable[..., None], *arguments: int) -> None:
        try:
            run(*arguments)
        except BaseException as error:
            faults.append(error)
            off.set()

    threads = [threading.Thread(target=guarded, args=(feed,), name="feed", daemon=True)]
    threads += [
        threading.Thread(target=guarded, args=(work, index), name=name, daemon=True)
        for index, (name, _) in enumerate(stages)
    ]
    for thread in threads:
        thread.start()
    try:
        while (passage := take(queues[-1])) is not _END:
            yield passage
    finally:
        off.set()
        for thread in threads:
            thread.join()
    if faults:
        raise faults[0]
