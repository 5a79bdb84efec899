"""What both exporters begin with: which graphs of the whole effect are asked for, and the program of each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from deeplens.export import whole_memory
from deeplens.export.onnx_trace import quiet
from deeplens.export.whole_check import by_harness
from deeplens.export.whole_module import Whole, whole_module
from deeplens.export.whole_sizes import Wanted, parts_sha256
from deeplens.model.whole_contract import contract_named
from deeplens.runtimes.contract import Arrays

if TYPE_CHECKING:
    from deeplens.model.contract import Contract


@dataclass(frozen=True)
class Captured:
    """A module of the whole effect and the program that torch.export takes of it, within the target's memory."""

    module: Whole
    hashes: Mapping[str, str]
    contract: "Contract"
    program: torch.export.ExportedProgram
    peaks: Mapping[str, int]
    """"fp32" and "fp16" → bytes that its tensors take at most (`whole_memory.peak`)."""

    @property
    def sha256(self) -> str:
        """Of the weights: that of its parts' hashes, by name."""
        return parts_sha256(self.hashes)


class EightBit(nn.Module):
    """The effect on 8-bit numbers, 0 to 255, as images have them."""

    def __init__(self, effect: nn.Module) -> None:
        super().__init__()
        self.effect = effect

    def forward(self, picture: Tensor, *rest: Tensor) -> Tensor:
        return torch.round(255.0 * self.effect((1 / 255) * picture, *rest))


def captured(wanted: Wanted, *, half: bool = False, eight_bit: bool = False) -> Captured:
    """The module and its program.

    Args:
        half: the artefact computes in FP16, which decides what memory is needed.
        eight_bit: the program takes and gives `EightBit` numbers.

    Raises:
        InputError: a size that is too small, or too large for the target; the message says how much it takes.
        MissingError: the weights are not there.
    """
    module, hashes = whole_module(wanted.network, variant=wanted.variant, size=wanted.size, weights=wanted.weights)
    contract = replace(contract_named(wanted.network), fixed_size=wanted.size)
    with quiet():
        traced = EightBit(module) if eight_bit else module
        program = torch.export.export(traced, tuple(torch.zeros(each.shape(*wanted.size)) for each in contract.inputs))
        decomposed = program.run_decompositions({})
    peaks = {name: whole_memory.peak(decomposed, half=name == "fp16") for name in ("fp32", "fp16")}
    needs = whole_memory.needed(peaks["fp16" if half else "fp32"], wanted.target)
    whole_memory.check(needs, wanted.target, size=wanted.size, given=wanted.memory)
    return Captured(module, hashes, contract, program, peaks)


def file_name(wanted: Wanted) -> str:
    """VARIANT_NETWORK_HxW, without precision and suffix."""
    return f"{wanted.variant}_{wanted.network}_{wanted.size[0]}x{wanted.size[1]}"


def reference(wanted: Wanted, inputs: Arrays) -> np.ndarray:
    """What the harness gives for `inputs` with PyTorch's networks: see `whole_check.by_harness`."""
    from deeplens.runtimes.pytorch import TorchRuntime

    with TorchRuntime(variant=wanted.variant, weights=wanted.weights) as runtime:
        return by_harness(runtime, wanted.network, inputs)


def told(decibels: float) -> float | None:
    """dB for the manifest, which has no infinity."""
    return round(decibels, 1) if np.isfinite(decibels) else None
