"""What the blur baselines share: the photo in linear light with its signed radii, and convolution by FFT."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2

from deeplens.scenes.renderer import Array, linear_to_srgb, srgb_to_linear

__all__ = ["Array", "Canvas", "Filter"]


@dataclass(frozen=True)
class Canvas:
    """A photo to blur, continued by reflection as far as its blur reaches.

    Attributes:
        light: (3, h, w) linear light in [0, 1].
        signed: (h, w) signed radius of each pixel's circle of confusion, in pixels; positive is nearer than the focus.
        margin: rows above and columns left of the photo; at least as many are below and right of it.
        size: height and width of the photo.
    """

    light: Array
    signed: Array
    margin: int
    size: tuple[int, int]

    @classmethod
    def of(
        cls, photo: NDArray[np.uint8], disparity: Array, *, focal: float, aperture: float, radius: float
    ) -> "Canvas":
        """The arguments are those of `evaluation.baselines.Blur`; sides become lengths that an FFT is fast for."""
        signed = (radius * aperture * (disparity - focal)).astype(np.float32)
        margin = int(np.ceil(np.abs(signed).max())) + 2
        pads = [(margin, next_fast_len(side + 2 * margin, real=True) - side - margin) for side in signed.shape]
        light = srgb_to_linear(photo.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)
        return cls(
            light=np.pad(light, ((0, 0), *pads), "symmetric"),
            signed=np.pad(signed, pads, "symmetric"),
            margin=margin,
            size=(photo.shape[0], photo.shape[1]),
        )

    @property
    def inner(self) -> tuple[slice, slice]:
        """Rows and columns of the photo."""
        rows, columns = (slice(self.margin, self.margin + side) for side in self.size)
        return rows, columns

    @property
    def largest(self) -> float:
        """The largest radius, in pixels."""
        return float(np.abs(self.signed).max())

    def photo(self, light: Array) -> NDArray[np.uint8]:
        """H×W×3 sRGB of the photo's part of `light`, (3, h, w) linear light."""
        rows, columns = self.inner
        return np.rint(linear_to_srgb(light[:, rows, columns].transpose(1, 2, 0)) * 255).astype(np.uint8)


class Filter:
    """Convolution of whole canvases with kernels no wider than their margins allow; what wraps around stays there."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def analysed(self, values: Array) -> NDArray[np.complex64]:
        """The spectrum of (…, h, w) values."""
        return rfft2(values, axes=(-2, -1))

    def kernel(self, kernel: Array) -> NDArray[np.complex64]:
        """The spectrum of a kernel of odd sides, its middle at the origin."""
        whole = np.zeros(self._shape, np.float32)
        whole[: kernel.shape[0], : kernel.shape[1]] = kernel
        return rfft2(np.roll(whole, [-(side // 2) for side in kernel.shape], (0, 1)))

    def synthesised(self, spectrum: NDArray[np.complex64]) -> Array:
        """The values (…, h, w) of a spectrum."""
        return irfft2(spectrum, s=self._shape, axes=(-2, -1))
