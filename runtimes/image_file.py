"""Opening pictures that may be anything. Pillow only."""

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from deeplens.console.errors import DeepLensError, InputError, one_line
from deeplens.console.inputs import check_regular
from deeplens.runtimes.bounds import MAX_PIXELS, check_pixels
from deeplens.runtimes.heic import is_heic, register

FORMATS = (
    "JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "AVIF", "JPEG2000", "TGA"
)  # fmt: skip
"""What is opened, where this Pillow has it; HEIC too, where pillow-heif is installed (`runtimes.heic`). No format that
runs another program (EPS) or reads other files."""

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".tga", ".heic", ".heif", ".hif",
)  # fmt: skip
"""Names of files that are taken for photos."""

NO_END = "deeplens no end marker"
"""Key of an image's `info`: it is a JPEG without its end (`without_end_marker`)."""

DECODING_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, OverflowError, NotImplementedError,
    RuntimeError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's decoders raise on broken files."""

_LIMITS_LOCK = threading.Lock()
_limits: list[int | None] = []
_before: int | None = None


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
            with pillow_limit(None):
                image = _open(path)
        except UnidentifiedImageError as error:
            raise InputError(f"{path} is not an image in a supported format ({', '.join(FORMATS)})") from error
        except (DeepLensError, MemoryError):
            raise
        except Exception as error:  # decoders raise anything, RuntimeError too
            raise InputError(f"{path} can't be opened as an image: {one_line(error)}") from error
        with image:
            check_pixels(path, *image.size, max_pixels)
            try:
                with pillow_limit(MAX_PIXELS if max_pixels is None else max_pixels):
                    image.load()
            except MemoryError as error:
                raise InputError(f"{path} does not fit into memory: make it smaller") from error
            except Exception as error:
                whole = without_end_marker(path, image) if image.format in ("JPEG", "MPO") else None
                if whole is None:
                    raise InputError(f"{path} is truncated or broken: {one_line(error)}") from error
                image.close()
                image = whole
            yield image


def without_end_marker(path: Path, image: Image.Image) -> Image.Image | None:
    """A JPEG that lacks nothing but its end, as cameras and transfers leave it; None: a part of the picture is missing.

    What follows the data of a whole picture changes nothing. So the end is put there after different fillings, and the
    pictures are compared.
    """
    data = path.read_bytes().rstrip(b"\xff")  # half of the marker may be there
    pictures: list[Image.Image] = []
    for filling in (b"", bytes(64), b"\x55" * 64, b"\xaa" * 64):
        try:
            with Image.open(io.BytesIO(data + filling + b"\xff\xd9"), formats=("JPEG",)) as whole:
                whole.load()
        except Exception:
            return None
        if pictures and whole.tobytes() != pictures[0].tobytes():
            return None
        pictures.append(whole)
    pictures[0].info = {**image.info, NO_END: True}
    return pictures[0]


def frame_count(path: Path) -> int:
    """How many frames or pages an image file has; 1 where it can't be told. Counting moves an open image, so it opens
    the file anew."""
    with warnings.catch_warnings(), pillow_limit(None):
        warnings.simplefilter("ignore")
        try:
            with _open(path) as image:
                return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: previews, stereo views
        except Exception:
            return 1


def upright_size(path: Path, *, max_pixels: int | None = None) -> tuple[int, int]:
    """Width and height of a photo, upright, by its header; no more of it is read before its size was found bearable.

    Args:
        max_pixels: as in `runtimes.bounds.check_pixels`.

    Raises:
        InputError: it is no photo that can be opened, or has too many pixels.
        MissingError: a HEIC photo, and pillow-heif is not installed.
    """
    check_file(path)
    try:
        with warnings.catch_warnings(), pillow_limit(None), _open(path) as image:
            warnings.simplefilter("ignore")  # of Pillow about odd metadata
            width, height = image.size
            check_pixels(path, width, height, max_pixels)
            try:
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            except Exception:  # a camera's EXIF can be broken in any way; `read_photo` tells it
                turned = False
    except (DeepLensError, MemoryError):
        raise
    except Exception as error:  # decoders raise anything
        raise InputError(f"{path} is not an image in a supported format ({', '.join(FORMATS)})") from error
    return (height, width) if turned else (width, height)


def _open(path: Path) -> Image.Image:
    Image.init()
    formats: tuple[str, ...] = FORMATS
    if is_heic(path):
        register()
        formats = ("HEIF",)
    return Image.open(path, formats=[name for name in formats if name in Image.OPEN])


@contextmanager
def pillow_limit(pixels: int | None) -> Iterator[None]:
    """Pillow's own limit on the size of a picture or of a tile in it, which is below ours unless it is set.

    It is one for all threads: while several hold it, the largest counts.

    Args:
        pixels: None: no limit.
    """
    global _before
    with _LIMITS_LOCK:
        if not _limits:
            _before = Image.MAX_IMAGE_PIXELS
        _limits.append(pixels)
        _set_limit()
    try:
        yield
    finally:
        with _LIMITS_LOCK:
            _limits.remove(pixels)
            _set_limit()


def _set_limit() -> None:
    if not _limits:
        Image.MAX_IMAGE_PIXELS = _before
    else:
        numbers = [each for each in _limits if each is not None]
        Image.MAX_IMAGE_PIXELS = max(numbers) if len(numbers) == len(_limits) else None


SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0cjP  ")
"""First bytes of JPEG, PNG, GIF, TIFF and JPEG 2000."""

BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Of an ISO base media file that is a picture."""


def begins_as_photo(path: Path) -> bool:
    """Whether a file's first bytes are those of a photo; False for one that can't be read."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except (OSError, ValueError):
        return False
    riff = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return head.startswith(SIGNATURES) or riff or (head[4:8] == b"ftyp" and head[8:12] in BRANDS)
