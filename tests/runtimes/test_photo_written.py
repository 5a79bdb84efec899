"""Photos written: formats, what they keep, and that nothing is lost where writing fails."""

import errno
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeplens.console.errors import InputError
from deeplens.runtimes.photo import Photo, read_photo, side_by_side, to_8_bit, write_disparity, write_photo
from tests.runtimes.test_photo import noise, smooth


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "error"), [("a.png", 0), ("a.TIF", 0), ("a.tiff", 0), ("a.jpg", 4), ("a.JPEG", 4), ("a.webp", 8)]
)
def test_a_photo_comes_back_from_each_format(tmp_path: Path, name: str, error: int) -> None:
    for pixels in (smooth(), smooth(1, 1)):
        assert write_photo(tmp_path / name, pixels) == ()
        assert np.abs(read_photo(tmp_path / name).pixels.astype(int) - pixels).max() <= error
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_alpha_is_put_back_where_the_format_has_it(tmp_path: Path, suffix: str) -> None:
    photo = Photo(smooth(), noise(40, 60))
    path = tmp_path / f"cut.{suffix}"
    assert write_photo(path, photo.with_pixels(255 - smooth())) == ()
    again = read_photo(path).alpha
    assert again is not None
    np.testing.assert_array_equal(again, photo.alpha)


def test_what_a_format_cannot_keep_is_said(tmp_path: Path) -> None:
    notes = write_photo(tmp_path / "a.jpg", Photo(noise(9, 9, 3, dtype=np.uint16), noise(9, 9)))
    assert len(notes) == 2
    assert "8 bits" in notes[0]
    assert "transparency" in notes[1]


def test_16_bits_are_rounded_to_8() -> None:
    values: np.ndarray = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(to_8_bit(values), np.rint(values / 257))
    pixels = noise(4, 4, 3)
    assert to_8_bit(pixels) is pixels


@pytest.mark.parametrize("name", ["a.gif", "a", "a.jpg.txt", ".png"])
def test_an_unknown_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"use \.jpg"):
        write_photo(tmp_path / name, smooth())
    with pytest.raises(InputError, match=r"use \.png, \.npy"):
        write_disparity(tmp_path / name, np.zeros((3, 4)))
    assert not names(tmp_path)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    for path, words in [
        (tmp_path / "folder.png", "is a folder"),
        (tmp_path / "none" / "a.png", "does not exist"),
        (tmp_path / "file" / "a.png", "does not exist"),
        (tmp_path / ("n" * 300 + ".png"), "can't be written"),
    ]:
        with pytest.raises(InputError, match=words):
            write_photo(path, smooth())
        with pytest.raises(InputError, match=words):
            write_disparity(path, np.zeros((3, 4)))
    assert names(tmp_path) == ["file", "folder.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_protected_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="can't be written"):
        write_photo(tmp_path / "a.png", smooth())


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
    path = tmp_path / "a.png"
    write_photo(path, smooth())
    before = path.read_bytes()

    def save(_: Image.Image, file: io.BufferedWriter, **__: Any) -> None:
        file.write(b"half")
        raise failure

    monkeypatch.setattr(Image.Image, "save", save)
    expected = InputError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_photo(path, smooth())
    assert path.read_bytes() == before
    assert names(tmp_path) == ["a.png"]


def test_a_size_that_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    for name in ("a.webp", "a.jpg"):
        with pytest.raises(InputError, match="can't be written"):
            write_photo(tmp_path / name, np.zeros((1, 70_000, 3), np.uint8))
    assert not names(tmp_path)


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", smooth())
    (tmp_path / "b").touch()
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_two_pictures_side_by_side() -> None:
    left, right = noise(20, 100, 3), 255 - noise(20, 100, 3)
    both = side_by_side(left, right)
    assert both.shape == (20, 202, 3)
    np.testing.assert_array_equal(both[:, :100], left)
    assert (both[:, 100:102] == 255).all()
    np.testing.assert_array_equal(both[:, 102:], right)
