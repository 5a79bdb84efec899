"""A network at one size with what depends on its weights alone computed ahead of time."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from deeplens.console.errors import MismatchError
from deeplens.export.frozen import BEGINNING, frozen


class Resized(nn.Module):
    """Adds a table of weights that is resized to the picture, as a vision transformer's position embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 3, 4, 4))
        self.layer = nn.Conv2d(3, 1, 1)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        table = functional.interpolate(self.table, picture.shape[2:], mode="bicubic", align_corners=False)
        ramp = torch.arange(picture.shape[3]) / picture.shape[3]
        return self.layer(picture + table * 2 + ramp)


def operations(module: nn.Module) -> set[str]:
    assert isinstance(module, torch.fx.GraphModule)
    return {str(node.target) for node in module.graph.nodes if node.op == "call_function"}


def test_constants_are_computed_ahead_of_time() -> None:
    torch.manual_seed(0)
    module = Resized().eval()
    picture = torch.rand(1, 3, 6, 10)
    made = frozen(module, (6, 10))
    torch.testing.assert_close(made(picture), module(picture), rtol=0, atol=1e-6)
    assert operations(made) == {"aten.add.Tensor", "aten.conv2d.default"}
    constants = [name for name, _ in made.named_buffers() if name.startswith(BEGINNING)]
    assert len(constants) == 2  # the table, and the ramp
    assert {"layer.weight", "layer.bias"} <= {name for name, _ in made.named_parameters()}
    assert not any(each.training for each in made.modules())


def test_the_module_stays_as_it_is() -> None:
    module = Resized().eval()
    before = {name: each.clone() for name, each in module.state_dict().items()}
    frozen(module, (6, 10))
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(each, before[name]) for name, each in module.state_dict().items())


def test_a_size_that_it_does_not_take() -> None:
    with pytest.raises(MismatchError, match="at 10x6"):
        frozen(nn.Sequential(nn.Flatten(), nn.Linear(7, 1)).eval(), (6, 10))
