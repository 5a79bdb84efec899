"""What `deeplens studio` computes: depth, levels and results, one at a time, with what is kept between two of them."""

import io
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
from PIL import Image

from deeplens.commands.studio_photos import Photos, Record, Refused
from deeplens.commands.studio_wish import PREDICTED, Wish
from deeplens.console.errors import Cancelled
from deeplens.console.progress import Stopwatch
from deeplens.model.contract import NETWORKS
from deeplens.runtimes import Runtime
from deeplens.runtimes.accelerator import Ran
from deeplens.runtimes.harness import Harness, aperture_from_f_number
from deeplens.runtimes.photo import Photo, to_8_bit, write_photo
from deeplens.runtimes.photo_write import WRITERS
from deeplens.runtimes.refocuser import Refocuser

WAIT = 0.02
"""Seconds after which one who waits for the networks looks whether he is still wanted."""

UNPACKED = 512 * 512
"""Pixels of the largest level that is answered without being packed."""

MAX_SIDE = 8192
"""Longest side of the picture that the page is shown before anything is refocused."""


class Token:
    """Says whether a request is still wanted; looked at between two tiles."""

    def __init__(self) -> None:
        self._ended = Event()

    def cancel(self) -> None:
        """The request is not wanted any more."""
        self._ended.set()

    def check(self, _share: float = 0.0) -> None:
        """Raise Cancelled where it is not wanted any more."""
        if self._ended.is_set():
            raise Cancelled


@dataclass
class _Kept:
    """A photo that is ready to be refocused again."""

    photo: Photo
    refocuser: Refocuser

    @property
    def held_bytes(self) -> int:
        alpha = 0 if self.photo.alpha is None else self.photo.alpha.nbytes
        return self.photo.pixels.nbytes + alpha + self.refocuser.held_bytes


class Work:
    """The networks, and what they keep of each photo. A context manager that closes the networks.

    One request runs at a time: the networks take all cores as it is. The others wait their turn.
    """

    def __init__(
        self,
        photos: Photos,
        open_named: Callable[[str], Runtime],
        *,
        runtime: str,
        runtimes: tuple[str, ...],
        tile: int | None,
        memory: int,
    ) -> None:
        """
        Args:
            open_named: opens a runtime by its name.
            runtime: the one that is used unless a request names another of `runtimes`.
            tile: as in `runtimes.harness.Harness`.
            memory: bytes that all photos together may keep between two refocusings; the one that was used last stays
                in any case.
        """
        self.runtime, self.runtimes = runtime, runtimes
        self._photos, self._open_named, self._tile, self._memory = photos, open_named, tile, memory
        self._opened: dict[str, Runtime] = {}
        self._kept: OrderedDict[tuple[str, str, str], _Kept] = OrderedDict()  # by photo, runtime and source of depth
        self._tokens: dict[tuple[str, str, str], Token] = {}
        self._turn, self._lock = Lock(), Lock()
        photos.dropped.append(self._forget)

    def warm(self) -> dict[str, Ran | None]:
        """Open the networks of the runtime that was chosen: what is missing is told at the start.

        Returns:
            network → what it runs on.

        Raises: as `runtimes.contract.Runtime.open`.
        """
        opened = self._runtime_named(self.runtime)
        return {network: opened.open(network).ran for network in NETWORKS}

    def newest(self, session: str, photo: str, kind: str) -> Token:
        """A token for a new request; the one before of the same session, photo and kind is cancelled."""
        token = Token()
        with self._lock:
            before = self._tokens.pop((session, photo, kind), None)
            self._tokens[session, photo, kind] = token
        if before is not None:
            before.cancel()
        return token

    def done(self, token: Token) -> None:
        """A request has ended."""
        with self._lock:
            for key in [key for key, each in self._tokens.items() if each is token]:
                del self._tokens[key]

    def stop(self) -> None:
        """Cancel all requests."""
        with self._lock:
            for token in self._tokens.values():
                token.cancel()

    def disparity(self, record: Record, depth: str, token: Token) -> np.ndarray:
        """The map of a photo that `depth`, one of `studio_wish.DEPTHS`, gives: h×w, float32, in [0, 1], near = large.

        Raises:
            Refused: the photo holds none.
        """
        with self._turns(token, record):
            return self._ready(record, self.runtime, depth, Stopwatch()).disparity

    def picture(self, record: Record, side: int) -> tuple[bytes, str]:
        """The upright photo with a long side of at most `side` pixels, and its type: JPEG, or PNG if it has alpha."""
        side = min(max(16, side), MAX_SIDE)
        photo = self._photo_of(record)
        image = photo.image
        if max(image.size) > side:
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
        if image.mode == "RGBA":
            return _encoded(image, "PNG", compress_level=1), "image/png"
        return _encoded(image, "JPEG", quality=92), "image/jpeg"

    def refocus(self, record: Record, wish: Wish, token: Token, watch: Stopwatch) -> tuple[bytes, float]:
        """A level of a refocused photo as PNG, and the disparity at the focus.

        Raises:
            Cancelled: it is not wanted any more.
            Refused: a level or a runtime that there is not.
            DeepLensError: from the runtime.
        """
        with self._turns(token, record):
            ready = self._ready(record, self._named(wish), wish.depth, watch)
            last = ready.kept.refocuser.levels.steps
            if wish.level is not None and not 0 <= wish.level <= last:
                raise Refused(400, f"this photo has the levels 0 to {last}, and no level {wish.level}")
            at, focal, width = wish.focal(ready.disparity)
            pixels = ready.kept.refocuser.refocus(
                focal_disparity=focal,
                aperture=aperture_from_f_number(wish.f_number),
                focus_range=width,
                level=wish.level,
                progress=token.check,
                watch=watch,
            )
            self._trim()
        token.check()
        with watch.part("encode"):
            image = Image.fromarray(to_8_bit(pixels))
            alpha = ready.kept.photo.alpha
            if alpha is not None and wish.level in (None, last):
                image.putalpha(Image.fromarray(alpha))
            # A small one that a finger waits for goes as it is: packing takes longer than the way over the loopback.
            level = 0 if image.width * image.height <= UNPACKED else 1
            return _encoded(image, "PNG", compress_level=level), at

    def result(self, record: Record, wish: Wish, token: Token, watch: Stopwatch) -> tuple[bytes, str]:
        """The refocused photo as a file, as `deeplens refocus` writes it, and the file's name.

        Raises: as `refocus`.
        """
        name = self._named(wish)
        suffix = Path(record.name).suffix
        suffix = suffix if suffix.lower() in WRITERS else ".jpg"
        with self._turns(token, record):
            ready = self._ready(record, name, wish.depth, watch)
            _, focal, width = wish.focal(ready.disparity)
            # Without what is kept, whose sums may be rounded otherwise: so these are the bytes of `deeplens refocus`.
            with watch.part("refocus"):
                pixels = Harness(self._runtime_named(name), tile=self._tile).refocus(
                    ready.kept.photo.pixels,
                    ready.disparity,
                    focal_disparity=focal,
                    aperture=aperture_from_f_number(wish.f_number),
                    focus_range=width,
                    progress=token.check,
                )
            photo = ready.kept.photo.with_pixels(pixels)
        with watch.part("write"):
            place = self._photos.folder / f"{record.key}-result{suffix}"
            try:
                write_photo(place, photo)
                return place.read_bytes(), f"{Path(record.name).stem or 'photo'}_refocused{suffix}"
            finally:
                place.unlink(missing_ok=True)

    def held_bytes(self) -> int:
        """What all photos keep together."""
        return sum(each.held_bytes for each in self._kept.values())

    def close(self) -> None:
        """Cancel what runs, and close the networks."""
        self.stop()
        with self._turn:
            self._kept.clear()
            for opened in self._opened.values():
                opened.close()
            self._opened.clear()

    def __enter__(self) -> "Work":
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    @contextmanager
    def _turns(self, token: Token, record: Record) -> Iterator[None]:
        while not self._turn.acquire(timeout=WAIT):
            token.check()
        try:
            token.check()
            yield
        finally:
            if record.gone:  # removed meanwhile
                self._forget(record)
            self._turn.release()

    def _named(self, wish: Wish) -> str:
        name = wish.runtime or self.runtime
        if name not in self.runtimes:
            raise Refused(400, f"the runtime {name[:40]!r} is not here: choose {', '.join(self.runtimes)}")
        return name

    def _runtime_named(self, name: str) -> Runtime:
        if name not in self._opened:
            self._opened[name] = self._open_named(name)
        return self._opened[name]

    def _photo_of(self, record: Record) -> Photo:
        for key, kept in list(self._kept.items()):
            if key[0] == record.key:
                return kept.photo
        return self._photos.read(record)

    def _ready(self, record: Record, name: str, depth: str, watch: Stopwatch) -> "_Ready":
        """A photo ready to be refocused, made now where it is not kept."""
        key = (record.key, name, depth)
        if key in self._kept:
            self._kept.move_to_end(key)
            return _Ready(self._kept[key], _map_of(record, name, depth))
        with watch.part("read"):
            photo = self._photo_of(record)
        harness = Harness(self._runtime_named(name), tile=self._tile)
        if depth == PREDICTED and name not in record.disparity:
            with watch.part("depth"):
                record.disparity[name] = harness.disparity(photo.pixels)
        found = _map_of(record, name, depth)
        with watch.part("prepare"):
            kept = _Kept(photo, harness.photo(photo.pixels, found))
        self._kept[key] = kept
        self._trim()
        return _Ready(kept, found)

    def _trim(self) -> None:
        """Forget what was used longest ago, until the rest fits."""
        while len(self._kept) > 1 and self.held_bytes() > self._memory:
            self._kept.popitem(last=False)

    def _forget(self, record: Record) -> None:
        for key in [key for key in self._kept if key[0] == record.key]:
            del self._kept[key]


def _map_of(record: Record, name: str, depth: str) -> np.ndarray:
    """A photo's disparity; the depth network's must be there. Refused: the photo's file holds none."""
    if depth == PREDICTED:
        return record.disparity[name]
    if record.embedded is None:
        raise Refused(400, "this photo holds no depth map that can be used: ask for depth that is predicted")
    return record.embedded


@dataclass(frozen=True)
class _Ready:
    kept: _Kept
    disparity: np.ndarray


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()
