"""Shapes of the scenes that another program renders: triangles with a photo on them. NumPy, SciPy and Pillow only.

World axes are the camera's: x to the right, y down, z into the picture, the middle of the lens at the origin; lengths
have no unit. Every surface glows by itself with the linear light of its texture, so that a picture of it has no noise
but that of where the rays start; what looks like light and shadow is painted into the texture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import zoom

from deeplens.scenes.renderer import Array, srgb_to_linear

Window = tuple[float, float, float, float]
"""The part of a texture that a shape shows: left, top, right, bottom, as fractions. Past 0…1 it is mirrored."""

WHOLE: Window = (0.0, 0.0, 1.0, 1.0)

Vector = Sequence[float] | NDArray[np.floating]
"""A point or a direction: x, y, z."""

LIGHT = np.array([-0.5, -0.75, -0.43], np.float32)
"""Unit vector towards the light that is painted: from above, on the left, behind the camera."""

LEVELS = 8
"""How many brightnesses of one photo `levels` offers to the many small parts of one shape."""


@dataclass(frozen=True)
class Mesh:
    """Triangles.

    Attributes:
        vertices: (n, 3) float32.
        faces: (m, 3) int32, numbers of vertices, in any order.
        uv: (n, 2) float32, where in the texture a vertex is: from the left and from the top.
    """

    vertices: Array
    faces: NDArray[np.int32]
    uv: Array


@dataclass(frozen=True)
class Surface:
    """A mesh that glows with (h, w, 3) float32 linear light `radiance`, the same in all directions."""

    mesh: Mesh
    radiance: Array


def grid(points: Array, window: Window = WHOLE) -> Mesh:
    """A curved sheet through (rows, columns, 3) points, its texture stretched evenly over rows and columns."""
    rows, columns = points.shape[:2]
    corner = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    a, b, c, d = (part.ravel() for part in (corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]))
    left, top, right, bottom = window
    u, v = np.meshgrid(np.linspace(left, right, columns), np.linspace(top, bottom, rows))
    return Mesh(
        points.reshape(-1, 3).astype(np.float32),
        np.concatenate((np.stack((a, b, c), 1), np.stack((a, c, d), 1))),
        np.stack((u.ravel(), v.ravel()), 1).astype(np.float32),
    )


def merged(meshes: Sequence[Mesh]) -> Mesh:
    """Several meshes that share a texture as one."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + np.int32(start) for mesh, start in zip(meshes, starts, strict=True)]),
        np.concatenate([mesh.uv for mesh in meshes]),
    )


def board(corner: Vector, across: Vector, down: Vector, window: Window = WHOLE) -> Mesh:
    """A parallelogram from its top left corner and its two sides."""
    start, x, y = (np.asarray(each, np.float32) for each in (corner, across, down))
    return grid(np.array([[start, start + x], [start + y, start + x + y]]), window)


def ball(centre: Vector, radius: float, *, parts: int = 64) -> Array:
    """Points (parts + 1, 2 · parts + 1, 3) of a sphere, for `grid` and `shade`; the seam is behind it."""
    polar, turn = np.meshgrid(np.linspace(0, np.pi, parts + 1), np.linspace(0, 2 * np.pi, 2 * parts + 1), indexing="ij")
    points = np.stack((np.sin(polar) * np.sin(turn), -np.cos(polar), np.sin(polar) * np.cos(turn)), axis=-1)
    return (np.asarray(centre) + radius * points).astype(np.float32)


def tube(
    path: Sequence[Vector] | NDArray[np.floating], radius: float, window: Window = WHOLE, *, sides: int = 14
) -> Mesh:
    """A bar or wire of `radius` along a path of 3-D points; the window's width goes round it, its height along it.

    The texture's edge and middle are where the tube shows its sides: `rounded` paints the light.
    """
    points = np.asarray(path, np.float64)
    along = np.gradient(points, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.cross(along, (0.0, 0.0, 1.0))
    small = np.linalg.norm(side, axis=1) < 1e-3
    side[small] = np.cross(along[small], (0.0, 1.0, 0.0))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    front = np.cross(side, along)
    angles = np.linspace(0, 2 * np.pi, sides + 1)[None, :, None]
    ring = np.cos(angles) * side[:, None] + np.sin(angles) * front[:, None]
    return grid((points[:, None] + radius * ring).astype(np.float32), window)


def blade(path: Sequence[Vector] | NDArray[np.floating], across: Vector, window: Window = WHOLE) -> Mesh:
    """A ribbon along a path of 3-D points, as wide as `across` at its foot, tapering to a tip."""
    points = np.asarray(path, np.float64)
    width = np.linspace(0.5, 0.02, len(points))[:, None] * np.asarray(across)
    return grid(np.stack((points - width, points + width), axis=1).astype(np.float32), window)


def leaf(centre: Vector, along: Vector, across: Vector, window: Window = WHOLE) -> Mesh:
    """A pointed oval: `along` from its middle to a tip, `across` from its middle to its broadest side."""
    share = np.linspace(-1, 1, 13)[:, None]
    middle = np.asarray(centre) + share * np.asarray(along)
    side = (1 - share**2) * np.asarray(across)
    return grid(np.stack((middle - side, middle, middle + side), axis=1).astype(np.float32), window)


def silhouette(alpha: NDArray[np.uint8], corner: Vector, across: Vector, down: Vector) -> Mesh:
    """A flat cut-out: what is at least half opaque of an (h, w) alpha channel, one strip for each run of each row.

    No mask takes part in the rendering: the outline is geometry.

    Args:
        alpha: as fine as the outline should be.
        corner: its top left corner.
        across, down: its sides, as for `board`.
    """
    height, width = alpha.shape
    solid = np.pad(alpha >= 128, ((0, 0), (1, 1))).astype(np.int8)
    step = np.diff(solid, axis=1)
    row, start = np.nonzero(step == 1)
    _, stop = np.nonzero(step == -1)
    # A strip reaches a little into the next one, which shows the same there: no gaps from rounding.
    top, bottom = row / height, np.minimum((row + 1.02) / height, 1.0)
    left, right = start / width, stop / width
    uv = np.stack([np.stack(pair, 1) for pair in ((left, top), (right, top), (right, bottom), (left, bottom))], 1)
    first = 4 * np.arange(len(row), dtype=np.int32)[:, None]
    faces = np.concatenate((first + np.array([0, 1, 2], np.int32), first + np.array([0, 2, 3], np.int32)))
    vertices = np.asarray(corner) + uv[..., :1] * np.asarray(across) + uv[..., 1:] * np.asarray(down)
    return Mesh(vertices.reshape(-1, 3).astype(np.float32), faces, uv.reshape(-1, 2).astype(np.float32))


def facing(mesh: Mesh) -> Mesh:
    """The same triangles, each with the side that glows (counter-clockwise) towards the camera."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    away = np.einsum("ij,ij->i", np.cross(b - a, c - a), a + b + c) > 0
    faces = np.where(away[:, None], mesh.faces[:, ::-1], mesh.faces)
    return Mesh(mesh.vertices, faces, mesh.uv)


def shade(points: Array, *, ambient: float = 0.35) -> Array:
    """What light falls on a sheet: (rows, columns) in [ambient, 1], Lambert's law for `LIGHT`, on the side we see."""
    normal = np.cross(np.gradient(points, axis=0), np.gradient(points, axis=1))
    normal /= np.maximum(np.linalg.norm(normal, axis=2, keepdims=True), 1e-12)
    normal *= np.where((normal * points).sum(axis=2, keepdims=True) > 0, -1, 1)
    return (ambient + (1 - ambient) * np.clip(normal @ LIGHT, 0, 1)).astype(np.float32)


def painted(light: Array, shadow: Array) -> Array:
    """A texture (h, w, 3) with `shade` values of any size stretched over it and multiplied in."""
    height, width = light.shape[:2]
    factors = (height / shadow.shape[0], width / shadow.shape[1])
    stretched = zoom(shadow, factors, order=1, mode="nearest", grid_mode=True)
    return (light * stretched[..., None]).astype(np.float32)


def rounded(light: Array) -> Array:
    """A texture for `tube`s with the light of a round bar: brightest towards the upper left."""
    turn = np.linspace(0, 2 * np.pi, light.shape[1])
    return painted(light, (0.3 + 0.7 * np.clip(np.cos(turn - 1.25 * np.pi), 0, 1))[None, :].astype(np.float32))


def levels(light: Array, *, darkest: float = 0.25) -> Array:
    """`LEVELS` copies of a texture one below the other, from `darkest` to full brightness: see `level`."""
    return np.concatenate([light * np.float32(gain) for gain in np.linspace(darkest, 1, LEVELS)])


def level(rng: np.random.Generator, *, low: int = 0, high: int = LEVELS, size: float = 0.2) -> Window:
    """A random window, `size` of the photo wide and high, in one of the brightnesses `low` … `high` − 1 of `levels`."""
    left, top = rng.uniform(0, 1 - size, 2)
    inside = 0.02 + 0.96 * np.array([top, top + size])
    top, bottom = (int(rng.integers(low, high)) + inside) / LEVELS
    return float(left), float(top), float(left + size), float(bottom)


def reduced(light: Array, times: int) -> Array:
    """A texture of a `times`-th of the resolution: means of squares."""
    height, width = (side // times * times for side in light.shape[:2])
    squares = light[:height, :width].reshape(height // times, times, width // times, times, 3)
    return squares.mean(axis=(1, 3), dtype=np.float32)


def receding(
    light: Array, start: tuple[float, float], end: tuple[float, float], near: float, far: float, *, scale: float
) -> list[Surface]:
    """A plane from the edge `start`–`end` (x, y) at depth `near` straight back to `far`, its photo repeated (mirrored).

    Each doubling of the depth has a photo of half the resolution: detail finer than a pixel would be noise, no more.

    Args:
        scale: length that the photo's width covers along the edge, and its height along z.
    """
    edge = np.subtract(end, start)
    wide, parts = float(np.hypot(*edge)) / scale, []
    depth = near
    while depth < far:
        stop = min(2 * depth, far)
        window = (0.0, (far - stop) / scale, wide, (far - depth) / scale)
        mesh = board((*start, stop), (*edge, 0), (0, 0, depth - stop), window)
        parts.append(Surface(mesh, reduced(light, round(depth / near))))
        depth = stop
    return parts


def linear(pixels: NDArray[np.uint8], size: tuple[int, int] | None = None) -> Array:
    """Linear light (h, w, 3) of 8-bit sRGB pixels, resized to `size` (width, height) first."""
    if size is not None:
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    return srgb_to_linear(pixels.astype(np.float32) / np.float32(255))
