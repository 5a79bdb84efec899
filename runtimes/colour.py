"""Colour spaces by their primaries and their transfer function, and the way from each to sRGB. NumPy only.

Codes are those of ITU-T H.273, which nclx boxes (HEIC, AVIF) and cICP chunks (PNG) use.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Chromaticities = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
"""x, y of red, green, blue and white."""

D65, C, DCI = (0.3127, 0.3290), (0.310, 0.316), (0.314, 0.351)

BT_709: Chromaticities = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), D65)
P3: Chromaticities = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65)
ADOBE: Chromaticities = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), D65)

PRIMARIES: Mapping[int, Chromaticities] = {
    1: BT_709,
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), C),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),
    8: ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), C),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),
    11: (*P3[:3], DCI),
    12: P3,
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), D65),
}

REFERENCE_WHITE = 203.0
"""cd/m² of a white sheet in PQ and HLG (ITU-R BT.2408): it becomes the white of sRGB."""

Transfer = Callable[[np.ndarray], np.ndarray]
"""Stored value in [0, 1] → linear light, 1 = white; float64. What is brighter than white is above 1."""


def srgb_decoded(value: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1: value in [0, 1] → linear light."""
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def srgb_encoded(light: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] → value in [0, 1]."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)


def power(gamma: float) -> Transfer:
    """value^gamma."""
    return lambda value: value**gamma


def _pq(value: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = value ** (1 / m2)
    return (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1) * (10_000 / REFERENCE_WHITE)


def _hlg(value: np.ndarray) -> np.ndarray:
    """ARIB STD-B67: the light of the scene, 1 = the brightest; `to_srgb` makes that of a display of it."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)


SRGB, PQ, HLG = 13, 16, 18

TRANSFERS: Mapping[int, Transfer] = {
    **dict.fromkeys((1, 6, 14, 15, 11, 12, SRGB), srgb_decoded),  # video's own curve is shown as sRGB by viewers
    4: power(2.2),
    5: power(2.8),
    7: srgb_decoded,
    8: power(1.0),
    PQ: _pq,
    17: lambda value: value**2.6 * (52.37 / 48),
    HLG: _hlg,
}


@dataclass(frozen=True)
class Space:
    """A colour space.

    Attributes:
        primaries: of its red, green, blue and white.
        decode: stored value → linear light.
        name: for messages.
        hlg: `decode` gives the light of the scene, from which a display's is made.
    """

    primaries: Chromaticities
    decode: Transfer
    name: str
    hlg: bool = False

    @property
    def is_srgb(self) -> bool:
        return self.decode is srgb_decoded and np.allclose(self.primaries, BT_709, atol=2e-3)


def coded_space(primaries: int, transfer: int) -> Space | None:
    """The space of two codes of H.273; 2, "unspecified", is taken for that of sRGB. None: a code that is not known."""
    colours, decode = PRIMARIES.get(1 if primaries == 2 else primaries), TRANSFERS.get(1 if transfer == 2 else transfer)
    if colours is None or decode is None:
        return None
    name = {PQ: "HDR (PQ)", HLG: "HDR (HLG)"}.get(transfer, f"primaries {primaries}, transfer {transfer}")
    return Space(colours, decode, name, hlg=transfer == HLG)


ADOBE_RGB = Space(ADOBE, power(563 / 256), "Adobe RGB")


def to_xyz(primaries: Chromaticities) -> np.ndarray:
    """The matrix from linear RGB to XYZ, white at Y = 1; 3×3."""
    columns = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in primaries]).T
    return columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])


def matrix_to_srgb(primaries: Chromaticities) -> np.ndarray:
    """The matrix from linear RGB to linear sRGB, 3×3; a white point that is another is adapted (Bradford)."""
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    source, target = to_xyz(primaries), to_xyz(BT_709)
    gains = (bradford @ target.sum(axis=1)) / (bradford @ source.sum(axis=1))
    adapted = np.linalg.inv(bradford) @ np.diag(gains) @ bradford @ source
    return np.linalg.inv(target) @ adapted


def to_srgb(pixels: np.ndarray, space: Space) -> tuple[np.ndarray, float]:
    """Pixels of another space in sRGB.

    Args:
        pixels: H×W×3, uint8 or uint16.

    Returns:
        H×W×3, of the same dtype; and the share of pixels that sRGB can't hold, which are clipped.
    """
    top = int(np.iinfo(pixels.dtype).max)
    decoded = space.decode(np.arange(top + 1) / top).astype(np.float32)
    encoded = np.rint(top * srgb_encoded(np.arange(65537) / 65536)).astype(pixels.dtype)
    matrix = matrix_to_srgb(space.primaries).astype(np.float32)
    luminance = to_xyz(space.primaries)[1].astype(np.float32)
    result, outside = np.empty_like(pixels), 0
    for source, target in zip(pixels, result, strict=True):  # a row: floating point numbers stay few
        light = decoded[source]
        if space.hlg:  # BT.2100: a display of 1000 cd/m² has the system gamma 1.2
            bright = np.maximum(light @ luminance, 0)[:, None]
            light = light * bright**0.2 * np.float32(1000 / REFERENCE_WHITE)
        light = light @ matrix.T
        outside += int(((light < -0.002) | (light > 1.01)).any(axis=1).sum())
        light = np.clip(light, 0, 1)
        if top == 255:
            target[...] = encoded[np.rint(light * 65536).astype(np.int32)]
        else:
            target[...] = np.rint(top * srgb_encoded(light))
    return result, outside / max(1, pixels.shape[0] * pixels.shape[1])


def grey_table(decode: Transfer, *, top: int = 65535) -> np.ndarray:
    """What each grey value from 0 to `top` is in sRGB, of the same range: uint16."""
    light = np.clip(decode(np.arange(top + 1) / top), 0, 1)
    return np.rint(top * srgb_encoded(light)).astype(np.uint16)
