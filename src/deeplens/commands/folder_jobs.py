"""What a folder asks for: its photos, where each is to be sharp, and what has been done already."""

import csv
import errno
import hashlib
import io
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from deeplens.console.errors import InputError
from deeplens.console.files import locked
from deeplens.console.inputs import check_regular, parse_json, read_text
from deeplens.console.parsing import parse_point
from deeplens.runtimes.focus import Focus
from deeplens.runtimes.image_file import SUFFIXES, begins_as_photo
from deeplens.runtimes.photo import WRITERS

LOG = "refocus.jsonl"
"""In the output folder: a line for each photo that was done or failed; what is resumed from."""

LOCK, CLAIMS = ".refocus.lock", ".refocus.claims"
"""In the output folder, empty: locked while a line is added to the log; locked byte by byte, a photo each."""

NEAREST = "nearest"
"""The rule that focuses on the nearest subject."""


@dataclass(frozen=True)
class Job:
    """One photo of a folder. `problem` is what is wrong with what was asked for it; None: nothing."""

    photo: Path
    output: Path
    focus: Focus
    problem: str | None = None

    def key(self, settings: Mapping[str, Any]) -> str:
        """Names photo and settings: a photo that was changed, or one with other settings, has another."""
        try:
            stat = self.photo.stat()
        except OSError:  # it is gone meanwhile, which reading it will say
            return ""
        told = {**settings, **asdict(self.focus), "size": stat.st_size, "modified": stat.st_mtime_ns}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def jobs(
    folder: Path,
    output: Path,
    focus: Focus | Mapping[str, Focus],
    *,
    suffix: str | None,
    passed_over: Counter[str] | None = None,
) -> list[Job]:
    """A job for each photo below `folder`, by name; folders within it stay folders.

    Args:
        focus: for all, or by the photo's path relative to `folder`, with forward slashes.
        suffix: of the outputs; None: the photo's own, .jpg where that can't be written.
        passed_over: what is no photo is counted here, by its suffix, "hidden", "no suffix" or "no file".

    Raises:
        InputError: no photo there, or two that would become one output, on any disk: many take IMG_1.JPG and IMG_1.jpg
            for one name, and a letter with its accent for the two characters that it can be written with.
    """
    found: list[Job] = []
    outputs: dict[str, Path] = {}
    others: Counter[str] = Counter() if passed_over is None else passed_over
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if output in path.parents or (path.is_dir() and not path.is_symlink()):
            continue
        kind = why_no_photo(path, relative)
        if kind is not None:
            others[kind] += 1
            continue
        ending = suffix or (path.suffix if path.suffix.lower() in WRITERS else ".jpg")
        target = output / (relative.with_suffix(ending) if path.suffix.lower() in SUFFIXES else f"{relative}{ending}")
        same = unicodedata.normalize("NFC", str(target)).casefold()
        if same in outputs:
            raise InputError(
                f"{path} and {outputs[same]} would both be written to {target}, or to names that many disks take for "
                "one: rename one of them"
            )
        outputs[same] = path
        if isinstance(focus, Focus):
            found.append(Job(path, target, focus))
        else:
            own = focus.get(relative.as_posix())
            problem = None if own else f"{relative.as_posix()} has no line in the focus file"
            found.append(Job(path, target, own or Focus(), problem))
    if not found:
        raise InputError(f"{folder} has no photos ({', '.join(SUFFIXES)}): give another folder")
    return found


def why_no_photo(path: Path, relative: Path) -> str | None:
    """Why a path is passed over; None: it is a photo, by its suffix, or by its first bytes where it has none."""
    if any(part.startswith(".") for part in relative.parts):
        return "hidden"
    if not path.is_file():
        return "no file"
    suffix = path.suffix.lower()
    if suffix in SUFFIXES or (not suffix and begins_as_photo(path)):
        return None
    return suffix or "no suffix"


def read_focus_file(path: Path) -> dict[str, Focus]:
    """Where each photo is to be sharp: a CSV file with the columns photo, x, y; more lines of a photo, more points.

    Raises:
        InputError: not such a file.
    """
    points: dict[str, tuple[tuple[float, float], ...]] = {}
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
        if not {"photo", "x", "y"} <= set(reader.fieldnames or ()):
            raise InputError(f"{path}: the first line must name the columns photo,x,y")
        for row in reader:
            try:
                point = parse_point(f"{row['x']},{row['y']}")
            except InputError as error:
                raise InputError(f"{path}, line {reader.line_num}: {error}") from error
            points[row["photo"]] = (*points.get(row["photo"], ()), point)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} can't be read as a focus file ({error}): give a CSV file with the columns photo,x,y"
        ) from error
    return {name: Focus(points=each) for name, each in points.items()}


class Log:
    """The lines about an output folder's photos. A line is written after its output is in place, at once and whole.

    A run that was killed leaves at most a torn last line, which is passed over; a photo without a line is done again.
    Several processes may add lines, and each sees those of the others.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG
        self._read = 0
        self._done: dict[str, dict[str, Any]] = {}
        self._refresh()

    def lines(self) -> Iterator[dict[str, Any]]:
        """All whole lines."""
        return self._lines(0)[0]

    def _lines(self, start: int) -> tuple[Iterator[dict[str, Any]], int]:
        """The whole lines from a place in the file on, and the place behind them."""
        try:
            check_regular(self.path)
            with self.path.open("rb") as file:
                file.seek(start)
                data = file.read()
        except FileNotFoundError:
            return iter(()), start
        except OSError as error:
            raise InputError(f"{self.path} can't be read ({error}): delete it to process all photos again") from error
        whole = data[: data.rfind(b"\n") + 1]
        return _entries(whole), start + len(whole)

    def is_done(self, job: Job, key: str) -> bool:
        """Whether the photo was done with these settings, by any process, and its output is as it was left."""
        self._refresh()
        entry = self._done.get(str(job.output))
        if entry is None or entry.get("key") != key or not job.output.is_file():
            return False
        return bool(job.output.stat().st_size == entry.get("bytes"))

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append a line and see that it is on the disk.

        Raises:
            OSError: it could not be written whole.
        """
        line = json.dumps(entry).encode() + b"\n"  # ASCII, which holds names that are not UTF-8 too
        with self.path.open("a+b") as file, locked(self.path.with_name(LOCK)):
            end = file.seek(0, 2)
            torn = end > 0 and not self._ends_whole(file)
            file.write((b"\n" if torn else b"") + line)
            file.flush()
            os.fsync(file.fileno())
        self._done[str(entry["output"])] = dict(entry)

    def _refresh(self) -> None:
        lines, self._read = self._lines(self._read)
        for line in lines:
            self._done[line["output"]] = line

    def _ends_whole(self, file: IO[bytes]) -> bool:
        file.seek(-1, 2)
        return file.read(1) == b"\n"


def _entries(text: bytes) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            entry = parse_json(line.decode())
        except ValueError:  # torn, or not ours
            continue
        if isinstance(entry, dict) and isinstance(entry.get("output"), str):
            yield entry


class Claims:
    """Which photos this process works on, so that several on one folder share the work. A context manager.

    A photo is a byte of one file that is locked; the system unlocks it when the process dies. Where the system has no
    such locks (Windows, some network disks), every claim is granted and processes repeat each other's work.
    """

    def __init__(self, folder: Path) -> None:
        self._file = (folder / CLAIMS).open("a")

    def take(self, job: Job) -> bool:
        """Whether the photo is this process's now; False: another process works on it."""
        return self._lock(job, take=True)

    def release(self, job: Job) -> None:
        self._lock(job, take=False)

    def _lock(self, job: Job, *, take: bool) -> bool:
        try:
            import fcntl  # POSIX only
        except ImportError:
            return True
        place = int.from_bytes(hashlib.sha256(os.fsencode(job.output)).digest()[:8], "big") >> 2
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB if take else fcntl.LOCK_UN, 1, place)
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EAGAIN)
        return True

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *_details: object) -> None:
        self._file.close()
