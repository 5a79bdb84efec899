"""Which graphs of the whole effect are asked for. Imports neither torch nor a runtime's library: a device has none."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deeplens.console.errors import InputError
from deeplens.console.parsing import parse_size
from deeplens.export import whole_memory
from deeplens.model.shipped import weights_file
from deeplens.model.whole_contract import SMALLEST, WHOLE, WHOLE_WITH_DEPTH, parts_of

if TYPE_CHECKING:
    from deeplens.model.shipped import Weights

Size = tuple[int, int]


def whole_sizes(
    whole: Sequence[str] | None, *, with_depth: bool, memory: int | None, given: Mapping[str, object]
) -> list[Size]:
    """Height and width of each photo size of `--whole`, in order; empty where none is asked for.

    Args:
        whole: as typed, WxH.
        given: option → value of those that don't go with it.

    Raises:
        InputError: a size that is none or too small, or options that don't go together.
    """
    if not whole:
        for option, unused in (("--with-depth", with_depth), ("--memory", memory)):
            if unused:
                raise InputError(f"{option} works with --whole only: give a photo size with --whole WxH")
        return []
    for option, value in given.items():
        if value:
            raise InputError(f"{option} does not work with --whole: leave it out")
    sizes = list(dict.fromkeys(parse_size(each)[::-1] for each in whole))
    for height, width in sizes:
        if min(height, width) < SMALLEST:
            raise InputError(f"--whole {width}x{height}: expected {SMALLEST}x{SMALLEST} or more")
    return sizes


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A graph of the whole effect that is asked for.

    Attributes:
        network: `whole` or `whole_with_depth`.
        size: height and width of the photo.
        target: of `whole_memory.LIMITS`: where it is to run.
        memory: MiB that the target has; None: as `LIMITS` says.
        half: the target computes it in FP16, which takes half the memory.
    """

    variant: str
    network: str
    size: tuple[int, int]
    weights: "Weights" = "shipped"
    target: str = "onnx"
    memory: int | None = None
    half: bool = False


def wanted(
    variants: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    *,
    with_depth: bool,
    weights: "Weights",
    memory: int | None,
    target: str = "onnx",
) -> list[Wanted]:
    """Each size of each variant; all weights must be there before the first is exported."""
    network = WHOLE_WITH_DEPTH if with_depth else WHOLE
    for variant in variants:
        for part in parts_of(network):
            weights_file(variant, part, weights)
    return [
        Wanted(variant=variant, network=network, size=size, weights=weights, target=target, memory=memory)
        for variant in variants
        for size in sizes
    ]


def memory_of(peak: int, target: str) -> dict[str, int]:
    """What the manifest says of memory: bytes of the tensors, and MiB that a runtime takes."""
    return {"peak_bytes": peak, "memory_mib": whole_memory.needed(peak, target)}


def parts_sha256(hashes: Mapping[str, str]) -> str:
    """One hash for the weights of several networks: of a line "network hash" for each, by name."""
    return hashlib.sha256("".join(f"{name} {hashes[name]}\n" for name in sorted(hashes)).encode()).hexdigest()
