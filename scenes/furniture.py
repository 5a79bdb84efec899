"""Models of furniture, plants, people and vehicles: the Sweet Home 3D libraries of Debian. Works without torch and bpy.

A .sh3f file is a zip: one OBJ with its MTL and textures in a folder for each model, and a catalogue that gives each
model's name, size in centimetres, author and so on, and the licence of the library. Only libraries in the public domain
or under Creative Commons Attribution are used (LICENCES).
`python -m deeplens.scenes.fetch --only furniture` brings them.
"""

import hashlib
import re
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from deeplens.console.errors import InputError, MissingError

CATALOGUE = "PluginFurnitureCatalog.properties"
LICENCES = {"Public domain": "CC0-1.0", "Creative Commons Attribution 3.0": "CC-BY-3.0"}
"""How a catalogue begins to name a licence that is used here, and its SPDX name."""

LARGEST_MODEL = 3_000_000
"""Bytes of an OBJ file beyond which a model is left out: it would take longer to read than a picture to render."""

SHARES = (("val", 0.10), ("test", 0.22), ("train", 1.0))
"""Upper bounds on a hash in [0, 1): 10 % of the models are for validation, 12 % for test, the others for training."""


@dataclass(frozen=True)
class Model:
    """One model of a library. Lengths in metres; z is up, the front faces +y when the yaw is 0."""

    library: Path
    file: str  # the OBJ inside the library
    category: str
    licence: str  # SPDX
    creator: str
    size: tuple[float, float, float]  # width (x), depth (y), height (z)
    elevation: float  # of its lower side above the floor: 0 for what stands
    top: float | None  # height at which something can stand on it
    opening: bool  # a door or window
    rotation: tuple[float, ...]  # 3×3, row by row, in the OBJ's own axes (y up)

    @property
    def key(self) -> str:
        """What names it in every list, and decides its split: LIBRARY/FOLDER/NAME."""
        return f"{self.library.stem}/{PurePosixPath(self.file).with_suffix('')}"

    @property
    def split(self) -> str:
        """That of its series: bed1/bed1.obj and bed2/bed2.obj of a library belong together."""
        series = re.sub(r"([-_]?\d+)+$", "", PurePosixPath(self.file).stem)
        return split_of(f"{self.library.stem}/{series}")


def split_of(key: str) -> str:
    """The one split (train, val or test) of a thing that is named `key`, by the SHA-256 of the name."""
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return next(split for split, bound in SHARES if share < bound)


def read_properties(text: str) -> dict[str, str]:
    """The entries of a Java .properties file; later ones win."""
    entries = {}
    for line in re.sub(r"\\\r?\n[ \t]*", "", text).splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not line.lstrip().startswith(("#", "!")):
            plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), value.strip())
            entries[key.strip()] = re.sub(r"\\(.)", r"\1", plain)
    return entries


def read_library(path: Path) -> list[Model]:
    """The models of a .sh3f file that can be used, in the catalogue's order; none if its licence is not in LICENCES.

    Raises InputError when the file is no such library.
    """
    try:
        with zipfile.ZipFile(path) as library:
            properties = read_properties(library.read(CATALOGUE).decode("latin-1"))
            sizes = {each.filename: each.file_size for each in library.infolist()}
    except (zipfile.BadZipFile, KeyError) as error:
        raise InputError(f"{path} is not a furniture library ({error}): fetch it again") from error
    licence = next((spdx for name, spdx in LICENCES.items() if properties.get("license", "").startswith(name)), None)
    if licence is None:
        return []
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for key, value in properties.items():
        name, numbered, number = key.partition("#")
        if numbered:
            found[number][name] = value
    models = []
    for fields in found.values():
        file = fields.get("model", "").removeprefix("/")
        if not file.endswith(".obj") or sizes.get(file, LARGEST_MODEL) >= LARGEST_MODEL or "license" in fields:
            continue
        width, depth, height = (float(fields[side]) / 100 for side in ("width", "depth", "height"))
        top = float(fields.get("dropOnTopElevation", height * 100)) / 100
        models.append(
            Model(
                library=path,
                file=file,
                category=fields.get("category", ""),
                licence=licence,
                creator=fields.get("creator", ""),
                size=(width, depth, height),
                elevation=float(fields.get("elevation", 0)) / 100,
                top=top if top > 0 else None,
                opening=fields.get("doorOrWindow") == "true",
                rotation=tuple(map(float, fields.get("modelRotation", "1 0 0 0 1 0 0 0 1").split())),
            )
        )
    return models


def models_of(split: str, folder: Path) -> list[Model]:
    """The models of one split from all libraries in `folder`. Raises MissingError where there are none."""
    found = [model for path in sorted(folder.glob("*.sh3f")) for model in read_library(path) if model.split == split]
    if not found:
        raise MissingError(f"there are no models in {folder}: run `python -m deeplens.scenes.fetch --only furniture`")
    return found


def unpack(model: Model, target: Path) -> Path:
    """The model's OBJ under `target`, with all files of its folder beside it; what is there is kept."""
    obj = target / model.library.stem / model.file
    if not obj.is_file():
        folder = str(PurePosixPath(model.file).parent) + "/"
        with zipfile.ZipFile(model.library) as library:
            names = [name for name in library.namelist() if name.startswith(folder) and not name.endswith("/")]
            library.extractall(target / model.library.stem, sorted(names, key=lambda name: name == model.file))
    return obj


def placement(
    model: Model,
    lower: NDArray[np.floating],
    upper: NDArray[np.floating],
    *,
    position: tuple[float, float, float],
    yaw: float,
    scale: float = 1.0,
) -> NDArray[np.float64]:
    """The 4×4 matrix from the OBJ's vertices to the world, where the model has `scale` times its catalogue size.

    `lower` and `upper` are the corners of the box around the *rotated* vertices (its `rotation` applied, y up); the
    middle of that box's lower side goes to `position`, and the model is turned by `yaw` (radians, about z).
    """
    rotation = np.reshape(model.rotation, (3, 3))
    up = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # (x, y, z) of the OBJ is (x, −z, y) of the world
    front = np.diag([-1.0, -1.0, 1.0])  # a front towards +z in the OBJ is −y in the world: half a turn
    middle = np.array([(lower[0] + upper[0]) / 2, lower[1], (lower[2] + upper[2]) / 2])
    extent = np.maximum(np.asarray(upper, np.float64) - lower, 1e-6)
    width, depth, height = model.size
    stretch = np.diag(scale * np.array([width, height, depth]) / extent)
    cosine, sine = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    linear = turn @ front @ up @ stretch
    matrix = np.eye(4)
    matrix[:3, :3] = linear @ rotation
    matrix[:3, 3] = np.asarray(position) - linear @ middle
    return matrix
