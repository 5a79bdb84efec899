"""Lamps and glints: what is brighter than white in a scene, and clipped in its photo."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label, uniform_filter

from deeplens.scenes.renderer import Array, Plane

LARGEST_LAMP = 200
"""Pixels of the largest clipped spot of a photo that is taken for a lamp; a larger one is a sky or a wall."""


DARK_AROUND = 0.45
"""Mean brightness of the 31×31 pixels around a clipped spot from which on it is a part of something white, no lamp."""


def relit(plane: Plane, rng: np.random.Generator) -> Plane:
    """The plane with its clipped spots 1.5 to 30 times as bright, all by a like factor, where they look like lamps.

    Nobody knows how bright they were, but what a photo clipped was brighter than white. A spot has up to `LARGEST_LAMP`
    pixels and lies in something darker: at half of `DARK_AROUND` it has its whole factor, at `DARK_AROUND` none.
    """
    factor = float(rng.uniform(np.log(1.5), np.log(30.0)))
    brightest = plane.light.max(2)
    spots, count = label(brightest > 0.99)
    if not count:
        return plane
    sizes = np.bincount(spots.ravel())
    around = np.bincount(spots.ravel(), uniform_filter(brightest, 31).ravel()) / np.maximum(sizes, 1)
    lamp = np.clip(2 * (1 - around / DARK_AROUND), 0, 1) * (sizes <= LARGEST_LAMP)
    lamp[0] = 0
    factors = np.exp(lamp * (factor + rng.normal(0, 0.3, sizes.size))).astype(np.float32)
    return Plane(plane.light * factors[spots][..., None], plane.coverage, plane.disparity)


def with_lights(plane: Plane, rng: np.random.Generator) -> Plane:
    """The plane with up to 12 lights where it covers: spots of 0.5 to 8 pixels' radius, 1.5 to 60 times white.

    Some are a row of equal ones, some are colourful; all have soft rims a pixel wide. A spot's light takes the place of
    the plane's own.
    """
    light, coverage = plane.light.copy(), plane.coverage
    rows, columns = np.nonzero(coverage > 0.5)
    for _ in range(int(rng.integers(0, 5)) if rows.size else 0):
        place = int(rng.integers(rows.size))
        radius = float(np.exp(rng.uniform(np.log(0.5), np.log(8.0))))
        colour = np.exp(rng.uniform(np.log(1.5), np.log(60.0)) + rng.normal(0, 0.1) * np.array([1.0, 0.0, -1.0]))
        if rng.random() < 0.4:
            colour = colour * np.exp(-np.abs(rng.normal(0, 1.0, 3)))
        step = rng.uniform(-6, 6, 2) * radius
        for number in range(int(rng.integers(1, 4))):
            centre = np.array([rows[place], columns[place]]) + number * step
            _put_light(light, coverage, centre=centre, radius=radius, colour=colour.astype(np.float32))
    return Plane(light, coverage, plane.disparity)


def _put_light(light: Array, coverage: Array, *, centre: NDArray[np.float64], radius: float, colour: Array) -> None:
    """A spot of `colour` (3,), linear, in premultiplied light (H, W, 3), in place; (row, column) may lie outside."""
    reach = int(np.ceil(radius)) + 1
    top, left = np.floor(centre).astype(int) - reach
    rows = slice(max(0, top), min(coverage.shape[0], top + 2 * reach + 2))
    columns = slice(max(0, left), min(coverage.shape[1], left + 2 * reach + 2))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    down = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(centre[0])
    along = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] - np.float32(centre[1])
    share = np.clip(np.float32(radius + 0.5) - np.hypot(down, along), 0, 1)[..., None]
    own = colour * coverage[rows, columns, None]
    light[rows, columns] = share * own + (1 - share) * light[rows, columns]
