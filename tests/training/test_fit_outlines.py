"""The fit to outlines: what it holds still, and what its validation says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from deeplens.model.build import build
from deeplens.model.layers import FrozenNorm
from deeplens.scenes.fine_mattes import fine_path
from deeplens.scenes.mattes import matte_path
from deeplens.training.depth_labels import label_path
from deeplens.training.fit_outlines import OutlineConfig, OutlinesWithLoss, OutlineTask
from tests.support.tiny import make_sources, textured


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("start") / "edge_depth.safetensors"
    save_file(build("edge", "depth").state_dict(), path)
    return path


def batch(**labels: float) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    maps = {name: torch.rand(1, 1, 320, 320, generator=generator) for name in ("disparity", "segmentation")}
    maps["picture"] = torch.rand(1, 3, 320, 320, generator=generator)
    maps["valid"] = torch.ones(1, 1, 320, 320)
    return maps | {f"has_{n}": torch.tensor([labels.get(n, 0.0)]) for n in ("disparity", "anchor", "segmentation")}


def test_norms_and_held_stages_stay(start: Path) -> None:
    module = OutlinesWithLoss(OutlineConfig(start=str(start), held=2)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1)
    module(batch(disparity=1, segmentation=1)).backward()
    optimizer.step()
    changed = {name for name, value in module.state_dict().items() if not torch.equal(before[name], value)}
    assert not any("running" in name or "batches" in name for name in changed)
    assert not any(name.startswith(("network.stem", "network.stages.0.", "network.stages.1.")) for name in changed)
    for part in ("network.stages.2.", "network.decode1.", "network.outlines.last.", "network.segmentation_head."):
        assert any(name.startswith(part) for name in changed), part
    assert all(isinstance(each, FrozenNorm) for each in module.modules() if isinstance(each, torch.nn.BatchNorm2d))


@torch.no_grad()
def test_each_term_counts_where_its_label_is(start: Path) -> None:
    module = OutlinesWithLoss(OutlineConfig(start=str(start))).eval()
    assert module(batch()).item() == 0
    losses = {name: module(batch(**{name: 1.0})).item() for name in ("disparity", "anchor", "segmentation")}
    assert all(value > 0 for value in losses.values())
    all_of_them = module(batch(disparity=1, anchor=1, segmentation=1)).item()
    assert all_of_them == pytest.approx(sum(losses.values()), rel=1e-4)
    without = OutlinesWithLoss(OutlineConfig(start=str(start), gradient=0, pairs=0)).eval()
    assert without(batch(disparity=1)).item() < losses["disparity"]


def test_validation_tells_sharp_from_soft_and_order_from_none(start: Path, tmp_path: Path) -> None:
    """A network that answers with the labels themselves has them all; its blurred and turned copies lose."""
    sources = make_sources(tmp_path)
    rows, columns = np.indices((320, 320))
    disc = (np.hypot(rows - 170, columns - 150) < 90).astype(np.float32)
    Image.fromarray(textured(320, 320, seed=9)).save(tmp_path / "subject.png")
    sources = replace(sources, subjects=(tmp_path / "subject.png",))
    fine_path(sources.subjects[0], tmp_path).parent.mkdir(parents=True)
    Image.fromarray((disc * 255).astype(np.uint8)).save(fine_path(sources.subjects[0], tmp_path))
    for photo in sources.subjects + sources.backgrounds:
        for path in (matte_path(photo, tmp_path), label_path(photo, tmp_path)):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((disc * 255).astype(np.uint8)).save(matte_path(photo, tmp_path))
        np.save(label_path(photo, tmp_path), disc)
    task = OutlineTask(OutlineConfig(start=str(start)), train=sources, validation=sources, data=tmp_path)

    class Answers(torch.nn.Module):
        def __init__(self, answer: np.ndarray) -> None:
            super().__init__()
            self.answer, self.weight = torch.from_numpy(answer)[None, None], torch.nn.Parameter(torch.zeros(1))

        def forward(self, _: torch.Tensor) -> torch.Tensor:
            return self.answer

    def validated(answer: np.ndarray) -> dict[str, float]:
        module = OutlinesWithLoss(task.config)
        module.network = Answers(answer.astype(np.float32))  # type: ignore[assignment]
        return task.validate(module)

    from scipy.ndimage import gaussian_filter

    sharp, soft, turned = validated(disc), validated(gaussian_filter(disc, 6)), validated(1 - disc)
    assert sharp["real_width"] < 4 < 20 < soft["real_width"]
    assert sharp["real_found"] > 0.9
    assert turned["real_found"] == 0
    assert "real_width" not in turned
    assert sharp["kept"] == pytest.approx(0, abs=1e-3)
    assert turned["kept"] > 0.5
    assert {"mae_composed", "composed_found", "mae_layered", "layered_found"} <= sharp.keys()


@torch.no_grad()
def test_near_and_far_count_beside_outlines(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coarse map has a term of its own where all of the disparity is known; grain that averages out is free."""
    ramp = torch.linspace(0, 1, 320).expand(1, 1, 320, 320)
    grain = (torch.arange(320) % 2 - 0.5).expand(1, 1, 320, 320) * 0.1

    def term(answer: torch.Tensor, **labels: float) -> float:
        losses = []
        for order in (2.0, 0.0):
            module = OutlinesWithLoss(OutlineConfig(start=str(start), order=order)).eval()
            monkeypatch.setattr(module.network, "heads", lambda picture: (answer, picture[:, 1:2]))
            losses.append(module({**batch(**labels), "disparity": ramp}).item())
        return losses[0] - losses[1]

    # Turned round, the 20 means of blocks of 16 differ by 0.5 in the mean.
    assert term(1 - ramp, disparity=1) == pytest.approx(2 * 0.5, abs=0.01)
    assert term(ramp + grain, disparity=1) < 0.1
    assert term(ramp, disparity=1) == pytest.approx(0, abs=1e-6)
    assert term(1 - ramp, segmentation=1) == 0
