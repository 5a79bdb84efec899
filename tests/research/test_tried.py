"""What the arms `tried-…` add to a fit: each against a case worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deeplens.research.ablations import TRAIN_SCENES, ArmTask
from deeplens.research.arms import ARMS
from deeplens.research.tried import (
    EasyFirst,
    TriedBlurAndStep,
    Ways,
    edge_weights,
    unmoved_loss,
    weighted_l1,
    widest_circle,
)
from deeplens.scenes.stream import StoredScenes, write_scenes
from deeplens.training.fit_blur import BlurAndStep
from tests.support.tiny import make_sources

RADIUS = TRAIN_SCENES.radius


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(make_sources(root / "sources"), root / "set", seed=3, count=6, config=TRAIN_SCENES)
    return root / "set"


class Darker(nn.Module):
    """A lens blur that darkens by the distance from the focal plane, times a weight that can learn."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(0.5))

    def forward(self, picture: Tensor, depth: Tensor) -> Tensor:
        return picture * (1 - self.by * depth.abs())


class Doubled(nn.Module):
    """A step that doubles the low picture and takes nothing from the high one."""

    def forward(self, _high: Tensor, _low: Tensor, blurred: Tensor, _depth: Tensor) -> Tensor:
        return F.interpolate(blurred, scale_factor=2.0, mode="nearest")


def batch_of(stored: Path, *, count: int = 2) -> dict[str, Tensor]:
    scenes = StoredScenes(stored, config=TRAIN_SCENES, depth="true")
    samples = [scenes[index] for index in range(count)]
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def tried(ways: Ways, teacher: tuple[nn.Module, nn.Module] | None = None) -> TriedBlurAndStep:
    return TriedBlurAndStep(Darker(), Doubled(), ways=ways, teacher=teacher)


def test_pixels_at_a_jump_of_the_circle_weigh_more() -> None:
    depth = torch.zeros(1, 1, 20, 40)
    depth[..., 20:] = 1.5 / RADIUS
    weights = edge_weights(depth, times=3.0, radius=RADIUS)
    assert weights[0, 0, 0].tolist() == [1.0] * 15 + [4.0] * 10 + [1.0] * 15
    gentle = edge_weights(depth / 2, times=3.0, radius=RADIUS)  # three quarters of a pixel
    assert bool((gentle == 1).all())


def test_weights_are_of_the_mean() -> None:
    output, target = torch.zeros(1, 3, 1, 2), torch.tensor([1.0, 5.0]).expand(1, 3, 1, 2)
    assert float(weighted_l1(output, target, torch.tensor([[[[3.0, 1.0]]]]))) == pytest.approx(2.0)


def test_only_what_no_light_can_reach_must_stay() -> None:
    """Two halves: one is blurred by 4 px, the other in focus; the rim within 9 px of the blurred half is free."""
    depth = torch.zeros(1, 1, 40, 40)
    depth[..., 20:] = 4 / RADIUS
    picture = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    blurred = picture.clone()
    blurred[..., 11:] += 0.5
    assert float(unmoved_loss(blurred, picture, depth, radius=RADIUS)) == 0
    blurred[..., 10] += 0.5
    assert float(unmoved_loss(blurred, picture, depth, radius=RADIUS)) == pytest.approx(0.5 / 11)
    everywhere = torch.full_like(depth, 0.5)
    assert float(unmoved_loss(blurred, picture, everywhere, radius=RADIUS)) == 0


@pytest.mark.slow
@torch.no_grad()
def test_without_ways_it_is_equation_6(stored: Path) -> None:
    batch = batch_of(stored)
    arm = ArmTask(ARMS["edge-l1"], train=stored, test=stored).module().eval()
    assert isinstance(arm, BlurAndStep)
    same = TriedBlurAndStep(arm.lens_blur, arm.upsample, ways=Ways(), teacher=None).eval()
    assert float(same(batch)) == pytest.approx(float(arm(batch)), rel=1e-5)


@torch.no_grad()
def test_each_way_adds_to_the_loss(stored: Path) -> None:
    batch = batch_of(stored, count=6)
    plain = float(tried(Ways())(batch))
    assert float(tried(Ways(edges=3.0))(batch)) != pytest.approx(plain, rel=1e-3)

    picture, depth = batch["picture"], 0.5 * batch["signed_depth"]
    network = tried(Ways(apertures=2.0))
    stopped = network.outputs(picture, depth, steps=1)[-1]
    unmoved = float(unmoved_loss(stopped, picture, depth, radius=16.0))
    assert unmoved > 0
    assert float(network(batch)) == pytest.approx(plain + 2 * unmoved, rel=1e-4)

    class Black(nn.Module):
        def forward(self, picture: Tensor, _depth: Tensor) -> Tensor:
            return torch.zeros_like(picture)

    follower = tried(Ways(distilled=0.5), teacher=(Black(), Doubled()))
    low, high = follower.outputs(picture, batch["signed_depth"], steps=1)
    assert float(follower(batch)) == pytest.approx(plain + 0.5 * float(low.mean() + high.mean()), rel=1e-4)
    assert [name for name, _ in follower.named_parameters()] == ["lens_blur.by"], "the teacher is not trained"


def test_the_curriculum_begins_with_little_blur(stored: Path) -> None:
    easy = EasyFirst(stored, config=TRAIN_SCENES, depth="true", seed=0, until=60)
    plain = StoredScenes(stored, config=TRAIN_SCENES, depth="true", seed=0)
    widest = [widest_circle(easy.scene(place)) for place in range(6)]
    assert easy.place(0) == int(np.argmin(widest))
    ranks = np.argsort(np.argsort(widest))
    for index in range(60):
        assert ranks[easy.place(index)] * 10 <= index
    assert {easy.place(index) for index in range(60)} == set(range(6))
    assert [easy.place(index) for index in range(60, 90)] == [plain.place(index) for index in range(60, 90)]


@pytest.mark.parametrize("name", [name for name in ARMS if name.startswith("tried-")])
def test_each_arm_is_what_its_name_says(name: str, stored: Path) -> None:
    task = ArmTask(ARMS[name], train=stored, test=stored)
    module, dataset = task.module(), task.dataset()
    assert isinstance(dataset, EasyFirst) == (name == "tried-easy-first")
    ways = {"tried-edges": "edges", "tried-apertures": "apertures", "tried-distilled": "distilled"}
    assert isinstance(module, TriedBlurAndStep) == (name in ways)
    if isinstance(module, TriedBlurAndStep):
        assert [field for field in ways.values() if getattr(module.ways, field)] == [ways[name]]
        assert len(module.teacher) == (2 if name == "tried-distilled" else 0)
        assert module.ways.radius == RADIUS
