"""How a photo gets into a depth network, and the map back out: stretched, with its aspect ratio kept, or framed.

A network of another project was trained at some size and wants sides that are multiples of its patches. Its photos
keep their aspect ratio or don't. An artefact has one size, so that a photo whose aspect ratio is kept gets a frame.
NumPy and Pillow only.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from deeplens.console.errors import InputError
from deeplens.runtimes.photo import to_8_bit

Size = tuple[int, int]

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Placed:
    """A photo in a network's input.

    Attributes:
        picture: (1, 3, H, W), float32, RGB in [0, 1].
        box: top, left, bottom, right of the photo in it, in pixels; what lies outside is the frame.
    """

    picture: np.ndarray
    box: tuple[int, int, int, int]

    def cropped(self, values: np.ndarray) -> np.ndarray:
        """The part of a map that shows the photo.

        Args:
            values: h×w; where it is smaller than the input, the box is scaled and rounded.
        """
        height, width = self.picture.shape[2:]
        down, across = values.shape[0] / height, values.shape[1] / width
        top, left, bottom, right = self.box
        rows = slice(round(top * down), max(round(bottom * down), round(top * down) + 1))
        columns = slice(round(left * across), max(round(right * across), round(left * across) + 1))
        return values[rows, columns]


@dataclass(frozen=True)
class Fit:
    """How photos are put into a network.

    Attributes:
        size: height and width in pixels, of the input or, where it is free, of what the network was trained at.
        multiple: sides must be multiples of this, in pixels.
        aspect: "stretch" or "keep".
        resample: one of `FILTERS`.
        frame: colour around a photo, in [0, 1]: the mean that the network subtracts, so that it becomes 0, which is
            what its convolutions pad with.
        native: the network takes any size, so that no frame is needed.
    """

    size: Size
    multiple: int = 1
    aspect: str = "stretch"
    resample: str = "bilinear"
    frame: tuple[float, float, float] = (0.0, 0.0, 0.0)
    native: bool = False

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> "Fit":
        """From an artefact's entry.

        Raises:
            InputError: it is none.
        """
        try:
            lists = {key: tuple(item[key]) for key in ("size", "frame")}
            return cls(**{**item, **lists})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"an artefact does not say how photos are put into it ({error!r}): export it again") from (
                error
            )

    def to_json(self) -> dict[str, Any]:
        """For an artefact's entry."""
        return asdict(self)

    def native_size(self, height: int, width: int) -> Size:
        """Height and width at which a photo keeps its aspect ratio where any size can be run.

        The scale is that of the side that has to change least to be as long as in `size`, as in the transformers
        library: for large photos the short side gets it. Sides are rounded to multiples, at least one.
        """
        down, across = self.size[0] / height, self.size[1] / width
        scale = across if abs(1 - across) < abs(1 - down) else down
        return self._rounded(scale * height), self._rounded(scale * width)

    def framed_size(self, height: int, width: int) -> Size:
        """Height and width of a photo that keeps its aspect ratio inside `size`, rounded to multiples."""
        scale = min(self.size[0] / height, self.size[1] / width)
        return (
            min(self._rounded(scale * height), self.size[0]),
            min(self._rounded(scale * width), self.size[1]),
        )

    def placed(self, pixels: np.ndarray) -> Placed:
        """Put a photo into the input.

        Args:
            pixels: H×W×3, uint8 or uint16, sRGB.
        """
        height, width = pixels.shape[:2]
        if self.aspect == "stretch":
            inner = outer = self.size
        elif self.native:
            inner = outer = self.native_size(height, width)
        else:
            inner, outer = self.framed_size(height, width), self.size
        small = made_smaller(pixels, inner, FILTERS[self.resample])
        picture = np.empty((1, 3, *outer), np.float32)
        picture[0] = np.asarray(self.frame, np.float32)[:, None, None]
        # Patches of the framed photo are patches of the photo alone.
        step = self.multiple
        top, left = ((out - inside) // (2 * step) * step for out, inside in zip(outer, inner, strict=True))
        box = (top, left, top + inner[0], left + inner[1])
        picture[0, :, box[0] : box[2], box[1] : box[3]] = np.asarray(small, np.float32).transpose(2, 0, 1) / np.float32(
            255
        )
        return Placed(picture, box)

    def _rounded(self, side: float) -> int:
        return max(self.multiple, round(side / self.multiple) * self.multiple)


def made_smaller(pixels: np.ndarray, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    """A photo in 8 bits at (height, width) `size`: columns, then rows, as the contract says.

    In one call Pillow 13 begins with the side that shrinks more, and some bytes differ by one.
    """
    whole = Image.fromarray(to_8_bit(pixels))
    return whole.resize((size[1], whole.height), resample).resize(size[::-1], resample)


def in_aspect(values: np.ndarray, aspect: float) -> np.ndarray:
    """A map in [0, 1] stretched so that width / height is `aspect`; neither side gets smaller but for very long photos.

    Args:
        values: h×w, float32.
    """
    height, width = values.shape
    height, width = max(height, round(width / aspect)), max(width, round(height * aspect))
    largest = 4 * max(values.shape)
    if max(height, width) > largest:
        height, width = (max(1, round(side * largest / max(height, width))) for side in (height, width))
    stretched = Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(stretched), 0.0, 1.0)
