"""The loop of the fits: it goes on bit for bit where it was stopped, alone or with several processes."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from deeplens.console.errors import InputError, MismatchError
from deeplens.scenes.stream import Sample
from deeplens.training.fit import FitConfig, Machine, StepBatches, as_precision, fit, learning_rate

ALONE = Machine(accelerator="cpu", workers=0, progress=False)

# --- A task that takes no time: a convolution learns to be another one


class Toy(nn.Module):
    """Its loss is a mean over the samples, so that how they are shared by processes must not matter."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.network = nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=True).eval(), nn.Conv2d(4, 1, 1)
        )
        for parameter in self.network.parameters():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)

    def forward(self, batch: Sample) -> Tensor:
        self.network[1].eval()
        return (self.network(batch["x"]) - batch["y"]).square().mean()


@dataclass
class ToySamples(Dataset[Sample]):
    """Sample i of a seed; fails at `breaks_at`, as a killed run does. Keeps the numbers that were asked for."""

    seed: int
    breaks_at: int | None = None
    asked: list[int] = field(default_factory=list)

    def __getitem__(self, index: int) -> Sample:
        if index == self.breaks_at:
            raise KeyboardInterrupt
        self.asked.append(index)
        x = torch.from_numpy(np.random.default_rng([self.seed, index]).random((2, 6, 6), np.float32))
        return {"x": x, "y": x[:1, 1:-1, 1:-1] - x[1:, 2:, 2:]}


class ToyTask:
    def __init__(self, config: FitConfig, *, breaks_at: int | None = None) -> None:
        self.config = config
        self.samples = ToySamples(config.seed, breaks_at)
        self.modules: list[Toy] = []

    def module(self) -> Toy:
        self.modules.append(Toy())
        return self.modules[-1]

    def dataset(self) -> ToySamples:
        return self.samples

    def validate(self, average: Toy) -> dict[str, float]:
        assert not average.training
        return {"size": float(next(average.parameters()).abs().mean())}

    def networks(self, average: Toy) -> dict[str, nn.Module]:
        return {"toy": average.network}


CONFIG = FitConfig(steps=6, batch=4, learning_rate=0.01, warmup=2)


def toy(**options: Any) -> ToyTask:
    return ToyTask(CONFIG, **options)


def assert_equal(one: Any, other: Any, path: str = "") -> None:
    """Nested states, tensors bit by bit; times are left out."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for name in one:
            if name != "seconds":
                assert_equal(one[name], other[name], f"{path}.{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{path}[{index}]")
    elif isinstance(one, Tensor):
        assert torch.equal(one, other), path
    else:
        assert one == other, path


def checkpoint(out: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(out / "checkpoint.ckpt", weights_only=False)
    return state


def assert_same_run(one: Path, other: Path) -> None:
    assert_equal(checkpoint(one), checkpoint(other))
    names = sorted(path.name for path in one.glob("*.safetensors"))
    assert names == sorted(path.name for path in other.glob("*.safetensors"))
    assert names
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes()


# --- Precision


def test_a_fit_in_bfloat16_keeps_its_weights_in_float32_and_learns_the_same(tmp_path: Path) -> None:
    whole, mixed = toy(), ToyTask(replace(CONFIG, precision="bf16-mixed"))
    for name, task in (("whole", whole), ("mixed", mixed)):
        fit(task, out=tmp_path / name, machine=ALONE)
    one, other = (load_file(tmp_path / name / "edge_toy.safetensors") for name in ("whole", "mixed"))
    started = Toy().network.state_dict()
    for name, weight in one.items():
        assert other[name].dtype == weight.dtype
        if weight.dtype == torch.float32 and not name.startswith("1."):
            assert not torch.equal(weight, other[name]), "bfloat16 rounds"
            moved = (weight - started[name]).abs().max()
            assert (weight - other[name]).abs().max() < 0.35 * moved, name
    with pytest.raises(MismatchError, match="different precision"):
        fit(ToyTask(CONFIG), out=tmp_path / "mixed", machine=ALONE, resume=True)


def test_an_unknown_precision_is_refused() -> None:
    assert as_precision("bf16-mixed") == "bf16-mixed"
    with pytest.raises(InputError, match=r"unknown precision 'fp16': choose 32-true or bf16-mixed"):
        as_precision("fp16")


# --- Going on


@pytest.mark.parametrize("breaks_at", [8, 9, 11])
def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path: Path, breaks_at: int) -> None:
    """Killed in the third step: what was done of it is done again."""
    fit(toy(), out=tmp_path / "whole", machine=ALONE)
    with pytest.raises(KeyboardInterrupt):
        fit(toy(breaks_at=breaks_at), out=tmp_path / "parts", machine=replace(ALONE, checkpoint_seconds=0.0))
    assert checkpoint(tmp_path / "parts")["step"] == 2
    assert not list((tmp_path / "parts").glob("*.safetensors"))
    task = toy()
    fit(task, out=tmp_path / "parts", machine=ALONE, resume=True)
    assert task.samples.asked == list(range(8, 24))
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert not list((tmp_path / "parts").glob(".part-*"))


def test_a_checkpoint_comes_when_it_is_due_and_not_before(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(toy(breaks_at=8), out=tmp_path, machine=replace(ALONE, checkpoint_seconds=240.0))
    assert not (tmp_path / "checkpoint.ckpt").exists()
    assert Machine().checkpoint_seconds <= 300


def test_a_finished_run_can_be_resumed_to_no_effect(tmp_path: Path) -> None:
    fit(toy(), out=tmp_path, machine=ALONE)
    before = checkpoint(tmp_path)
    task = toy()
    fit(task, out=tmp_path, machine=ALONE, resume=True)
    assert task.samples.asked == []
    assert_equal(checkpoint(tmp_path), before)


# --- Refusals


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    fit(toy(), out=tmp_path, machine=ALONE, stop_at=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"already holds a run: give --resume"):
        fit(toy(), out=tmp_path, machine=ALONE)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"steps": 7}, {"learning_rate": 0.02}, {"batch": 2}], ids=str)
def test_another_configuration_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    fit(toy(), out=tmp_path, machine=ALONE, stop_at=1)
    with pytest.raises(
        MismatchError, match=rf"was written with a different {next(iter(change))}: choose another --out"
    ):
        fit(ToyTask(replace(CONFIG, **change)), out=tmp_path, machine=ALONE, resume=True)


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a batch of 4 can't be divided evenly among 3 processes"):
        fit(toy(), out=tmp_path, machine=replace(ALONE, devices=3))
    assert not list(tmp_path.iterdir())


# --- What a step does


def test_metrics_have_a_line_for_each_validation(tmp_path: Path) -> None:
    fit(toy(), out=tmp_path, machine=replace(ALONE, validate_every=4))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 6]
    assert all(line.keys() == {"step", "seconds", "loss", "size"} for line in lines)


def test_a_killed_run_writes_no_line_twice(tmp_path: Path) -> None:
    machine = replace(ALONE, validate_every=1)
    with pytest.raises(KeyboardInterrupt):  # in the third step, before any checkpoint
        fit(toy(breaks_at=8), out=tmp_path, machine=replace(machine, checkpoint_seconds=240.0))
    fit(toy(), out=tmp_path, machine=machine, resume=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_the_first_step_by_hand(tmp_path: Path) -> None:
    """AdamW's first step and the average's, in PyTorch's own words."""
    fit(toy(), out=tmp_path, machine=ALONE, stop_at=1)
    start, module = Toy(), Toy()
    optimizer = torch.optim.AdamW(module.parameters(), lr=CONFIG.learning_rate / 2, weight_decay=CONFIG.weight_decay)
    samples = [ToySamples(CONFIG.seed)[index] for index in range(4)]
    module({name: torch.stack([sample[name] for sample in samples]) for name in ("x", "y")}).backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    state = checkpoint(tmp_path)
    for name, expected in module.state_dict().items():
        assert torch.allclose(state["model"][name].float(), expected.float(), atol=1e-6), name
    for name, first in start.named_parameters():
        expected = first + 0.9 * (module.get_parameter(name) - first)  # decay min(0.998, 1 / 10)
        assert torch.allclose(state["average"][name], expected, atol=1e-6), name
        assert not torch.equal(module.get_parameter(name), first)


def test_learning_rate_rises_and_falls() -> None:
    config = FitConfig(steps=1000, warmup=100, learning_rate=0.5)
    rates = [learning_rate(config, step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.005)
    assert max(rates) == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.5)
    assert rates[550] == pytest.approx(0.5 * (0.01 + 0.99 * 0.5), rel=1e-3)
    assert rates[-1] == pytest.approx(0.005, rel=0.01)
    assert rates[100:] == sorted(rates[100:], reverse=True)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_each_step(world: int) -> None:
    batches = [list(StepBatches(start=2, stop=5, batch=4, rank=rank, world=world)) for rank in range(world)]
    for step in range(3):
        shared = sorted(index for rank in range(world) for index in batches[rank][step])
        assert shared == list(range(4 * (step + 2), 4 * (step + 3)))
        assert {len(batches[rank][step]) for rank in range(world)} == {4 // world}


def test_the_weights_of_every_validation_are_kept(tmp_path: Path) -> None:
    """To choose from: the last one's are those that the fit writes."""
    task = toy()
    fit(task, out=tmp_path, machine=replace(ALONE, validate_every=2, keep=True))
    steps = sorted(path.name for path in (tmp_path / "steps").iterdir())
    assert steps == [f"{step:06d}" for step in range(2, task.config.steps + 1, 2)]
    (last,) = tmp_path.glob("*.safetensors")
    kept = [load_file(tmp_path / "steps" / step / last.name) for step in steps]
    assert all(torch.equal(value, kept[-1][name]) for name, value in load_file(last).items())
    assert any(not torch.equal(value, kept[-1][name]) for name, value in kept[0].items())
