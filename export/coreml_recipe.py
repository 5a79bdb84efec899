"""What a Core ML package is to be: precision, oldest system, shapes, sizes, images. Imports no coremltools."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deeplens.console.errors import InputError
from deeplens.export.placement import UNITS
from deeplens.model.contract import ALIGNMENT, MIN_SIZE, Contract, Tensor
from deeplens.model.whole_contract import WHOLE, WHOLE_WITH_DEPTH, SizedTensor
from deeplens.runtimes.manifest import Entry, TensorEntry
from deeplens.runtimes.spec import RUNTIMES

if TYPE_CHECKING:
    from deeplens.export.precision_plan import Plan

Size = tuple[int, int]

TARGETS = ("iOS17", "iOS18")
SHAPES = ("fixed", "enumerated", "multifunction")
PRECISIONS = RUNTIMES["coreml"].precisions
COMPUTE_UNITS = tuple(UNITS.values())

IMAGES = {
    "depth": ("picture",),
    "lens_blur": ("picture",),
    "upsample": (),
    WHOLE: ("picture", "refocused"),
    WHOLE_WITH_DEPTH: ("picture", "refocused"),
}
"""Network → inputs and outputs that can be images of 8 bits a channel: the photo where it is small, and all of the
photo of a graph of the whole effect, whose program takes and gives 0 to 255 then."""

MAIN = "main"
"""The only function of a package whose shapes are fixed or enumerated."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a package is to be.

    Attributes:
        precision: "fp32"; "fp16": weights and arithmetic; "int8", "palette6", "palette4": weights of 8 bits a channel,
            or indices of 6 or 4 bits into a palette for each tensor, and FP16 arithmetic; "mixed": what `plan` says.
        target: the oldest system that it runs on.
        shapes: "fixed": one size; "enumerated": a function that takes each of the sizes; "multifunction": a function
            for each size, all with the same weights.
        sizes: low-resolution (height, width) in pixels, smallest first.
        images: whether inputs in `IMAGES` are images (RGB, 8 bits) rather than arrays.
        compute_units: where a runtime should let it run unless told otherwise.
        plan: of "mixed", and of no other.
    """

    precision: str = "fp16"
    target: str = "iOS17"
    shapes: str = "fixed"
    sizes: tuple[tuple[int, int], ...]
    images: bool = False
    compute_units: str = "ALL"
    plan: "Plan | None" = None

    def check(self, contract: Contract) -> None:
        """Raise InputError unless such a package of the network can be made."""
        choices = (
            ("precision", self.precision, PRECISIONS),
            ("target", self.target, TARGETS),
            ("shapes", self.shapes, SHAPES),
            ("compute units", self.compute_units, COMPUTE_UNITS),
        )
        for kind, value, known in choices:
            if value not in known:
                raise InputError(f"unknown {kind} '{value}': choose {', '.join(known)}")
        network = contract.network
        if self.plan is not None and self.precision != "mixed":
            raise InputError(f"a precision plan works with precision 'mixed' only, not '{self.precision}'")
        if self.images and not IMAGES[network]:
            raise InputError(f"{network} has no input that can be an image: leave out --image for it")
        if self.shapes != "fixed":
            if contract.fixed_size is not None:
                raise InputError(f"{network} has only one size: use fixed shapes")
            if self.target == "iOS17":  # enumerated shapes for more than one input came with iOS 18, too
                raise InputError(f"{self.shapes} shapes of {network} need --target iOS18")
            if len(set(self.sizes)) < 2:
                raise InputError(f"{self.shapes} shapes need two sizes or more: give a larger --photo")
        elif len(self.sizes) != 1:
            raise InputError(f"fixed shapes need exactly one size, not {len(self.sizes)}")
        self.check_sizes(contract)

    def check_sizes(self, contract: Contract) -> None:
        """Raise InputError unless the network takes each size."""
        for height, width in self.sizes:
            if contract.fixed_size not in (None, (height, width)):
                raise InputError(f"{contract.network} has only one size, not {height}x{width}")
            aligned = contract.fixed_size is not None or not (height % ALIGNMENT or width % ALIGNMENT)
            if not aligned or min(height, width) < MIN_SIZE:
                raise InputError(f"size {width}x{height}: give multiples of {ALIGNMENT} from {MIN_SIZE} up")

    def file_name(self, variant: str, contract: Contract) -> str:
        """VARIANT_NETWORK[_HxW|_enumerated|_multifunction][_image]_PRECISION_TARGET.mlpackage."""
        parts = [variant, contract.network]
        if self.shapes != "fixed":
            parts.append(self.shapes)
        elif contract.fixed_size is None:
            parts.append("{}x{}".format(*self.sizes[0]))
        if self.images:
            parts.append("image")
        return "_".join([*parts, self.precision, self.target]) + ".mlpackage"

    def image_names(self, contract: Contract) -> tuple[str, ...]:
        """Inputs and outputs that are images in the package."""
        return IMAGES[contract.network] if self.images else ()

    @property
    def functions(self) -> dict[str, tuple[int, int] | None]:
        """Function → its low-resolution size; None where it takes all of `sizes`."""
        if self.shapes == "multifunction":
            return {f"size_{height}x{width}": (height, width) for height, width in self.sizes}
        return {MAIN: self.sizes[0] if self.shapes == "fixed" else None}

    @property
    def dtype(self) -> str:
        """NumPy's name of the type of inputs and outputs that are arrays."""
        return "float32" if self.precision == "fp32" else "float16"

    def tensors(self, contract: Contract) -> tuple[tuple[TensorEntry, ...], tuple[TensorEntry, ...]]:
        """Inputs and outputs for the manifest; sizes are "h" and "w" where the package takes several."""
        several = self.shapes != "fixed"
        images = self.image_names(contract)

        def entry(tensor: Tensor) -> TensorEntry:
            if isinstance(tensor, SizedTensor):
                return TensorEntry(tensor.name, tensor.shape(*self.sizes[0]), self.dtype)
            free = tuple(side if tensor.scale == 1 else f"{tensor.scale}*{side}" for side in "hw")
            shape: tuple[int | str, ...] = (1, tensor.channels, *free) if several else tensor.shape(*self.sizes[0])
            return TensorEntry(tensor.name, shape, "uint8" if tensor.name in images else self.dtype)

        return tuple(map(entry, contract.inputs)), tuple(map(entry, contract.outputs))


def recipe_of(entry: Entry) -> Recipe:
    """The recipe of a package, from its line in the manifest.

    Raises:
        InputError: the line lacks something.
    """
    more = entry.more
    try:
        return Recipe(
            precision=entry.precision,
            target=more["target"],
            shapes=more["shapes"],
            sizes=tuple((height, width) for height, width in more["sizes"]),
            images=bool(more["images"]),
            compute_units=more["compute_units"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the manifest does not describe {entry.path} ({error!r}): export it again") from error
