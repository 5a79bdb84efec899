"""Golden vectors of the whole way from photo to photo: what enters, every stage between, and the 8-bit picture.

For each photo (`parity_tests.harness_photos`) a JSON file names the arrays, in the order in which they come to be, with
their hashes and limits. Arrays are raw: little-endian float32 or bytes, in C order. docs/harness.md says what each is.
The limits of what networks gave are a multiple of the model's own rounding, as in the parity table.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens.console.files import replacing
from deeplens.console.package import VERSION
from deeplens.console.progress import progress_bar
from deeplens.model.contract import NETWORKS
from deeplens.parity_tests.compare import FACTORS, FLOOR, GATES, LEVEL, MORE, PICTURE, PSNR
from deeplens.parity_tests.harness_photos import PHOTOS, SETTINGS, SamplePhoto, Setting
from deeplens.parity_tests.metrics import max_abs
from deeplens.parity_tests.produce import TorchKind, torch_opener
from deeplens.runtimes import harness_file
from deeplens.runtimes.contract import Arrays, Runtime
from deeplens.runtimes.harness import Harness, aperture_from_f_number, focal_disparity_at
from deeplens.runtimes.manifest import HARNESS
from deeplens.runtimes.pyramid import geometry, picture_levels, registered_disparity

if TYPE_CHECKING:
    from deeplens.model.shipped import Weights

FORMAT = 1
"""Of the JSON file; another one is refused."""

KIND = "end-to-end"
"""What tells these JSON files from those of a network alone."""

ULPS = FLOOR * float(np.spacing(np.float32(1.0)))
"""What a stage that no network has touched may be off by: `FLOOR` units in the last place of 1."""

KINDS: tuple[TorchKind, ...] = ("float32", "float64", "float16")
SCALARS = ("aperture", "focal_disparity", "blur_scale")
GIVEN = ("photo", "disparity")
"""What a port is given; it writes all the others."""


@dataclass(frozen=True)
class Stage:
    """One array of the way.

    Attributes:
        name: "picture_0", "blurred_1"…; see docs/harness.md.
        limits: precision → largest |difference|; those of the 8-bit picture are in steps of 8 bits.
        labels: what each number is, where the array is a list of numbers.
    """

    name: str
    array: np.ndarray
    limits: Mapping[str, float]
    labels: tuple[str, ...] = ()


def make(
    folder: Path,
    *,
    variants: Sequence[str],
    weights: "Weights" = "shipped",
    photos: Sequence[SamplePhoto] = PHOTOS,
    settings: Sequence[Setting] = SETTINGS,
    report: Callable[[str], None],
) -> list[Path]:
    """Write the vectors of each variant and photo, and a copy of `harness.json`.

    Returns:
        the JSON files.

    Raises:
        MissingError: PyTorch, weights or the sample photos are not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    harness_file.write(folder)
    made = []
    jobs = [(variant, photo) for variant in variants for photo in photos]
    with progress_bar("Making end-to-end vectors") as progress:
        for variant, photo in progress.each(jobs, lambda job: f"{job[0]} {job[1].name}"):
            made.append(_written(folder, variant, photo, settings, weights))
            report(str(made[-1]))
    return made


def _written(folder: Path, variant: str, photo: SamplePhoto, settings: Sequence[Setting], weights: "Weights") -> Path:
    pixels, disparity = photo.pixels(), photo.disparity()
    levels = geometry(*pixels.shape[:2])
    stem = f"{variant}_loop_{photo.name}"
    with ExitStack() as stack:
        openers = [torch_opener(variant, weights=weights, fixed_size=levels.base, dtype=kind) for kind in KINDS]
        runtimes = [stack.enter_context(opener("dynamic")) for opener in openers]
        hashes = {network: runtimes[0].open(network).weights_sha256() for network in NETWORKS if network != "depth"}
        shared = [_stored(folder, stem, stage) for stage in shared_stages(pixels, disparity)]
        cases = []
        for setting in settings:
            found = [_Refocused.by(runtime, pixels, disparity, setting) for runtime in runtimes]
            stages = [_stored(folder, f"{stem}.{setting.name}", stage) for stage in _case_stages(*found)]
            cases.append(
                {
                    "name": setting.name,
                    "f_number": setting.f_number,
                    "focus": list(setting.focus),
                    "first_level": found[0].first,
                    "stages": stages,
                }
            )
    text = {
        "format": FORMAT,
        "kind": KIND,
        "release": VERSION,
        "variant": variant,
        "harness": HARNESS,
        "weights_sha256": hashes,
        "photo": {"name": photo.name, "made_from": f"samples/{photo.file}"},
        "steps": levels.steps,
        "levels": [list(levels.padded(level)) for level in range(levels.steps + 1)],
        "covered": [list(levels.covered(level)) for level in range(levels.steps + 1)],
        "stages": shared,
        "cases": cases,
    }
    path = folder / f"{stem}.json"
    with replacing(path) as file:
        file.write((json.dumps(text, indent=2) + "\n").encode())
    return path


def shared_stages(pixels: np.ndarray, disparity: np.ndarray) -> Iterator[Stage]:
    """What does not depend on focus and aperture."""
    levels = geometry(*pixels.shape[:2])
    exact = {"fp32": 0.0, "fp16": 0.0, "int8": 0.0}
    steps = dict.fromkeys(exact, 1.0)
    close = dict.fromkeys(exact, ULPS)
    yield Stage("photo", pixels, exact)
    yield Stage("disparity", disparity, exact)
    yield Stage("depth_picture", Harness.depth_picture(pixels), steps)
    for level, picture in enumerate(picture_levels(pixels, levels)):
        yield Stage(f"picture_{level}", picture, close)
    yield Stage("registered", registered_disparity(disparity, levels), close)


@dataclass(frozen=True)
class _Refocused:
    """A photo refocused by one runtime.

    Attributes:
        first: the level that the loop begins at.
        depths, blurred: level → the array of that stage, blurred but for the last level.
    """

    scalars: np.ndarray
    first: int
    depths: dict[int, np.ndarray]
    blurred: dict[int, np.ndarray]
    picture: np.ndarray

    @classmethod
    def by(cls, runtime: Runtime, pixels: np.ndarray, disparity: np.ndarray, setting: Setting) -> "_Refocused":
        aperture = aperture_from_f_number(setting.f_number)
        focal = focal_disparity_at(disparity, *setting.focus)
        depths: dict[int, np.ndarray] = {}
        blurred: dict[int, np.ndarray] = {}
        seen: list[int] = []

        def observe(level: int, network: str, arrays: Arrays) -> None:
            low = level if network == "lens_blur" else level - 1
            seen.append(level)
            depths[low] = arrays["signed_depth"]
            if network == "upsample":
                blurred[low] = arrays["blurred"]  # mixed, sharpened and clipped

        picture = Harness(runtime).refocus(
            pixels, disparity, focal_disparity=focal, aperture=aperture, observe=observe, from_base=False
        )
        scale = geometry(*pixels.shape[:2]).blur_scale
        return cls(np.array([aperture, focal, scale], np.float32), seen[0], depths, blurred, picture)


def _case_stages(reference: _Refocused, judge: _Refocused, half: _Refocused) -> Iterator[Stage]:
    everywhere = ("fp32", "fp16", "int8")
    yield Stage("scalars", reference.scalars, dict.fromkeys(everywhere, ULPS), SCALARS)
    for level, depth in sorted(reference.depths.items()):
        yield Stage(f"signed_depth_{level}", depth, dict.fromkeys(everywhere, ULPS * 2**level))
    for level, blurred in sorted(reference.blurred.items()):  # of the last level the picture tells
        own = max_abs(blurred, judge.blurred[level])
        limits = {"fp32": min(LEVEL.absolute, max(FACTORS["fp32"].worst * own, ULPS))}
        limits["fp16"] = FACTORS["fp16"].worst * max_abs(half.blurred[level], blurred)
        yield Stage(f"blurred_{level}", blurred, limits)
    yield Stage("picture", reference.picture, {"fp32": PICTURE.absolute})


def _stored(folder: Path, stem: str, stage: Stage) -> dict[str, Any]:
    """Write a stage's array, and describe it."""
    bytes_ = stage.array.dtype == np.uint8
    data = np.ascontiguousarray(stage.array, "u1" if bytes_ else "<f4").tobytes()
    path = folder / f"{stem}.{stage.name}.{'u8' if bytes_ else 'f32'}"
    with replacing(path) as file:
        file.write(data)
    about = {
        "name": stage.name,
        "file": path.name,
        "dtype": "uint8" if bytes_ else "float32",
        "shape": list(stage.array.shape),
        "sha256": hashlib.sha256(data).hexdigest(),
        "largest_difference": dict(stage.limits),
    }
    if stage.labels:
        about["labels"] = list(stage.labels)
    if stage.name.startswith("blurred_"):
        about["smallest_psnr_db"] = {name: gates[1].decibels for name, gates in GATES.items() if name in DECIBELS}
    if stage.name == "picture":
        about["smallest_psnr_db"] = {"fp32": PSNR, **{name: GATES[name][1].decibels for name in DECIBELS}}
        about["largest_share_off_by_more_than_1"] = {"fp16": MORE}
    return about


DECIBELS = ("fp16", "int8")
"""Precisions that are held to a PSNR at each level."""
