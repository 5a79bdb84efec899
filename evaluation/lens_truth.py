"""Shallow depth-of-field pictures by another program: Mitsuba 3's thin lens, over the scenes of `lens_scenes`.

`python -m deeplens.evaluation.lens_truth --out data/lens` renders them (extra `truth`).
`lens_truth` reads them; it needs no Mitsuba.

The optics, once for all scenes. A point at depth z (along the axis) is seen through the lens's points u, |u| ≤ A, by
rays that meet on the plane in focus, z_f. In the picture, whose scale is that plane's, it lies at
f · (p/z + u · (1/z_f − 1/z)), with f the focal length in pixels: a disc of radius

    r = A · f · |1/z_f − 1/z| pixels.

With the disparity D = (1/z − 1/far) / (1/near − 1/far) this is A · f · (1/near − 1/far) · |D_f − D|. The project's
convention is r = α · share · long side · |D − D_f| (`runtimes.harness`; share = `SHARE` = 2.5 %), and f =
long side / (2 tan(fov / 2)). Hence A = α · share · 2 tan(fov / 2) / (1/near − 1/far), whatever the picture's size, and
1/z_f = 1/far + D_f · (1/near − 1/far). Nothing is fitted to a picture.

A folder holds, for each scene, `scene.json` (the optics), `photo.png` (8 bits, from a pinhole), `disparity.png` (16
bits, at the pixels' centres) and `focusI-apertureJ.npz` with the picture (`target`, uint16 sRGB, 65535 = 1).
"""

import hashlib
import io
import json
import shutil
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import grey_dilation, grey_erosion

from deeplens.console.errors import InputError, MissingError
from deeplens.console.files import replacing
from deeplens.console.report import console_for, table
from deeplens.console.script import run_script
from deeplens.evaluation.lens_scenes import SCENES, LensScene, surfaces
from deeplens.evaluation.lens_textures import FOV, LONG, Textures, folder_textures, split_textures
from deeplens.evaluation.metrics import depth_edge_band, psnr
from deeplens.model.contract import BASE_LONG_SIDE, R_MAX
from deeplens.scenes.planes import Scene
from deeplens.scenes.renderer import Array, linear_to_srgb
from deeplens.scenes.sources import shipped

SHARE = R_MAX / BASE_LONG_SIDE
"""Radius of the largest circle of confusion, as a fraction of the long side."""

APERTURES = (1.0, 0.5, 0.25)
"""α of aperture0, aperture1, aperture2."""

RAYS = (1.0, 4 / 3, 1.0)
"""Rays a pixel at these, relative to those at α = 1. Smaller discs give less noise, but the errors that are judged fall
faster, and the noise has to lie 10 dB below them (`--noise`)."""

REACH = 4 / 640
"""How far, at most, corrupted depths are dilated or eroded, as a fraction of the long side."""

SEED = 2018
FULL = 65535


@dataclass(frozen=True)
class Optics:
    """Where the lens stands for one picture: radius of its opening and depth in focus, in the scene's units."""

    radius: float
    focus: float


def optics(scene: LensScene, *, focal: float, aperture: float) -> Optics:
    """The lens for a focal disparity and α, both in [0, 1]: the equations above."""
    span = 1 / scene.near - 1 / scene.far
    return Optics(radius=aperture * SHARE * 2 * LONG / span, focus=1 / (1 / scene.far + focal * span))


def disparity_of(depth: NDArray[np.floating], scene: LensScene) -> Array:
    """Disparity in [0, 1] of depths along the axis.

    Raises:
        InputError: a depth is outside the scene's range by more than a thousandth of it, or a ray hit nothing.
    """
    values = (1 / depth - 1 / scene.far) / (1 / scene.near - 1 / scene.far)
    if not (values.min() >= -1e-3 and values.max() <= 1 + 1e-3):
        raise InputError(
            f"depths from {depth.min():.3f} to {depth.max():.3f} where the scene says {scene.near:g} to {scene.far:g}: "
            "correct the scene's near and far, or close the hole in it"
        )
    return np.clip(values, 0, 1).astype(np.float32)


def picture_names() -> list[str]:
    """What is rendered of each scene: focus0-aperture0 and so on."""
    return [f"focus{i}-aperture{j}" for i in range(3) for j in range(len(APERTURES))]


def lens_truth(folder: Path) -> Iterator[tuple[str, Scene]]:
    """What the command wrote to a folder, by name: ("fence/focus2-aperture1", Scene); scenes in the order of `SCENES`.

    The scenes' pictures are (h, w, 3) with h ≠ w. The corrupted disparity is the true one, dilated or eroded by a
    whole number of pixels, at most `REACH`, that depends on the picture's name alone.

    Raises:
        MissingError: there are no pictures.
    """
    described = [folder / name for name in SCENES if (folder / name / "scene.json").is_file()]
    targets = {place: sorted(place.glob("focus*.npz")) for place in described}
    if not any(targets.values()):
        raise MissingError(f"{folder} has no pictures: run python -m deeplens.evaluation.lens_truth --out {folder}")
    for place, paths in targets.items():
        if not paths:
            continue
        scene = _read(place / "scene.json")
        with Image.open(place / "photo.png") as stored:
            picture = np.asarray(stored.convert("RGB"))
        with Image.open(place / "disparity.png") as stored:
            disparity = (np.asarray(stored, np.uint16) / np.float32(FULL)).astype(np.float32)
        for path in paths:
            name = f"{place.name}/{path.stem}"
            with np.load(path, allow_pickle=False) as data:
                target = (data["target"] / np.float32(FULL)).astype(np.float32)
            made = scene["pictures"][path.stem]
            corrupted = corrupt(disparity, seed=zlib.crc32(name.encode()))
            yield name, Scene(picture, target, disparity, corrupted, made["focal"], made["aperture"])


def corrupt(disparity: Array, *, seed: int) -> Array:
    """Disparity (h, w) with what is nearer dilated or eroded by a random number of pixels, at most `REACH`."""
    reach = round(REACH * max(disparity.shape))
    amount = int(np.random.default_rng([SEED, seed]).integers(-reach, reach + 1))
    size = (2 * abs(amount) + 1,) * 2
    return np.asarray(grey_dilation(disparity, size=size) if amount > 0 else grey_erosion(disparity, size=size))


@dataclass(frozen=True)
class Settings:
    """What decides how pictures come out, beside the scene.

    Attributes:
        long_side: in pixels.
        samples: rays a pixel at α = 1. Rounded to square numbers, so that they fill a grid: see `samples_for`.
    """

    long_side: int = 640
    samples: int = 900
    seed: int = SEED

    def samples_for(self, aperture: float) -> int:
        """Rays a pixel at α, one of `APERTURES` (see `RAYS`), or at 0, the pinhole: half as many as at 1."""
        share = 0.5 if aperture == 0 else dict(zip(APERTURES, RAYS, strict=True))[aperture]
        return max(4, round(float(np.sqrt(self.samples * share)))) ** 2


class Truth:
    """One scene, to be rendered into a folder of its own."""

    def __init__(self, name: str, textures: Textures, out: Path, *, settings: Settings, variant: str) -> None:
        """
        Raises:
            MissingError: a texture, or Mitsuba, is not there.
        """
        from deeplens.evaluation.lens_render import Renderer

        self.scene, self.place, self._settings = SCENES[name], out / name, settings
        parts = surfaces(name, textures)
        numbers = (self.scene.near, self.scene.far, self.scene.focal, self.scene.portrait, APERTURES, RAYS, settings)
        marks = hashlib.sha256(repr(numbers).encode())
        for part in parts:
            for array in (part.mesh.vertices, part.mesh.faces, part.mesh.uv, part.radiance):
                marks.update(np.ascontiguousarray(array).tobytes())
        self._sha256 = marks.hexdigest()
        self._renderer = Renderer(parts, long_side=settings.long_side, portrait=self.scene.portrait, variant=variant)

    def write(self, pictures: Sequence[str]) -> Iterator[str]:
        """Render what is missing of `pictures`, yielding the name of each after it was written.

        What was made of another geometry, other textures or other settings is thrown away first.

        Raises:
            InputError: the scene's depths are not what it says, or a file can't be written.
        """
        described = self.place / "scene.json"
        if described.exists() and _read(described)["sha256"] != self._sha256:
            shutil.rmtree(self.place)
        self.place.mkdir(parents=True, exist_ok=True)
        if not described.exists():
            photo = linear_to_srgb(
                self._renderer.photo(samples=self._settings.samples_for(0), seed=self._settings.seed)
            )
            _write_png(self.place / "photo.png", np.rint(photo * 255).astype(np.uint8))
            disparity = disparity_of(self._renderer.depth(), self.scene)
            _write_png(self.place / "disparity.png", np.rint(disparity * FULL).astype(np.uint16))
            with replacing(described) as file:
                file.write((json.dumps(self._description(), indent=2) + "\n").encode())
        for name in pictures:
            path = self.place / f"{name}.npz"
            if path.exists():
                continue
            target = np.rint(self.picture(name) * FULL).astype(np.uint16)
            buffer = io.BytesIO()
            np.savez_compressed(buffer, target=target, allow_pickle=False)
            with replacing(path) as file:
                file.write(buffer.getvalue())
            yield name

    def picture(self, name: str, *, seed: int | None = None) -> Array:
        """One picture, (h, w, 3) sRGB in [0, 1]; `seed`: another than the settings'."""
        focal, aperture = shown(self.scene, name)
        lens = optics(self.scene, focal=focal, aperture=aperture)
        samples = self._settings.samples_for(aperture)
        number = zlib.crc32(name.encode()) + (self._settings.seed if seed is None else seed)
        return linear_to_srgb(
            self._renderer.picture(radius=lens.radius, focus=lens.focus, samples=samples, seed=number)
        )

    def _description(self) -> dict[str, Any]:
        """What `scene.json` holds."""
        pictures = {}
        for name in picture_names():
            focal, aperture = shown(self.scene, name)
            lens = optics(self.scene, focal=focal, aperture=aperture)
            samples = self._settings.samples_for(aperture)
            pictures[name] = {"focal": focal, "aperture": aperture, **asdict(lens), "samples": samples}
        return {
            "fov": FOV,
            "near": self.scene.near,
            "far": self.scene.far,
            "highlights": self.scene.highlights,
            **asdict(self._settings),
            "pictures": pictures,
            "mitsuba": self._renderer.version,
            "sha256": self._sha256,
        }


def shown(scene: LensScene, picture: str) -> tuple[float, float]:
    """Focal disparity and α of a picture's name."""
    i, j = (int(part[-1]) for part in picture.split("-"))
    return scene.focal[i], APERTURES[j]


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_png(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    with replacing(path) as file:
        Image.fromarray(pixels).save(file, "PNG", optimize=True)


def two_seed_psnr(name: str, truth: Truth, folder: Path, *, settings: Settings) -> tuple[float, float | None]:
    """PSNR in dB of a stored picture against the same with another seed: of the whole, and in its band of depth edges.

    The difference of the two has twice the variance of one, so that the noise of the stored picture is 3 dB better.
    """
    stored = next(scene for found, scene in lens_truth(folder) if found == name)
    again = truth.picture(name.split("/")[1], seed=settings.seed + 1)
    band = depth_edge_band(stored.disparity, SHARE * settings.long_side)
    return psnr(again, stored.target), psnr(again, stored.target, mask=band) if band.any() else None


def main(
    out: Annotated[Path, typer.Option(help="Output folder of the set; pictures that are still valid are kept.")],
    data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data"),
    photos: Annotated[
        Path | None, typer.Option(help="Use this folder of photos NAME.jpg instead; for scenes without cut-outs.")
    ] = None,
    scene: Annotated[list[str] | None, typer.Option(help="Render only this scene; may be repeated.")] = None,
    picture: Annotated[
        list[str] | None, typer.Option(help="Render only this picture of each scene; may be repeated.")
    ] = None,
    scenes: Annotated[int, typer.Option(min=1, help="Render only this many scenes, the first ones.")] = len(SCENES),
    long_side: Annotated[int, typer.Option(min=32, help="Long side of the pictures in pixels.")] = Settings.long_side,
    samples: Annotated[int, typer.Option(min=16, help="Rays per pixel at the largest aperture.")] = Settings.samples,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = Settings.seed,
    variant: Annotated[str, typer.Option(help="Variant of Mitsuba; auto takes the fastest that works here.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="Number of threads; 0 means one for each core.")] = 0,
    noise: Annotated[
        int, typer.Option(min=0, help="Render this many pictures again with another seed, and print the differences.")
    ] = 0,
) -> None:
    """Render the lens truth: 14 scenes, 3 focal planes, 3 apertures."""
    from deeplens.evaluation.lens_render import PLAIN, VECTORISED, best_variant, use_threads

    names, wanted = list(scene or list(SCENES)[:scenes]), list(picture or picture_names())
    allowed = (names, list(SCENES)), (wanted, picture_names()), ([variant], ["auto", VECTORISED, PLAIN])
    for given, known in allowed:
        for each in given:
            if each not in known:
                raise InputError(f"unknown name '{each}': choose from {', '.join(known)}")
    textures = split_textures(shipped("test", data)) if photos is None else folder_textures(photos)
    settings = Settings(long_side=long_side, samples=samples, seed=seed)
    variant = best_variant() if variant == "auto" else variant
    use_threads(threads)
    everything = [f"{name}/{each}" for name in names for each in wanted]
    # One picture further in each scene, so that focal planes and apertures take turns.
    again = {everything[(k * len(everything) // noise + k) % len(everything)] for k in range(noise)}
    rows = []
    for name in names:
        truth = Truth(name, textures, out, settings=settings, variant=variant)
        start = time.monotonic()
        for each in truth.write(wanted):
            typer.echo(f"{name}/{each}: {time.monotonic() - start:.0f} s")
            start = time.monotonic()
        for each in wanted:
            if f"{name}/{each}" in again:
                whole, band = two_seed_psnr(f"{name}/{each}", truth, out, settings=settings)
                rows.append((f"{name}/{each}", *(round(value, 1) if value else "" for value in (whole, band))))
    if rows:
        console_for(None).print(
            table(
                "Two seeds, PSNR in dB (noise of one picture: 3 dB better)", ("picture", "whole", "depth edges"), rows
            )
        )


if __name__ == "__main__":
    run_script(main)
