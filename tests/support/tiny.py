"""What several test files make: random inputs of a network, and folders of small photos and cut-outs."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from deeplens.model.contract import CONTRACTS

if TYPE_CHECKING:
    from torch import Tensor

    from deeplens.scenes.sources import Sources


def random_inputs(network: str, height: int, width: int, *, seed: int = 0, count: int = 1) -> "list[Tensor]":
    """Inputs in the contract's order, uniform over their ranges, for a low-resolution size."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    inputs = []
    for tensor in CONTRACTS[network].inputs:
        assert tensor.low is not None
        assert tensor.high is not None
        values = torch.rand(count, *tensor.shape(height, width)[1:], generator=generator)
        inputs.append(tensor.low + (tensor.high - tensor.low) * values)
    return inputs


def textured(height: int, width: int, *, seed: int) -> np.ndarray:
    """A photo (height, width, 3) uint8: smooth blobs of colour with a little grain."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 12 + 2, width // 12 + 2, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def make_sources(root: Path, *, seed: int = 0) -> "Sources":
    """Three photos and three cut-outs (an ellipse, a triangle, a frame) as a user's own two folders."""
    from deeplens.scenes.sources import folder

    photos, cutouts = root / "photos", root / "cutouts"
    photos.mkdir(parents=True)
    cutouts.mkdir()
    for index in range(3):
        Image.fromarray(textured(150, 200, seed=10 * seed + index)).save(photos / f"{seed}-photo-{index}.png")
        outline = Image.new("L", (60, 80))
        draw = ImageDraw.Draw(outline)
        if index == 0:
            draw.ellipse((2, 2, 57, 77), fill=255)
        elif index == 1:
            draw.polygon([(30, 2), (57, 77), (2, 60)], fill=255)
        else:
            draw.rectangle((2, 2, 57, 77), outline=255, width=9)
        pixels = np.dstack((textured(80, 60, seed=10 * seed + 5 + index), np.asarray(outline)))
        Image.fromarray(pixels).save(cutouts / f"{seed}-cutout-{index}.png")
    return folder(photos, cutouts)
