"""The photos and cut-outs that the scenes of `lens_scenes` are made of, by name, and the angle that a picture spans."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from deeplens.console.errors import MissingError
from deeplens.evaluation.lens_shapes import WHOLE, Surface, Window, linear, silhouette
from deeplens.scenes.renderer import Array
from deeplens.scenes.sources import Sources, load_background, load_cutout

FOV = 45.0
"""Angle of view along the long side, in degrees."""

LONG, SHORT = float(np.tan(np.radians(FOV / 2))), 0.75 * float(np.tan(np.radians(FOV / 2)))
"""Half the long and the short side of what is seen at a depth of 1."""

FINE = 2 * 320 / LONG
"""Points of an outline for each unit of length at a depth of 1: two a pixel at 640 pixels."""

PHOTOS = {
    "bridge": "Bridge_by_Sander_Klootwijk",
    "cups": "ColorfulCups",
    "boats": "EveningGlow",
    "coffee": "coffee",
    "fog": "fog",
    "stream": "life_by_Aitzol_Berasategi",
    "sundial": "sunset_by_Aitzol_Berasategi",
}
"""What a scene calls a photo, and the file's stem in the test split."""


@dataclass(frozen=True)
class Textures:
    """The photos and cut-outs at hand, by name."""

    photos: dict[str, Path]
    cutouts: dict[str, Path]

    def photo(self, name: str, *, box: Window = WHOLE, size: tuple[int, int] = (1024, 768)) -> Array:
        """The part `box` (fractions) of a photo at `size` (width, height), (h, w, 3) linear light.

        Raises:
            MissingError: it is not among them.
        """
        pixels = _decoded(self._path(self.photos, name))
        height, width = pixels.shape[:2]
        left, top, right, bottom = (round(part * side) for part, side in zip(box, (width, height) * 2, strict=True))
        return linear(pixels[top:bottom, left:right], size)

    def cutout(
        self, name: str, height: float, foot: tuple[float, float, float], *, yaw: float = 0.0, mirrored: bool = False
    ) -> Surface:
        """A cut-out that stands with the middle of its lower edge at `foot`, turned by `yaw` degrees.

        Raises:
            MissingError: it is not among them.
        """
        picture = Image.fromarray(load_cutout(self._path(self.cutouts, name))).convert("RGBa")
        if mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        rows = int(np.clip(FINE * height / foot[2], 64, 1600))
        columns = max(8, round(picture.width * rows / picture.height))
        alpha = picture.getchannel("a").resize((columns, rows), Image.Resampling.BICUBIC)
        colours = picture.resize((columns // 2, rows // 2), Image.Resampling.LANCZOS).convert("RGBA").convert("RGB")
        width, turn = height * picture.width / picture.height, np.radians(yaw)
        across = width * np.array([np.cos(turn), 0, np.sin(turn)])
        corner = np.asarray(foot) - across / 2 - (0, height, 0)
        mesh = silhouette(np.asarray(alpha), corner.tolist(), across.tolist(), (0, height, 0))
        return Surface(mesh, linear(np.asarray(colours)))

    @staticmethod
    def _path(files: dict[str, Path], name: str) -> Path:
        if name not in files:
            raise MissingError(f"this scene needs '{name}', which is not among the given photos and cut-outs")
        return files[name]


def split_textures(sources: Sources) -> Textures:
    """The test split's photos and cut-outs by the names that scenes use."""
    names = {stem: name for name, stem in PHOTOS.items()}
    return Textures(
        photos={names[path.stem]: path for path in sources.backgrounds if path.stem in names},
        cutouts={path.stem: path for path in sources.cutouts},
    )


def folder_textures(folder: Path) -> Textures:
    """The photos of a folder, `NAME.jpg` by the names of `PHOTOS`; no cut-outs: enough for some of the scenes."""
    return Textures(photos={path.stem: path for path in sorted(folder.glob("*.jpg"))}, cutouts={})


@lru_cache(maxsize=8)
def _decoded(path: Path) -> np.ndarray:
    return load_background(path)
