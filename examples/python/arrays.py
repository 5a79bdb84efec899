"""The array operations of docs/harness.md. Their sections stand in the comments."""

import math

import numpy as np
from PIL import Image


def reflected(array, height, width):
    """Section 3: continued at the bottom and the right; the border pixel is not repeated."""
    more = [(0, height - array.shape[0]), (0, width - array.shape[1])] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, more, mode="reflect")


def halved(picture):
    """Section 4: the root of the mean of the squares."""
    return np.sqrt(quartered(picture**2))


def quartered(array):
    """The mean of each 2×2."""
    rows = array[..., 0::2, :] + array[..., 1::2, :]
    return (rows[..., 0::2] + rows[..., 1::2]) * np.float32(0.25)


def at_level(depth, k):
    """Section 7: signed depth as the networks take it at level k."""
    return np.clip(depth * np.float32(2**k), -1, 1)


def registered(disparity, height, width, pixel):
    """Section 5: the map where the pixels of a level lie, of which each covers pixel×pixel of the photo."""
    rows, columns = math.ceil(height / pixel), math.ceil(width / pixel)
    bottom, right = disparity.shape[0] * (pixel * rows / height), disparity.shape[1] * (pixel * columns / width)
    more = [(0, max(0, math.ceil(edge) - side)) for edge, side in zip((bottom, right), disparity.shape, strict=True)]
    image = Image.fromarray(np.pad(disparity, more, mode="edge"))
    return np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR, box=(0, 0, right, bottom)))


def covered(height, width, halvings):
    """Section 2: the part of a level that shows the photo."""
    return math.ceil(height / 2**halvings), math.ceil(width / 2**halvings)


def reach(radius):
    """Section 8: how far discs reach past each pixel."""
    for _ in range(math.ceil(radius.max())):
        wide, (height, width) = np.pad(radius, 1, mode="edge"), radius.shape
        around = [
            wide[y : y + height, x : x + width] - np.float32(math.hypot(y - 1, x - 1))
            for y in range(3)
            for x in range(3)
        ]
        radius = np.max(around, 0)
    return radius


def enlarged(values, times):
    """Section 8: bilinear with half-pixel centres."""
    size = (values.shape[1] * times, values.shape[0] * times)
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
