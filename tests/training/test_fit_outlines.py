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
    label_path(sources.subjects[0], tmp_path).parent.mkdir(parents=True)
    np.save(label_path(sources.subjects[0], tmp_path), disc)
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
    assert {"mae_composed", "composed_found"} <= sharp.keys()


class Fixed(torch.nn.Module):
    """A network that gives a map of its own: a ramp to the right, plus the picture's red."""

    def __init__(self, *, ramp: float) -> None:
        super().__init__()
        self.ramp = ramp

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return picture[:, :1] + self.ramp * torch.linspace(0, 1, picture.shape[-1])


@torch.no_grad()
def test_the_order_of_a_network_is_kept_on_photos(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts without any label, as the coarse map alone; what the network takes for one side only cancels out."""
    save_file(build("edge", "depth").state_dict(), tmp_path / "other.safetensors")
    kept = OutlinesWithLoss(OutlineConfig(start=str(start), order=str(tmp_path / "other.safetensors"))).eval()
    monkeypatch.setattr(kept.network, "heads", lambda picture: (picture[:, :1], picture[:, 1:2]))
    kept.order = (Fixed(ramp=0),)
    assert kept(batch()).item() == pytest.approx(0, abs=1e-6)
    kept.order = (Fixed(ramp=5),)
    assert kept(batch()).item() == pytest.approx(0, abs=1e-6)
    monkeypatch.setattr(kept.network, "heads", lambda picture: (1 - picture[:, :1], picture[:, 1:2]))
    assert kept(batch()).item() > 0.01
    assert not any(name.startswith("order") for name in kept.state_dict())


@torch.no_grad()
def test_where_the_truth_is_exact_the_order_is_that_of_the_truth(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(build("edge", "depth").state_dict(), tmp_path / "other.safetensors")
    kept = OutlinesWithLoss(OutlineConfig(start=str(start), order=str(tmp_path / "other.safetensors"))).eval()
    kept.order = (Fixed(ramp=0),)  # the picture's red
    ramp = torch.linspace(0, 1, 320).expand(1, 1, 320, 320)
    monkeypatch.setattr(kept.network, "heads", lambda picture: (ramp, picture[:, 1:2]))

    def loss(before: torch.Tensor, photo: float) -> float:
        given = {**batch(disparity=1, segmentation=photo), "disparity": ramp}
        given["picture"] = torch.cat((before, given["picture"][:, 1:]), 1)
        given["segmentation"] = given["picture"][:, 1:2]
        return float(kept(given))

    for photo in (0.0, 1.0):
        other = loss(1 - ramp, photo) - loss(ramp, photo)
        assert (other > 0.1) == bool(photo), "what an earlier network gave counts on a photo alone"
