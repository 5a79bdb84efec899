"""How a network for people is asked about rendered ones: with a stand-in for the network, known masks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deeplens.console.errors import MissingError
from deeplens.research.people_seen import agreement, open_model, seen


def test_agreement_is_of_areas() -> None:
    subject = np.zeros((320, 320), bool)
    subject[80:240, 80:240] = True
    mask = np.zeros((256, 256), np.float32)
    mask[64:192, 128:256] = 1  # the right half of the subject, and as much beside it
    assert agreement(mask, subject) == pytest.approx((1 / 3, 1 / 2), abs=0.02)
    assert agreement(np.zeros((256, 256), np.float32), subject) == (0, 0)
    assert agreement(np.ones((256, 256), np.float32), np.zeros((320, 320), bool)) == (0, 0)


def room(path: Path, *, subject: str | None) -> Path:
    mask = np.zeros((320, 320), np.uint8)
    mask[:, :160] = 255
    more: dict[str, Any] = {} if subject is None else {"subject": mask}
    np.savez(
        path,
        picture=np.repeat(mask[..., None], 3, 2),
        disparity=np.zeros((320, 320), np.uint16),
        about=json.dumps({"subject": subject}),
        **more,
    )
    return path


def test_people_and_things_are_told_apart_and_pictures_without_subject_left_out(tmp_path: Path) -> None:
    def segment(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        return picture[..., 0].astype(np.float32) / np.float32(255)

    paths = [
        room(tmp_path / f"{name}.npz", subject=name if name != "none" else None) for name in ("person", "model", "none")
    ]
    assert seen(paths, segment) == {"a person": [(1.0, 1.0)], "another thing": [(1.0, 1.0)]}


def test_a_model_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="npm pack"):
        open_model(tmp_path / "selfie_segmentation.tflite")
