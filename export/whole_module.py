"""The whole effect as one PyTorch module of one photo size: what the harness does around the networks, as tensors.

    picture → levels ─────────────────────┐
                                          ├→ lens blur → step → step → … → refocused
    disparity → registered → signed depth ┘

Begins at the base, runs every level whole and leaves nothing out. `runtimes.pyramid` says what each part has to give;
both exporters trace this module.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deeplens.console.errors import InputError
from deeplens.model.contract import DEPTH_SIZE, VARIANTS
from deeplens.model.whole_contract import SMALLEST, WHOLE_WITH_DEPTH, parts_of
from deeplens.runtimes.pyramid import Geometry, geometry, reflected

if TYPE_CHECKING:
    from deeplens.model.shipped import Weights

LIGHT_SCALE = 256.0
"""Squares of the picture run in [0, 256], so that FP16 keeps the shadows: (1/255)² would be subnormal."""

SMALLEST_RANGE = 1e-4
"""A disparity map whose values differ by less than this is divided by it: FP16 has no smaller number to spare."""


class Whole(nn.Module):
    """The effect for photos of `size`.

    Input: picture (1, 3, H, W) in [0, 1]; disparity (1, 1, 320, 320) in [0, 1] and focal_disparity (1, 1, 1, 1), or
    with a depth network focus (1, 2, 1, 1), x and y in [0, 1]; aperture (1, 1, 1, 1) in [0, 1].
    Output: (1, 3, H, W) in [0, 1].

    Args:
        networks: "lens_blur" and "upsample", and "depth" for a graph that predicts its own disparity.
        size: H and W of the photo, in pixels, from `SMALLEST` up.

    Raises:
        InputError: a size that is too small.
    """

    rows: Tensor
    columns: Tensor
    small_rows: Tensor
    small_columns: Tensor
    places: Tensor

    def __init__(self, networks: Mapping[str, nn.Module], *, variant: str, size: tuple[int, int]) -> None:
        super().__init__()
        if min(size) < SMALLEST:
            raise InputError(f"a graph of the whole effect is made for {SMALLEST}x{SMALLEST} pixels or more")
        self.lens_blur, self.upsample = networks["lens_blur"], networks["upsample"]
        self.depth = networks.get("depth")
        self.levels = geometry(*size)
        self.by_level = VARIANTS[variant].depth_by_level
        self._register_resizing(self.levels)

    def _register_resizing(self, levels: Geometry) -> None:
        """Matrices, (to, from, 1, 1), that resize along an axis; padding by reflection is a choice of their rows."""
        finest = levels.finest_depth
        for name, axis in (("rows", 0), ("columns", 1)):
            side, covered = (levels.height, levels.width)[axis], levels.covered(finest)[axis]
            end = DEPTH_SIZE * ((covered << (levels.steps - finest)) / side)
            matrix = bilinear(DEPTH_SIZE, covered, end=end)
            padded = matrix[reflected(0, levels.padded(finest)[axis], covered)]
            self._constant(name, padded[:, :, None, None])
        if self.depth is not None:
            for name, side in (("small_rows", levels.height), ("small_columns", levels.width)):
                self._constant(name, _fixed_point(bilinear(side, DEPTH_SIZE))[:, :, None, None])
            self._constant("places", np.arange(DEPTH_SIZE))

    def _constant(self, name: str, values: np.ndarray) -> None:
        array = np.ascontiguousarray(values, np.float32)
        self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def pictures(self, picture: Tensor) -> list[Tensor]:
        """The photo at each level from the base up: (1, 3, *padded(k)) in [0, 1], halved as light is."""
        found = [padded(picture, self.levels.padded(self.levels.steps))]
        light = LIGHT_SCALE * found[0] * found[0]
        for _ in range(self.levels.steps):
            light = F.avg_pool2d(light, 2)
            found.append(torch.sqrt(light) * LIGHT_SCALE**-0.5)
        return found[::-1]

    def signed_depths(self, disparity: Tensor, focal_disparity: Tensor, aperture: Tensor) -> list[Tensor]:
        """Signed depth (1, 1, *padded(k)) in [-1, 1] at each level that a network takes it, from the base up."""
        registered = resized(disparity, self.rows, self.columns)
        signed = (registered - focal_disparity) * (aperture * self.levels.blur_scale)
        depths = [torch.clamp(signed, -1.0, 1.0)]
        for _ in range(self.levels.finest_depth):
            depths.append(F.avg_pool2d(depths[-1], 2))
        depths.reverse()
        if self.by_level:
            depths = [
                torch.clamp(depth * float(1 << level), -1.0, 1.0) if level else depth
                for level, depth in enumerate(depths)
            ]
        return depths

    def predicted(self, picture: Tensor) -> Tensor:
        """Disparity (1, 1, 320, 320) in [0, 1] by the depth network, which sees the photo resized as by Pillow."""
        assert self.depth is not None
        pixels = torch.floor(255.0 * picture + 0.5)
        small = resized(pixels, self.small_rows, self.small_columns, whole=True)
        raw = self.depth(small * (1 / 255))
        low, high = (reduce(reduce(raw, 3, keepdim=True), 2, keepdim=True) for reduce in (torch.amin, torch.amax))
        return (raw - low) / torch.clamp(high - low, min=SMALLEST_RANGE)

    def at(self, disparity: Tensor, focus: Tensor) -> Tensor:
        """The disparity (1, 1, 1, 1) of the pixel that the point lies in: a sum in which all others have weight 0."""
        place = torch.floor(torch.clamp(focus * float(DEPTH_SIZE), 0.0, DEPTH_SIZE - 1.0))
        column = F.relu(1 - torch.abs(self.places.view(1, 1, 1, -1) - place[:, :1]))
        row = F.relu(1 - torch.abs(self.places.view(1, 1, -1, 1) - place[:, 1:]))
        return (disparity * row * column).sum(3, keepdim=True).sum(2, keepdim=True)

    def forward(self, picture: Tensor, *rest: Tensor) -> Tensor:
        if self.depth is None:
            disparity, focal_disparity, aperture = rest
        else:
            focus, aperture = rest
            disparity = self.predicted(picture)
            focal_disparity = self.at(disparity, focus)
        return self.refocused(picture, disparity, focal_disparity, aperture)

    def refocused(self, picture: Tensor, disparity: Tensor, focal_disparity: Tensor, aperture: Tensor) -> Tensor:
        """The effect behind the depth network."""
        pictures = self.pictures(picture)
        depths = self.signed_depths(disparity, focal_disparity, aperture)
        blurred = torch.clamp(self.lens_blur(pictures[0], depths[0]), 0.0, 1.0)
        for level in range(self.levels.steps):
            blurred = self.upsample(pictures[level + 1], pictures[level], blurred, depths[level])
            blurred = torch.clamp(blurred, 0.0, 1.0)
        size = self.levels.height, self.levels.width
        return blurred if blurred.shape[2:] == size else blurred[:, :, : size[0], : size[1]]


def whole_module(
    network: str, *, variant: str, size: tuple[int, int], weights: "Weights" = "shipped"
) -> tuple[Whole, dict[str, str]]:
    """The module of `whole` or `whole_with_depth`, and network → SHA-256 of the weights in it.

    Raises:
        InputError: an unknown variant, or a size that is too small.
        MissingError: the weights are not there.
    """
    from deeplens.model import build

    networks = {each: build.load(variant, each, weights) for each in parts_of(network)}
    hashes = {name: build.weights_sha256(module) for name, module in networks.items()}
    assert ("depth" in networks) == (network == WHOLE_WITH_DEPTH)
    return Whole(networks, variant=variant, size=size).eval(), hashes


def bilinear(length: int, target: int, *, end: float | None = None) -> np.ndarray:
    """The matrix (target, length) that resizes a line bilinearly, antialiased where it shrinks: Pillow's, in float64.

    Args:
        end: where on the line the last of the `target` pixels ends, in its pixels; beyond `length` the last value goes
            on. None: at its end.
    """
    end = float(length) if end is None else end
    reach = max(length, int(np.ceil(end)))
    scale = end / target
    width = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(reach) + 0.5 - centres[:, None]) / width)
    weights /= weights.sum(1, keepdims=True)
    matrix = weights[:, :length].copy()
    matrix[:, -1] += weights[:, length:].sum(1)
    return matrix


def resized(picture: Tensor, rows: Tensor, columns: Tensor, *, whole: bool = False) -> Tensor:
    """(1, C, h, w) with the matrices `rows` (H, h, 1, 1) and `columns` (W, w, 1, 1) along its axes: (1, C, H, W).

    As convolutions of one pixel, with the axis as channels: every compiler takes them, products of matrices not all.

    Args:
        whole: round to whole numbers after each axis, halves up.
    """
    narrow = F.conv2d(picture.permute(0, 3, 1, 2), columns)
    narrow = torch.floor(narrow + 0.5) if whole else narrow
    small = F.conv2d(narrow.permute(0, 3, 2, 1), rows)
    small = torch.floor(small + 0.5) if whole else small
    return small.permute(0, 2, 1, 3)


def _fixed_point(matrix: np.ndarray) -> np.ndarray:
    """Weights as Pillow has them for pictures of 8 bits: whole numbers of 2⁻²²."""
    return np.rint(matrix * (1 << 22)) / (1 << 22)


def padded(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, C, h, w) continued by reflection at the bottom and right to `size`; the border is not repeated."""
    while picture.shape[2:] != size:  # a reflection continues a picture by less than its own size
        below, beside = (min(wanted - have, have - 1) for wanted, have in zip(size, picture.shape[2:], strict=True))
        picture = F.pad(picture, (0, beside, 0, below), mode="reflect")
    return picture
