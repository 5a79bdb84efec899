"""A user's own sets for the depth network, mixed with the shipped stream: loaders, and samples of equation 1.

A depth set is KIND:DIR.

| kind | what DIR holds |
| --- | --- |
| `folder` | pictures and their maps; which way they go is in their names or folders (`training.set_pairs`) |
| `disparity`, `depth` | the same, and it is told: near = large, or metric, far = large |
| `middlebury` | scenes with im0.png, disp0.pfm and calib.txt |
| `nyu` | depth in millimetres or metres beside pictures, or the labelled .mat (HDF5; needs h5py) |
| `portrait` | phones' portrait photos (HEIC, JPEG) that hold their depth |

What is not known, and counts in no loss: values that are not finite; depths of 0 or less; and 0 in files of integers,
which have no other way to say it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from deeplens.console.errors import InputError, MissingError
from deeplens.console.package import pip_install
from deeplens.model.contract import DEPTH_SIZE
from deeplens.runtimes.disparity import read_map
from deeplens.runtimes.photo import read_photo, to_8_bit
from deeplens.runtimes.portrait import embedded_map, holds_depth
from deeplens.scenes.renderer import Array
from deeplens.scenes.stream import Sample
from deeplens.training.set_pairs import Pair, Role, find_pairs

KEPT = 480
"""Side of what is kept in memory of each picture, in pixels: a little above the network's size, the aspect ignored."""

TRIM = 0.005
"""Share of the known disparities at either end that is clipped before normalising: stray values of a sensor."""

LEAST_KNOWN = 0.05
"""A part of a picture with a smaller share of known pixels is not trained on; the whole picture is."""

Augment = Callable[[Array, np.random.Generator], Array]
"""(H, W, 3) in [0, 1] → the same with other colours."""


@dataclass(frozen=True, eq=False)
class Example:
    """A picture with labels, each of any size, that show the same.

    Attributes:
        picture: H×W×3, uint8 sRGB.
        disparity: inverse depth in any unit, near = large, NaN where it is not known; None: no such label.
        segmentation: in [0, 1], 1 = subject; None: no such label.
    """

    picture: NDArray[np.uint8]
    disparity: Array | None = None
    segmentation: Array | None = None


@dataclass(frozen=True)
class ExampleSet:
    """A set by its name, as on the command line; each reader gives one example. Light: it goes to other processes."""

    name: str
    readers: tuple[Callable[[], Example], ...]


class MixedDepth(Dataset[Sample]):
    """The shipped stream and a user's sets: sample i is a function of (seed, i).

    Of each 1 / share samples, one is of the sets, which take turns; the others are the stream's, in its order. All have
    `valid` (1, 320, 320): 1 where the disparity is known. Otherwise as `training.depth_data.DepthStream` gives them.
    """

    def __init__(
        self,
        stream: Dataset[Sample],
        sets: Sequence[ExampleSet],
        *,
        seed: int,
        share: float = 0.5,
        augment: Augment | None = None,
    ) -> None:
        """
        Args:
            share: of samples that are of `sets`, in [0, 1].
            augment: changes the colours of pictures of `sets`.

        Raises:
            InputError: no sets, or a share outside [0, 1].
        """
        if not (sets and 0.0 <= share <= 1.0):
            raise InputError("mixing needs at least one set, and a share from 0 to 1")
        self.stream, self.sets, self.seed, self.share, self.augment = stream, tuple(sets), seed, share, augment

    def __getitem__(self, index: int) -> Sample:
        before, after = (int(each * self.share) for each in (index, index + 1))
        if after == before:
            sample = self.stream[index - before]
            return {"valid": torch.ones(1, DEPTH_SIZE, DEPTH_SIZE), **sample}
        turn, which = divmod(before, len(self.sets))
        rng = np.random.default_rng([self.seed, index, 3])
        readers = self.sets[which].readers
        # Every example once before any comes again, in an order of its own each time.
        order = np.random.default_rng([self.seed, which, turn // len(readers), 4]).permutation(len(readers))
        return sample_of(_kept(readers[order[turn % len(readers)]]), rng, augment=self.augment)


def parse_sets(depth: Iterable[str], segmentation: Iterable[Path]) -> tuple[ExampleSet, ...]:
    """The sets that a command line names: `--depth-set KIND:DIR`, `--segmentation-set DIR`; each may be repeated.

    Raises:
        InputError: an unknown kind, a folder that is missing or holds nothing of the kind.
        MissingError: a library that the kind takes is not installed.
    """
    sets = []
    for text in depth:
        kind, _, folder = text.partition(":")
        if kind not in KINDS or not folder:
            raise InputError(f"'{text}' is not KIND:DIR, where KIND is one of {', '.join(KINDS)}")
        sets.append(ExampleSet(text, KINDS[kind](Path(folder))))
    for place in segmentation:
        pairs = find_pairs(place, ("mask",))
        sets.append(ExampleSet(f"masks:{place}", tuple(partial(_read_masked, pair) for pair in pairs)))
    return tuple(sets)


def sample_of(example: Example, rng: np.random.Generator, *, augment: Augment | None = None) -> Sample:
    """A random part of at least 60 % of each side, at the network's size, perhaps mirrored.

    The disparity is taken from the nearest pixel (there is no depth between two) and normalised over what is known of
    the part: (x − low) / (high − low) with the quantiles `TRIM` and 1 − `TRIM`, clipped to [0, 1]; 0 where unknown.
    """
    sides = rng.uniform(0.6, 1.0, 2)
    corner = rng.uniform(0, 1 - sides)
    mirrored = bool(rng.random() < 0.5)
    box = (*corner, *(corner + sides))
    zeros = np.zeros((DEPTH_SIZE, DEPTH_SIZE), np.float32)
    disparity, valid, segmentation = zeros, zeros, zeros
    if example.disparity is not None:
        part = _part(example.disparity, box, mirrored, Image.Resampling.NEAREST)
        if np.isfinite(part).mean() < LEAST_KNOWN:
            box = (0.0, 0.0, 1.0, 1.0)
            part = _part(example.disparity, box, mirrored, Image.Resampling.NEAREST)
        disparity, valid = normalised_where_known(part)
    if example.segmentation is not None:
        segmentation = np.clip(_part(example.segmentation, box, mirrored, Image.Resampling.BILINEAR), 0, 1)
    picture = _part(example.picture, box, mirrored, Image.Resampling.BILINEAR).astype(np.float32) / np.float32(255)
    if augment is not None:
        picture = augment(picture, rng)
    return {
        "picture": torch.from_numpy(picture.copy()).permute(2, 0, 1).contiguous(),
        "disparity": torch.from_numpy(disparity)[None],
        "valid": torch.from_numpy(valid)[None],
        "segmentation": torch.from_numpy(segmentation.copy())[None],
        "has_disparity": torch.tensor(float(valid.any())),
        "has_segmentation": torch.tensor(float(example.segmentation is not None)),
    }


def normalised_where_known(disparity: Array) -> tuple[Array, Array]:
    """Disparity (h, w) with NaN where unknown → the same in [0, 1], 0 where unknown, and 1 where known.

    A map that is the same everywhere, or not known anywhere, says nothing: nothing of it is valid.
    """
    known = np.isfinite(disparity)
    low, high = np.quantile(disparity[known], (TRIM, 1 - TRIM)) if known.any() else (0.0, 0.0)
    if not high > low:
        return np.zeros(disparity.shape, np.float32), np.zeros(disparity.shape, np.float32)
    values = np.clip((np.where(known, disparity, low) - low) / (high - low), 0, 1)
    return np.where(known, values, 0).astype(np.float32), known.astype(np.float32)


def inverse_of(depth: NDArray) -> Array:
    """Depth in any unit → 1 / depth; NaN where it is 0 or less, or not finite."""
    values = depth.astype(np.float32)
    known = np.isfinite(values) & (values > 0)
    return np.divide(1, values, where=known, out=np.full(values.shape, np.nan, np.float32))


def known_disparity(values: NDArray) -> Array:
    """A file's disparities → float32, NaN where they are not finite, or 0 in a file of integers."""
    unknown = ~np.isfinite(values) if values.dtype.kind == "f" else values == 0
    return np.where(unknown, np.float32(np.nan), values.astype(np.float32))


def _part(values: NDArray, box: Sequence[float], mirrored: bool, filter_: Image.Resampling) -> NDArray:
    """The part `box` (left, top, right, bottom in 0..1) at the network's size."""
    height, width = values.shape[:2]
    edges = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    part = np.asarray(Image.fromarray(values).resize((DEPTH_SIZE, DEPTH_SIZE), filter_, box=edges))
    return part[:, ::-1] if mirrored else part


@lru_cache(maxsize=256)
def _kept(reader: Callable[[], Example]) -> Example:
    """An example at `KEPT`×`KEPT`."""
    example, size = reader(), (KEPT, KEPT)
    disparity, segmentation = example.disparity, example.segmentation
    if disparity is not None:
        disparity = np.asarray(Image.fromarray(disparity).resize(size, Image.Resampling.NEAREST))
    if segmentation is not None:
        segmentation = np.asarray(Image.fromarray(segmentation).resize(size, Image.Resampling.BOX))
    picture = Image.fromarray(example.picture).resize(size, Image.Resampling.LANCZOS)
    return Example(np.asarray(picture), disparity, segmentation)


# --- One reader for each kind


def _read_pair(pair: Pair, role: Role) -> Example:
    values = read_map(pair.label)
    disparity = inverse_of(values) if role == "depth" else known_disparity(values)
    if not np.isfinite(disparity).any():
        raise InputError(f"{pair.label} has no valid {role} value: remove it from the set")
    return Example(_picture(pair.picture), disparity)


def _read_masked(pair: Pair) -> Example:
    mask = to_8_bit(read_photo(pair.label).pixels)[..., 0].astype(np.float32)
    return Example(_picture(pair.picture), segmentation=mask / max(float(mask.max()), 1.0))


def _read_middlebury(scene: Path) -> Example:
    """Disparity as inverse depth: (d + doffs) / (f · baseline), of calib.txt; in pixels where that is missing."""
    disparity, calibration = known_disparity(read_map(scene / "disp0.pfm")), scene / "calib.txt"
    if calibration.is_file():
        numbers = read_calibration(calibration)
        disparity = (disparity + numbers["doffs"]) / (numbers["f"] * numbers["baseline"])
    return Example(_picture(scene / "im0.png"), disparity.astype(np.float32))


def _read_portrait(path: Path) -> Example:
    return Example(_picture(path), embedded_map(path))


def _read_nyu_mat(path: Path, index: int) -> Example:
    """One of the labelled set, which MATLAB stored transposed: images (N, 3, W, H), depths (N, W, H) in metres."""
    with _h5(path) as stored:
        picture, depth = np.asarray(stored["images"][index]), np.asarray(stored["depths"][index])
    return Example(np.ascontiguousarray(picture.transpose(2, 1, 0)), inverse_of(depth.T))


def read_calibration(path: Path) -> dict[str, float]:
    """Of Middlebury's calib.txt: doffs in pixels, baseline in millimetres, and cam0's focal length `f` in pixels.

    Raises:
        InputError: one of them is missing, or no number.
    """
    lines = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    try:
        return {
            "doffs": float(lines["doffs"]),
            "baseline": float(lines["baseline"]),
            "f": float(lines["cam0"].strip("[ ").split()[0]),
        }
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(
            f"{path} is not a Middlebury calib.txt: doffs, baseline or cam0 is missing ({error})"
        ) from error


def _picture(path: Path) -> NDArray[np.uint8]:
    return to_8_bit(read_photo(path).pixels)


def _h5(path: Path):  # type: ignore[no-untyped-def]  # h5py has no types
    try:
        import h5py
    except ImportError as error:
        raise MissingError(f"the labelled .mat needs h5py ({error}): {pip_install('rgbd')}") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is not an HDF5 file, but NYU's labelled .mat is one: {error}") from error


# --- What each kind finds in a folder


def _folder(role: Role | None, root: Path) -> tuple[Callable[[], Example], ...]:
    readers = []
    for pair in find_pairs(root, ("disparity", "depth")):
        told = role or pair.role
        if told is None:
            raise InputError(
                f"{pair.label} may be disparity or depth: name the set as disparity:{root} or depth:{root}"
            )
        readers.append(partial(_read_pair, pair, told))
    return tuple(readers)


def _middlebury(root: Path) -> tuple[Callable[[], Example], ...]:
    scenes = sorted(path.parent for path in root.rglob("disp0.pfm") if (path.parent / "im0.png").is_file())
    if not scenes:
        raise InputError(
            f"{root} has no folder with im0.png and disp0.pfm, as Middlebury scenes have: give another folder"
        )
    return tuple(partial(_read_middlebury, scene) for scene in scenes)


def _nyu(root: Path) -> tuple[Callable[[], Example], ...]:
    readers: list[Callable[[], Example]] = []
    for path in sorted(root.rglob("*.mat")):
        with _h5(path) as stored:
            if "images" not in stored or "depths" not in stored:
                raise InputError(
                    f"{path} lacks the arrays 'images' and 'depths' of NYU's labelled .mat: give another file"
                )
            readers += [partial(_read_nyu_mat, path, index) for index in range(len(stored["depths"]))]
    return tuple(readers) or _folder("depth", root)


def _portrait(root: Path) -> tuple[Callable[[], Example], ...]:
    suffixes = (".heic", ".heif", ".jpg", ".jpeg")
    paths = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in suffixes and holds_depth(path)]
    if not paths:
        raise InputError(f"{root} has no HEIC or JPEG with depth: give photos taken in a phone's portrait mode")
    return tuple(partial(_read_portrait, path) for path in paths)


KINDS: dict[str, Callable[[Path], tuple[Callable[[], Example], ...]]] = {
    "folder": partial(_folder, None),
    "disparity": partial(_folder, "disparity"),
    "depth": partial(_folder, "depth"),
    "middlebury": _middlebury,
    "nyu": _nyu,
    "portrait": _portrait,
}
"""Kind → what finds its examples in a folder; raises InputError where there are none."""
