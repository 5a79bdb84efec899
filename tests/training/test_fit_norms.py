"""Statistics of batch norms in averaged weights."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from deeplens.model.layers import FrozenNorm
from deeplens.scenes.stream import Sample
from deeplens.training.fit import SETTLING, FitConfig, Machine, first_batches, fit, settle


class Samples(Dataset[Sample]):
    """Random pictures; keeps the numbers that were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __getitem__(self, index: int) -> Sample:
        self.asked.append(index)
        return {"x": torch.from_numpy(np.random.default_rng(index).random((2, 6, 6), np.float32))}


class Normed(nn.Sequential):
    """A convolution and a norm with statistics far from those of its inputs."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))
        self.load_state_dict(self.state_dict() | {"1.running_mean": torch.full((4,), 9.0)})

    def forward(self, batch: Sample) -> Tensor:
        return super().forward(batch["x"])


def test_settled_norms_have_the_statistics_of_their_inputs_and_nothing_else_changes() -> None:
    module, samples = Normed().eval(), Samples()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    settle(module, first_batches(samples, 2))
    assert samples.asked == list(range(2 * SETTLING))
    x = torch.stack([samples[index]["x"] for index in range(2 * SETTLING)])
    with torch.no_grad():
        inputs = module[0](x).double()
    after = module.state_dict()
    torch.testing.assert_close(after["1.running_mean"].double(), inputs.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(after["1.running_var"].double(), inputs.var((0, 2, 3)), rtol=0.1, atol=1e-3)
    same = [name for name in before if name.startswith("0.")] + ["1.weight", "1.bias"]
    assert all(torch.equal(before[name], after[name]) for name in same)
    assert not module.training


class NormedTask:
    """Its loss trains the convolution, so that the norm's inputs move."""

    config = FitConfig(steps=4, batch=2, learning_rate=0.05, warmup=1)

    def module(self) -> Normed:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Trained()

    def dataset(self) -> Samples:
        return Samples()

    def validate(self, average: Normed) -> dict[str, float]:
        return {"training": float(average.training)}

    def networks(self, average: Normed) -> dict[str, nn.Module]:
        return {"normed": average}


class Trained(Normed):
    def forward(self, batch: Sample) -> Tensor:
        return super().forward(batch).square().mean()


def test_a_fit_ships_settled_norms(tmp_path: Path) -> None:
    fit(NormedTask(), out=tmp_path, machine=Machine(accelerator="cpu", workers=0, progress=False))
    shipped = load_file(tmp_path / "edge_normed.safetensors")
    expected = Normed().eval()
    expected.load_state_dict(shipped)
    settle(expected, first_batches(Samples(), 2))
    for name in ("1.running_mean", "1.running_var"):
        torch.testing.assert_close(shipped[name], expected.state_dict()[name])


def test_frozen_norms_keep_their_statistics_and_other_modules_are_left_alone() -> None:
    frozen, norm = FrozenNorm(2), nn.BatchNorm2d(2)
    inputs = [torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 + 5 for seed in range(15)]
    frozen.load_state_dict({"running_mean": torch.tensor([3.0, 4.0])}, strict=False)
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    settle(nn.Sequential(norm, frozen), inputs)  # type: ignore[arg-type]
    assert all(torch.equal(before[name], value) for name, value in frozen.state_dict().items())
    expected = torch.stack([each.mean((0, 2, 3)) for each in inputs]).mean(0)
    torch.testing.assert_close(norm.running_mean, expected)
    settle(nn.Sequential(nn.Conv2d(1, 1, 1), frozen), iter(()))  # none that follows: nothing is run
