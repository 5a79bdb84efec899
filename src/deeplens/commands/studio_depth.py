"""The depth map in a photo of `deeplens studio`, where the photo's own file holds one that can be used."""

from pathlib import Path

import numpy as np

from deeplens.console.errors import DeepLensError, InputError
from deeplens.runtimes.harness import check_disparity
from deeplens.runtimes.heic import NoDepthError
from deeplens.runtimes.photo import Photo
from deeplens.runtimes.portrait import embedded_disparity


def embedded_of(path: Path, photo: Photo, *, max_pixels: int | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The disparity that a photo's file holds.

    Args:
        path: of the file.
        photo: what was read from it.
        max_pixels: of the map, as in `runtimes.bounds.check_pixels`.

    Returns:
        h×w, float32, in [0, 1], near = large, or None where there is none that can be used; and a line that says why
        one that is there can't be.
    """
    try:
        found = embedded_disparity(path, max_pixels=max_pixels)
        check_disparity(found, photo.pixels)
        if found.max() == 0:
            raise InputError("it is the same everywhere")
    except NoDepthError:
        return None, ()
    except DeepLensError as error:
        return None, (f"the depth map in the photo is not used: {error}",)
    return found, ()
