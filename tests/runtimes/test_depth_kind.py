"""Which way a depth map goes: what is told, what the file says, and never silently the wrong way."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from deeplens.console.errors import InputError
from deeplens.runtimes.depth_kind import KEY, Kind, Said, checked_kind, inverse_depth
from deeplens.runtimes.disparity import read_disparity, write_disparity
from deeplens.runtimes.given_depth import given_disparity
from tests.conftest import Command

METRES = np.linspace(1, 9, 12, dtype=np.float32).reshape(3, 4)
AS_DEPTH = (1 / METRES - 1 / 9) / (1 - 1 / 9)
AS_DISPARITY = (METRES - 1) / 8


def png(path: Path, **texts: str) -> None:
    said = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        said.add_text(key.replace("_", "."), text)
    Image.fromarray((METRES * 1000).astype(np.uint16)).save(path, pnginfo=said)


def tiff(path: Path, description: str) -> None:
    Image.fromarray(METRES).save(path, description=description)


FILES: list[tuple[str, Callable[[Path], None], Kind, int]] = [
    ("a.npz", lambda path: np.savez(path, depth=METRES), "depth", 1),
    ("a.npz", lambda path: np.savez(path, depth=METRES, focallength_px=np.float32(800)), "depth", 1),
    ("a.npz", lambda path: np.savez(path, disparity=METRES), "disparity", 0),
    ("a.npz", lambda path: np.savez(path, inverse_depth=METRES), "disparity", 0),
    ("a.npz", lambda path: np.savez(path, METRES), "disparity", 1),
    ("room_metres.npy", lambda path: np.save(path, METRES), "depth", 1),
    ("room_metric_depth.npy", lambda path: np.save(path, METRES), "depth", 1),
    ("room-disparity.npy", lambda path: np.save(path, METRES), "disparity", 0),
    ("room_depth.npy", lambda path: np.save(path, METRES), "disparity", 1),  # people call both a depth map
    ("sync_depth_0001.png", png, "depth", 1),
    ("far bright.png", png, "depth", 1),
    ("a.png", lambda path: png(path, Description="depth in metres"), "depth", 1),
    ("metres.png", lambda path: png(path, Comment="Disparity, near is bright"), "disparity", 0),
    ("a.png", lambda path: png(path, deeplens_depth_kind="depth"), "depth", 1),
    ("metres.png", lambda path: png(path, deeplens_depth_kind="disparity"), "disparity", 0),
    ("a.tif", lambda path: tiff(path, "distance, m"), "depth", 1),
    ("a.tif", lambda path: tiff(path, "a scene"), "disparity", 1),
]


@pytest.mark.parametrize(("name", "write", "kind", "count"), FILES)
def test_what_files_say(tmp_path: Path, name: str, write: Callable[[Path], None], kind: Kind, count: int) -> None:
    """What says disparity is taken at its word; all else is told in a note; what a person says goes first."""
    path = tmp_path / name
    write(path)
    notes: list[str] = []
    found = read_disparity(path, notes=notes)
    np.testing.assert_allclose(found, AS_DEPTH if kind == "depth" else AS_DISPARITY, atol=2e-4)
    assert len(notes) == count
    assert all("--depth-kind" in note and name in note for note in notes)
    for told, expected in {"depth": AS_DEPTH, "disparity": AS_DISPARITY}.items():
        silent: list[str] = []
        np.testing.assert_allclose(read_disparity(path, kind=checked_kind(told), notes=silent), expected, atol=2e-4)
        assert silent == []


def test_our_own_maps_need_no_word(tmp_path: Path) -> None:
    notes: list[str] = []
    write_disparity(tmp_path / "metres.png", AS_DISPARITY)
    np.testing.assert_allclose(read_disparity(tmp_path / "metres.png", notes=notes), AS_DISPARITY, atol=1e-5)
    assert notes == []
    with Image.open(tmp_path / "metres.png") as image:
        assert image.text[KEY] == "disparity"


def test_a_map_that_goes_neither_way(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((3, 4), 7.0))
    notes: list[str] = []
    assert not read_disparity(tmp_path / "a.npy", notes=notes).any()
    assert notes == []


def test_words_within_words_say_nothing() -> None:
    for text in ("dispatch", "biometric", "metresque", "distanced", "depthmetric1"):
        assert Said("its name", text).kind() is None
    assert Said("its name", "disparity_in_metres").kind() is None  # both: neither


def test_an_unknown_kind() -> None:
    assert checked_kind(None) is None
    with pytest.raises(InputError, match="choose disparity"):
        checked_kind("inverse")


class TestInverse:
    def test_holes_get_what_is_behind(self) -> None:
        depth = np.array([[2, 0, 4, np.nan], [0, 0, 0, 0], [-1, 8, 2, 2], [1, 1, 1, 1]], np.float32)
        notes: list[str] = []
        found = inverse_depth(depth, "a", notes, most=0.5)
        np.testing.assert_allclose(
            found, [[0.5, 0.25, 0.25, 0.25], [0.5, 0.25, 0.25, 0.25], [0.125, 0.125, 0.5, 0.5], [1.0, 1.0, 1.0, 1.0]]
        )
        assert "43.8 % of its values" in notes[0]

    def test_infinity_is_infinitely_far(self) -> None:
        notes: list[str] = []
        assert inverse_depth(np.array([[1.0, np.inf]]), "a", notes).tolist() == [[1.0, 0.0]]
        assert notes == []

    @pytest.mark.parametrize("share", [0.31, 1.0])
    def test_too_many_holes(self, share: float) -> None:
        depth = np.where(np.arange(100) < 100 * share, 0, 5).reshape(10, 10)
        with pytest.raises(InputError, match=f"at {100 * share:.1f} % of its values"):
            inverse_depth(depth, "a", [])

    @given(st.lists(st.lists(st.sampled_from([0, 1, 2, 5, 9]), min_size=4, max_size=4), min_size=1, max_size=5))
    def test_against_a_loop(self, rows: list[list[int]]) -> None:
        """Each hole by looking left and right, pixel by pixel."""
        depth = np.array(rows, np.float64)
        if not depth.any():
            return
        found = inverse_depth(depth, "a", [], most=1.0)
        for row, line in zip(found, rows, strict=True):
            known = [index for index, value in enumerate(line) if value]
            for index, value in enumerate(line):
                left = [line[i] for i in known if i < index][-1:]
                right = [line[i] for i in known if i > index][:1]
                if known:
                    assert row[index] == pytest.approx(1 / (value or max(left + right)))


def test_arrays() -> None:
    """An array is disparity unless told otherwise: the API says so."""
    pixels = np.zeros((3, 4, 3), np.uint8)
    np.testing.assert_allclose(given_disparity(METRES, path=None, pixels=pixels), AS_DISPARITY, atol=1e-6)
    np.testing.assert_allclose(given_disparity(METRES, path=None, pixels=pixels, kind="depth"), AS_DEPTH, atol=1e-6)


class TestCommand:
    def test_told_and_noted(self, deeplens: Command, photo: Path, artifacts: Path, folder: Path) -> None:
        with Image.open(photo) as image:
            width, height = image.size
        metres = np.repeat(np.linspace(1, 9, width, dtype=np.float32)[None], height, axis=0)
        np.savez(folder / "a.npz", depth=metres)
        command = (
            "refocus", photo, "--focus", "0,0.5", "--runtime", "onnx", "--artifacts", artifacts,
            "--depth", folder / "a.npz", "-o", folder / "out.png",
        )  # fmt: skip
        told = deeplens(*command)
        assert told.status == 0
        assert "a.npz is read as depth (far = large)" in told.err
        assert "sharp at disparity 1.000" in told.out
        other = deeplens(*command, "--depth-kind", "disparity")
        assert "sharp at disparity 0.000" in other.out
        assert other.err == ""
        assert deeplens(*command, "--depth-kind", "metres").status == InputError.exit_code

    def test_without_a_map(self, deeplens: Command, photo: Path, folder: Path) -> None:
        result = deeplens("refocus", photo, "--focus", "0,0", "--depth-kind", "depth", "-o", folder / "out.png")
        assert result.status == 2
        assert "give --depth too" in result.error
