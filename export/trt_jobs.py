"""What is to be built: targets, the sizes of a photo's levels, and the list of engines."""

from collections.abc import Sequence
from dataclasses import dataclass

from deeplens.console.errors import InputError
from deeplens.export.trt_build import Options
from deeplens.model.contract import MIN_SIZE, VARIANTS
from deeplens.model.whole_contract import OF_ONE_PHOTO, PIXEL_CONTRACTS, contract_named
from deeplens.runtimes.engine_key import Profile, Size
from deeplens.runtimes.pyramid import geometry
from deeplens.runtimes.spec import RUNTIMES
from deeplens.runtimes.tiling import split
from deeplens.runtimes.trt_api import Library

PRECISIONS = RUNTIMES["trt"].precisions

BEST = (256, 256)
"""Low-resolution size that the dynamic profile is made for, where it is within it: the harness's tile."""


@dataclass(frozen=True)
class Target:
    """A kind of machine that engines are built for.

    Attributes:
        library: what builds and runs them.
        machine: where the build runs, for messages.
        workspace: MiB, where the memory is shared with the rest of the machine; None: no limit.
        has_dla: some machines of the kind have a deep-learning accelerator.
        compute_capabilities: that engines are built for ahead of time, one engine each; none: for the GPU that is here.
    """

    library: Library
    machine: str
    workspace: int | None = None
    has_dla: bool = False
    compute_capabilities: tuple[str, ...] = ()


TARGETS: dict[str, Target] = {
    "desktop": Target("tensorrt", "a machine with an NVIDIA GPU and TensorRT 10 or 11"),
    "jetson-orin": Target(
        "tensorrt", "a Jetson Orin (JetPack 6: TensorRT 10; 7.2.2 or later: TensorRT 11)", workspace=1024, has_dla=True
    ),
    "jetson-thor": Target("tensorrt", "a Jetson Thor (JetPack 7)", workspace=4096),
    "rtx": Target("tensorrt_rtx", "any x86-64 machine", compute_capabilities=("7.5", "8.6", "8.9", "12.0")),
}


@dataclass(frozen=True)
class Job:
    """One engine to build."""

    variant: str
    network: str
    precision: str
    target: str
    options: Options
    size: Size | None = None
    """Height and width of the photo, of an engine of the whole effect."""

    @property
    def name(self) -> str:
        """Without the digest of its key, which is known when the graph is."""
        capability = self.options.compute_capability
        where = f"{self.target}_sm{capability.replace('.', '')}" if capability else self.target
        size = f"_{self.size[0]}x{self.size[1]}" if self.size else ""
        return f"{self.variant}_{self.network}{size}_{self.precision}_{where}"

    def __str__(self) -> str:
        profiles = ", ".join(str(each) for each in self.options.profiles) or "its only size"
        flags = ", ".join(f"{name} {value}" for name, value in self.options.flags.items()) or "none"
        return f"{self.name}: sizes {profiles}; flags {flags}"


def profiles(
    variant: str,
    network: str,
    *,
    photos: Sequence[Size] = (),
    tile: int | None = 256,
    shapes: Sequence[Size] = (),
    dynamic: bool = True,
) -> tuple[Profile, ...]:
    """The sizes of one engine: a static profile for each level of each photo, and one dynamic fallback.

    Args:
        photos: height and width in pixels.
        tile: the harness's; None: levels are run whole.
        shapes: more low-resolution sizes with a static profile.
        dynamic: add the fallback: from the smallest size to the tile, or to the largest level where there is none.

    Returns:
        none for a network that has one size, and for a graph of the whole effect.
    """
    if contract_named(network).fixed_size is not None or network in OF_ONE_PHOTO:
        return ()
    sizes = [size for height, width in photos for size in _levels(variant, network, height, width, tile)]
    sizes = list(dict.fromkeys([*sizes, *shapes]))
    found = [Profile.static(size) for size in sizes]
    if dynamic or not found:
        largest = (tile, tile) if tile is not None else BEST
        high = max(largest[0], *(each[0] for each in sizes), 0), max(largest[1], *(each[1] for each in sizes), 0)
        best = min(BEST[0], high[0]), min(BEST[1], high[1])
        found.append(Profile((MIN_SIZE, MIN_SIZE), best, high))
    return tuple(found)


def _levels(variant: str, network: str, height: int, width: int, tile: int | None) -> list[Size]:
    """The low-resolution sizes at which the harness runs `network` over a photo."""
    levels = geometry(height, width)
    count = 1 if network == "lens_blur" else levels.steps
    tiles = [split(*levels.padded(k), halo=VARIANTS[variant].halo[network], tile=tile) for k in range(count)]
    return [(each.height, each.width) for each in tiles]


def jobs(
    *,
    variants: Sequence[str],
    networks: Sequence[str],
    target: str,
    precision: str,
    photos: Sequence[Size],
    tile: int | None,
    shapes: Sequence[Size],
    dynamic: bool,
    compute_capabilities: Sequence[str],
    workspace: int | None,
    version_compatible: bool,
    refit: bool,
    dla_core: int | None,
    whole: Sequence[Size] = (),
) -> list[Job]:
    """The engines that a command asks for, in order.

    Args:
        whole: height and width of each photo, where `networks` are graphs of the whole effect.

    Raises:
        InputError: an unknown target or precision, or options that don't go with the target.
    """
    if target not in TARGETS:
        raise InputError(f"unknown target '{target}': choose {', '.join(TARGETS)}")
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision '{precision}': choose {', '.join(PRECISIONS)}")
    kind = TARGETS[target]
    if compute_capabilities and not kind.compute_capabilities:
        raise InputError(
            f"--compute-capability works with --target rtx only: {target} builds for the GPU of this machine"
        )
    if dla_core is not None and not kind.has_dla:
        raise InputError("--dla-core works with --target jetson-orin only: only a Jetson AGX Orin has such cores")
    if dla_core is not None and precision == "fp32":
        raise InputError("--dla-core needs --precision fp16, int8 or mixed: the accelerator has no FP32")
    if version_compatible and target == "rtx":
        raise InputError(
            "--version-compatible does not work with TensorRT for RTX: its engines run on one version only"
        )
    return [
        Job(
            variant,
            network,
            precision,
            target,
            Options(
                # The accelerator takes no dynamic sizes.
                profiles=profiles(
                    variant, network, photos=photos, tile=tile, shapes=shapes, dynamic=dynamic and dla_core is None
                ),
                workspace=kind.workspace if workspace is None else workspace,
                version_compatible=version_compatible,
                refit=refit,
                dla_core=None if network in PIXEL_CONTRACTS else dla_core,  # it has no 8 unsigned bits
                compute_capability=capability,
            ),
            size,
        )
        for variant in variants
        for network in networks
        for size in (whole or (None,))
        for capability in (compute_capabilities or kind.compute_capabilities or (None,))
    ]
