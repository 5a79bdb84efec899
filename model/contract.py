"""What each network takes and gives: names, shapes, ranges and units, written once, here.

The contract is the same for every variant and on every runtime. This file imports neither torch nor NumPy, so that a
device without torch can read it.

Sizes. `h` and `w` are the low-resolution size of a network's input: multiples of `ALIGNMENT`, at least `MIN_SIZE`.
Pictures are RGB, gamma-encoded (sRGB), in [0, 1]. `disparity` is inverse depth, near = large. `signed_depth` is
(disparity − disparity of the focal plane) · α with disparity normalised to [0, 1]: in [-1, 1], 0 at the focal
plane, positive nearer than it (section 3.2.2 of the paper). |signed_depth| = 1 stands for a circle of confusion with a
radius of `R_MAX` pixels: at the base size, or of the network's own low picture where a variant's signed depth is scaled
by level (`Variant`). `contract_of` says for each variant what its networks are given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from deeplens.model.discs import DISCS, lens_blur_reach

ALIGNMENT = 8
"""Heights and widths that the lens blur and the step see are multiples of this (in low-resolution pixels)."""

MIN_SIZE = 32
"""Smallest height or width of a lens blur or step input, in low-resolution pixels."""

BASE_LONG_SIDE = 320
"""The lens blur runs at a size whose long side is at most this, in pixels."""

R_MAX = 8.0
"""Radius of the largest circle of confusion, in pixels of a base picture whose long side is `BASE_LONG_SIDE`."""

DEPTH_SIZE = 320
"""Height and width of the depth network's input, in pixels."""

NETWORKS = ("depth", "lens_blur", "upsample")

JOIN = "+"
"""Stands between a variant and the name of a depth network: see `composed`."""


@dataclass(frozen=True)
class Tensor:
    """One input or output: float32, N×C×H×W with N = 1.

    Attributes:
        name: the name on every runtime.
        channels: C.
        scale: H = scale · h and W = scale · w.
        low, high: the range of values; None where it is open.
        meaning: what the numbers are, with the unit.
    """

    name: str
    channels: int
    scale: int
    low: float | None
    high: float | None
    meaning: str

    def shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The shape at a low-resolution size of `height` × `width` pixels."""
        return (1, self.channels, self.scale * height, self.scale * width)

    def size_of(self, shape: Sequence[int | str]) -> tuple[int | str, int | str]:
        """Height and width in a shape of this tensor."""
        return shape[-2], shape[-1]


@dataclass(frozen=True)
class Contract:
    """Inputs and outputs of one network, in the order in which PyTorch takes and gives them."""

    network: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    fixed_size: tuple[int, int] | None
    """The only size allowed, for a network that has one; None: any multiple of `ALIGNMENT` from `MIN_SIZE` up."""


CONTRACTS: dict[str, Contract] = {
    "depth": Contract(
        "depth",
        (Tensor("picture", 3, 1, 0.0, 1.0, "the whole photo resized to the fixed size, aspect ignored"),),
        (Tensor("disparity", 1, 1, None, None, "inverse depth, near = large, not normalised"),),
        (DEPTH_SIZE, DEPTH_SIZE),
    ),
    "lens_blur": Contract(
        "lens_blur",
        (
            Tensor("picture", 3, 1, 0.0, 1.0, "the photo at the base size"),
            Tensor("signed_depth", 1, 1, -1.0, 1.0, "signed depth, 0 at the focal plane, near positive"),
        ),
        (Tensor("blurred", 3, 1, 0.0, None, "the shallow depth-of-field picture at the base size"),),
        None,
    ),
    "upsample": Contract(
        "upsample",
        (
            Tensor("picture_high", 3, 2, 0.0, 1.0, "the photo at twice the low-resolution size"),
            Tensor("picture", 3, 1, 0.0, 1.0, "the photo at the low-resolution size"),
            Tensor("blurred", 3, 1, 0.0, 1.0, "the shallow depth-of-field picture at the low-resolution size"),
            Tensor("signed_depth", 1, 1, -1.0, 1.0, "signed depth, 0 at the focal plane, near positive"),
        ),
        (Tensor("blurred_high", 3, 2, None, None, "the shallow depth-of-field picture at twice the size"),),
        None,
    ),
}


FINER_BASE = (0.5, 0.515)
"""The largest |D̃| at the base up to which the loop begins at level 1, and from which on at the base. Between them what
both give at level 1 is mixed, evenly in |D̃|, so that nothing jumps when the aperture moves."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What the harness has to know of a variant's networks.

    Attributes:
        halo: network → low-resolution pixels on each side that an output pixel can depend on, rounded up to a multiple
            of half of `ALIGNMENT`: then windows of aligned size start at aligned places. Tiles that overlap by this
            much give the same picture as the whole.
        depth_by_level: what the step's signed depth is at level k of the loop (its low picture; the base is level 0).
            False: D̃, at each level the same, as in the paper. True: D̃ · 2^k, clipped to [-1, 1]: then
            R_MAX · |signed depth| is the radius of the circle of confusion in pixels of the step's own low picture, and
            the step knows how much detail its level can hold.
        finer_base: whether the loop may begin at level 1, where the circle of confusion is nowhere wider than the lens
            blur reaches there: |D̃| ≤ 1/2 at every base pixel. The lens blur then sees level 1's picture and 2 · D̃,
            clipped to [-1, 1], and computes what else the first step would have to guess. It costs the lens blur four
            times, the first step not at all. Between the values of `FINER_BASE` both are made and mixed.
        sharp_bound: how far the trained networks may be from the photo, in [0, 1], where the signed depth is 0 and
            nothing blurred reaches in; 99.9 % of the numbers are within a tenth of it. The harness takes the photo's
            own pixels there, which are right, and saves the run. None: the variant changes what is in focus.
        soft_radius: radius of the circle of confusion, in pixels of the step's low picture, from which on the step
            takes none of the photo's detail: what it gives is the blurred picture upsampled, by weights that hardly
            matter where that is smooth. The harness takes the bilinear picture there and saves the run. None: not
            known of the variant.
        soft_bound: how far the step with trained weights may be from the bilinear picture there, in [0, 1]; 99.9 % of
            the numbers are within half of it. None where `soft_radius` is None.
    """

    halo: Mapping[str, int]
    depth_by_level: bool = False
    finer_base: bool = False
    sharp_bound: float | None = None
    soft_radius: float | None = None
    soft_bound: float | None = None


def _rounded_up(reach: int) -> int:
    half = ALIGNMENT // 2
    return -(-reach // half) * half


class _Variants(dict[str, Variant]):
    """Finds a composed variant by its own part: see `composed`."""

    def __missing__(self, name: str) -> Variant:
        own, joined, _ = name.partition(JOIN)
        if not joined:
            raise KeyError(name)
        return self[own]


VARIANTS: dict[str, Variant] = _Variants(
    {
        "paper": Variant(halo={"lens_blur": 36, "upsample": 52}),
        "edge": Variant(
            halo={"lens_blur": _rounded_up(lens_blur_reach(DISCS)), "upsample": 12},
            depth_by_level=True,
            finer_base=True,
            sharp_bound=0.02,
            soft_radius=4.5,
            soft_bound=0.02,
        ),
    }
)
"""Name → what is to be known of it. A composed name is found too, but is not among the keys."""


def composed(variant: str, depth_network: str | None) -> str:
    """The name of a variant whose depth network is another one: "edge+depth-anything-v2-small"; None: its own."""
    return variant if depth_network is None else f"{variant}{JOIN}{depth_network}"


def part_of(variant: str, network: str) -> str:
    """Under which name the artefact and the weights of a variant's network are kept.

    A variant of ours, or for the depth network of a composed variant the name of that network.
    """
    own, joined, depth_network = variant.partition(JOIN)
    return depth_network if joined and network == "depth" else own


FRAMED = "the whole photo, aspect kept, inside a frame of one colour where it does not fill the size"
"""What a depth network of others that keeps the aspect ratio is given; see the artefact's `fit`."""


def depth_contract(size: tuple[int, int] | None, aspect: str | None) -> Contract:
    """The contract of our depth network, at the size of another one that gets its photos another way.

    Args:
        size: height and width in pixels.
        aspect: "keep" or "stretch".
    """
    contract = CONTRACTS["depth"]
    if aspect == "keep":
        contract = replace(contract, inputs=tuple(replace(each, meaning=FRAMED) for each in contract.inputs))
    return replace(contract, fixed_size=size)


def contract_of(variant: str, network: str) -> Contract:
    """`CONTRACTS[network]` with what the inputs hold for one variant: its signed depth may be scaled by level."""
    contract = CONTRACTS[network]
    meanings = {"lens_blur": _lens_blur_depth, "upsample": _step_depth}
    if network not in meanings:
        return contract
    meaning = meanings[network](VARIANTS[variant])
    return replace(
        contract,
        inputs=tuple(
            replace(tensor, meaning=meaning) if tensor.name == "signed_depth" else tensor for tensor in contract.inputs
        ),
    )


def _lens_blur_depth(variant: Variant) -> str:
    text = f"signed depth D at the base, 0 at the focal plane, near positive; radius {R_MAX:g} · |D| pixels"
    return f"{text}; in a loop that begins at level 1: 2 · D there, clipped to [-1, 1]" if variant.finer_base else text


def _step_depth(variant: Variant) -> str:
    text = "signed depth D at level k, that of the low picture (the base is level 0)"
    if not variant.depth_by_level:
        return f"{text}, not scaled by level, 0 at the focal plane, near positive; radius {R_MAX:g} · |D| base pixels"
    return (
        f"{text}, times 2^k, clipped to [-1, 1], 0 at the focal plane, near positive; "
        f"radius {R_MAX:g} · |value| pixels of the low picture"
    )
