"""What the depth network is held to: equation 1, its further term, and a teacher's disparity."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deeplens.model.build import build
from deeplens.training.fit_depth import DepthConfig, DepthWithLoss, gradient_loss, normalise

# --- Equation 1


@pytest.mark.slow
@torch.no_grad()
def test_equation_1_counts_only_labels_that_are_there() -> None:
    module = DepthWithLoss(DepthConfig(gamma=0.25)).eval()
    generator = torch.Generator().manual_seed(0)
    batch = {name: torch.rand(2, 1, 320, 320, generator=generator) for name in ("disparity", "segmentation")}
    batch["picture"] = torch.rand(2, 3, 320, 320, generator=generator)
    batch["has_disparity"], batch["has_segmentation"] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    batch["valid"] = (torch.rand(2, 1, 320, 320, generator=generator) > 0.4).float()
    disparity, segmentation = (part.double().numpy() for part in module.network.heads(batch["picture"]))
    truth, mask = batch["disparity"].double().numpy(), batch["segmentation"].double().numpy()
    known = batch["valid"][0].numpy() > 0
    predicted, wanted = disparity[0][known], truth[0][known]
    spread = (predicted - predicted.min()) / np.ptp(predicted)
    depth = (np.abs(predicted - wanted).mean() + np.abs(spread - wanted).mean()) / 2
    expected = depth + 0.25 * np.abs(segmentation[1] - mask[1]).mean()
    assert module(batch).item() == pytest.approx(expected, rel=1e-4)
    nothing = dict(batch, has_disparity=torch.zeros(2), has_segmentation=torch.zeros(2))
    assert module(nothing).item() == 0


def test_gradient_loss_sees_grain_and_not_an_offset() -> None:
    truth = torch.rand(2, 1, 16, 24)
    present = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1).expand(2, 1, 16, 24)
    assert gradient_loss(truth + 0.3, truth, present).item() == pytest.approx(0, abs=1e-5)
    noisy = truth.clone()
    noisy[1] += torch.rand(1, 16, 24)
    assert gradient_loss(noisy, truth, present).item() == 0, "a sample without a label"
    ramp = truth + 0.01 * torch.arange(24)
    # At scale k the error's slope over a pixel is 2^k · 0.01.
    assert gradient_loss(ramp, truth, present).item() == pytest.approx(0.01 * (1 + 2 + 4 + 8), rel=1e-3)
    holed, known = ramp.clone(), present.clone()
    holed[0, 0, :4], known[0, 0, :4] = 50.0, 0.0
    assert gradient_loss(holed, truth, known).item() == pytest.approx(0.01 * (1 + 2 + 4 + 8), rel=1e-3), "unknown"


def test_unknown_pixels_do_not_stretch_a_map() -> None:
    values, known = torch.rand(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    values[0, 0, 0, 0], known[0, 0, 0, 0], known[1] = 99.0, 0.0, 0.0
    maps = normalise(values, known)
    inside = maps[0][known[0] > 0]
    assert float(inside.min()) == pytest.approx(0)
    assert float(inside.max()) == pytest.approx(1, abs=1e-5)
    assert maps[1].isfinite().all(), "a map of which nothing is known"
    torch.testing.assert_close(normalise(values, torch.ones_like(known)), normalise(values))


def module_config(folder: Path) -> DepthConfig:
    return DepthConfig(variant="edge", teacher=str(folder / "edge_depth.safetensors"))


@pytest.mark.slow
@torch.no_grad()
def test_a_student_follows_its_teacher_where_nothing_is_labelled(tmp_path: Path) -> None:
    teacher = build("edge", "depth")
    save_file(teacher.state_dict(), tmp_path / "edge_depth.safetensors")
    module = DepthWithLoss(module_config(tmp_path)).eval()
    assert not [name for name, _ in module.named_parameters() if name.startswith("teacher")]
    batch = {name: torch.zeros(1, 1, 320, 320) for name in ("disparity", "segmentation", "valid")}
    batch |= {"has_disparity": torch.zeros(1), "has_segmentation": torch.zeros(1)}
    batch["picture"] = torch.rand(1, 3, 320, 320, generator=torch.Generator().manual_seed(0))
    raw = module.network(batch["picture"])
    spread = float(raw.max() - raw.min())
    # It is its own teacher: normalised they agree, as they are they differ by the normalisation alone.
    expected = 0.5 * float((raw - (raw - raw.min()) / spread).abs().mean())
    assert module(batch).item() == pytest.approx(expected, rel=1e-3)
    smaller = DepthWithLoss(replace(module_config(tmp_path), variant="paper", size=64)).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert 0 < smaller(batch).item() < 2, "bfloat16, and smaller than the teacher's pictures"
