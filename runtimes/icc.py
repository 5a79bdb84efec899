"""The tone curve of an ICC profile, for grey pictures, where Pillow is coarse or can't. ICC.1:2022; NumPy only."""

import struct

import numpy as np

from deeplens.runtimes.colour import Transfer


def grey_curve(profile: bytes) -> Transfer:
    """How grey values become linear light by a profile of grey, or of RGB with equal curves.

    Raises:
        ValueError: a profile of another kind, or a broken one.
    """
    space, connection = profile[16:20], profile[20:24]
    names = {b"GRAY": [b"kTRC"], b"RGB ": [b"rTRC", b"gTRC", b"bTRC"]}.get(space)
    if names is None:
        raise ValueError(f"it is for {space.decode('latin-1').strip() or 'nothing'}, not for grey")
    try:
        tags = _tags(profile)
        curves = [_curve(tags[name]) for name in names]
    except (struct.error, KeyError, IndexError) as error:
        raise ValueError(f"it has no curve that can be read ({type(error).__name__})") from error
    grid = np.linspace(0, 1, 256)
    if any(np.abs(each(grid) - curves[0](grid)).max() > 1e-3 for each in curves[1:]):
        raise ValueError("its red, green and blue have different curves")
    if space == b"GRAY" and connection == b"Lab ":
        return lambda value: _light(100 * curves[0](value))
    return curves[0]


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = [struct.unpack_from(">4sII", profile, 132 + 12 * index) for index in range(min(count, 256))]
    return {name: profile[offset : offset + size] for name, offset, size in entries}


def _curve(tag: bytes) -> Transfer:
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count == 0:
            return lambda value: value
        numbers = np.frombuffer(tag, ">u2", count, 12)
        if count == 1:
            gamma = numbers[0] / 256
            return lambda value: value**gamma
        table = numbers / 65535
        return lambda value: np.interp(value, np.linspace(0, 1, count), table)
    if tag[:4] == b"para":
        (kind,) = struct.unpack_from(">H", tag, 8)
        size = (1, 3, 4, 5, 7)[kind]
        return _parametric(kind, *(number / 65536 for number in struct.unpack_from(f">{size}i", tag, 12)))
    raise KeyError(tag[:4])


def _parametric(
    kind: int, g: float, a: float = 1.0, b: float = 0.0, c: float = 0.0, d: float = 0.0, e: float = 0.0, f: float = 0.0
) -> Transfer:
    """Table 68 of the specification: (aX + b)^g above a threshold, a line below."""
    if kind == 0:
        return lambda value: value**g
    start = -b / a if kind in (1, 2) else d
    above, below = {1: (0.0, 0.0), 2: (c, c), 3: (0.0, 0.0), 4: (e, f)}[kind]
    slope = 0.0 if kind in (1, 2) else c
    return lambda value: np.where(value >= start, np.maximum(a * value + b, 0) ** g + above, slope * value + below)


def _light(lightness: np.ndarray) -> np.ndarray:
    """CIE L* from 0 to 100 → linear light."""
    return np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness * 27 / 24389)
