"""What the networks are given while photos are refocused, at every level of the loop, kept as small files.

The networks run in FP32 through the harness, so that each step sees what the levels below it gave. Of each level one
window is kept. A file holds one photo's windows; its name is a hash of the photo's bytes, of the weights of all
networks and of `Settings`: what is there needs no second run, whatever was interrupted, and what has changed is never
mistaken for it.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from deeplens.calibration.photos import Photo
from deeplens.console.errors import InputError
from deeplens.console.files import replacing
from deeplens.console.inputs import read_bytes
from deeplens.model.contract import ALIGNMENT, CONTRACTS
from deeplens.runtimes.contract import Arrays, Runtime
from deeplens.runtimes.harness import Harness, focal_disparity_at
from deeplens.runtimes.numpy_file import read_arrays
from deeplens.runtimes.wrapped import recording

FORMAT = 1
"""Of the files; part of their names."""


@dataclass(frozen=True)
class Settings:
    """What the inputs depend on beside photos and weights.

    Attributes:
        longest: photos with a longer side are made smaller, in pixels.
        window: height and width of what is kept of a level, in low-resolution pixels; a multiple of `ALIGNMENT`.
    """

    longest: int = 2048
    window: int = 64


@dataclass(frozen=True)
class Input:
    """What one network was given once.

    Attributes:
        photo: SHA-256 of the photo.
        network: as in `model.contract`.
        level: of the loop; 0 for depth and lens blur, 1 … n for the steps.
        arrays: name → float32 N×C×H×W.
    """

    photo: str
    network: str
    level: int
    arrays: Arrays


def collect(
    photos: Sequence[Photo],
    runtime: Runtime,
    weights: Mapping[str, str],
    *,
    folder: Path,
    settings: Settings,
    progress: Callable[[int, int], None] = lambda _done, _new: None,
) -> list[Path]:
    """Make what is missing of the inputs of `photos`; the file of each, in their order.

    Args:
        runtime: FP32, of the variant that is calibrated.
        weights: network → SHA-256.
        folder: made when missing. A file is written whole or not at all.
        progress: called after each photo with how many are done, and how many of these were made now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    new = 0
    for each in photos:
        path = folder / f"{key(each, weights, settings)}.npz"
        if not _is_whole(path):
            packed = {
                f"{one.level}/{one.network}/{name}": _packed(array)
                for one in _inputs(each, runtime, settings)
                for name, array in one.arrays.items()
            }
            with replacing(path) as file:
                np.savez_compressed(file, allow_pickle=False, **packed)
            new += 1
        paths.append(path)
        progress(len(paths), new)
    return paths


def key(photo: Photo, weights: Mapping[str, str], settings: Settings) -> str:
    """Of one photo's inputs: 32 hexadecimal digits."""
    said = {"format": FORMAT, "photo": photo.sha256, "weights": dict(sorted(weights.items())), **asdict(settings)}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def read(paths: Sequence[Path]) -> Iterator[Input]:
    """All inputs in the files, a file after another; in a file by level, then network."""
    for path in paths:
        cases: dict[tuple[int, str], Arrays] = {}
        try:
            for name, array in sorted(read_arrays(read_bytes(path), str(path)).items()):
                number, kind, tensor = name.split("/")
                cases.setdefault((int(number), kind), {})[tensor] = _unpacked(array)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} can't be read as inputs ({error}): delete it, and it is made again") from error
        for (level, network), arrays in sorted(cases.items()):
            ordered = {tensor.name: arrays[tensor.name] for tensor in CONTRACTS[network].inputs}
            yield Input(path.stem, network, level, ordered)


def _inputs(photo: Photo, runtime: Runtime, settings: Settings) -> list[Input]:
    """One photo through the loop."""
    pixels = photo.pixels(settings.longest)
    seen: dict[str, Arrays] = {}
    disparity = Harness(recording(runtime, seen)).disparity(pixels)
    found = [Input(photo.sha256, "depth", 0, seen["depth"])]
    generator = np.random.default_rng(int(photo.sha256[16:32], 16))

    def observe(level: int, network: str, arrays: Arrays) -> None:
        contract = CONTRACTS[network]
        low = next(arrays[tensor.name].shape[2:] for tensor in contract.inputs if tensor.scale == 1)
        window = [min(side, settings.window) for side in low]
        corner = [
            ALIGNMENT * int(generator.integers((side - size) // ALIGNMENT + 1))
            for side, size in zip(low, window, strict=True)
        ]
        cut = {}
        for tensor in contract.inputs:
            rows, columns = (
                slice(tensor.scale * start, tensor.scale * (start + size))
                for start, size in zip(corner, window, strict=True)
            )
            cut[tensor.name] = arrays[tensor.name][:, :, rows, columns].copy()
        found.append(Input(photo.sha256, network, level, cut))

    focal = focal_disparity_at(disparity, *photo.point)
    Harness(runtime).refocus(pixels, disparity, focal_disparity=focal, aperture=photo.aperture, observe=observe)
    return found


def _packed(array: np.ndarray) -> np.ndarray:
    """8 bits where these hold it exactly, as they do of the photo; else FP16, whose rounding is below that."""
    steps = np.rint(array * 255)
    if array.min() >= 0 and array.max() <= 1 and np.abs(steps - array * 255).max() < 1e-4:
        return steps.astype(np.uint8)
    return array.astype(np.float16)


def _unpacked(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) / 255 if array.dtype == np.uint8 else array.astype(np.float32)


def _is_whole(path: Path) -> bool:
    """Whether there is a file that can be read to its end: a disk may have been full."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
