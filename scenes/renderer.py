"""Depth of field of layered scenes, in linear light: a fast renderer and an exact one.

A plane's circle of confusion has the signed radius r = radius · (disparity − focal disparity), in pixels; positive is
nearer than the focal plane (thin lens: r is proportional to the difference of disparities). Pixels near the border lack
what lies outside the canvas: crop at least `radius` + 2 pixels.

- `render_layered`, the paper's way (section 4.2): each plane, premultiplied colour and coverage alike, is blurred by
  its own disc, and the planes are composited back to front. Where two blurred edges overlap, their coverages are taken
  as independent.
- `render_exact`, an accumulation buffer: for each point s of the aperture every plane is shifted by r·s, the planes are
  composited, the pictures averaged. It is right where planes overlap, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from deeplens.scenes.colour import linear_to_srgb as linear_to_srgb
from deeplens.scenes.colour import srgb_to_linear as srgb_to_linear

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Plane:
    """One layer of a scene.

    Attributes:
        light: (H, W, 3) premultiplied linear colour; white is 1, a lamp may be brighter.
        coverage: (H, W) alpha in [0, 1].
        disparity: (c, y, x): the disparity at row i, column j is c + y·i + x·j; 0 slopes face the camera.
    """

    light: Array
    coverage: Array
    disparity: tuple[float, float, float]

    def disparity_map(self) -> Array:
        """The plane's disparity (H, W), also where it is transparent."""
        rows, columns = np.indices(self.coverage.shape, dtype=np.float32)
        constant, slope_y, slope_x = self.disparity
        return (constant + slope_y * rows + slope_x * columns).astype(np.float32)


def disc(radius: float) -> Array:
    """A disc of `radius` ≥ 0 pixels as a (2n+1, 2n+1) kernel that sums to 1, its rim antialiased over one pixel."""
    reach = int(np.ceil(radius + 0.5))
    offsets = np.arange(-reach, reach + 1, dtype=np.float32)
    distance = np.hypot(offsets[:, None], offsets[None, :])
    weights = np.clip(radius - distance + 0.5, 0.0, 1.0)
    return (weights / weights.sum()).astype(np.float32)


def composite(planes: Sequence[Plane]) -> Array:
    """The all-in-focus picture (H, W, 3) in linear light; planes from back to front."""
    light = np.zeros_like(planes[0].light)
    for plane in planes:
        light = plane.light + light * (1 - plane.coverage[..., None])
    return light


def visible_disparity(planes: Sequence[Plane]) -> Array:
    """Disparity (H, W) of the frontmost plane that covers at least half of each pixel."""
    disparity = planes[0].disparity_map()
    for plane in planes[1:]:
        disparity = np.where(plane.coverage >= 0.5, plane.disparity_map(), disparity)
    return disparity


def render_layered(planes: Sequence[Plane], *, focal: float, radius: float) -> Array:
    """The shallow depth-of-field picture (H, W, 3) in linear light, plane by plane; planes from back to front.

    Args:
        focal: disparity of the focal plane.
        radius: pixels of radius for a difference of disparity of 1.
    """
    light = np.zeros_like(planes[0].light)
    for plane in planes:
        blurred = _blur_plane(plane, focal=focal, radius=radius)
        light = blurred[..., :3] + light * (1 - blurred[..., 3:])
    return light


def render_exact(planes: Sequence[Plane], *, focal: float, radius: float, points: int = 1024) -> Array:
    """The shallow depth-of-field picture (H, W, 3) in linear light: an accumulation buffer over `points` of a disc."""
    stack = [
        torch.from_numpy(np.concatenate((plane.light, plane.coverage[..., None]), 2)).permute(2, 0, 1)[None]
        for plane in planes
    ]
    height, width = planes[0].coverage.shape
    rows = torch.arange(height, dtype=torch.float32)[:, None]
    columns = torch.arange(width, dtype=torch.float32)[None, :]
    total = torch.zeros(3, height, width, dtype=torch.float64)
    for y, x in disc_points(points):
        light = torch.zeros(3, height, width)
        for plane, pixels in zip(planes, stack, strict=True):
            constant, slope_y, slope_x = plane.disparity
            # A point at p lands on q = p + r(p)·s; for a disparity linear in p this is solved for r at q.
            there = radius * (constant - focal + slope_y * rows + slope_x * columns)
            shift = there / (1 + radius * (slope_y * y + slope_x * x))
            grid = torch.stack(
                (
                    (2 * (columns - shift * x) + 1) / width - 1,
                    (2 * (rows - shift * y) + 1) / height - 1,
                ),
                -1,
            )[None]
            moved = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
            light = moved[:3] + light * (1 - moved[3:])
        total += light
    return (total / points).permute(1, 2, 0).to(torch.float32).numpy()


def disc_points(count: int) -> NDArray[np.float64]:
    """`count` points (y, x) spread evenly over the unit disc: Vogel's spiral, equal areas, the golden angle apart."""
    index = np.arange(count)
    angle = index * np.pi * (3 - np.sqrt(5))
    distance = np.sqrt((index + 0.5) / count)
    return np.stack((distance * np.sin(angle), distance * np.cos(angle)), 1)


def _blur_plane(plane: Plane, *, focal: float, radius: float) -> Array:
    """Premultiplied light and coverage (H, W, 4), each point spread over its own disc."""
    pixels = np.concatenate((plane.light, plane.coverage[..., None]), 2)
    signed = radius * (plane.disparity_map() - focal)
    if np.ptp(signed) < 0.01:
        return _spread(pixels, abs(float(signed.mean())))
    centres = _bin_centres(float(signed.min()), float(signed.max()))
    out = np.zeros_like(pixels)
    for index, centre in enumerate(centres):
        below = centre - centres[index - 1] if index else 1.0
        above = centres[index + 1] - centre if index + 1 < len(centres) else 1.0
        away = signed - centre
        share = np.clip(1 - np.where(away < 0, -away / below, away / above), 0.0, 1.0)
        out += _spread(pixels * share[..., None], abs(float(centre)))
    return out


def _bin_centres(low: float, high: float) -> NDArray[np.float64]:
    """Signed radii from `low` to `high`, 1 pixel apart near focus and up to 6 % of the radius farther out."""
    side = [0.0]
    while side[-1] < max(abs(low), abs(high)):
        side.append(side[-1] + max(1.0, 0.06 * side[-1]))
    both = np.array(sorted({-r for r in side} | set(side)))
    inside = both[(both > low) & (both < high)]
    return np.concatenate(([low], inside, [high]))


def _spread(pixels: Array, radius: float) -> Array:
    """`pixels` (H, W, C) convolved with the disc; only the part that is not 0 is worked on."""
    if radius < 0.5:  # the antialiased disc is a single pixel
        return pixels
    used = pixels[..., -1] > 0
    rows, columns = np.flatnonzero(used.any(1)), np.flatnonzero(used.any(0))
    out = np.zeros_like(pixels)
    if not rows.size:
        return out
    kernel = disc(radius)
    reach = kernel.shape[0] // 2
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    spread = fftconvolve(pixels[top:bottom, left:right], kernel[..., None], axes=(0, 1))
    y0, x0 = top - reach, left - reach
    y1, x1 = y0 + spread.shape[0], x0 + spread.shape[1]
    height, width = used.shape
    top, bottom, left, right = max(0, y0), min(height, y1), max(0, x0), min(width, x1)
    out[top:bottom, left:right] = spread[top - y0 : bottom - y0, left - x0 : right - x0]
    return out
