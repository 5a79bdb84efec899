"""Fit the lens blur and the ×2 step jointly on synthetic scenes (section 3.2.4, equations 5 and 6).

    python -m training.fit_blur --variant edge --steps 6000 --out runs/edge_blur [--resume]

A run continues bit for bit from its checkpoint: the stream of scenes is a function of the step, and nothing else is
random. The same command runs on one CPU, several GPUs (--devices 4) or several machines (--nodes 2).
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from model.build import build
from model.errors import DeepLensError, InputError, MismatchError
from training.loop import pyramid, run_loop
from training.losses import normalised_loss
from training.scenes import SceneConfig, make_scene
from training.sources import Sources, folder, shipped
from training.stream import Sample, SceneStream, StreamBatches

VALIDATION_SEED = 77


@dataclass(frozen=True)
class FitConfig:
    """What a run is; a checkpoint of another configuration can't be resumed.

    Attributes:
        variant: `paper` or `edge`.
        steps: optimiser steps; the learning rate falls to 1 % of its peak over them (cosine).
        batch: scenes a step, over all processes.
        learning_rate: its peak, after `warmup` steps.
        beta: weight of the high-resolution terms in equation 6.
        weight_decay: AdamW's.
        ema: decay a step of the averaged weights, which are the ones shipped.
        seed: of the scenes.
    """

    variant: str = "edge"
    steps: int = 6000
    batch: int = 8
    learning_rate: float = 1e-3
    warmup: int = 200
    beta: float = 1.0
    weight_decay: float = 1e-4
    ema: float = 0.998
    seed: int = 0
    small: SceneConfig = SceneConfig(size=320, steps=2)
    large: SceneConfig = SceneConfig(size=512, steps=3)


class BlurAndStep(nn.Module):
    """The two networks as one module whose forward is equation 6: J_f(L) + β · mean over levels of J_f(H)."""

    def __init__(self, variant: str, *, beta: float) -> None:
        super().__init__()
        self.lens_blur = build(variant, "lens_blur")
        self.upsample = build(variant, "upsample")
        self.beta = beta

    def outputs(self, picture: Tensor, signed_depth: Tensor, *, steps: int) -> list[Tensor]:
        """Blurred pictures at all levels, base first."""
        pictures = [level.contiguous(memory_format=torch.channels_last) for level in pyramid(picture, steps)]
        return run_loop(self.lens_blur, self.upsample, pictures, signed_depth)

    def forward(self, batch: Sample, steps: int) -> Tensor:
        outputs = self.outputs(batch["picture"], batch["signed_depth"], steps=steps)
        low, *high = (
            normalised_loss(output, target)
            for output, target in zip(outputs, pyramid(batch["target"], steps), strict=True)
        )
        return low + self.beta * torch.stack(high).mean()


def fit(
    config: FitConfig,
    *,
    train: Sources,
    validation: Sources,
    out: Path,
    resume: bool = False,
    stop_at: int | None = None,
    devices: int = 1,
    nodes: int = 1,
    accelerator: str = "auto",
    workers: int = 2,
    checkpoint_seconds: float = 240.0,
    validate_every: int = 250,
    progress: bool = True,
) -> Path:
    """Run the fit up to `config.steps` (or `stop_at`) and write the averaged weights.

    Writes to `out`: checkpoint.ckpt (at least every `checkpoint_seconds`), metrics.jsonl (a line a validation),
    {variant}_lens_blur.safetensors and {variant}_upsample.safetensors.

    Returns:
        `out`.

    Raises:
        InputError: `out` holds a run and `resume` is not given, or a batch that the processes can't share evenly.
        MismatchError: the checkpoint is of another configuration.
    """
    if config.batch % (devices * nodes):
        raise InputError(f"a batch of {config.batch} scenes can't be shared by {devices * nodes} processes evenly")
    checkpoint = out / "checkpoint.ckpt"
    if checkpoint.exists() and not resume:
        raise InputError(f"{out} holds a run already: give --resume to go on with it, or another --out")
    fabric = Fabric(
        accelerator=accelerator, devices=devices, num_nodes=nodes, strategy="ddp" if devices * nodes > 1 else "auto"
    )
    fabric.launch()
    out.mkdir(parents=True, exist_ok=True)

    model = BlurAndStep(config.variant, beta=config.beta).to(memory_format=torch.channels_last)
    average = BlurAndStep(config.variant, beta=config.beta)
    average.requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    wrapped, optimizer = fabric.setup(model, optimizer)
    average = fabric.to_device(average)
    wrapped.train()
    state: dict[str, Any] = {
        "model": wrapped, "average": average, "optimizer": optimizer, "step": 0, "seconds": 0.0, "config": asdict(config)
    }  # fmt: skip
    if resume and checkpoint.exists():
        fabric.load(checkpoint, state)
        if state["config"] != asdict(config):
            changed = [name for name, value in asdict(config).items() if state["config"].get(name) != value]
            raise MismatchError(f"{checkpoint} is of a run with another {', '.join(changed)}: give --out elsewhere")

    stream = SceneStream(train, seed=config.seed, batch=config.batch, small=config.small, large=config.large)
    stop = min(config.steps, stop_at or config.steps)
    batches = StreamBatches(
        start=state["step"], stop=stop, batch=config.batch, rank=fabric.global_rank, world=fabric.world_size
    )
    loader = DataLoader(stream, batch_sampler=batches, num_workers=workers, worker_init_fn=_one_thread)
    loader = fabric.setup_dataloaders(loader, use_distributed_sampler=False)
    held_out = _validation_batches(validation, config) if fabric.is_global_zero else []

    started, saved = time.monotonic() - state["seconds"], time.monotonic()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), disable=not (progress and fabric.is_global_zero),
    )  # fmt: skip
    with bar:
        task = bar.add_task("fit", total=config.steps, completed=state["step"])
        for batch in loader:
            step = state["step"]
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step)
            steps = stream.config(step * config.batch).steps
            loss = wrapped(batch, steps)
            fabric.backward(loss)
            fabric.clip_gradients(wrapped, optimizer, max_norm=1.0)
            optimizer.step()
            optimizer.zero_grad()
            _average(average, model, decay=min(config.ema, (step + 1) / (step + 10)))
            state["step"], state["seconds"] = step + 1, time.monotonic() - started
            bar.update(task, completed=step + 1, description=f"loss {loss.item():.4f}")
            last = step + 1 == stop
            if fabric.is_global_zero and ((step + 1) % validate_every == 0 or last):
                line = {"step": step + 1, "seconds": round(state["seconds"], 1), "loss": loss.item()}
                line |= validate(average, held_out)
                with (out / "metrics.jsonl").open("a") as stream_out:
                    stream_out.write(json.dumps(line) + "\n")
            due = fabric.broadcast(time.monotonic() - saved > checkpoint_seconds)
            if due or last:
                _save(fabric, checkpoint, state)
                saved = time.monotonic()
    if fabric.is_global_zero:
        for name in ("lens_blur", "upsample"):
            path = out / f"{config.variant}_{name}.safetensors"
            module = getattr(average, name)
            save_file({key: value.contiguous() for key, value in module.state_dict().items()}, path)
    fabric.barrier()
    return out


def learning_rate(config: FitConfig, step: int) -> float:
    """A linear warm-up, then half a cosine down to 1 % of the peak at `config.steps`."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    cosine = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * min(done, 1.0))).item())
    return config.learning_rate * (0.01 + 0.99 * cosine)


@torch.no_grad()
def validate(model: BlurAndStep, batches: list[tuple[Sample, int]]) -> dict[str, float]:
    """Mean PSNR in dB over held-out scenes: of the output, and of the unblurred picture in its place."""
    model.eval()
    scores: dict[str, list[float]] = {"psnr": [], "psnr_low": [], "psnr_unblurred": []}
    for batch, steps in batches:
        outputs = model.outputs(batch["picture"], batch["signed_depth"], steps=steps)
        targets = pyramid(batch["target"], steps)
        for name, output, target in (
            ("psnr", outputs[-1], targets[-1]),
            ("psnr_low", outputs[0], targets[0]),
            ("psnr_unblurred", batch["picture"], targets[-1]),
        ):
            error = (output.clamp(0, 1) - target).square().flatten(1).mean(1)
            scores[name] += (-10 * torch.log10(error + 1e-10)).tolist()
    return {name: round(sum(values) / len(values), 3) for name, values in scores.items()}


def _validation_batches(sources: Sources, config: FitConfig) -> list[tuple[Sample, int]]:
    """24 held-out scenes of each size, with true depth and the paper's kind of foregrounds."""
    batches = []
    for scenes, count in ((config.small, 24), (config.large, 8)):
        wanted = SceneConfig(size=scenes.size, steps=scenes.steps, cutout_only=True)
        for index in range(count):
            scene = make_scene(sources, seed=VALIDATION_SEED, index=index, config=wanted)
            sample = {
                "picture": torch.from_numpy(scene.picture).permute(2, 0, 1)[None].float() / 255,
                "target": torch.from_numpy(scene.target).permute(2, 0, 1)[None],
                "signed_depth": torch.from_numpy((scene.disparity - scene.focal) * scene.aperture)[None, None],
            }
            batches.append((sample, scenes.steps))
    return batches


@torch.no_grad()
def _average(average: nn.Module, model: nn.Module, *, decay: float) -> None:
    for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _save(fabric: Fabric, path: Path, state: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    fabric.save(temporary, state)
    if fabric.is_global_zero:
        temporary.replace(path)


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def main(
    variant: Annotated[str, typer.Option(help="paper or edge.")] = "edge",
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps in all.")] = FitConfig.steps,
    batch: Annotated[int, typer.Option(min=1, help="Scenes a step.")] = FitConfig.batch,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = FitConfig.learning_rate,
    seed: Annotated[int, typer.Option(help="Seed of the scenes.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/blur"),
    data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data"),
    backgrounds: Annotated[Path | None, typer.Option(help="Your own all-in-focus photos, with --cutouts.")] = None,
    cutouts: Annotated[Path | None, typer.Option(help="Your own cut-outs with alpha or masks.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    devices: Annotated[int, typer.Option(min=1, help="Processes a machine.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    accelerator: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that make scenes.")] = 2,
) -> None:
    """Fit the lens blur and the ×2 step jointly on synthetic scenes."""
    try:
        if (backgrounds is None) != (cutouts is None):
            raise InputError("--backgrounds and --cutouts go together: give both or none")
        train = folder(backgrounds, cutouts) if backgrounds and cutouts else shipped("train", data)
        config = FitConfig(variant=variant, steps=steps, batch=batch, learning_rate=learning_rate, seed=seed)
        fit(
            config, train=train, validation=shipped("val", data), out=out, resume=resume, devices=devices, nodes=nodes,
            accelerator=accelerator, workers=workers,
        )  # fmt: skip
    except DeepLensError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


if __name__ == "__main__":
    typer.run(main)
