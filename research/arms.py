"""The arms of `research.ablations` as data: what each fit changes."""

from dataclasses import dataclass, replace

from deeplens.training.fit import FitConfig


@dataclass(frozen=True)
class Arm(FitConfig):
    """One fit. The defaults are the standard arm: the paper's lens blur, loss, number of features and kind of depth.

    Attributes:
        seed: of the initial weights and of the order of the scenes.
        network: `lens_blur`, alone, at the base; `loop`, with the step; `direct`, the U-Net of direct regression.
        loss: one of `training.losses.LOSSES`.
        depth: kind of depth to train on, one of `scenes.stream.DEPTHS`.
        features: of the paper's lens blur, for each colour, the picture itself counted.
        edges, apertures, distilled: weights of `research.tried.Ways`, 0 in all but the arms `tried-…`.
        easy_first: share of the steps in which scenes come as `research.tried.EasyFirst` has them.
    """

    variant: str = "paper"
    steps: int = 600
    batch: int = 2
    learning_rate: float = 5e-4
    warmup: int = 20
    ema: float = 0.98
    network: str = "lens_blur"
    loss: str = "normalised"
    depth: str = "corrupted"
    features: int = 31
    edges: float = 0.0
    apertures: float = 0.0
    distilled: float = 0.0
    easy_first: float = 0.0


EDGE = Arm(variant="edge", network="loop", steps=300, learning_rate=1e-3)
EDGE_L1 = replace(EDGE, loss="l1")

ARMS: dict[str, Arm] = {
    "standard": Arm(),
    "features-4": Arm(features=4),
    "features-8": Arm(features=8),
    "features-16": Arm(features=16),
    "features-64": Arm(features=64),
    "l1": Arm(loss="l1"),
    "l2": Arm(loss="l2"),
    "true": Arm(depth="true"),
    "predicted": Arm(depth="predicted"),
    "edge-standard": EDGE,
    "edge-l1": EDGE_L1,
    "edge-l2": replace(EDGE, loss="l2"),
    "edge-quotient": replace(EDGE, loss="quotient"),
    "edge-true": replace(EDGE, depth="true"),
    "edge-predicted": replace(EDGE, depth="predicted"),
    "loop": Arm(network="loop"),
    "direct": Arm(variant="direct", network="direct"),
    "quotient": Arm(loss="quotient"),
    "tried-edges": replace(EDGE_L1, edges=3.0),
    "tried-apertures": replace(EDGE_L1, apertures=1.0),
    "tried-easy-first": replace(EDGE_L1, easy_first=0.5),
    "tried-distilled": replace(EDGE_L1, distilled=0.5),
    "tried-no-average": replace(EDGE_L1, ema=0.0),
}
"""Name → arm with seed 0, in the order in which they run. `tried-…` differ from `edge-l1` in one thing."""
