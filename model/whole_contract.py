"""What a graph of the whole effect takes and gives: a photo of one size in, the refocused photo out.

`whole` takes the photo with its disparity map; `whole_with_depth` has the depth network in front. Each is made for one
size of photo, and has the pyramid, the signed depth, the lens blur and all steps inside. `pixels_in` and `pixels_out`
stand before and after `whole` where a photo's bytes go in and come out. Imports neither torch nor NumPy, as
`model.contract`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from deeplens.console.errors import InputError
from deeplens.model.contract import CONTRACTS, DEPTH_SIZE, Contract, Tensor

WHOLE, WHOLE_WITH_DEPTH = "whole", "whole_with_depth"

WHOLE_NETWORKS = (WHOLE, WHOLE_WITH_DEPTH)

PIXELS_IN, PIXELS_OUT = "pixels_in", "pixels_out"

PIXELS, REFOCUSED, TOTAL = "pixels", "refocused_pixels", "total"
"""Names of the photo, of the result, both H×W×3 integers, and of the sum of the result: not finite where a value is."""

SMALLEST = 32
"""Smallest height or width of a photo that such a graph is made for, in pixels."""


@dataclass(frozen=True)
class SizedTensor(Tensor):
    """An input or output whose height and width don't depend on the size of the photo.

    Attributes:
        height, width: in pixels.
    """

    height: int
    width: int

    def shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Its only shape; the arguments are those of `Tensor.shape`."""
        del height, width
        return (1, self.channels, self.height, self.width)


class PixelTensor(Tensor):
    """A photo as it lies in memory: H×W×3, integers."""

    def shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        return (height, width, 3)  # type: ignore[return-value]

    def size_of(self, shape: Sequence[int | str]) -> tuple[int | str, int | str]:
        return shape[0], shape[1]


_PICTURE = Tensor("picture", 3, 1, 0.0, 1.0, "the photo")
_APERTURE = SizedTensor("aperture", 1, 1, 0.0, 1.0, "1.4 / f-number: 1 is fully open, 0 closed", 1, 1)
_REFOCUSED = Tensor("refocused", 3, 1, 0.0, 1.0, "the photo with a shallow depth of field")

WHOLE_CONTRACTS: dict[str, Contract] = {
    WHOLE: Contract(
        WHOLE,
        (
            _PICTURE,
            SizedTensor(
                "disparity", 1, 1, 0.0, 1.0,
                "inverse depth of the whole photo, aspect ignored, near = large, normalised to 0 … 1",
                DEPTH_SIZE, DEPTH_SIZE,
            ),
            SizedTensor("focal_disparity", 1, 1, 0.0, 1.0, "the disparity that is sharp", 1, 1),
            _APERTURE,
        ),
        (_REFOCUSED,),
        None,
    ),
    WHOLE_WITH_DEPTH: Contract(
        WHOLE_WITH_DEPTH,
        (
            _PICTURE,
            SizedTensor("focus", 2, 1, 0.0, 1.0, "x and y of the point that is sharp, from the top left", 1, 1),
            _APERTURE,
        ),
        (_REFOCUSED,),
        None,
    ),
}  # fmt: skip
"""Name → contract. Its low-resolution size is the size of the photo: `fixed_size` is set for a graph of one."""


PIXEL_CONTRACTS: dict[str, Contract] = {
    PIXELS_IN: Contract(PIXELS_IN, (PixelTensor(PIXELS, 3, 1, 0.0, 255.0, "the photo, 8 bits"),), (_PICTURE,), None),
    PIXELS_OUT: Contract(
        PIXELS_OUT,
        (_REFOCUSED,),
        (
            PixelTensor(REFOCUSED, 3, 1, 0.0, 255.0, "the refocused photo, 8 bits, rounded half to even"),
            SizedTensor(TOTAL, 1, 1, None, None, "the sum of all values: not finite where one of them is not", 1, 1),
        ),
        None,
    ),
}
"""What stands before and after `whole` on a device where it takes and gives floating point."""

OF_ONE_PHOTO = {**WHOLE_CONTRACTS, **PIXEL_CONTRACTS}
"""Graphs that are made for one size of photo."""


def parts_of(network: str) -> tuple[str, ...]:
    """The networks that a graph holds: itself, or those that are joined in it."""
    if network not in WHOLE_CONTRACTS:
        return () if network in PIXEL_CONTRACTS else (network,)
    return ("depth", "lens_blur", "upsample") if network == WHOLE_WITH_DEPTH else ("lens_blur", "upsample")


def contract_named(network: str) -> Contract:
    """The contract of a network or of a graph of the whole effect.

    Raises:
        InputError: there is no such network.
    """
    found = CONTRACTS.get(network) or OF_ONE_PHOTO.get(network)
    if found is None:
        raise InputError(f"unknown network '{network}': choose {', '.join(CONTRACTS)}")
    return found
