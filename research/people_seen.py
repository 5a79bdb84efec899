"""Do rendered people look like people? Asked of a network that learned from photos of real ones.

$ python -m deeplens.research.people_seen MODEL [--split val] [--data data]

MODEL is `selfie_segmentation.tflite` of the npm package @mediapipe/selfie_segmentation (Apache-2.0); it runs with
LiteRT (`pip install --group selfie`). For every picture of `deeplens.scenes.rooms` whose camera is close to a person
it prints how well the network's mask and the exact one agree; beside them what it says of pictures close to other
things. The network is no teacher here: no photo that our networks learn from shows a person.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from deeplens.console.errors import InputError, MissingError
from deeplens.console.report import console_for, table
from deeplens.console.script import run_script
from deeplens.scenes.rooms import load_room

PACKAGE = "@mediapipe/selfie_segmentation"

Segment = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""A picture (H, W, 3) sRGB → the network's mask (h, w) in [0, 1]."""


def open_model(path: Path) -> Segment:
    """The segmentation network in a .tflite file.

    Raises:
        MissingError: the file or LiteRT is not there.
        InputError: the file is no network of this kind.
    """
    if not path.is_file():
        raise MissingError(f"{path} does not exist: take selfie_segmentation.tflite out of `npm pack {PACKAGE}`")
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise MissingError("LiteRT is not installed: run `pip install --group selfie`") from error
    try:
        interpreter: Any = Interpreter(str(path), num_threads=1)
    except ValueError as error:
        raise InputError(f"{path} is not a TensorFlow Lite network: {error}") from error
    interpreter.allocate_tensors()
    entry, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    height, width = (int(side) for side in entry["shape"][1:3])

    def segment(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        small = np.asarray(Image.fromarray(picture).resize((width, height)), np.float32) / np.float32(255)
        interpreter.set_tensor(entry["index"], small[None])
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(out["index"])[0, ..., 0], np.float32)

    return segment


def agreement(mask: NDArray[np.float32], subject: NDArray[np.bool_]) -> tuple[float, float]:
    """Intersection over union of a mask above 0.5 and the truth, and the share of the truth that the mask covers.

    The mask is brought to the truth's size.
    """
    height, width = subject.shape
    found = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.BILINEAR)) > 0.5
    both = float((found & subject).sum())
    return both / max(float((found | subject).sum()), 1.0), both / max(float(subject.sum()), 1.0)


def seen(paths: list[Path], segment: Segment) -> dict[str, list[tuple[float, float]]]:
    """`agreement` for each picture with a subject: those close to a person, and those close to anything else."""
    found: dict[str, list[tuple[float, float]]] = {"a person": [], "another thing": []}
    for path in paths:
        picture, _ = load_room(path)
        with np.load(path) as file:
            if "subject" not in file:
                continue
            subject, about = file["subject"] > 0, json.loads(str(file["about"]))
        found["a person" if about.get("subject") == "person" else "another thing"].append(
            agreement(segment(picture), subject)
        )
    return found


def main(
    model: Annotated[Path, typer.Argument(help="selfie_segmentation.tflite.")],
    split: Annotated[str, typer.Option(help="Split of the rendered rooms: train, val or test.")] = "val",
    data: Annotated[Path, typer.Option(help="Folder that `make data` and the rendering filled.")] = Path("data"),
) -> None:
    """How well a network for people finds the people of the rendered rooms."""
    segment = open_model(model)
    paths = sorted((data / "rooms" / split).glob("*.npz"))
    if not paths:
        raise MissingError(f"{data}/rooms/{split} has no pictures: render some with python -m deeplens.scenes.rooms")
    rows = []
    for name, scores in seen(paths, segment).items():
        union, covered = (f"{np.median(each):.2f}" for each in zip(*scores, strict=True)) if scores else ("–", "–")
        missed = str(sum(score[0] < 0.3 for score in scores))
        rows.append((name, str(len(scores)), union, covered, missed))
    headers = ("close to", "pictures", "median IoU", "median share covered", "IoU below 0.3")
    console_for(None).print(table(f"Rendered rooms, {split} split", headers, rows))


if __name__ == "__main__":
    run_script(main)
