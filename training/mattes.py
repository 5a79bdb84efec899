"""Mattes of the teacher U²-Net-p (saliency), which stand in for segmentation labels (section 3.1) on photos.

$ python -m training.mattes [--data data]      writes data/teacher/mattes/{photo}.png for all photos of train and val
"""

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from deeplens.guard import guarded
from model.errors import MissingError
from training.sources import load_background, shipped

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
        raise MissingError(f"{path} is not there: run `python -m training.mattes --data {root}`")
    return np.asarray(Image.open(path), np.float32) / np.float32(255)


def make_mattes(root: Path) -> int:
    """Run the teacher over all photos of train and val that have no matte yet; returns how many there are."""
    import onnxruntime

    teacher = root / "teacher" / "u2netp.onnx"
    if not teacher.is_file():
        raise MissingError(f"{teacher} is not there: run `make data`")
    session = onnxruntime.InferenceSession(str(teacher), providers=["CPUExecutionProvider"])
    count = 0
    for split in ("train", "val"):
        sources = shipped(split, root)
        for photo in sources.backgrounds + sources.subjects:
            path = matte_path(photo, root)
            count += 1
            if path.exists():
                continue
            small = Image.fromarray(load_background(photo)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            pixels = (np.asarray(small, np.float32) / 255 - MEAN) / DEVIATION
            fed = {session.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None].astype(np.float32)}
            matte = np.asarray(session.run(None, fed)[0])[0, 0]
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            Image.fromarray(np.rint(np.clip(matte, 0, 1) * 255).astype(np.uint8)).save(temporary, "PNG")
            temporary.replace(path)
    return count


def main(data: Annotated[Path, typer.Option(help="Folder that `make data` filled.")] = Path("data")) -> None:
    """Make the teacher's mattes of all training and validation photos."""
    typer.echo(f"{make_mattes(data)} mattes in {data / 'teacher' / 'mattes'}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(main)
    sys.exit(guarded(lambda: app(standalone_mode=False)))
