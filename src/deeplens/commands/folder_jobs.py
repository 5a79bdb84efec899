"""What a folder asks for: its photos, where each is to be sharp, and what has been done already."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deeplens.console.errors import InputError
from deeplens.console.inputs import parse_json, read_text
from deeplens.console.parsing import parse_point
from deeplens.runtimes.focus import Focus
from deeplens.runtimes.photo import WRITERS

LOG = "refocus.jsonl"
"""In the output folder: a line for each photo that was done or failed; what is resumed from."""

SUFFIXES = (*WRITERS, ".bmp", ".gif", ".ppm", ".avif", ".jp2", ".tga", ".heic", ".heif")
"""Of the files of a folder that are taken for photos; whatever else lies there is passed over."""

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
        stat = self.photo.stat()
        told = {**settings, **asdict(self.focus), "size": stat.st_size, "modified": stat.st_mtime_ns}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def jobs(folder: Path, output: Path, focus: Focus | Mapping[str, Focus], *, suffix: str | None) -> list[Job]:
    """A job for each photo below `folder`, by name; folders within it stay folders, hidden ones are passed over.

    Args:
        focus: for all, or by the photo's path relative to `folder`, with forward slashes.
        suffix: of the outputs; None: the photo's own, .jpg where that can't be written.

    Raises:
        InputError: no photo there, or two that would become one output.
    """
    found: list[Job] = []
    outputs: dict[Path, Path] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or path.suffix.lower() not in SUFFIXES or output in path.parents or not path.is_file():
            continue
        ending = suffix or (path.suffix if path.suffix.lower() in WRITERS else ".jpg")
        target = output / relative.with_suffix(ending)
        if target in outputs:
            raise InputError(f"{path} and {outputs[target]} would both be written to {target}: rename one of them")
        outputs[target] = path
        if isinstance(focus, Focus):
            found.append(Job(path, target, focus))
        else:
            own = focus.get(relative.as_posix())
            problem = None if own else f"{relative.as_posix()} has no line in the focus file"
            found.append(Job(path, target, own or Focus(), problem))
    if not found:
        raise InputError(f"{folder} has no photos ({', '.join(SUFFIXES)}): give another folder")
    return found


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
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG
        self._done: dict[str, dict[str, Any]] = {}
        for line in self.lines():
            self._done[line["output"]] = line

    def lines(self) -> Iterator[dict[str, Any]]:
        try:
            text = read_text(self.path)
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{self.path} can't be read ({error}): delete it to process all photos again") from error
        for line in text.splitlines():
            try:
                entry = parse_json(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and isinstance(entry.get("output"), str):
                yield entry

    def is_done(self, job: Job, key: str) -> bool:
        """Whether the photo was done with these settings and its output is as it was left."""
        entry = self._done.get(str(job.output))
        if entry is None or entry.get("key") != key or not job.output.is_file():
            return False
        return bool(job.output.stat().st_size == entry.get("bytes"))

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append a line."""
        line = json.dumps(entry, ensure_ascii=False) + "\n"
        torn = self.path.is_file() and self.path.stat().st_size > 0 and not self._ends_whole()
        with self.path.open("ab") as file:
            file.write((("\n" if torn else "") + line).encode())
        self._done[str(entry["output"])] = dict(entry)

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) == b"\n"
