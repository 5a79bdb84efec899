"""The sizes of the ×2 loop, and the photo and its signed depth at each of them. NumPy and Pillow only.

Level k runs from 0 (the base, where the lens blur works) to n (the whole photo). Each level is twice the size of the
one below. A photo that can't be halved n times into aligned sizes is padded at the bottom and the right by reflection
(the border pixel is not repeated, as `np.pad(mode="reflect")` does), and the result is cropped.

The photo is halved as light is: the mean of the squares stands for the mean of linear light (gamma 2 for sRGB), so that
a highlight keeps its energy and opens into a bright disc. The whole photo is never held as floating point numbers: its
integers are read strip by strip and tile by tile.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from deeplens.model.contract import ALIGNMENT, BASE_LONG_SIDE, MIN_SIZE

STRIP_PIXELS = 1 << 16
"""About as many pixels are halved at a time; keeps what is held beside input and output within a few MB."""

QUANTISED_ROWS = 64
"""As many rows of a tile are quantised at a time: they stay in the cache over the four passes."""


@dataclass(frozen=True)
class Geometry:
    """The levels for a photo of `height` × `width` pixels.

    Attributes:
        height, width: of the photo, in pixels, from 1 up.
        steps: n, the number of ×2 steps.
        base: padded height and width of level 0; multiples of `ALIGNMENT`, at least `MIN_SIZE`.
    """

    height: int
    width: int
    steps: int
    base: tuple[int, int]

    def padded(self, level: int) -> tuple[int, int]:
        """Height and width of `level`, padding included: base · 2^level."""
        return self.base[0] << level, self.base[1] << level

    def covered(self, level: int) -> tuple[int, int]:
        """Height and width of the part of `level` that shows the photo: its size over 2^(n − level), rounded up."""
        size = 1 << (self.steps - level)
        return -(-self.height // size), -(-self.width // size)

    @property
    def finest_depth(self) -> int:
        """The finest level whose depth is held: n − 1, the last that a step takes, but level 1 where there is one."""
        return max(self.steps - 1, min(self.steps, 1))

    @property
    def blur_scale(self) -> float:
        """The size of the photo at the base relative to `BASE_LONG_SIDE`, at most 1.

        Signed depth is multiplied by it, so that the circle of confusion is a fraction of the picture and the same
        photo at another size gets the same look.
        """
        return min(1.0, max(self.height, self.width) / (1 << self.steps) / BASE_LONG_SIDE)


def geometry(height: int, width: int) -> Geometry:
    """The levels for a photo of `height` × `width` pixels.

    n is the smallest number of halvings that brings the long side down to `BASE_LONG_SIDE`, but not more than bring
    the short side down to `ALIGNMENT`: past that, an extreme aspect ratio would be mostly padding.
    """
    long, short = max(height, width), min(height, width)
    steps = 0
    while -(-long // (1 << steps)) > BASE_LONG_SIDE and ALIGNMENT << steps < short:
        steps += 1
    base_height, base_width = (max(MIN_SIZE, ALIGNMENT * -(-side // (ALIGNMENT << steps))) for side in (height, width))
    return Geometry(height, width, steps, (base_height, base_width))


def reflected(start: int, stop: int, length: int) -> np.ndarray:
    """Where the positions start … stop − 1 of a line continued by reflection lie in its `length` pixels (from 1 up)."""
    period = max(1, 2 * (length - 1))
    position = np.arange(start, stop) % period
    return np.minimum(position, period - position) if length > 1 else position


def _extended(array: np.ndarray, start: int, stop: int, axis: int) -> np.ndarray:
    """array[start:stop] along `axis`, continued by reflection past its end; a view where nothing is continued."""
    length = array.shape[axis]
    inside = array[(slice(None),) * axis + (slice(start, stop),)]
    if stop <= length:
        return inside
    outside = np.take(array, reflected(max(start, length), stop, length), axis=axis)
    return outside if start >= length else np.concatenate((inside, outside), axis=axis)


def read_window(pixels: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """The pixels `rows` × `columns` of the photo continued by reflection past its bottom and right.

    Args:
        pixels: H×W×C.
        rows, columns: with start and stop, within the padded size.

    Returns:
        h×w×C of the same dtype; a view of `pixels` where nothing is continued.
    """
    if columns.stop <= pixels.shape[1]:  # the axis that is a view goes first, so that the other copies little
        return _extended(pixels[:, columns], rows.start, rows.stop, 0)
    return _extended(_extended(pixels, rows.start, rows.stop, 0), columns.start, columns.stop, 1)


def read_picture(pixels: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """A window of the photo as a network takes it.

    Args:
        pixels: H×W×3, uint8 or uint16; the largest value of the dtype is 1.0.
        rows, columns: with start and stop, within the padded size.

    Returns:
        (1, 3, h, w), float32, in [0, 1], contiguous.
    """
    window = read_window(pixels, rows, columns)
    picture = np.empty((1, window.shape[2], *window.shape[:2]), np.float32)
    largest = np.float32(np.iinfo(pixels.dtype).max)
    np.divide(window.transpose(2, 0, 1), largest, out=picture[0], dtype=np.float32)
    return picture


def _root_mean_square(squares: np.ndarray, weight: float, out: np.ndarray) -> None:
    """out = sqrt(sum of each 2×2 squares / (4 · weight)); squares: (C, 2h, 2w), overwritten; out: (C, h, w)."""
    sums = squares[:, 0::2]
    sums += squares[:, 1::2]
    for channel, result in zip(sums, out, strict=True):  # one plane at a time: C may be the fastest axis of `squares`
        np.add(channel[:, 0::2], channel[:, 1::2], out=result)
        result /= np.float32(4.0 * weight)
        np.sqrt(result, out=result)


def _strips(height: int, width: int) -> list[slice]:
    """Even numbers of rows, about `STRIP_PIXELS` pixels each, that cover an even `height`."""
    rows = max(2, STRIP_PIXELS // width // 2 * 2)
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


def halved_window(pixels: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """A window of the photo's next level: halved by area averaging in approximately linear light.

    Args:
        pixels: H×W×3, uint8 or uint16.
        rows, columns: of the result, with start and stop; the photo is continued by reflection.

    Returns:
        (1, 3, h, w), float32, in [0, 1]: sqrt(mean of x² over each 2×2), x = value / largest value of the dtype.
    """
    weight = float(np.iinfo(pixels.dtype).max) ** 2
    result = np.empty((1, 3, rows.stop - rows.start, columns.stop - columns.start), np.float32)
    twice = slice(2 * columns.start, 2 * columns.stop)
    for strip in _strips(2 * result.shape[2], 2 * result.shape[3]):
        window = slice(2 * rows.start + strip.start, 2 * rows.start + strip.stop)
        squares = read_window(pixels, window, twice).astype(np.float32)
        squares *= squares
        _root_mean_square(squares.transpose(2, 0, 1), weight, result[0, :, strip.start // 2 : strip.stop // 2])
    return result


def halve(picture: np.ndarray) -> np.ndarray:
    """sqrt(mean of x² over each 2×2): (1, C, 2h, 2w) in [0, 1] → (1, C, h, w), both float32."""
    _, channels, height, width = picture.shape
    result = np.empty((1, channels, height // 2, width // 2), np.float32)
    for rows in _strips(height, width):
        _root_mean_square(np.square(picture[0, :, rows]), 1.0, result[0, :, rows.start // 2 : rows.stop // 2])
    return result


def picture_levels(pixels: np.ndarray, levels: Geometry, *, finest: bool = True) -> list[np.ndarray]:
    """The photo at each level that is held: 0 … n − 1, and level 0 where n = 0.

    Args:
        pixels: H×W×3, uint8 or uint16, as `levels` says.
        finest: False: without level n − 1, where that is not the base; `halved_window` gives the same, piece by piece.

    Returns:
        (1, 3, *levels.padded(k)), float32, in [0, 1], base first.
    """
    if levels.steps == 0:
        height, width = levels.padded(0)
        return [read_picture(pixels, slice(0, height), slice(0, width))]
    height, width = levels.padded(levels.steps - 1)
    if finest or levels.steps == 1:
        pictures = [halved_window(pixels, slice(0, height), slice(0, width))]
    else:
        pictures = [np.empty((1, 3, height // 2, width // 2), np.float32)]
        for rows in _strips(height, width):
            pictures[0][:, :, rows.start // 2 : rows.stop // 2] = halve(halved_window(pixels, rows, slice(0, width)))
    while pictures[-1].shape[2:] != levels.padded(0):
        pictures.append(halve(pictures[-1]))
    return pictures[::-1]


def resize_registered(values: np.ndarray, levels: Geometry, level: int) -> np.ndarray:
    """A map that shows the whole photo at any size, resized bilinearly to the photo's part of `level`.

    A pixel of the result lies where the pixel of that level lies on the photo, also where the photo's size is not
    divisible and the last pixel of a level reaches past its border: there the map's last value continues. Shrinking is
    antialiased.

    Args:
        values: h×w, float32.

    Returns:
        (height, width) = levels.covered(level), float32.
    """
    height, width = levels.covered(level)
    pixel = 1 << (levels.steps - level)
    bottom = values.shape[0] * (pixel * height / levels.height)
    right = values.shape[1] * (pixel * width / levels.width)
    beyond = [max(0, math.ceil(edge) - side) for edge, side in zip((bottom, right), values.shape, strict=True)]
    if any(beyond):
        values = np.pad(values, ((0, beyond[0]), (0, beyond[1])), mode="edge")
    resized = Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR, box=(0, 0, right, bottom))
    return np.asarray(resized)


def registered_disparity(disparity: np.ndarray, levels: Geometry) -> np.ndarray:
    """A disparity map of any size, h×w, at `levels.finest_depth`: its `levels.covered` part."""
    return resize_registered(np.asarray(disparity, np.float32), levels, levels.finest_depth)


def signed_depth(disparity: np.ndarray, focal_disparity: float, scale: float, focus_range: float) -> np.ndarray:
    """D̃ = (D − d_f) · scale, clipped to [-1, 1], of the shape of `disparity`, float32.

    With a range in focus, D − d_f is 0 within it and counts from its nearer end outside:
    sign(D − d_f) · max(|D − d_f| − w / 2, 0).

    Args:
        scale: α · `Geometry.blur_scale`.
        focus_range: w.
    """
    signed = disparity - np.float32(focal_disparity)
    if focus_range:
        signed -= np.clip(signed, -np.float32(focus_range / 2), np.float32(focus_range / 2))
    signed *= np.float32(scale)
    return np.clip(signed, -1.0, 1.0, out=signed)


def pad_to(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """(1, C, h, w) continued by reflection at the bottom and right to (1, C, height, width), contiguous."""
    below, beside = height - array.shape[2], width - array.shape[3]
    if below or beside:
        array = _extended(_extended(array, 0, height, 2), 0, width, 3)
    return np.ascontiguousarray(array)


def doubled(picture: np.ndarray) -> np.ndarray:
    """Bilinear ×2 with half-pixel centres, the border repeated: (1, C, h, w) → (1, C, 2h, 2w)."""
    for axis in (2, 3):
        shape = list(picture.shape)
        shape[axis] *= 2
        result = np.empty(shape, picture.dtype)
        source, target = np.moveaxis(picture, axis, 0), np.moveaxis(result, axis, 0)
        near, far = source * source.dtype.type(0.75), source * source.dtype.type(0.25)
        np.add(near[1:], far[:-1], out=target[2::2])
        np.add(near[:-1], far[1:], out=target[1:-1:2])
        np.add(near[0], far[0], out=target[0])
        np.add(near[-1], far[-1], out=target[-1])
        picture = result
    return picture


def quantise(picture: np.ndarray, out: np.ndarray) -> None:
    """Write a picture as integers: clipped to [0, 1], times the largest value, rounded half to even.

    Args:
        picture: (1, 3, h, w), floating point.
        out: h×w×3, uint8 or uint16; may be a view.
    """
    for top in range(0, out.shape[0], QUANTISED_ROWS):
        values = np.clip(picture[0, :, top : top + QUANTISED_ROWS], 0.0, 1.0)
        values *= np.iinfo(out.dtype).max
        np.rint(values, out=values)
        for channel, plane in enumerate(values):
            out[top : top + QUANTISED_ROWS, :, channel] = plane
