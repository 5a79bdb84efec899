"""The scenes that judge us though we did not render them: geometry, textures and where to focus; see `lens_truth`.

Fourteen scenes made by hand of the test split's photos and cut-outs, all but two with what three flat planes can't be:
slanted and curved ground, round and thin things at many depths, things that hide parts of themselves. A scene is the
same for every size of picture, and its random parts come from its name.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deeplens.evaluation import lens_shapes as shapes
from deeplens.evaluation.lens_shapes import Mesh, Surface, board, grid, level, levels, merged, painted, receding, shade
from deeplens.evaluation.lens_textures import LONG, SHORT, Textures
from deeplens.scenes.renderer import Array


@dataclass(frozen=True)
class LensScene:
    """One scene.

    Attributes:
        build: makes its surfaces.
        near, far: depths along the optical axis that have the disparities 1 and 0; all that is seen lies between.
        focal: disparities to focus on, in [0, 1].
        portrait: the long side is upright.
        highlights: some of it is brighter than an 8-bit photo can say: to be reported apart.
    """

    build: Callable[[Textures, np.random.Generator], list[Surface]]
    near: float
    far: float
    focal: tuple[float, float, float]
    portrait: bool = False
    highlights: bool = False


def surfaces(name: str, textures: Textures) -> list[Surface]:
    """The surfaces of a scene, facing the camera.

    Raises:
        MissingError: a photo or a cut-out of it is not among the textures.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    brightest = np.inf if SCENES[name].highlights else 1.0
    parts = SCENES[name].build(textures, rng)
    return [Surface(shapes.facing(part.mesh), np.minimum(part.radiance, brightest, dtype=np.float32)) for part in parts]


def _backdrop(light: Array, depth: float, *, portrait: bool = False) -> Surface:
    """A photo that fills the view at a depth, and more than that: the lens sees past the frame."""
    x, y = (1.15 * depth * half for half in ((SHORT, LONG) if portrait else (LONG, SHORT)))
    return Surface(board((-x, -y, depth), (2 * x, 0, 0), (0, 2 * y, 0)), light)


def _ground(light: Array, y: float, near: float, far: float, *, scale: float) -> list[Surface]:
    """A level plane, as wide as the view at `far`."""
    x = 1.3 * LONG * far
    return receding(light, (-x, y), (x, y), near, far, scale=scale)


def _post(x: float, z: float, top: float, bottom: float, radius: float) -> Mesh:
    return shapes.tube(((x, top, z), (x, (top + bottom) / 2, z), (x, bottom, z)), radius, (0, 0, 1, (bottom - top) * 2))


def _wire(start: np.ndarray, end: np.ndarray, sag: float, radius: float) -> Mesh:
    share = np.linspace(0, 1, 25)[:, None]
    path = start + share * (end - start) + 4 * sag * share * (1 - share) * np.array([0, 1, 0])
    return shapes.tube(path.tolist(), radius, (0, 0, 1, 6))


def _ball(light: Array, centre: tuple[float, float, float], radius: float) -> Surface:
    points = shapes.ball(centre, radius)
    return Surface(grid(points), painted(light, shade(points)))


def _box(
    light: Array, centre: tuple[float, float], floor: float, size: tuple[float, float, float], yaw: float
) -> Surface:
    """A box on the floor, four sides and a lid, each with the photo in another brightness."""
    width, height, length = size
    turn = np.radians(yaw)
    x, z = np.array([np.cos(turn), 0, np.sin(turn)]) * width, np.array([-np.sin(turn), 0, np.cos(turn)]) * length
    low = np.array([centre[0], floor - height, centre[1]]) - (x + z) / 2
    down = np.array([0, height, 0])
    sides = [(low, x, down, 5), (low + x, z, down, 2), (low + z, x, down, 1), (low, z, down, 6), (low, x, z, 7)]
    meshes = [board(a, b, c, (0, (k + 0.02) / 8, 1, (k + 0.98) / 8)) for a, b, c, k in sides]
    return Surface(merged(meshes), levels(light))


def _fence(of: Textures, _: np.random.Generator) -> list[Surface]:
    bars = [_post(x, 1.5 + 0.25 * x, -0.3, 0.6, 0.011) for x in np.arange(-0.9, 0.95, 0.15).tolist()]
    rails = [_wire(np.array([-0.95, y, 1.26]), np.array([0.95, y, 1.74]), 0.0, 0.014) for y in (-0.22, 0.3)]
    wood = shapes.rounded(of.photo("coffee", box=(0, 0, 0.3, 0.6), size=(64, 256)))
    return [
        _backdrop(of.photo("boats", box=(0.0, 0.0, 1.0, 0.72)), 12.0),
        *_ground(of.photo("boats", box=(0.6, 0.76, 1.0, 1.0)), 0.6, 1.2, 12.0, scale=1.6),
        of.cutout("donkey", 1.1, (-0.7, 0.6, 4.0), yaw=15),
        of.cutout("doe", 1.1, (1.3, 0.6, 6.0), mirrored=True),
        of.cutout("helmeted_guineafowl", 0.5, (0.25, 0.6, 2.6)),
        Surface(merged([*bars, *rails]), wood),
    ]


def _poles(of: Textures, _: np.random.Generator) -> list[Surface]:
    places = [(side * 1.1, z) for side in (-1, 1) for z in np.geomspace(2.0, 12.5, 8)]
    meshes = [_post(x, z, -0.95, 0.7, 0.05) for x, z in places]
    for (x, z), (_x, further) in pairwise(places):
        for hook in (x - 0.06, x + 0.1) if further > z else ():
            meshes.append(_wire(np.array([hook, -0.9, z]), np.array([hook, -0.9, further]), 0.1, 0.008))
    return [
        _backdrop(of.photo("fog", box=(0, 0, 1, 0.9)), 14.0),
        *_ground(of.photo("stream", box=(0.0, 0.5, 0.5, 1.0)), 0.7, 1.5, 14.0, scale=2.2),
        Surface(merged(meshes), shapes.rounded(of.photo("cups", box=(0, 0, 0.5, 1), size=(64, 256)))),
    ]


def _dunes(of: Textures, _: np.random.Generator) -> list[Surface]:
    z, x = np.meshgrid(np.geomspace(0.9, 12.2, 400), np.linspace(-1, 1, 260), indexing="ij")
    x = x * LONG * 1.3 * z
    waves = 0.22 * np.sin(2.2 * z + 1.3 * np.sin(0.9 * x)) + 0.12 * np.sin(3.1 * x + 0.7 * z) * np.minimum(z / 3, 1)
    points = np.stack((x, 0.36 - 0.09 * (z - 1.2) - waves * np.clip(z - 1, 0, 2) / 2, z), axis=-1).astype(np.float32)
    sand = of.photo("sundial", box=(0.0, 0.62, 0.55, 1.0), size=(1400, 1400)) * np.float32(2.2)
    return [
        _backdrop(of.photo("sundial", box=(0.0, 0.05, 1.0, 0.55)), 12.0),
        Surface(grid(points), painted(sand, shade(points, ambient=0.25))),
    ]


def _grass(of: Textures, rng: np.random.Generator) -> list[Surface]:
    blades = []
    for _ in range(700):
        z = float(np.exp(rng.uniform(np.log(1.5), np.log(8.0))))
        x, height = rng.uniform(-1.1, 1.1) * LONG * z, rng.uniform(0.25, 0.75)
        lean, share = rng.normal(0, 0.25, 2), np.linspace(0, 1, 7)[:, None]
        path = (x, 0.5, z) + share * (0, -height, 0) + share**2 * (lean[0], 0, lean[1])
        blades.append(shapes.blade(path.tolist(), (rng.uniform(0.015, 0.04), 0, 0.01), level(rng, size=0.1)))
    light = of.photo("stream", box=(0.1, 0.0, 0.9, 0.4), size=(256, 160)) * np.array((1.6, 2.2, 1.0), np.float32)
    return [
        _backdrop(of.photo("stream"), 9.0),
        *_ground(of.photo("sundial", box=(0.0, 0.62, 0.55, 1.0)) * 1.6, 0.5, 1.2, 9.0, scale=1.5),
        of.cutout("orange_seville", 0.5, (-0.45, 0.5, 3.0)),
        of.cutout("mantis", 0.55, (0.35, 0.42, 2.0), yaw=30),
        Surface(merged(blades), levels(light)),
    ]


def _herd(of: Textures, _: np.random.Generator) -> list[Surface]:
    return [
        _backdrop(of.photo("fog", box=(0, 0.15, 1, 1)), 20.0),
        *_ground(of.photo("fog", box=(0, 0.75, 1, 1.0)) * 1.5, 0.9, 2.2, 20.0, scale=6.0),
        of.cutout("capybara", 0.6, (0.55, 0.9, 2.6), yaw=-35),
        of.cutout("pelican", 1.3, (-0.9, 0.1, 3.2)),
        of.cutout("donkey", 1.6, (1.0, 0.9, 5.0), yaw=25, mirrored=True),
        of.cutout("owl", 1.4, (-1.5, 0.9, 6.0)),
        of.cutout("doe", 1.8, (0.1, 0.9, 8.5)),
        of.cutout("garbagetruck", 2.6, (-3.5, 0.9, 14.0), yaw=20),
        of.cutout("paratrooper", 3.0, (3.6, -1.6, 17.0)),
    ]


def _leaves(of: Textures, rng: np.random.Generator) -> list[Surface]:
    """Foliage all round, a hole in the middle, big leaves close to the frame."""
    meshes: list[Mesh] = []
    while len(meshes) < 750:
        z = float(np.exp(rng.uniform(np.log(1.05), np.log(6.0))))
        x, y = rng.uniform(-1.2, 1.2) * LONG * z, rng.uniform(-1.2, 1.2) * SHORT * z
        if np.hypot(x / (LONG * z), y / (SHORT * z)) < rng.uniform(0.45, 1.0):
            continue
        along = rng.normal(0, 1, 3) * (1, 1, 0.6)
        along *= rng.uniform(0.05, 0.13) / np.linalg.norm(along)
        across = np.cross(along, rng.normal((0, 0, 1), 0.4))
        across *= 0.4 * np.linalg.norm(along) / np.linalg.norm(across)
        z = max(z, 1.02 + abs(float(along[2])) + abs(float(across[2])))
        meshes.append(shapes.leaf((x, y, z), along, across, level(rng, size=0.15)))
    light = of.photo("stream", box=(0.0, 0.0, 1.0, 0.5), size=(400, 260)) * np.array((1.5, 2.0, 0.9), np.float32)
    return [
        _backdrop(of.photo("sundial"), 8.0),
        _ball(of.photo("stream", size=(400, 300)), (0.15, 0.15, 3.0), 0.4),
        Surface(merged(meshes), levels(light)),
    ]


def _boards(of: Textures, _: np.random.Generator) -> list[Surface]:
    """Slanted boards that pass through one another."""
    return [
        _backdrop(of.photo("boats"), 10.0),
        Surface(board((-1.9, -0.9, 6.5), (1.6, 0.1, -4.9), (0.1, 1.5, 0.2)), of.photo("cups")),
        Surface(
            board((-0.5, -0.75, 1.9), (2.6, -0.3, 5.0), (0, 1.1, 0.3)), of.photo("bridge", box=(0.2, 0.3, 0.8, 0.9))
        ),
        Surface(board((-1.2, 0.55, 5.5), (2.6, 0, 0), (0, -0.05, -4.0)), of.photo("coffee", size=(600, 400))),
        Surface(board((-0.1, -0.5, 3.0), (0.9, 0.3, 0.4), (-0.35, 0.9, 0.5)), of.photo("stream", size=(512, 512))),
        Surface(board((0.15, 0.0, 1.35), (0.45, -0.06, 0.5), (0.05, 0.4, -0.1)), of.photo("cups", box=(0.5, 0, 1, 1))),
    ]


def _letters(of: Textures, _: np.random.Generator) -> list[Surface]:
    """Words at several depths, one of them slanted."""
    words = (
        ("NEAR", (-0.5, 0.12, 1.5), (0.62, 0, 0.15), (0, 0.26, 0)),
        ("sharp?", (-0.55, -0.35, 2.4), (1.5, 0.1, 1.5), (0, 0.42, 0)),
        ("BOKEH", (-1.35, -1.0, 4.5), (2.6, 0, 0.3), (0, 0.9, 0)),
        ("12345", (0.3, 0.05, 3.4), (0.8, 0, -1.0), (0, 0.45, -0.2)),
        ("far away", (-1.6, 0.75, 6.5), (3.6, 0, 0), (0, 0.85, 0)),
    )
    lights = [of.photo(name, size=(512, 256)) for name in ("cups", "coffee", "boats", "cups", "stream")]
    parts = [
        _backdrop(of.photo("bridge", box=(0, 0.25, 0.9, 1)), 9.0),
        *_ground(of.photo("coffee", box=(0, 0, 0.3, 0.4), size=(512, 384)), 0.75, 1.5, 9.0, scale=2.5),
    ]
    for (text, corner, across, down), light in zip(words, lights, strict=True):
        font = ImageFont.load_default(size=400)
        left, top, right, bottom = (round(each) for each in font.getbbox(text))
        picture = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(picture).text((-left, -top), text, fill=255, font=font)
        parts.append(Surface(shapes.silhouette(np.asarray(picture), corner, across, down), light))
    return parts


def _balls(of: Textures, rng: np.random.Generator) -> list[Surface]:
    parts = [
        _backdrop(of.photo("bridge", box=(0, 0.05, 1, 0.95)), 12.0),
        *_ground(of.photo("coffee", box=(0, 0, 0.3, 0.4), size=(512, 384)), 0.7, 1.5, 12.0, scale=2.0),
    ]
    names = ("cups", "stream", "boats", "coffee", "sundial", "fog", "bridge")
    places = ((-0.5, 2.0, 0.2), (0.55, 2.4, 0.32), (-0.1, 3.3, 0.4), (-1.3, 4.0, 0.5), (1.3, 5.0, 0.6), (0, 7.0, 0.8))
    for index, (x, z, radius) in enumerate((*places, (-2.6, 9.0, 1.1), (2.9, 10.0, 1.2), (0.05, 1.9, 0.09))):
        light = of.photo(names[index % len(names)], size=(1024, 512))
        parts.append(_ball(light, (x, 0.7 - radius, z), radius))
    beads = [shapes.ball((x, y, z), 0.02, parts=8) for x, y, z in rng.uniform((-1, -0.7, 1.6), (1, 0.3, 6), (60, 3))]
    meshes = [grid(points, level(rng, low=3, size=0.05)) for points in beads]
    return [*parts, Surface(merged(meshes), levels(of.photo("cups", size=(256, 160))))]


def _net(of: Textures, rng: np.random.Generator) -> list[Surface]:
    """An upright picture through a slack net."""
    y, x = np.meshgrid(np.linspace(-0.75, 0.75, 25), np.linspace(-0.55, 0.55, 19), indexing="ij")
    z = 1.55 + 0.35 * x + 0.12 * np.sin(5 * y + 3 * x) + 0.02 * rng.normal(size=x.shape)
    knots = np.stack((x + 0.012 * rng.normal(size=x.shape), y + 0.012 * rng.normal(size=x.shape), z), axis=-1)
    lines = [*knots, *knots.transpose(1, 0, 2)]
    window = (0.0, 0.0, 1.0, 6.0)
    return [
        _backdrop(of.photo("cups", box=(0.2, 0, 0.7, 1), size=(768, 1024)), 8.0, portrait=True),
        of.cutout("eggplant", 2.0, (-0.45, 0.9, 3.6)),
        of.cutout("Strawberry2", 1.0, (0.5, 1.0, 2.8), yaw=20),
        of.cutout("dolphin", 1.7, (0.9, 0.2, 5.2), mirrored=True),
        Surface(
            merged([shapes.tube(line.tolist(), 0.005, window, sides=8) for line in lines]),
            shapes.rounded(of.photo("coffee", size=(32, 128))),
        ),
    ]


def _corridor(of: Textures, _: np.random.Generator) -> list[Surface]:
    """Walls, floor and ceiling from close by to far away: no depth is missing."""
    wall = of.photo("stream").transpose(1, 0, 2)
    floor, roof = of.photo("coffee", box=(0, 0, 0.3, 0.9)), of.photo("fog", box=(0, 0, 1, 0.5))
    boxes = [((-0.6, 2.6), 0.45, 25), ((0.65, 4.2), 0.6, -20), ((-0.5, 6.5), 0.8, 40), ((0.7, 9.5), 0.9, 10)]
    crates = [of.photo(name, size=(256, 256)) for name in ("cups", "coffee", "boats", "bridge")]
    return [
        _backdrop(of.photo("boats", box=(0.3, 0.1, 0.7, 0.7)), 15.0),
        *receding(wall * np.float32(0.8), (-1.2, -0.8), (-1.2, 0.8), 1.5, 15.0, scale=1.6),
        *receding(wall, (1.2, -0.8), (1.2, 0.8), 1.5, 15.0, scale=1.6),
        *receding(floor, (-1.2, 0.8), (1.2, 0.8), 1.5, 15.0, scale=2.4),
        *receding(roof, (-1.2, -0.8), (1.2, -0.8), 1.5, 15.0, scale=2.4),
        *(
            _box(light, place, 0.8, (side, side, side), yaw)
            for (place, side, yaw), light in zip(boxes, crates, strict=True)
        ),
    ]


def _window(of: Textures, _: np.random.Generator) -> list[Surface]:
    """Out of focus frames at the picture's edges, a table that slants away, things on it, a view behind."""
    frame = Image.new("L", (1280, 960), 255)
    draw = ImageDraw.Draw(frame)
    for left, top, right, bottom in ((150, 100, 590, 430), (690, 100, 1130, 430), (150, 510, 1130, 1000)):
        draw.rounded_rectangle((left, top, right, bottom), 60, fill=0)
    side, height = 1.15 * 1.2 * LONG, 1.15 * 1.2 * SHORT
    mesh = shapes.silhouette(np.asarray(frame), (-side, -height, 1.2), (2 * side, 0, 0), (0, 2 * height, 0))
    return [
        _backdrop(of.photo("sundial", box=(0, 0, 1, 0.9)), 10.0),
        Surface(
            board((-1.6, 0.35, 5.0), (3.2, 0, 0), (0, 0.25, -3.6)),
            of.photo("coffee", box=(0, 0, 0.3, 1), size=(512, 768)),
        ),
        of.cutout("Christmas_pudding", 0.5, (-0.5, 0.5, 2.9)),
        of.cutout("Strawberry2", 0.35, (0.3, 0.54, 2.2)),
        of.cutout("wheel_tractor", 0.9, (0.75, 0.41, 4.2), yaw=35),
        of.cutout("cementmixer", 2.0, (-2.0, 1.2, 8.0)),
        Surface(mesh, of.photo("fog", box=(0, 0.6, 1, 1.0)) * np.float32(0.6)),
    ]


def _lights(of: Textures, rng: np.random.Generator, *, gain: float, radius: float) -> list[Surface]:
    """A dim view with many small bright balls, near and far, behind and before a lattice of bars."""
    colours = np.array([[1.0, 0.75, 0.4], [1.0, 0.95, 0.85], [0.5, 0.75, 1.0], [1.0, 0.3, 0.25], [0.4, 1.0, 0.5]])
    groups: list[list[Mesh]] = [[] for _ in colours]
    for _ in range(170):
        z = float(np.exp(rng.uniform(np.log(2.0), np.log(11.0))))
        x, y = rng.uniform(-1.05, 1.05) * LONG * z, rng.uniform(-1.05, 0.5) * SHORT * z
        groups[int(rng.integers(len(groups)))].append(grid(shapes.ball((x, y, z), radius * z**0.7, parts=8)))
    bars = [
        _wire(np.array([x, -0.9, 2.2]), np.array([x + 0.9, 0.9, 3.2]), 0.05, 0.018) for x in np.arange(-2.0, 1.2, 0.5)
    ]
    return [
        _backdrop(of.photo("boats", box=(0, 0, 1, 0.75)) * np.float32(0.4), 12.0),
        *_ground(of.photo("boats", box=(0.6, 0.76, 1.0, 1.0)) * np.float32(0.6), 0.8, 1.8, 12.0, scale=2.0),
        of.cutout("owl", 0.9, (-0.25, 0.8, 2.4)) if gain <= 1 else of.cutout("pelican", 1.1, (-0.3, 0.6, 2.8)),
        Surface(merged(bars), shapes.rounded(of.photo("fog", size=(32, 256)))),
        *(
            Surface(merged(meshes), np.full((2, 2, 3), gain * colour, np.float32))
            for meshes, colour in zip(groups, colours, strict=True)
        ),
    ]


def _dots(of: Textures, rng: np.random.Generator) -> list[Surface]:
    return _lights(of, rng, gain=1.0, radius=0.012)


def _lamps(of: Textures, rng: np.random.Generator) -> list[Surface]:
    return _lights(of, rng, gain=12.0, radius=0.006)


SCENES = {
    "fence": LensScene(_fence, 1.3, 12.0, (0.78, 0.2, 0.0)),
    "poles": LensScene(_poles, 2.2, 14.0, (0.95, 0.4, 0.05)),
    "dunes": LensScene(_dunes, 1.0, 12.0, (0.8, 0.35, 0.0)),
    "grass": LensScene(_grass, 1.0, 9.0, (0.75, 0.3, 0.05)),
    "herd": LensScene(_herd, 2.2, 20.0, (0.9, 0.35, 0.0)),
    "leaves": LensScene(_leaves, 1.0, 8.0, (0.7, 0.3, 0.0)),
    "boards": LensScene(_boards, 1.2, 10.0, (0.8, 0.4, 0.1)),
    "letters": LensScene(_letters, 1.4, 9.0, (0.9, 0.45, 0.05)),
    "balls": LensScene(_balls, 1.6, 12.0, (0.8, 0.35, 0.05)),
    "net": LensScene(_net, 1.2, 8.0, (0.75, 0.25, 0.0), portrait=True),
    "corridor": LensScene(_corridor, 2.2, 15.0, (0.7, 0.3, 0.05)),
    "window": LensScene(_window, 1.2, 10.0, (1.0, 0.4, 0.05)),
    "dots": LensScene(_dots, 1.9, 12.0, (0.75, 0.3, 0.0)),
    "lamps": LensScene(_lamps, 1.9, 12.0, (0.75, 0.3, 0.0), highlights=True),
}
"""By name. `lamps` alone has light above what the photo shows."""
