"""Opening pictures that may be anything, and writing files whole or not at all. Pillow only."""

import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from deeplens.console.errors import InputError, one_line
from deeplens.console.inputs import check_regular
from deeplens.runtimes.bounds import check_pixels
from deeplens.runtimes.heic import is_heic, register

FORMATS = (
    "JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "AVIF", "JPEG2000", "TGA"
)  # fmt: skip
"""What is opened, where this Pillow has it; HEIC too, where pillow-heif is installed (`runtimes.heic`). No format that
runs another program (EPS) or reads other files."""

DECODING_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, OverflowError, NotImplementedError,
    RuntimeError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's decoders raise on broken files."""

_PILLOW_LIMIT = threading.Lock()


def check_file(path: Path) -> None:
    """Raise InputError unless `path` is a file with something in it that can be read."""
    try:
        if not path.exists():
            raise InputError(f"{path} does not exist: check the name")
        check_regular(path)
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes): copy or download it again")
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {one_line(error)}") from error


@contextmanager
def opened_image(path: Path, *, max_pixels: int | None = None) -> Iterator[Image.Image]:
    """The first frame of an image file, decoded; closed on leaving.

    Args:
        path: in one of `FORMATS`.
        max_pixels: as in `runtimes.bounds.check_pixels`, which looks at the header before anything is decoded. It
            stands in for Pillow's limit.

    Raises:
        InputError: missing, a folder, empty, unreadable, not an image, too many pixels, truncated or broken.
        MissingError: a HEIC photo, and pillow-heif is not installed.
    """
    check_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow about odd metadata
        try:
            image = _open(path)
        except UnidentifiedImageError as error:
            raise InputError(f"{path} is not an image in a supported format ({', '.join(FORMATS)})") from error
        except DECODING_ERRORS as error:
            raise InputError(f"{path} can't be opened as an image: {one_line(error)}") from error
        with image:
            check_pixels(path, *image.size, max_pixels)
            try:
                image.load()
            except MemoryError as error:
                raise InputError(f"{path} does not fit into memory: make it smaller") from error
            except DECODING_ERRORS as error:
                raise InputError(f"{path} is truncated or broken: {one_line(error)}") from error
            yield image


def frame_count(path: Path) -> int:
    """How many frames or pages an image file has; 1 where it can't be told. Counting moves an open image, so it opens
    the file anew."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _open(path) as image:
                return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: previews, stereo views
        except DECODING_ERRORS:
            return 1


def _open(path: Path) -> Image.Image:
    """Image.open without Pillow's own limit on the size."""
    Image.init()
    formats: tuple[str, ...] = FORMATS
    if is_heic(path):
        register()
        formats = ("HEIF",)
    with _PILLOW_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=[name for name in formats if name in Image.OPEN])
        finally:
            Image.MAX_IMAGE_PIXELS = limit
