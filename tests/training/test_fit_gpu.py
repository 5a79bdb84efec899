"""Fits on a GPU learn what they do on the CPU. Skipped where there is none."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from deeplens.scenes.planes import SceneConfig
from deeplens.training.fit import Machine, fit
from deeplens.training.fit_blur import BlurConfig, BlurTask
from tests.support.tiny import make_sources
from tests.training.test_fit import toy

needs_torch_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no NVIDIA GPU here")


@needs_torch_cuda
def test_a_fit_on_the_gpu_learns_what_one_on_the_cpu_does(tmp_path: Path) -> None:
    for accelerator in ("cpu", "cuda"):
        fit(toy(), out=tmp_path / accelerator, machine=Machine(accelerator=accelerator, workers=0, progress=False))
    one, other = (load_file(tmp_path / name / "edge_toy.safetensors") for name in ("cpu", "cuda"))
    for name, weight in one.items():
        torch.testing.assert_close(other[name], weight, rtol=2e-3, atol=2e-4)


@needs_torch_cuda
@pytest.mark.parametrize("variant", ["edge", "paper"])
def test_blur_and_step_are_validated_on_the_gpu_as_on_the_cpu(tmp_path: Path, variant: str) -> None:
    sources = make_sources(tmp_path / "sources")
    scenes = SceneConfig(size=64, steps=1)
    config = BlurConfig(variant=variant, steps=1, batch=2, small=scenes, large=scenes)
    task = BlurTask(config, train=sources, validation=sources)
    scores = {
        device: task.validate(task.module().eval().to(device))  # fits keep their averaged weights on the device
        for device in ("cpu", "cuda")
    }
    for name, score in scores["cpu"].items():
        assert scores["cuda"][name] == pytest.approx(score, abs=0.05), name
    fit(task, out=tmp_path / "run", machine=Machine(accelerator="cuda", workers=0, progress=False))
