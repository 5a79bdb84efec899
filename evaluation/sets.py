"""The sets of pictures that methods are judged on, each a fixed row of named scenes.

- `synthetic`, `large`: the test split of our own three-plane scenes, 640 and 1280 px (`scenes.planes`);
- `lens`: Mitsuba's thin lens, over scenes of any shape (`evaluation.lens_truth`); `highlights`: those of its scenes
  that hold more light than an 8-bit photo can say;
- `rgbd`: real photos with measured depth, blurred by the exact renderer (`evaluation.rgbd`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from deeplens.model.contract import BASE_LONG_SIDE, R_MAX
from deeplens.scenes import planes as scenes
from deeplens.scenes.planes import PhotoConfig, Scene
from deeplens.scenes.sources import Sources

SETS = ("synthetic", "large", "lens", "highlights", "rgbd")


@dataclass(frozen=True)
class PictureSet:
    """Named scenes in a fixed order. Light: it travels to other processes.

    Attributes:
        name: one of `SETS`.
        title: what stands above its table.
        count: scenes.
        read: read(start, step) yields the scenes start, start + step, …, each with its name. What stands before a "/"
            in a name is one setting, seen with several focal planes and apertures.
    """

    name: str
    title: str
    count: int
    read: Callable[[int, int], Iterator[tuple[str, Scene]]]

    def part(self, index: int, parts: int) -> Iterator[tuple[str, Scene]]:
        """Scenes `index`, `index` + `parts`, …: all the parts together are the set."""
        return self.read(index, parts)


def blur_radius(scene: Scene) -> float:
    """Pixels of radius of the circle of confusion for a difference in disparity of 1 at the full aperture."""
    return R_MAX / BASE_LONG_SIDE * max(scene.picture.shape[:2])


def setting(name: str) -> str:
    """What a scene shares with others of its set: scores of one setting are not independent."""
    return name.split("/")[0]


def synthetic(sources: Sources, *, count: int, config: PhotoConfig, name: str = "synthetic") -> PictureSet:
    """The first `count` scenes of the test split."""
    steps = f"{config.steps} ×2 step{'s' if config.steps > 1 else ''}"
    made = f"from {len(sources.backgrounds)} photos and {len(sources.cutouts)} cut-outs"
    title = f"Three planes, our own renderer: {count} scenes of {config.size}×{config.size} px {made}, {steps}"
    return PictureSet(name, title, count, partial(_synthetic, sources, config, count))


def stored(name: str, title: str, reader: Callable[[Path], Iterator[tuple[str, Scene]]], folder: Path) -> PictureSet:
    """All scenes that `reader` finds in `folder`.

    Raises:
        MissingError: none; the message names the command that makes them.
    """
    names = [name for name, _ in reader(folder)]
    settings = len({setting(each) for each in names})
    of = f" of {settings} settings" if settings < len(names) else ""
    return PictureSet(name, f"{title}: {len(names)} pictures{of}", len(names), partial(_stored, reader, folder))


def open_set(name: str, *, data: Path, count: int) -> PictureSet:
    """A set by its name, from the folder that `make data` filled.

    Args:
        name: one of `SETS`.
        count: scenes of `synthetic` and `large`; the others are taken whole.

    Raises:
        MissingError: the set is not in `data`.
    """
    if name in ("lens", "highlights"):
        title = "Mitsuba's thin lens, 640 px" + (", clipped highlights" if name == "highlights" else "")
        return stored(name, title, partial(_lens, name == "highlights"), data / "lens")
    if name == "rgbd":
        from deeplens.evaluation.rgbd import rgbd_scenes

        return stored(name, "Real photos with measured depth, exact renderer, 640 px", rgbd_scenes, data / "rgbd")
    from deeplens.scenes.sources import shipped

    config = scenes.LARGE_TEST_CONFIG if name == "large" else scenes.TEST_CONFIG
    return synthetic(shipped("test", data), count=count, config=config, name=name)


def _synthetic(sources: Sources, config: PhotoConfig, count: int, start: int, step: int) -> Iterator[tuple[str, Scene]]:
    for index in range(start, count, step):
        (scene,) = scenes.test_scenes(sources, start=index, count=1, config=config)
        yield f"{index:03d}", scene


def _lens(highlights: bool, folder: Path) -> Iterator[tuple[str, Scene]]:
    from deeplens.evaluation.lens_scenes import SCENES
    from deeplens.evaluation.lens_truth import lens_truth

    return (each for each in lens_truth(folder) if SCENES[setting(each[0])].highlights == highlights)


def _stored(
    reader: Callable[[Path], Iterator[tuple[str, Scene]]], folder: Path, start: int, step: int
) -> Iterator[tuple[str, Scene]]:
    return islice(reader(folder), start, None, step)
