"""What a program takes in memory, on programs whose tensors can be counted by hand."""

import pytest
import torch
from torch import Tensor, nn

from deeplens.console.errors import InputError
from deeplens.export.whole_memory import LIMITS, MIB, check, needed, peak


class Chain(nn.Module):
    """What the first operation gives is used again at the end: with the input four tensors are alive at most."""

    def forward(self, x: Tensor) -> Tensor:
        first = torch.sin(x)
        second = torch.cos(first)
        third = torch.exp(second)
        return first + third


class Views(nn.Module):
    """The same, through views: no tensor more."""

    def forward(self, x: Tensor) -> Tensor:
        first = torch.sin(x).reshape(1, 1, -1)
        second = torch.cos(first)
        third = torch.exp(second)[:, :, :]
        return first + third


class Weighed(nn.Module):
    """The weight is alive for the whole run."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, 64, 64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(x * self.weight)


def program(module: nn.Module, side: int = 256) -> torch.export.ExportedProgram:
    return torch.export.export(module, (torch.zeros(1, 1, side, side),)).run_decompositions({})


@pytest.mark.parametrize("module", [Chain(), Views()])
def test_the_tensors_that_live_at_the_same_time_are_counted(module: nn.Module) -> None:
    assert peak(program(module), half=False) == 4 * 4 * 256 * 256
    assert peak(program(module), half=True) == 4 * 2 * 256 * 256


def test_weights_stay_for_the_whole_run() -> None:
    assert peak(program(Weighed(), 64), half=False) == 4 * 4 * 64 * 64


def test_a_size_that_takes_too_much_is_refused_with_the_figure() -> None:
    check(100, "onnx", size=(768, 1024))
    with pytest.raises(InputError, match=r"8000x6000 takes about 99999 MiB on coreml, and there are 1536 \(3/8 of"):
        check(99999, "coreml", size=(6000, 8000))
    with pytest.raises(InputError, match=r"there are 50 \(--memory\)"):
        check(51, "onnx", size=(768, 1024), given=50)
    check(99999, "onnx", size=(768, 1024), given=99999)


def test_need_is_rounded_up_to_whole_mebibytes() -> None:
    assert [needed(each, "coreml") for each in (1, MIB, MIB + 1)] == [1, 1, 2]
    assert needed(4 * MIB, "onnx") == 3
    assert set(LIMITS) == {"onnx", "coreml", "desktop", "rtx", "jetson-orin", "jetson-thor"}
