"""What both exporters begin with: which graphs of the whole effect are asked for, and the program of each."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from deeplens.export import whole_memory
from deeplens.export.onnx_trace import quiet
from deeplens.export.whole_check import by_harness
from deeplens.model.shipped import weights_file
from deeplens.model.whole_contract import WHOLE, WHOLE_WITH_DEPTH, contract_of, parts_of
from deeplens.runtimes.contract import Arrays

if TYPE_CHECKING:
    import torch

    from deeplens.export.whole_module import Whole
    from deeplens.model.contract import Contract
    from deeplens.model.shipped import Weights


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A graph of the whole effect that is asked for.

    Attributes:
        network: `whole` or `whole_with_depth`.
        size: height and width of the photo.
        target: of `whole_memory.LIMITS`: where it is to run.
        memory: MiB that the target has; None: as `LIMITS` says.
    """

    variant: str
    network: str
    size: tuple[int, int]
    weights: "Weights" = "shipped"
    target: str = "onnx"
    memory: int | None = None


@dataclass(frozen=True)
class Captured:
    """A module of the whole effect and the program that torch.export takes of it, within the target's memory."""

    module: "Whole"
    hashes: Mapping[str, str]
    contract: "Contract"
    program: "torch.export.ExportedProgram"
    needs: Mapping[str, int]
    """"fp32" and "fp16" → MiB that it needs."""

    @property
    def sha256(self) -> str:
        """Of the weights: that of its parts' hashes, by name."""
        return parts_sha256(self.hashes)


def parts_sha256(hashes: Mapping[str, str]) -> str:
    """One hash for the weights of several networks: of a line "network hash" for each, by name."""
    return hashlib.sha256("".join(f"{name} {hashes[name]}\n" for name in sorted(hashes)).encode()).hexdigest()


def captured(wanted: Wanted, *, half: bool = False) -> Captured:
    """The module and its program.

    Args:
        half: the artefact computes in FP16, which decides what memory is needed.

    Raises:
        InputError: a size that is too small, or too large for the target; the message says how much it takes.
        MissingError: the weights are not there.
    """
    import torch

    from deeplens.export.whole_module import whole_module

    module, hashes = whole_module(wanted.network, variant=wanted.variant, size=wanted.size, weights=wanted.weights)
    contract = replace(contract_of(wanted.network), fixed_size=wanted.size)
    with quiet():
        program = torch.export.export(module, tuple(torch.zeros(each.shape(*wanted.size)) for each in contract.inputs))
        decomposed = program.run_decompositions({})
    needs = {
        name: whole_memory.needed(decomposed, wanted.target, half=half)
        for name, half in (("fp32", False), ("fp16", True))
    }
    whole_memory.check(needs["fp16" if half else "fp32"], wanted.target, size=wanted.size, given=wanted.memory)
    return Captured(module, hashes, contract, program, needs)


def file_name(wanted: Wanted) -> str:
    """VARIANT_NETWORK_HxW, without precision and suffix."""
    return f"{wanted.variant}_{wanted.network}_{wanted.size[0]}x{wanted.size[1]}"


def reference(wanted: Wanted, inputs: Arrays) -> np.ndarray:
    """What the harness gives for `inputs` with PyTorch's networks: see `whole_check.by_harness`."""
    from deeplens.runtimes.pytorch import TorchRuntime

    with TorchRuntime(variant=wanted.variant, weights=wanted.weights) as runtime:
        return by_harness(runtime, wanted.network, inputs)


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


def told(decibels: float) -> float | None:
    """dB for the manifest, which has no infinity."""
    return round(decibels, 1) if np.isfinite(decibels) else None
