"""What is watched while a reader reads: time, memory, and files written where none belong."""

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deeplens.console.errors import DeepLensError
from tests.fuzz.targets import Read

SLOW = 10.0
"""Seconds of a processor that a case may take; other work on the machine does not count."""

BUDGET = 512 << 20
"""Bytes that memory may grow by above what the process has after its first good file."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_EVENTS = frozenset(
    ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
     "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect")
)  # fmt: skip


class FindingError(Exception):
    """A case that went wrong; the message says how."""


@dataclass
class Watch:
    """Watches cases in `folder`, the only place where they may write."""

    folder: Path
    outside: list[str] = field(default_factory=list)
    on: bool = False
    base: int = 0

    def __post_init__(self) -> None:
        sys.addaudithook(self._heard)

    def _heard(self, event: str, details: tuple[object, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            name, _, flags = (*details, 0, 0, 0)[:3]
            if not (isinstance(flags, int) and flags & _WRITES) or not isinstance(name, str | bytes | os.PathLike):
                return
            names = [name]
        elif event in _EVENTS:
            names = [each for each in details[event == "os.symlink" : 2] if isinstance(each, str | bytes | os.PathLike)]
        else:
            return
        for name in names:
            self._note(event, name)

    def _note(self, event: str, name: "str | bytes | os.PathLike[str]") -> None:
        where = os.fspath(Path(os.fsdecode(name)).absolute())
        if where not in (os.devnull, str(self.folder)) and not where.startswith(f"{self.folder}{os.sep}"):
            self.outside.append(f"{event} {where}")

    def calm(self) -> None:
        """What the process has now is what it needs anyway."""
        self.base = peak()

    def case(self, read: Read, path: Path) -> bool:
        """Let `read` read a file; whether it was refused.

        Raises:
            FindingError: another exception than one for people, too slow, too much memory, or a file written elsewhere.
        """
        start, refused = time.process_time(), False
        with self._listening():
            try:
                read(path)
            except DeepLensError as error:
                refused = True
                if len(str(error).splitlines()) > 1:
                    raise FindingError(f"a message of several lines: {error}") from error
            except Exception as error:
                raise FindingError(f"{type(error).__name__}: {error}") from error
        seconds, grown = time.process_time() - start, peak() - self.base
        if seconds > SLOW:
            raise FindingError(f"slow: {seconds:.1f} s")
        if grown > BUDGET:
            self.base = peak()
            raise FindingError(f"memory: {grown >> 20} MB")
        if self.outside:
            raise FindingError(f"outside: {', '.join(self.outside[:3])}")
        return refused

    @contextmanager
    def _listening(self) -> Iterator[None]:
        self.on = True
        self.outside.clear()
        try:
            yield
        finally:
            self.on = False


def peak() -> int:
    """The most memory that this process ever had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
