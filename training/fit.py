"""The loop that every fit shares: Fabric, checkpoints that continue bit for bit, averaged weights, a metrics file.

A fit's data is a function of the step alone and nothing else in it is random, so a checkpoint is the weights, the
optimiser and one number. The same command runs on one CPU, several GPUs (--devices 4) or several machines (--nodes 2).
"""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, update_bn
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from deeplens.console.errors import DeepLensError, InputError, MismatchError, one_line
from deeplens.console.files import locked_name, move, replacing, staged
from deeplens.console.inputs import check_regular, parse_json, read_bytes
from deeplens.model.layers import FrozenNorm
from deeplens.scenes.stream import Sample

Precision = Literal["32-true", "bf16-mixed"]
PRECISIONS: tuple[Precision, ...] = ("32-true", "bf16-mixed")


@dataclass(frozen=True)
class FitConfig:
    """What a run is; a checkpoint of another configuration can't be resumed. All settings have defaults.

    Attributes:
        variant: `paper` or `edge`.
        steps: optimiser steps; the learning rate falls to 1 % of its peak over them (cosine).
        batch: samples a step, over all processes.
        learning_rate: its peak, after `warmup` steps.
        weight_decay: AdamW's.
        ema: decay a step of the averaged weights, which are the ones shipped.
        seed: of the data.
        precision: Fabric's name: "32-true", or "bf16-mixed", where convolutions and products are computed in bfloat16
            (a processor with AVX512-BF16 or AMX, or a GPU); weights, optimiser and averages stay in float32.
    """

    variant: str = "edge"
    steps: int = 1700
    batch: int = 4
    learning_rate: float = 4e-4
    warmup: int = 100
    weight_decay: float = 1e-4
    ema: float = 0.998
    seed: int = 0
    precision: Precision = "32-true"


M = TypeVar("M", bound=nn.Module)


class Task(Protocol[M]):
    """What a fit fits. `config` holds all that decides the outcome."""

    @property
    def config(self) -> FitConfig: ...

    def module(self) -> M:
        """The module to train: forward(batch) is the loss. Called twice; both must start with the same weights."""
        ...

    def dataset(self) -> Dataset[Sample]:
        """Sample i, for any i ≥ 0; step k gets samples k · batch … (k + 1) · batch − 1."""
        ...

    def validate(self, average: M) -> dict[str, float]:
        """Scores of the averaged weights on held-out data."""
        ...

    def networks(self, average: M) -> dict[str, nn.Module]:
        """Network name → the part of the module whose weights are shipped."""
        ...


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and how a fit runs; of all this only `devices`, `nodes` and `threads` touch the outcome, by rounding.

    Attributes:
        workers: processes that make samples.
        threads: threads of each training process on a CPU; workers · 1 + devices · threads beyond the cores is slow.
        keep: keep the averaged weights of every validation, in steps/{step}/, to choose from afterwards.
    """

    devices: int = 1
    nodes: int = 1
    accelerator: str = "auto"
    workers: int = 1
    threads: int | None = None
    checkpoint_seconds: float = 240.0
    validate_every: int = 200
    progress: bool = True
    keep: bool = False


class StepBatches(Sampler[list[int]]):
    """The sample numbers of each step from `start` to `stop`; each of `world` processes takes its share of each."""

    def __init__(self, *, start: int, stop: int, batch: int, rank: int, world: int) -> None:
        self.start, self.stop, self.batch, self.rank, self.world = start, stop, batch, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.stop):
            yield list(range(step * self.batch + self.rank, (step + 1) * self.batch, self.world))

    def __len__(self) -> int:
        return self.stop - self.start


def fit(task: Task[M], *, out: Path, resume: bool = False, stop_at: int | None = None, machine: Machine) -> None:
    """Run `task` up to its last step (or `stop_at`) and write the averaged weights.

    Writes to `out`: checkpoint.ckpt (at least every `machine.checkpoint_seconds`), metrics.jsonl (a line a validation),
    {variant}_{network}.safetensors.

    Raises:
        InputError: `out` holds a run and `resume` is not given, or a batch that the processes can't share evenly.
        MismatchError: the checkpoint is of another configuration.
    """
    config, checkpoint = task.config, out / "checkpoint.ckpt"
    processes = machine.devices * machine.nodes
    if config.batch % processes:
        raise InputError(
            f"a batch of {config.batch} can't be divided evenly among {processes} processes: change --batch"
        )
    if checkpoint.exists() and not resume:
        raise InputError(f"{out} already holds a run: give --resume to continue it, or choose another --out")
    fabric = Fabric(
        accelerator=machine.accelerator, devices=machine.devices, num_nodes=machine.nodes,
        strategy="ddp" if processes > 1 else "auto", precision=config.precision,
    )  # fmt: skip
    fabric.launch()
    if machine.threads:
        torch.set_num_threads(machine.threads)
    out.mkdir(parents=True, exist_ok=True)

    module = task.module()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its stub knows none
    average = task.module()
    fabric.to_device(average.requires_grad_(False).eval())
    optimizer = torch.optim.AdamW(module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    wrapped, optimizer = fabric.setup(module, optimizer)
    wrapped.train()
    state: dict[str, Any] = {
        "model": wrapped, "average": average, "optimizer": optimizer,
        "step": 0, "seconds": 0.0, "config": asdict(config),
    }  # fmt: skip
    if checkpoint.exists():
        _load(fabric, checkpoint, state)
        changed = changed_settings(config, state["config"])
        if changed:
            raise MismatchError(f"{checkpoint} was written with a different {', '.join(changed)}: choose another --out")

    if fabric.is_global_zero:
        _forget_after(out / "metrics.jsonl", state["step"])
    stop = min(config.steps, stop_at or config.steps)
    batches = StepBatches(
        start=state["step"], stop=stop, batch=config.batch, rank=fabric.global_rank, world=fabric.world_size
    )
    samples = task.dataset()
    loader = fabric.setup_dataloaders(
        DataLoader(samples, batch_sampler=batches, num_workers=machine.workers, worker_init_fn=_one_thread),
        use_distributed_sampler=False,
    )
    started, saved = time.monotonic() - state["seconds"], time.monotonic()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), disable=not (machine.progress and fabric.is_global_zero),
    )  # fmt: skip
    with bar:
        row = bar.add_task("fit", total=config.steps, completed=state["step"])
        for batch in loader:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, state["step"])
            loss = wrapped(batch)
            fabric.backward(loss)
            fabric.clip_gradients(wrapped, optimizer, max_norm=1.0)
            optimizer.step()
            optimizer.zero_grad()
            done = state["step"] + 1
            _average(average, module, decay=min(config.ema, done / (done + 9)))
            state["step"], state["seconds"] = done, time.monotonic() - started
            bar.update(row, completed=done, description=f"loss {loss.item():.4f}")
            if fabric.is_global_zero and (done % machine.validate_every == 0 or done == stop):
                with fabric.autocast():
                    settle(average, map(fabric.to_device, first_batches(samples, config.batch)))
                line = {"step": done, "seconds": round(state["seconds"], 1), "loss": loss.item()}
                with (out / "metrics.jsonl").open("a") as metrics:
                    metrics.write(json.dumps(line | task.validate(average)) + "\n")
                if machine.keep:
                    _write(task, average, out / "steps" / f"{done:06d}")
            due = fabric.broadcast(time.monotonic() - saved > machine.checkpoint_seconds)
            if due or done == stop:
                temporary = locked_name(checkpoint)  # the same for all processes
                fabric.save(temporary, state)
                if fabric.is_global_zero:
                    move(temporary, checkpoint)
                saved = time.monotonic()
    if fabric.is_global_zero:
        _write(task, average, out)
    fabric.barrier()


def _write(task: Task[M], average: M, folder: Path) -> None:
    """Write the averaged weights, a file a network."""
    folder.mkdir(parents=True, exist_ok=True)
    for network, part in task.networks(average).items():
        weights = {name: tensor.contiguous() for name, tensor in part.state_dict().items()}
        with replacing(folder / f"{task.config.variant}_{network}.safetensors") as file:
            file.write(save(weights))


SETTLING = 12
"""As many batches, the first of the fit, the statistics of the averaged weights' norms are taken from."""


def settle(average: nn.Module, batches: Iterable[Sample]) -> None:
    """Take the statistics of all batch norms but frozen ones anew over `batches`; nothing else changes.

    The averages of the statistics along a fit are those of other weights than the averaged ones (Izmailov et al. 2018,
    section 3.2), and a fit that begins on smaller pictures has those of smaller pictures.
    """
    norms = [each for each in average.modules() if isinstance(each, nn.BatchNorm2d)]
    frozen = [each for each in norms if isinstance(each, FrozenNorm)]
    if len(frozen) == len(norms):
        return
    kept = [{name: value.clone() for name, value in each.state_dict().items()} for each in frozen]
    with torch.no_grad():
        update_bn(batches, average)
    for each, state in zip(frozen, kept, strict=True):  # `update_bn` forgets the statistics of every norm
        each.load_state_dict(state)


def _load(fabric: Fabric, checkpoint: Path, state: dict[str, Any]) -> None:
    """Fill `state` from a checkpoint: tensors and plain data, no code of anybody's.

    Raises:
        InputError: it is torn, or no checkpoint.
    """
    try:
        check_regular(checkpoint)
        fabric.load(checkpoint, state, weights_only=True)
    except DeepLensError:
        raise
    except Exception as error:  # zipfile's, pickle's and PyTorch's own
        raise InputError(
            f"{checkpoint} can't be read as a checkpoint ({one_line(error)[:200]}): delete it to begin the fit anew, "
            "or put a whole one there"
        ) from error


def first_batches(samples: Dataset[Sample], size: int) -> Iterator[Sample]:
    """The first `SETTLING` batches of `size` samples."""
    for start in range(0, SETTLING * size, size):
        yield default_collate([samples[index] for index in range(start, start + size)])


def as_precision(name: str) -> Precision:
    """One of PRECISIONS, from the command line. Raises InputError for another."""
    for precision in PRECISIONS:
        if name == precision:
            return precision
    raise InputError(f"unknown precision '{name}': choose {' or '.join(PRECISIONS)}")


def changed_settings(config: FitConfig, stored: dict[str, Any]) -> list[str]:
    """The names of the settings in which `config` differs from a checkpoint's.

    A setting that was added since counts as its default there, so that a run goes on after an upgrade.
    """
    stored = _completed(stored, asdict(type(config)()))
    return [name for name, value in asdict(config).items() if stored[name] != value]


def _completed(stored: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """`stored`, nested settings too, with what it lacks taken from `defaults`."""
    return defaults | {
        name: _completed(value, defaults[name]) if isinstance(value, dict) and name in defaults else value
        for name, value in stored.items()
    }


def learning_rate(config: FitConfig, step: int) -> float:
    """A linear warm-up, then half a cosine down to 1 % of the peak at `config.steps`."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    cosine = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * min(done, 1.0))).item())
    return config.learning_rate * (0.01 + 0.99 * cosine)


def _forget_after(metrics: Path, step: int) -> None:
    """Drop the lines of steps that a killed run had done but not saved: they will be done, and written, again."""
    if metrics.exists():
        lines = read_bytes(metrics).decode("utf-8", "replace").splitlines(keepends=True)
        with staged(metrics) as temporary:
            temporary.write_text("".join(line for line in lines if _is_kept(line, step)))


def _is_kept(line: str, step: int) -> bool:
    """Whether a line of the log is whole and of a step up to `step`; a killed run may leave a torn one."""
    try:
        stored = parse_json(line)
        return bool(line.endswith("\n") and stored["step"] <= step)
    except (ValueError, TypeError, KeyError):
        return False


@torch.no_grad()
def _average(average: nn.Module, module: nn.Module, *, decay: float) -> None:
    pairs = zip(average.state_dict().values(), module.state_dict().values(), strict=True)
    floats: tuple[list[Tensor], list[Tensor]] = ([], [])
    for kept, new in pairs:
        if kept.dtype.is_floating_point:
            floats[0].append(kept)
            floats[1].append(new)
        else:
            kept.copy_(new)
    get_ema_multi_avg_fn(decay)(*floats, 0)


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
