"""Files of people: what is written comes back, on the ground and around the origin; what can be wrong with a file."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplens.console.errors import InputError
from deeplens.scenes.figure_files import load_person, people_of, save_person
from tests.scenes.tiny_people import a_box_of_a_person


def test_a_person_comes_back(tmp_path: Path) -> None:
    a_box_of_a_person(tmp_path / "train" / "0_00000.npz")
    (person,) = people_of("train", tmp_path)
    assert person.size == pytest.approx((0.4, 0.3, 1.8), abs=2e-3)
    assert person.eyes == pytest.approx((0, -0.15, 1.4), abs=2e-3)
    assert (person.stance, person.seat, person.pieces) == ("stand", None, ("skin", "hair"))
    skin, hair = load_person(person.path)
    assert skin.faces is not None
    assert skin.faces.shape == (6, 4)
    np.testing.assert_allclose(np.ptp(skin.points, axis=0), (0.4, 0.3, 1.5), atol=1e-4)
    assert hair.faces is None
    assert hair.radii is not None
    np.testing.assert_allclose(hair.points[0, [0, -1]], [(0, 0, 1.5), (0, 0, 1.8)], atol=2e-3)
    np.testing.assert_allclose(hair.radii, 0.01, atol=1e-5)


def test_it_is_put_on_the_ground(tmp_path: Path) -> None:
    """A person whose lowest point is elsewhere is moved as a whole, its eyes and its hips with it."""
    a_box_of_a_person(tmp_path / "train" / "0.npz")
    (person,) = people_of("train", tmp_path)
    moved = [replace(piece, points=piece.points + np.array([1, 2, 3])) for piece in load_person(person.path)]
    about: dict[str, object] = {
        "stance": "sit",
        "eyes": np.array([1, 1.85, 4.4]),
        "hips": np.array([1, 2, 3.8]),
        "seat": 3.5,
    }
    (tmp_path / "val").mkdir()
    save_person(tmp_path / "val" / "0.npz", moved, about | {"facing": 0.1, "fair": 0.2, "old": 0.3})
    (again,) = people_of("val", tmp_path)
    assert again.eyes == pytest.approx((0, -0.15, 1.4), abs=2e-3)
    assert again.seat == pytest.approx(0.5, abs=1e-3)
    assert min(piece.points[..., 2].min() for piece in load_person(again.path)) == pytest.approx(0, abs=1e-4)


def test_nobody_is_no_error_and_a_bad_file_is_one(tmp_path: Path) -> None:
    assert people_of("train", tmp_path) == ()
    path = tmp_path / "train" / "0.npz"
    path.parent.mkdir()
    for content in (b"", b"PK\x03\x04 cut off", b"no archive at all"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="make it again"):
            people_of("train", tmp_path)
        with pytest.raises(InputError, match="make it again"):
            load_person(path)
    np.savez(path, picture=np.zeros(3))
    with pytest.raises(InputError, match="make it again"):
        people_of("train", tmp_path)


def test_reading_is_light() -> None:
    code = (
        "import sys, deeplens.scenes.figure_files, deeplens.scenes.people, deeplens.scenes.room_figures;"
        "print(sorted({'torch', 'scipy', 'bpy', 'anny'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
