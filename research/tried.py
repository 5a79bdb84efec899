"""Ways to train `edge` that the paper does not have, as the arms `tried-…` of `research.ablations` try them.

All begin with the L1 loss of equation 6 (`BlurAndStep`) and add one thing. What came of it:
docs/findings.md, section 6.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deeplens.scenes.planes import Scene, SceneConfig
from deeplens.scenes.stream import Sample, StoredScenes
from deeplens.training.fit_blur import BlurAndStep, white_at_most
from deeplens.training.loop import pyramid, run_loop

HALF_APERTURE = 0.5


@dataclass(frozen=True)
class Ways:
    """Weights of what is added to the loss; 0 leaves it out.

    Attributes:
        edges: a pixel near a depth edge counts 1 + `edges` times (`edge_weights`).
        apertures: of `unmoved_loss`, a second pass at half the aperture.
        distilled: of the L1 distance to the teacher's pictures at all levels.
        radius: largest circle of confusion in pixels, at the full size.
    """

    edges: float = 0.0
    apertures: float = 0.0
    distilled: float = 0.0
    radius: float = 16.0


class TriedBlurAndStep(BlurAndStep):
    """Equation 6 in L1 with one of `Ways` on top. `teacher`: lens blur and step that `distilled` follows."""

    def __init__(
        self, lens_blur: nn.Module, upsample: nn.Module, *, ways: Ways, teacher: tuple[nn.Module, nn.Module] | None
    ) -> None:
        super().__init__(lens_blur, upsample, beta=1.0, loss=F.l1_loss)
        self.ways = ways
        # In a tuple, so that it is no part of the module that is trained, averaged and stored.
        self.teacher = () if teacher is None else tuple(part.eval().requires_grad_(False) for part in teacher)

    def forward(self, batch: Sample) -> Tensor:
        steps, ways = int(batch["steps"][0]), self.ways
        outputs = self.outputs(batch["picture"], batch["signed_depth"], steps=steps)
        weights = edge_weights(batch["signed_depth"], times=ways.edges, radius=ways.radius)
        low, *high = (
            weighted_l1(white_at_most(output, target), target, F.avg_pool2d(weights, 2 ** (steps - level)))
            for level, (output, target) in enumerate(zip(outputs, pyramid(batch["target"], steps), strict=True))
        )
        loss = low + self.beta * torch.stack(high).mean()
        if ways.apertures:
            stopped = self.outputs(batch["picture"], HALF_APERTURE * batch["signed_depth"], steps=steps)[-1]
            depth = HALF_APERTURE * batch["signed_depth"]
            loss = loss + ways.apertures * unmoved_loss(stopped, batch["picture"], depth, radius=ways.radius)
        if self.teacher:
            lens_blur, upsample = self.teacher
            with torch.no_grad():
                taught = run_loop(lens_blur, upsample, pyramid(batch["picture"], steps), batch["signed_depth"])
            distances = [F.l1_loss(output, picture) for output, picture in zip(outputs, taught, strict=True)]
            loss = loss + ways.distilled * (distances[0] + self.beta * torch.stack(distances[1:]).mean())
        return loss


def edge_weights(signed_depth: Tensor, *, times: float, radius: float, reach: int = 4) -> Tensor:
    """1 + `times` within `reach` pixels of where the circle of confusion jumps by over a pixel, else 1; (N, 1, H, W).

    Args:
        signed_depth: (N, 1, H, W) in [-1, 1]; 1 is a circle of `radius` pixels.
    """
    jump = F.max_pool2d(signed_depth, 3, 1, 1) + F.max_pool2d(-signed_depth, 3, 1, 1)
    near = F.max_pool2d((jump * radius > 1).to(signed_depth.dtype), 2 * reach + 1, 1, reach)
    return 1 + times * near


def weighted_l1(output: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """The mean of |output − target| (N, 3, H, W), pixels weighed by `weights` (N, 1, H, W)."""
    return (weights * (output - target).abs()).sum() / (weights.sum() * output.shape[1])


def unmoved_loss(output: Tensor, picture: Tensor, signed_depth: Tensor, *, radius: float) -> Tensor:
    """Mean |output − picture| where no light can come from elsewhere: the photo must stay what it is, without a truth.

    That is where every circle of confusion that could reach the pixel is under half a pixel in radius.
    """
    circle = signed_depth.abs() * radius
    reach = int(radius * HALF_APERTURE) + 1
    still = (F.max_pool2d(circle, 2 * reach + 1, 1, reach) <= 0.5).to(output.dtype)
    return (still * (output - picture).abs()).sum() / (still.sum() * output.shape[1]).clamp(min=1)


class EasyFirst(StoredScenes):
    """Stored scenes, small blur first: a curriculum over the radius.

    Of the first `until` samples, number i is one of the share (i + 1) / `until` of the scenes whose largest circles of
    confusion are smallest; then all come, as ever.
    """

    def __init__(self, folder: Path, *, config: SceneConfig, depth: str, seed: int, until: int) -> None:
        super().__init__(folder, config=config, depth=depth, seed=seed)
        self.until = until
        widest = [widest_circle(self.scene(place)) for place in range(len(self.paths))]
        self.order = sorted(range(len(widest)), key=widest.__getitem__)

    def place(self, index: int) -> int:
        if index >= self.until:
            return super().place(index)
        allowed = -(-len(self.order) * (index + 1) // self.until)
        return self.order[int(np.random.default_rng([self.seed or 0, index]).integers(allowed))]


def widest_circle(scene: Scene) -> float:
    """The largest circle of confusion of a scene, as a share of the largest that there can be."""
    return float(np.abs(scene.disparity - np.float32(scene.focal)).max()) * scene.aperture
