"""Which Core ML packages a call asks for: precisions, targets, shapes, and the sizes of a photo's levels."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from deeplens.export.chosen import checked_shape
from deeplens.export.coreml_recipe import IMAGES, SHAPES, TARGETS, Recipe
from deeplens.export.onnx_graph import FIXED_SHAPES
from deeplens.export.precision_plan import Plan
from deeplens.model.contract import CONTRACTS
from deeplens.runtimes.pyramid import geometry

PHOTO_SIZE = "2048x1536"
"""Width and height of the photo whose levels enumerated and multifunction packages hold unless told otherwise."""


def level_sizes(network: str, photo_size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Low-resolution (height, width), smallest first, at which `network` runs in the loop over a photo or over the same
    photo turned by 90°.

    Args:
        photo_size: height and width of the photo, in pixels.
    """
    contract = CONTRACTS[network]
    if contract.fixed_size is not None:
        return (contract.fixed_size,)
    sizes = set()
    for height, width in (photo_size, photo_size[::-1]):
        levels = geometry(height, width)
        last = max(1, levels.steps) if network == "upsample" else 1
        sizes |= {levels.padded(level) for level in range(last)}
    return tuple(sorted(sizes))


def recipes(
    network: str,
    *,
    shapes: Sequence[str] = SHAPES,
    fixed: Sequence[tuple[int, int]] = FIXED_SHAPES,
    photo_size: tuple[int, int],
    targets: Sequence[str] = TARGETS,
    precisions: Sequence[str] = ("fp16",),
    image: bool = False,
    compute_units: str = "ALL",
    plan: Plan | None = None,
) -> Iterator[Recipe]:
    """The packages of one network that a call asks for; what no package can be is left out: other than fixed shapes of
    a network with one size, or for iOS 17, and images where no input can be one.

    Args:
        fixed: low-resolution (height, width) of packages of one size.
        photo_size: height and width of the photo whose levels the others hold.
        plan: what "mixed" follows.
    """
    contract = CONTRACTS[network]
    images = image and bool(IMAGES[network])
    sizes = level_sizes(network, photo_size)
    kinds: list[tuple[str, tuple[tuple[int, int], ...]]] = []
    if "fixed" in shapes or contract.fixed_size is not None:
        singles = [contract.fixed_size] if contract.fixed_size else [checked_shape(contract, each) for each in fixed]
        kinds += [("fixed", (size,)) for size in singles]
    if contract.fixed_size is None and len(sizes) > 1:
        kinds += [(kind, sizes) for kind in shapes if kind != "fixed"]
    for precision in precisions:
        for target in targets:
            for kind, several in kinds:
                if kind != "fixed" and target == "iOS17":
                    continue
                recipe = Recipe(precision=precision, target=target, shapes=kind, sizes=several, images=images)
                followed = plan if precision == "mixed" else None
                recipe = replace(recipe, compute_units=compute_units, plan=followed)
                recipe.check(contract)
                yield recipe
