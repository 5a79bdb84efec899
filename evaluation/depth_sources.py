"""Where depth of one photo can come from, side by side: what knows nothing of it, a matte, our networks, a model.

A source takes a photo, H×W×3 uint8 sRGB, and gives a disparity of any unit, near = large, that shows the whole photo at
any size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deeplens.console.errors import MissingError
from deeplens.model.contract import VARIANTS, composed
from deeplens.model.shipped import Weights
from deeplens.runtimes import open_runtime
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.options import DepthModelChoice
from deeplens.scenes.mattes import SIZE, open_teacher
from deeplens.scenes.renderer import Array
from deeplens.training.depth_data import pseudo_disparity

Source = Callable[[NDArray[np.uint8]], Array]

HORIZON = 0.35
"""Of the ground behind a matte: the middle of those in training's pseudo-disparity."""

IGNORANT = ("mean depth", "vertical ramp", "segmentation mask")
"""Sources that a depth network has to beat clearly."""


@dataclass(frozen=True)
class Choice:
    """Which of our networks run, on what, a user's depth model, and a depth network of others.

    Attributes:
        variants: None: those whose weights are there.
        network: its name.
    """

    variants: tuple[str, ...] | None = None
    runtime: str = "torch"
    weights: Weights = "shipped"
    artifacts: Path | None = None
    model: DepthModelChoice | None = None
    network: str | None = None


def open_sources(choice: Choice, *, data: Path) -> dict[str, Source]:
    """Name → source, in the order of a table.

    Raises:
        MissingError: a variant that was named has no weights or artefact; the teacher was not fetched.
    """
    teacher = open_teacher(data)
    found: dict[str, Source] = {
        "mean depth": lambda _: np.zeros((SIZE, SIZE), np.float32),
        "vertical ramp": lambda _: np.repeat(np.linspace(0, 1, SIZE, dtype=np.float32)[:, None], SIZE, 1),
        "segmentation mask": teacher,
        "mask before a ramp": lambda picture: pseudo_disparity(teacher(picture), horizon=HORIZON),
    }
    for variant in VARIANTS if choice.variants is None else choice.variants:
        runtime = open_runtime(
            choice.runtime, variant=variant, weights=choice.weights, artifacts=choice.artifacts, threads=1
        )
        try:
            runtime.open("depth")
        except MissingError:
            if choice.variants is not None:
                raise
            continue
        found[variant] = Harness(runtime).disparity
    if choice.network is not None:
        runtime = open_runtime(
            choice.runtime, variant=composed("edge", choice.network), artifacts=choice.artifacts, threads=1
        )
        runtime.open("depth")
        found[choice.network] = Harness(runtime).disparity
    if choice.model is not None:
        found[choice.model.path.name] = choice.model.open(threads=1).disparity
    return found


def shown(disparity: Array, size: Sequence[int]) -> Array:
    """A source's disparity at `size` (height, width), between pixels bilinearly."""
    return np.asarray(Image.fromarray(disparity).resize((size[1], size[0]), Image.Resampling.BILINEAR))
