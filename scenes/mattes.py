"""Mattes of the teacher U²-Net-p (saliency), which stand in for segmentation labels (section 3.1) on photos.

$ python -m deeplens.scenes.mattes [--data data]

writes data/teacher/mattes/{photo}.png for all photos of train and val
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from deeplens.console.errors import MissingError
from deeplens.console.files import staged
from deeplens.console.script import run_script
from deeplens.runtimes.ort import import_onnxruntime
from deeplens.scenes.sources import load_background, shipped

SIZE = 320
"""Side of the teacher's input and of the mattes, in pixels; the photo's aspect is ignored, as for the depth network."""

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def matte_path(photo: Path, root: Path) -> Path:
    """Where the matte of a photo lies under the data folder."""
    return root / "teacher" / "mattes" / f"{photo.stem}.png"


def load_matte(photo: Path, root: Path) -> NDArray[np.float32]:
    """The matte of a photo, (320, 320) in [0, 1]. Raises MissingError when it was not made."""
    path = matte_path(photo, root)
    if not path.is_file():
        raise MissingError(f"{path} does not exist: run `python -m deeplens.scenes.mattes --data {root}`")
    return np.asarray(Image.open(path), np.float32) / np.float32(255)


def open_teacher(root: Path) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """The teacher under the data folder: a photo (H, W, 3) uint8 sRGB → its matte, (320, 320) in [0, 1].

    Raises:
        MissingError: it was not fetched, or ONNX Runtime is not installed.
    """
    path = root / "teacher" / "u2netp.onnx"
    if not path.is_file():
        raise MissingError(f"{path} does not exist: run `make data`")
    session = import_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def matte(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
        small = Image.fromarray(photo).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        pixels = (np.asarray(small, np.float32) / 255 - MEAN) / DEVIATION
        found = session.run(None, {name: pixels.transpose(2, 0, 1)[None].astype(np.float32)})
        return np.clip(np.asarray(found[0], np.float32)[0, 0], 0, 1)

    return matte


def make_mattes(root: Path) -> int:
    """Run the teacher over all photos of train and val that have no matte yet; returns how many there are."""
    teacher = open_teacher(root)
    count = 0
    for split in ("train", "val"):
        sources = shipped(split, root)
        for photo in sources.backgrounds + sources.subjects:
            path = matte_path(photo, root)
            count += 1
            if path.exists():
                continue
            matte = teacher(load_background(photo))
            path.parent.mkdir(parents=True, exist_ok=True)
            with staged(path) as temporary:
                Image.fromarray(np.rint(matte * 255).astype(np.uint8)).save(temporary, "PNG")
    return count


def main(data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data")) -> None:
    """Make the teacher's mattes of all training and validation photos."""
    typer.echo(f"{make_mattes(data)} mattes in {data / 'teacher' / 'mattes'}")


if __name__ == "__main__":
    run_script(main)
