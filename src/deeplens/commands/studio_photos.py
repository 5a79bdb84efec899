"""The photos of `deeplens studio`: who may see which, how many and how large they are, and when they go.

Uploads lie in a private folder that ends with the program. Photos named on the command line are never changed or
deleted; only a page that was opened with the key of the printed address sees them.
"""

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np

from deeplens.commands.studio_depth import embedded_of
from deeplens.console.errors import DeepLensError, MissingError
from deeplens.runtimes.bounds import TooLargeError
from deeplens.runtimes.image_file import upright_size
from deeplens.runtimes.photo import Photo, read_photo
from deeplens.runtimes.pyramid import geometry

PREFIX = "deeplens-studio-"
"""How the names of the temporary folders begin; the number of the process follows."""

LONGEST_NAME = 100


@dataclass(frozen=True)
class Limits:
    """What a person may upload.

    Attributes:
        bytes: of one photo.
        pixels: of one photo; None: as in `runtimes.bounds.check_pixels`.
        photos: of one session at the same time.
        all_photos: of all sessions at the same time.
        sessions: at the same time; one without photos goes when another comes, the one that was silent longest first.
        seconds: an upload that nobody asked for this long goes.
    """

    bytes: int = 100_000_000
    pixels: int | None = None
    photos: int = 20
    all_photos: int = 60
    sessions: int = 200
    seconds: float = 3600.0


class Refused(DeepLensError):  # noqa: N818  (it is what happened)
    """A request that can't be served. `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Record:
    """One photo.

    Attributes:
        key: its name in addresses.
        name: of the file, for people.
        path: where it lies.
        width, height: in pixels, upright; 0 until it was read.
        temporary: whether the file is ours, to be deleted.
        notes: about the file, one line each.
        used: when it was asked for last (`time.monotonic`).
        disparity: by runtime, as the depth network gave it.
        embedded: the disparity that the file itself holds; None: none that can be used.
        described: whether the file was read, so that all of this is known.
        gone: whether it was removed; nothing of it is kept then.
    """

    key: str
    name: str
    path: Path
    temporary: bool
    used: float
    width: int = 0
    height: int = 0
    notes: tuple[str, ...] = ()
    disparity: dict[str, np.ndarray] = field(default_factory=dict)
    embedded: np.ndarray | None = None
    described: bool = False
    gone: bool = False

    @property
    def levels(self) -> int:
        """How many levels the loop has for it; the last one has the photo's own size."""
        return geometry(self.height, self.width).steps + 1

    def about(self) -> dict[str, object]:
        """What the page is told."""
        return {
            "photo": self.key,
            "name": self.name,
            "width": self.width,
            "height": self.height,
            "levels": self.levels,
            "notes": list(self.notes),
            "embedded": self.embedded is not None,
        }


@dataclass
class Session:
    """One browser.

    Attributes:
        key: what its cookie holds.
        owner: whether it may see the photos named on the command line.
        used: when it asked for something last.
        photos: its own, by key.
    """

    key: str
    owner: bool
    used: float
    photos: dict[str, Record] = field(default_factory=dict)


class Photos:
    """All sessions and their photos. A context manager that deletes the uploads at its end.

    Attributes:
        folder: the private folder of the uploads.
        key: opens the photos of the command line.
    """

    def __init__(
        self, limits: Limits, *, clock: Callable[[], float] = time.monotonic, parent: Path | None = None
    ) -> None:
        """
        Args:
            parent: where the private folder is made; None: the system's folder for temporary files.
        """
        self.limits = limits
        self.key = secrets.token_urlsafe(24)
        self.dropped: list[Callable[[Record], None]] = []
        self._clock = clock
        self._lock, self._reading = Lock(), Lock()
        self._sessions: dict[str, Session] = {}
        self._shared: dict[str, Record] = {}
        place = Path(tempfile.gettempdir()) if parent is None else parent
        _sweep(place)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=place))  # for its owner alone

    def add_given(self, path: Path, name: str) -> None:
        """Add a photo of the command line, after its header was read.

        Raises:
            InputError, MissingError: it is no photo that can be read.
        """
        record = Record(secrets.token_urlsafe(16), name, path, False, self._clock())
        record.width, record.height = upright_size(path, max_pixels=self.limits.pixels)
        self._shared[record.key] = record

    @property
    def given(self) -> list[Record]:
        """The photos of the command line."""
        return list(self._shared.values())

    def session(self, key: str | None, *, made: bool = False, owner: bool = False) -> Session:
        """The session of a cookie.

        Args:
            made: make one where the cookie names none.
            owner: it was opened with the key.

        Raises:
            Refused: there is none.
        """
        with self._lock:
            found = self._sessions.get(key or "")
            if found is None:
                if not made:
                    raise Refused(403, "this page is not connected to the program: load it again")
                if len(self._sessions) >= self.limits.sessions:
                    # One with nothing to lose goes first: pages of others can cause empty sessions.
                    last = min(self._sessions.values(), key=lambda each: (each.owner or bool(each.photos), each.used))
                    self._end(last)
                found = Session(secrets.token_urlsafe(32), owner, self._clock())
                self._sessions[found.key] = found
            found.owner = found.owner or owner
            found.used = self._clock()
            return found

    def find(self, session: Session, key: str) -> Record:
        """A photo that this session may see.

        Raises:
            Refused: there is none of this name for it, whoever else may have one.
        """
        with self._lock:
            record = session.photos.get(key) or (self._shared.get(key) if session.owner else None)
            if record is None:
                raise Refused(404, "there is no such photo: it may have been removed, so open it again")
            record.used = self._clock()
            return record

    def visible(self, session: Session) -> list[Record]:
        """The photos of the command line, where this session may see them."""
        return self.given if session.owner else []

    @contextmanager
    def arriving(self, session: Session, name: str) -> Iterator[Record]:
        """A place for an upload, which counts from the beginning. The file goes again if the block fails.

        Raises:
            Refused: there are too many photos.
        """
        with self._lock:
            if len(session.photos) >= self.limits.photos:
                raise Refused(429, f"{self.limits.photos} photos are open, and no more are taken: close one first")
            if sum(len(each.photos) for each in self._sessions.values()) >= self.limits.all_photos:
                raise Refused(429, f"all pages together have {self.limits.all_photos} photos open: close one first")
            key = secrets.token_urlsafe(16)
            path = self.folder / key / safe_name(name)
            record = Record(key, path.name, path, True, self._clock())
            session.photos[key] = record
        try:
            path.parent.mkdir(mode=0o700)
            yield record
        except BaseException:
            with self._lock:
                session.photos.pop(key, None)
            self._delete(record)
            raise

    def read(self, record: Record) -> Photo:
        """A photo's pixels.

        Raises:
            Refused: it is no photo that can be read, or too large; the message names it by its own name alone.
        """
        try:
            with self._reading:  # a large photo takes much memory while it is decoded: one at a time
                photo = read_photo(record.path, max_pixels=self.limits.pixels)
                found = None if record.described else embedded_of(record.path, photo, max_pixels=self.limits.pixels)
        except MissingError as error:
            raise Refused(501, nameless(str(error), record)) from error
        except DeepLensError as error:
            status = 413 if isinstance(error, TooLargeError) else 415
            raise Refused(status, nameless(str(error), record)) from error
        except MemoryError as error:
            raise Refused(413, f"{record.name} does not fit into memory: make it smaller") from error
        except OSError as error:
            raise Refused(404, f"{record.name} can't be read any more: open it again") from error
        record.height, record.width = photo.pixels.shape[:2]
        if found is not None:
            record.embedded, notes = found
            record.notes = tuple(nameless(note, record) for note in (*photo.notes, *notes))
            record.described = True
        return photo

    def remove(self, session: Session, key: str) -> None:
        """Forget a photo, and delete its file where that is ours. Refused: as `find`."""
        self.find(session, key)
        with self._lock:
            record = session.photos.pop(key, None) or self._shared.pop(key, None)
        if record is not None:
            self._delete(record)

    def sweep(self) -> None:
        """Delete the uploads that nobody asked for in a long time."""
        with self._lock:
            oldest = self._clock() - self.limits.seconds
            stale = [
                session.photos.pop(record.key)
                for session in self._sessions.values()
                for record in list(session.photos.values())
                if record.used < oldest
            ]
        for record in stale:
            self._delete(record)

    def close(self) -> None:
        """Delete the folder with all uploads."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "Photos":
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    def _end(self, session: Session) -> None:
        del self._sessions[session.key]
        for record in session.photos.values():
            self._delete(record)

    def _delete(self, record: Record) -> None:
        record.gone = True
        for tell in self.dropped:
            tell(record)
        if record.temporary:
            shutil.rmtree(record.path.parent, ignore_errors=True)


def safe_name(name: str) -> str:
    """A file name that is one on every disk, made of what a browser said: the last part, without odd characters."""
    last = re.split(r"[/\\]", name)[-1]
    kept = re.sub(r"[^\w .()+,=@~-]", "_", last).strip(" .")
    stem, dot, suffix = kept.rpartition(".")
    if not dot:
        stem, suffix = kept, ""
    while len(f"{stem}.{suffix}".encode()) > LONGEST_NAME and len(stem) > 1:
        stem = stem[:-1]
    kept = f"{stem}{dot}{suffix[:10]}".strip(" .")
    return kept if kept and len(kept.encode()) <= 2 * LONGEST_NAME else "photo"


def nameless(text: str, record: Record) -> str:
    """A message without the place where the file lies."""
    return text.replace(str(record.path), record.name).replace(str(record.path.parent), "its folder")


def _sweep(parent: Path) -> None:
    """Delete the folders of processes that were killed."""
    user = getattr(os, "getuid", None)  # POSIX only
    for folder in parent.glob(f"{PREFIX}*"):
        match = re.fullmatch(rf"{PREFIX}(\d+)-.*", folder.name)
        with contextlib.suppress(OSError):
            if match and user is not None and folder.lstat().st_uid == user() and not _lives(int(match[1])):
                shutil.rmtree(folder, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
