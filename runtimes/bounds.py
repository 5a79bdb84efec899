"""How large a picture may be, by what its header claims and by the length of its file: before it is unpacked."""

from pathlib import Path

from deeplens.console.errors import InputError


class TooLargeError(InputError):
    """A picture of more pixels than are read."""


MAX_PIXELS = 200_000_000
"""Pictures with more pixels than this are refused before they are decoded, unless a caller names another limit."""

MODEST_PIXELS = 25_000_000
"""As many pixels may be in a file of any length."""

PIXELS_A_BYTE = 1_000
"""Beyond `MODEST_PIXELS`, as many pixels are believed for each byte of the file. Photos have 0.1 to 50; an even area
in a format without loss has up to 1000."""


def check_pixels(path: Path, width: int, height: int, max_pixels: int | None, *, stored: int | None = None) -> None:
    """Refuse a picture by the size in its header, before anything is unpacked.

    Args:
        max_pixels: the largest number of pixels; None: `MAX_PIXELS`, and no more than a file of its length is likely
            to hold.
        stored: bytes that the picture is stored in; None: those of the file.

    Raises:
        TooLargeError: too many pixels.
    """
    count = width * height
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if count > limit:
        raise TooLargeError(
            f"{path} has {width}×{height} pixels ({count / 1e6:.0f} megapixels), "
            f"but at most {limit / 1e6:g} megapixels are read: make it smaller, or raise --max-megapixels"
        )
    if max_pixels is None and count > MODEST_PIXELS:
        stored = path.stat().st_size if stored is None else stored
        if count > PIXELS_A_BYTE * stored:
            raise TooLargeError(
                f"{path} claims {width}×{height} pixels ({count / 1e6:.0f} megapixels) in {stored} bytes, which no "
                "photo does: if it is right, give --max-megapixels"
            )
