"""Rendered rooms and landscapes with exact depth, for the depth network.

$ python -m deeplens.scenes.rooms --out data/rooms --split train --count 700 --seed 0

needs the dependency group `rooms`.

Writes data/rooms/SPLIT/SEED_SCENE_VIEW.npz, up to VIEWS pictures of each scene. Files that are there are kept, so that
an interrupted run is simply repeated. A file holds

- picture: (320, 320, 3) uint8, sRGB; the view of a camera of any aspect, squeezed to a square;
- disparity: (320, 320) uint16; / 65535 it is (1/z − far) / (near − far), where z is the depth along the optical axis;
- subject: (320, 320) uint8, 255 where the thing is that the camera is close to, else 0; not in pictures of the whole;
- near, far: float32, the largest and smallest 1/z in 1/m (0 where something is infinitely far);
- about: JSON text of what was rendered: kind, camera, and the models, people, photos and cut-outs in the scene.

Reading (`load_room`, `room_files`) needs numpy alone.
"""

import json
import tempfile
import time
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.files import staged
from deeplens.console.script import run_script
from deeplens.model.contract import DEPTH_SIZE
from deeplens.scenes.colour import linear_to_srgb
from deeplens.scenes.figure_files import people_of
from deeplens.scenes.furniture import Model, models_of
from deeplens.scenes.room_cameras import sample_camera
from deeplens.scenes.room_layout import sample_scene
from deeplens.scenes.room_scene import HDRIS, Camera, Person, Scene, Shape, Stock
from deeplens.scenes.sources import shipped

if TYPE_CHECKING:
    from deeplens.scenes.room_render import Renderer

Array = NDArray[np.float32]

SPLITS = tuple(HDRIS)
KINDS = {Model: "model", Person: "person", Shape: "shape"} | dict.fromkeys((type(Path()), Path), "cutout")
"""What kinds of things a camera can be close to, by their types."""

VIEWS = 5
"""Pictures of one scene: building it takes longer than rendering one."""

TRIES = 8
"""Cameras that are tried for a picture before it is given up."""

PATIENCE = 20
"""Scenes in a row without a picture after which something must be wrong."""

LEVELS = 65535


def room_files(split: str, root: Path = Path("data/rooms")) -> tuple[Path, ...]:
    """The rendered pictures of a split (train, val or test), sorted. Raises MissingError when there are none."""
    if split not in SPLITS:
        raise InputError(f"unknown split '{split}': choose one of {', '.join(SPLITS)}")
    found = tuple(sorted((root / split).glob("*.npz")))
    if not found:
        raise MissingError(
            f"there are no rendered rooms in {root / split}: run `python -m deeplens.scenes.rooms --split {split}`"
        )
    return found


def load_room(path: Path) -> tuple[NDArray[np.uint8], Array]:
    """A picture (320, 320, 3) uint8 sRGB and its disparity (320, 320) float32, from 0 (farthest) to 1 (nearest).

    Raises InputError when the file is not one of `python -m deeplens.scenes.rooms`.
    """
    try:
        with np.load(path) as file:
            picture, disparity = file["picture"], file["disparity"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is not a rendered room ({error}): delete it and render again") from error
    if picture.shape != (DEPTH_SIZE, DEPTH_SIZE, 3) or disparity.shape != picture.shape[:2]:
        raise MismatchError(f"{path}: got {picture.shape} and {disparity.shape}, expected 320×320")
    return picture, disparity.astype(np.float32) / np.float32(LEVELS)


def quantised(depth: Array) -> tuple[NDArray[np.uint16], float, float]:
    """Disparity from 0 to LEVELS, and the 1/z in 1/m that its ends mean: (disparity, near, far).

    depth: (H, W) in metres, > 0, inf where there is nothing. A constant depth gives zeros.
    """
    inverse = 1 / depth.astype(np.float64)
    near, far = float(inverse.max()), float(inverse.min())
    shares = (inverse - far) / (near - far) if near > far else np.zeros_like(inverse)
    return np.rint(shares * LEVELS).astype(np.uint16), near, far


def is_good_depth(depth: Array) -> bool:
    """Whether a view is worth rendering: nothing nearer than 20 cm, near and far well apart, more than a bare floor.

    A plane's disparity is affine in the pixels, so that what a plane explains of the map tells a floor alone.
    """
    disparity, near, far = quantised(depth)
    shares = disparity.astype(np.float64) / LEVELS
    rows, columns = np.indices(shares.shape).reshape(2, -1) / len(shares)
    plane = np.stack([rows, columns, np.ones_like(rows)], 1)
    left = shares.ravel() - plane @ np.linalg.lstsq(plane, shares.ravel(), rcond=None)[0]
    return bool(
        near < 5
        and near > 1.6 * far
        and np.percentile(shares, 97) > 0.5
        and np.percentile(shares, 97) - np.percentile(shares, 3) > 0.25
        and shares.std() > 0.06
        and left.std() > 0.05
    )


def is_good_subject(subject: NDArray[np.bool_]) -> bool:
    """Whether of what a camera is close to, a mask (H, W), enough is to be seen: half a percent of the picture."""
    return bool(subject.mean() > 0.005)


def is_good_picture(picture: NDArray[np.uint8]) -> bool:
    """Whether there is something to see: neither almost flat, nor largely black or white."""
    grey = picture.mean(-1) / 255
    return bool(0.1 < grey.mean() < 0.9 and grey.std() > 0.06 and max((grey < 0.02).mean(), (grey > 0.98).mean()) < 0.4)


def developed(light: Array, *, key: float) -> NDArray[np.uint8]:
    """An 8-bit sRGB picture of linear light (H, W, 3): the mean, highlights apart, becomes `key`."""
    grey = light.mean(-1)
    exposed = light * (key / max(float(np.minimum(grey, np.percentile(grey, 95)).mean()), 1e-6))
    knee = 0.6
    rolled = knee + (1 - knee) * np.tanh((exposed - knee) / (1 - knee))
    return np.rint(linear_to_srgb(np.where(exposed < knee, exposed, rolled)) * 255).astype(np.uint8)


def render_rooms(
    *, out: Path, data: Path, split: str, count: int, seed: int, crowded: float = 0.5, grown: float = 0.0
) -> int:
    """Render until `count` pictures of `split` are under `out`; returns how many were rendered now.

    Picture v of scene n is a function of (seed, split, n, v), of what lies in `data`, and of the shares of scenes that
    are `crowded` (have people in them) and `grown` (have plants, fences, poles or balls in them). Raises MissingError
    where Blender, the furniture or the photos are missing, InputError for an unknown split, MismatchError when no
    picture turns out well.
    """
    from deeplens.scenes.room_render import Renderer, cutout_shape

    if split not in SPLITS:
        raise InputError(f"unknown split '{split}': choose one of {', '.join(SPLITS)}")
    people = people_of(split, data / "people")
    if not people:
        print(
            f"{split}: nobody in {data / 'people' / split}, so no people (`python -m deeplens.scenes.people`)",
            flush=True,
        )
    models, sources = models_of(split, data / "furniture"), shipped(split, data)
    stock = Stock(split, models, sources, cutout_shape, people, crowded, grown)
    folder = out / split
    folder.mkdir(parents=True, exist_ok=True)
    there = sum(1 for _ in folder.glob("*.npz"))
    renderer = Renderer()
    rendered, number, vain, start = 0, 0, 0, time.monotonic()
    while there + rendered < count:
        paths = [folder / f"{seed}_{number:05d}_{view}.npz" for view in range(VIEWS)]
        wanted = [view for view, path in enumerate(paths) if not path.is_file()][: count - there - rendered]
        if wanted:
            scene = sample_scene(stock, _generator(seed, split, number))
            with tempfile.TemporaryDirectory(prefix="deeplens-rooms-") as scratch:
                renderer.build(scene, Path(scratch))
                before = rendered
                for view in wanted:
                    rendered += _render_view(renderer, scene, paths[view], _generator(seed, split, number, view + 1))
            vain = vain + 1 if rendered == before else 0
            if vain == PATIENCE:
                raise MismatchError(
                    f"{PATIENCE} scenes in a row gave no usable picture: check the models and textures in {data}"
                )
            pace = (time.monotonic() - start) / max(rendered, 1)
            print(f"{split}: {there + rendered} of {count} pictures, {pace:.1f} s each", flush=True)
        number += 1
    return rendered


def _render_view(renderer: "Renderer", scene: Scene, path: Path, rng: np.random.Generator) -> bool:
    """Render one picture to `path` from the first camera of TRIES that shows something; whether there was one."""
    for _ in range(TRIES):
        camera = sample_camera(scene, rng)
        depth, items = renderer.surfaces(camera)
        subject = None if camera.subject is None else items == camera.subject
        if not is_good_depth(depth) or (subject is not None and not is_good_subject(subject)):
            continue
        picture = developed(renderer.light(camera), key=float(rng.uniform(0.13, 0.32)))
        if is_good_picture(picture):
            _save(path, picture, depth, about(scene, camera), subject)
            return True
    return False


def about(scene: Scene, camera: Camera) -> dict[str, object]:
    """What a file says of its picture: enough to name every author and to know what a split has seen."""
    things = [item.what for item in scene.items]
    surfaces = [scene.ground, scene.walls, *(box.surface for box in scene.boxes)]
    surfaces += [surface for thing in things if isinstance(thing, Shape) for surface in thing.surfaces]
    photos = [surface.photo for surface in surfaces] + [picture.photo for picture in scene.pictures]
    return {
        "kind": scene.kind,
        "camera": asdict(camera),
        "hdri": scene.sky.hdri,
        "models": sorted({thing.key for thing in things if isinstance(thing, Model)}),
        "people": sorted({thing.path.stem for thing in things if isinstance(thing, Person)}),
        "subject": None if camera.subject is None else KINDS[type(things[camera.subject])],
        "shapes": sorted({thing.kind for thing in things if isinstance(thing, Shape)}),
        "cutouts": sorted({thing.name for thing in things if isinstance(thing, Path)}),
        "photos": sorted({photo.name for photo in photos if photo is not None}),
    }


def _generator(seed: int, split: str, *numbers: int) -> np.random.Generator:
    return np.random.default_rng([seed, SPLITS.index(split), *numbers])


def _save(
    path: Path,
    picture: NDArray[np.uint8],
    depth: Array,
    about: dict[str, object],
    subject: NDArray[np.bool_] | None,
) -> None:
    disparity, near, far = quantised(depth)
    more: dict[str, Any] = {} if subject is None else {"subject": subject.astype(np.uint8) * np.uint8(255)}
    with staged(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            picture=picture,
            disparity=disparity,
            near=np.float32(near),
            far=np.float32(far),
            about=np.array(json.dumps(about)),
            **more,
        )


def main(
    out: Annotated[Path, typer.Option(help="Output folder; each split gets a folder in it.")] = Path("data/rooms"),
    data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data"),
    split: Annotated[str, typer.Option(help="Split to render: train, val or test.")] = "train",
    count: Annotated[int, typer.Option(min=1, help="Number of pictures that the split should have in the end.")] = 700,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    crowded: Annotated[float, typer.Option(min=0, max=1, help="Share of the scenes that have people in them.")] = 0.5,
    grown: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the scenes that have plants, fences, poles or balls in them.")
    ] = 0.0,
) -> None:
    """Render pictures with exact depth, until the split has COUNT."""
    rendered = render_rooms(out=out, data=data, split=split, count=count, seed=seed, crowded=crowded, grown=grown)
    typer.echo(f"{rendered} pictures rendered, {count} are in {out / split}")


if __name__ == "__main__":
    run_script(main)
