"""The fit of lens blur and step: its loss, where it starts, and that it goes on bit for bit."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from deeplens.model.build import build, load
from deeplens.scenes.planes import SceneConfig
from deeplens.training import fit_blur
from deeplens.training.fit import fit
from deeplens.training.fit_blur import BlurAndStep, BlurConfig, BlurTask, StepAlone, white_at_most
from deeplens.training.loop import pyramid
from deeplens.training.losses import normalised_loss
from tests.support.tiny import make_sources
from tests.training.test_fit import ALONE, assert_equal, assert_same_run, checkpoint

pytestmark = pytest.mark.slow


def tiny_blur(root: Path) -> BlurTask:
    sources = make_sources(root)
    config = BlurConfig(
        steps=6, batch=2, warmup=2, small=SceneConfig(size=64, steps=1), large=SceneConfig(size=128, steps=2)
    )
    return BlurTask(config, train=sources, validation=sources)


def test_lens_blur_and_step_go_on_bit_for_bit(tmp_path: Path) -> None:
    """Six steps with small and large scenes: unbroken, and stopped after the third."""
    task = tiny_blur(tmp_path / "sources")
    fit(task, out=tmp_path / "whole", machine=ALONE)
    fit(task, out=tmp_path / "parts", machine=ALONE, stop_at=3)
    half = checkpoint(tmp_path / "parts")
    assert half["step"] == 3
    fit(task, out=tmp_path / "parts", machine=ALONE, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")

    state = checkpoint(tmp_path / "whole")
    assert state["step"] == 6
    assert {"model", "average", "optimizer"} <= state.keys()
    with pytest.raises(AssertionError):
        assert_equal(half["model"], state["model"])
    assert len(state["optimizer"]["state"]) > 10
    for network in ("lens_blur", "upsample"):
        shipped = load("edge", network, tmp_path / "whole").state_dict()
        for name, value in shipped.items():
            assert torch.equal(value, state["average"][f"{network}.{name}"])
    lines = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6]
    assert all(line["psnr"] > 5 and line["psnr_unblurred"] > 5 and line["psnr_low"] > 5 for line in lines)
    assert lines[0]["psnr_unblurred"] == lines[1]["psnr_unblurred"]
    assert lines[0]["seconds"] <= lines[1]["seconds"]


def test_a_fit_of_blur_starts_from_earlier_weights_with_the_loss_that_it_is_told(tmp_path: Path) -> None:
    blur, step = build("edge", "lens_blur"), build("edge", "upsample")
    with torch.no_grad():
        dict(blur.named_parameters())["disc1"].add_(0.125)
    for name, network in (("lens_blur", blur), ("upsample", step)):
        save_file(network.state_dict(), tmp_path / f"edge_{name}.safetensors")
    task = tiny_blur(tmp_path / "sources")
    told = BlurTask(
        replace(task.config, start=str(tmp_path), loss="l2"), train=task.train, validation=task.validation
    ).module()
    assert_equal(told.lens_blur.state_dict(), blur.state_dict())
    with pytest.raises(AssertionError):
        assert_equal(task.module().lens_blur.state_dict(), blur.state_dict())
    batch = {name: torch.rand(1, 3, 64, 64) for name in ("picture", "target")}
    batch |= {"signed_depth": torch.zeros(1, 1, 64, 64), "steps": torch.tensor([1])}
    told.requires_grad_(False)
    low, high = told.outputs(batch["picture"], batch["signed_depth"], steps=1)
    targets = pyramid(batch["target"], 1)
    expected = F.mse_loss(low, targets[0]) + F.mse_loss(high, targets[1])
    assert float(told(batch)) == pytest.approx(float(expected), rel=1e-5)


def test_other_scenes_are_another_configuration() -> None:
    one, other = BlurConfig(), BlurConfig(small=SceneConfig(size=64, steps=1))
    assert asdict(one) != asdict(other), "nested settings are compared too"


@torch.no_grad()
def test_equation_6() -> None:
    module = BlurAndStep(build("edge", "lens_blur"), build("edge", "upsample"), beta=0.7)
    generator = torch.Generator().manual_seed(0)
    batch = {name: torch.rand(2, 3, 128, 128, generator=generator) for name in ("picture", "target")}
    batch["signed_depth"] = torch.rand(2, 1, 128, 128, generator=generator) - 0.5
    batch["steps"] = torch.tensor([2, 2])
    outputs = module.outputs(batch["picture"], batch["signed_depth"], steps=2)
    targets = pyramid(batch["target"], 2)
    assert [output.shape[-1] for output in outputs] == [32, 64, 128]
    low, *high = (float(normalised_loss(*pair)) for pair in zip(outputs, targets, strict=True))
    assert float(module(batch)) == pytest.approx(low + 0.7 * (high[0] + high[1]) / 2, rel=1e-5)


@pytest.mark.parametrize("variant", ["paper", "edge"])
def test_both_variants_get_gradients_everywhere(variant: str) -> None:
    """Several processes wait for the gradient of every weight: none may be left out of the loss."""
    module = BlurAndStep(build(variant, "lens_blur"), build(variant, "upsample"), beta=1.0).train()
    generator = torch.Generator().manual_seed(0)
    batch = {name: torch.rand(1, 3, 64, 64, generator=generator) for name in ("picture", "target")}
    batch["signed_depth"] = 2 * torch.rand(1, 1, 64, 64, generator=generator) - 1
    batch["steps"] = torch.tensor([1])
    module(batch).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_an_output_above_white_costs_nothing_where_the_target_is_white() -> None:
    output = torch.tensor([1.4, 1.4, 0.9, 1.0], requires_grad=True)
    target = torch.tensor([1.0, 0.9, 1.0, 1.0])
    loss = (white_at_most(output, target) - target).abs().sum()
    assert float(loss.detach()) == pytest.approx(0.0 + 0.5 + 0.1 + 0.0, abs=1e-6)
    loss.backward()
    assert output.grad is not None
    assert output.grad.tolist()[:3] == [0.0, 1.0, -1.0]


def test_the_command_passes_lamps_and_validation_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: dict[str, Any] = {}
    sources = make_sources(tmp_path / "sources")
    monkeypatch.setattr(fit_blur, "shipped", lambda _split, _data: sources)
    monkeypatch.setattr(fit_blur, "fit", lambda task, **options: started.update(task=task, **options))
    fit_blur.main(lights=0.25, validate_every=7, loss="l1", precision="32-true")
    config = started["task"].config
    assert (config.small.lights, config.large.lights) == (0.25, 0.25)
    assert (config.small.narrow, config.large.steps) == (0.35, 2), "the rest is as it was"
    assert started["machine"].validate_every == 7


def test_a_lens_blur_that_stays_is_used_and_neither_trained_nor_stored(tmp_path: Path) -> None:
    blur = build("paper", "lens_blur")
    with torch.no_grad():
        for value in blur.state_dict().values():
            value.add_(0.01 if value.dtype.is_floating_point else 0)
    file = tmp_path / "paper_lens_blur.safetensors"
    save_file(blur.state_dict(), file)
    task = tiny_blur(tmp_path / "sources")
    config = replace(task.config, variant="paper", steps=2, lens_blur=str(file))
    task = BlurTask(config, train=task.train, validation=task.validation)
    module = task.module().train()
    assert isinstance(module, StepAlone)
    assert all(name.startswith("upsample.") for name, _ in module.named_parameters())
    picture, depth = torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64) - 0.5
    low, _ = module.outputs(picture, depth, steps=1)
    at_base = pyramid(picture, 1)[0], F.avg_pool2d(depth, 2)
    expected = blur.eval().requires_grad_(False)(*at_base)
    torch.testing.assert_close(low, expected, rtol=1e-4, atol=1e-4)
    assert float((blur.train()(*at_base) - expected).abs().max()) > 0.01, "the control: norms that see the batch"
    assert not low.requires_grad

    fit(task, out=tmp_path / "run", machine=ALONE)
    assert sorted(path.name for path in (tmp_path / "run").glob("*.safetensors")) == ["paper_upsample.safetensors"]
    trained, start = load("paper", "upsample", tmp_path / "run").state_dict(), module.upsample.state_dict()
    norms = [name for name in start if "running" in name]
    assert len(norms) == 28
    assert all(torch.equal(trained[name], start[name]) for name in norms)
    with pytest.raises(AssertionError):
        assert_equal(trained, start)

    on = BlurTask(replace(config, start=str(tmp_path / "run")), train=task.train, validation=task.validation).module()
    assert_equal(on.upsample.state_dict(), trained)


def test_the_command_passes_the_lens_blur_and_the_size_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: dict[str, Any] = {}
    sources = make_sources(tmp_path / "sources")
    monkeypatch.setattr(fit_blur, "shipped", lambda _split, _data: sources)
    monkeypatch.setattr(fit_blur, "fit", lambda task, **options: started.update(task=task, **options))
    fit_blur.main(lens_blur=tmp_path / "some.safetensors", size=128, lights=0, loss="l1", precision="32-true")
    config = started["task"].config
    assert config.lens_blur == str(tmp_path / "some.safetensors")
    assert (config.small.size, config.large.size) == (128, 192)
