"""The discs that our lens blur spreads light over: one table, from which the network and its halo follow.

To change a radius, change its line in `DISCS`; to add one, add a line. Learned weights are named by the radius, so that
those of another table don't load. Imports neither torch nor NumPy, as `model.contract`, which reads the halo from here.
"""

import math
from dataclasses import dataclass

LARGEST_KERNEL = 7
"""Side of the largest kernel that the Neural Engine runs well."""

REST = 41
"""Low-resolution pixels on each side that the lens blur can depend on through all its layers but the discs."""


@dataclass(frozen=True)
class Disc:
    """A disc and the two bins of pixels that it blurs: those of a signed radius of −`radius` and +`radius`.

    Attributes:
        radius: of the circle of confusion, in base pixels; 0: what is in focus, one bin, not blurred.
        union: blur the union of all that is not nearer than the focal plane by it too: it stands for what a blurred
            foreground hides.
    """

    radius: float
    union: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.radius <= 4 * (LARGEST_KERNEL // 2):
            raise ValueError(f"a disc has a radius from 0 to {4 * (LARGEST_KERNEL // 2)} pixels, not {self.radius:g}")

    @property
    def centres(self) -> tuple[float, ...]:
        """Signed radii of its bins, in base pixels; positive is nearer than the focal plane."""
        return (-self.radius, self.radius) if self.radius else (0.0,)

    @property
    def features(self) -> int:
        """How many it gives: one for each bin and one for the union."""
        return len(self.centres) + self.union

    @property
    def at_half_size(self) -> bool:
        """Whether it is too wide for one kernel, so that it blurs the picture at half its size."""
        return self.radius > LARGEST_KERNEL // 2

    @property
    def kernels(self) -> dict[str, tuple[float, int]]:
        """Name of the weights → radius and side, in pixels of the size at which it blurs, of the kernels to begin with.

        They are used one after the other: a disc of radius 4 is 9 wide, so a kernel of 7 and one of 3 stand for it.
        """
        name = f"disc{self.radius:g}".split(".")[0]
        if not self.radius:
            return {}
        radius = self.radius / 2 if self.at_half_size else self.radius
        side = 2 * math.ceil(radius) + 1
        if side <= LARGEST_KERNEL:
            return {name: (radius, side)}
        outer = math.ceil(radius) - LARGEST_KERNEL // 2
        inner = min(radius - 0.7 * outer, LARGEST_KERNEL / 2)
        return {f"{name}_inner": (inner, LARGEST_KERNEL), f"{name}_outer": (float(outer), 2 * outer + 1)}

    @property
    def reach(self) -> int:
        """How far light can travel by it, in base pixels."""
        reach = sum(side // 2 for _, side in self.kernels.values())
        return 2 * reach + 2 if self.at_half_size else reach


DISCS = (
    Disc(0.0),
    Disc(1.0),
    Disc(2.0),
    Disc(3.0, union=True),
    Disc(4.5),
    Disc(6.0),
    Disc(8.0, union=True),
)
"""The table, by radius. The first is what is in focus."""


def lens_blur_reach(discs: tuple[Disc, ...]) -> int:
    """Low-resolution pixels on each side that an output pixel of the lens blur can depend on, with these discs."""
    widest = max(disc.reach for disc in discs)
    return REST + widest + widest % 2  # what follows the discs sees whole blocks of 2×2


def check(discs: tuple[Disc, ...]) -> None:
    """Raise ValueError unless the lens blur can be built of these discs."""
    radii = [disc.radius for disc in discs]
    names = [name for disc in discs for name in disc.kernels]
    if radii != sorted(set(radii)) or radii[:1] != [0.0]:
        raise ValueError(f"radii of discs begin at 0 and grow, unlike {radii}")
    if not any(disc.at_half_size for disc in discs):
        raise ValueError(f"no disc is wider than {LARGEST_KERNEL // 2} pixels: nothing is blurred at half size")
    if len(set(names)) < len(names):
        raise ValueError(f"two discs have the same whole radius, and so weights of one name: {', '.join(names)}")
