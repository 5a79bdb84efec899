"""Labels of real photos for the depth network: a network's own map, with its outline snapped to the fine matte.

$ python -m deeplens.training.depth_labels [--weights model/weights] [--data data] [--again]

writes data/teacher/depth/PHOTO.npy: the mean of the map of the photo and of that of the mirrored photo, mirrored back.

What lies well inside the subject, and well outside, is extended up to the matte's contour: the order is the network's,
the outline is the matte's. Inside, differences from the median are halved, so that holes of the network's get shallow.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter

from deeplens.console.errors import MissingError
from deeplens.console.files import replacing
from deeplens.console.script import run_script
from deeplens.scenes.renderer import Array
from deeplens.scenes.sources import load_background, shipped

SOFT = 0.03
"""Of the long side: this near the outline a soft map is believed to be a mixture of both sides."""

LEAST = 0.2
"""Of the map's range: by so much, in the median over the outline, the subject is put before what is behind it."""

RELIEF = 0.5
"""So much is left of a subject's differences from its median."""


def label_path(photo: Path, root: Path) -> Path:
    """Where the network's map of a photo lies under the data folder."""
    return root / "teacher" / "depth" / f"{photo.stem}.npy"


def load_label(photo: Path, root: Path) -> Array:
    """The network's map of a photo, (320, 320) in [0, 1]. Raises MissingError when it was not made."""
    path = label_path(photo, root)
    if not path.is_file():
        raise MissingError(f"{path} is not there: run `python -m deeplens.training.depth_labels --data {root}`")
    return np.load(path).astype(np.float32)


def snapped(disparity: Array, matte: Array, *, soft: float = SOFT, least: float = LEAST) -> Array:
    """The map (H, W) with a step at the contour of the matte (H, W), both in [0, 1]; again in [0, 1].

    On each side, what is within `soft` of the contour gets the value of the nearest pixel that is not, smoothed. Where
    nothing of a side is that far from it, the side's deepest pixels count. Inside, `RELIEF` of the differences from the
    median is left. A matte without a contour changes nothing.
    """
    inside = matte > 0.5
    if not inside.any() or inside.all():
        return disparity
    near, far = (_extended(disparity, side, soft * max(matte.shape)) for side in (inside, ~inside))
    middle = float(np.median(near[inside]))
    near = middle + RELIEF * (near - middle)
    depth = distance_transform_edt(inside)
    step = float(np.median((near - far)[inside & (depth <= 2)]))
    raised = np.where(inside, near + max(0.0, least * float(np.ptp(disparity)) - step), far)
    return ((raised - raised.min()) / max(float(np.ptp(raised)), 1e-6)).astype(np.float32)


def _extended(disparity: Array, side: NDArray[np.bool_], soft: float) -> NDArray[np.float64]:
    """The map of one side, its values from `soft` pixels within extended over the rest of the picture."""
    depth = distance_transform_edt(side)
    sure = side & (depth > min(soft, 0.8 * float(depth.max())))
    distance, (rows, columns) = distance_transform_edt(~sure, return_indices=True)
    filled = disparity[rows, columns].astype(np.float64)
    smooth = gaussian_filter(filled, soft / 2)
    share = np.clip(distance / (soft / 2), 0, 1)  # as it is where it is sure, smooth further on
    return share * smooth + (1 - share) * filled


def make_labels(root: Path, weights: Path, *, again: bool = False) -> int:
    """Run `edge` depth over the photos of train and val; returns how many there are.

    Args:
        again: make maps anew that are there; else they stay as they are, whatever network they are of.
    """
    from deeplens.runtimes import open_runtime
    from deeplens.runtimes.harness import Harness

    harness = Harness(open_runtime("torch", variant="edge", weights=weights, artifacts=None, threads=1))
    count = 0
    for split in ("train", "val"):
        sources = shipped(split, root)
        for photo in sources.subjects + sources.backgrounds:
            path = label_path(photo, root)
            count += 1
            if path.exists() and not again:
                continue
            picture = load_background(photo)
            mirrored = harness.disparity(np.ascontiguousarray(picture[:, ::-1]))[:, ::-1]
            values = (harness.disparity(picture) + mirrored) / 2
            values = (values - values.min()) / max(float(np.ptp(values)), 1e-6)
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                np.save(file, values.astype(np.float16))
    return count


def resized(disparity: Array, size: tuple[int, int]) -> Array:
    """A map at (height, width), between pixels bilinearly."""
    return np.asarray(Image.fromarray(disparity).resize(size[::-1], Image.Resampling.BILINEAR))


def main(
    weights: Annotated[Path, typer.Option(help="`edge` depth weights: a file or a folder.")] = Path("model/weights"),
    data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data"),
    again: Annotated[bool, typer.Option("--again", help="Make maps anew that another network made.")] = False,
) -> None:
    """Make a network's maps of all training and validation photos."""
    typer.echo(f"{make_labels(data, weights, again=again)} maps in {data / 'teacher' / 'depth'}")


if __name__ == "__main__":
    run_script(main)
