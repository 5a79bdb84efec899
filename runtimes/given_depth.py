"""Depth that is given with a photo instead of the depth network's: a file, the photo's own, an array, another model."""

from pathlib import Path

import numpy as np

from deeplens.console.errors import InputError
from deeplens.runtimes.depth_kind import Kind, inverse_depth
from deeplens.runtimes.depth_model import DepthModel
from deeplens.runtimes.disparity import normalise_disparity, read_disparity
from deeplens.runtimes.portrait import embedded_disparity

EMBEDDED = "embedded"
"""In place of a depth file's name: the depth that the photo itself holds. `./embedded` is a file of that name."""

Depth = Path | str | np.ndarray | DepthModel
"""What `given_disparity` takes."""


def given_disparity(
    depth: Depth,
    *,
    path: Path | None,
    pixels: np.ndarray,
    kind: Kind | None = None,
    max_pixels: int | None = None,
    notes: list[str] | None = None,
) -> np.ndarray:
    """The disparity of a photo.

    Args:
        depth: a file with a disparity map (`runtimes.disparity.read_disparity`); "embedded", the depth that the photo's
            own file holds (`runtimes.portrait`); an array of height × width, near = large, in any unit; or a model.
        path: of the photo; None where it comes from no file.
        pixels: H×W×3, uint8 or uint16, sRGB.
        kind: what a file or an array holds; None: what the file says, and disparity of an array.
        max_pixels: of a file, as in `runtimes.bounds.check_pixels`.
        notes: gets what was taken for granted, one line each.

    Returns:
        h×w, float32, in [0, 1], near = large.

    Raises:
        InputError: it can't be read, or is not a map of disparities; or "embedded" of a photo that comes from no file.
        MissingError: a HEIC photo, and pillow-heif is not installed.
    """
    notes = [] if notes is None else notes
    if isinstance(depth, DepthModel):
        if kind is not None:
            raise InputError("a depth model says itself what it gives: leave out the kind of depth")
        return depth.disparity(pixels, notes=notes)
    if isinstance(depth, np.ndarray):
        return normalise_disparity(inverse_depth(depth, "the depth", notes) if kind == "depth" else depth)
    if depth != EMBEDDED:
        return read_disparity(Path(depth), kind=kind, max_pixels=max_pixels, notes=notes)
    if path is None:
        raise InputError("'embedded' depth is read from the photo's file: give the path of the photo")
    return embedded_disparity(path, kind=kind, max_pixels=max_pixels, notes=notes)
