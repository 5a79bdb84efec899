from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplens.console.errors import InputError
from deeplens.runtimes.disparity import focal_disparity_at, normalise_disparity, read_disparity, write_disparity


def test_normalisation_spans_0_to_1_and_leaves_a_normal_map_alone() -> None:
    values = np.array([[2, 4], [3, 10]], np.int64)
    np.testing.assert_allclose(normalise_disparity(values), [[0, 0.25], [0.125, 1]], atol=1e-7)
    wide = np.array([[-3e-5, 1e9, 5e8]])
    result = normalise_disparity(wide)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [[0, 1, 0.5]], atol=1e-6)
    np.testing.assert_array_equal(normalise_disparity(result), result)
    assert not normalise_disparity(np.full((3, 4), 7.0)).any()


@pytest.mark.parametrize(
    "values",
    [
        np.array([[1.0, np.nan]]),
        np.array([[1.0, np.inf]]),
        np.array([[1.0, -np.inf]]),
        np.zeros((0, 4)),
        np.zeros(4),
        np.zeros((1, 4, 4)),
        np.zeros((4, 4), complex),
        np.array([["a"]]),
    ],
)
def test_maps_that_cannot_be_normalised_are_refused(values: np.ndarray) -> None:
    with pytest.raises(InputError, match="depth map"):
        normalise_disparity(values)


def test_the_focus_point_is_counted_from_the_top_left() -> None:
    disparity = np.arange(12.0).reshape(3, 4)
    corners = [(0, 0, 0), (1, 0, 3), (0, 1, 8), (1, 1, 11), (0.49, 0.5, 5), (0.5, 0.5, 6), (0.99, 0.32, 3)]
    for x, y, expected in corners:
        assert focal_disparity_at(disparity, x, y) == expected
    for x, y in [(-0.01, 0.5), (0.5, 1.01), (float("nan"), 0.5), (0.5, float("inf"))]:
        with pytest.raises(InputError, match="outside the picture"):
            focal_disparity_at(disparity, x, y)


def full_range(height: int = 30, width: int = 50) -> np.ndarray:
    values = np.random.default_rng(3).random((height, width), np.float32)
    values[0, 0], values[-1, -1] = 0, 1
    return values


@pytest.mark.parametrize(("name", "error"), [("a.png", 0.5 / 65535 + 1e-7), ("a.npy", 0), ("a.pfm", 0)])
def test_a_disparity_map_comes_back(tmp_path: Path, name: str, error: float) -> None:
    values = full_range()
    write_disparity(tmp_path / name, values)
    found = read_disparity(tmp_path / name)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, values, rtol=0, atol=error)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_pfm_is_stored_from_the_bottom_up(tmp_path: Path) -> None:
    values = full_range()
    write_disparity(tmp_path / "a.pfm", values)
    header, data = (tmp_path / "a.pfm").read_bytes().split(b"-1.0\n", 1)
    assert header.split() == [b"Pf", b"50", b"30"]
    np.testing.assert_array_equal(np.frombuffer(data, "<f4").reshape(30, 50)[::-1], values)


def test_depth_maps_of_other_kinds_are_normalised(tmp_path: Path) -> None:
    grey = np.random.default_rng(7).integers(0, 256, (30, 50), np.uint8)
    expected = (grey - float(grey.min())) / float(np.ptp(grey))
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(np.repeat(grey[:, :, None], 3, axis=2)).save(tmp_path / "rgb.png")
    Image.fromarray(grey.astype(np.uint16) * 100).save(tmp_path / "16.png")
    Image.fromarray(grey.astype(np.float32) * 3.5 - 90).save(tmp_path / "float.tif")
    np.save(tmp_path / "double.npy", grey * 1e-3)
    np.save(tmp_path / "integers.npy", grey.astype(np.int64) * 10**6)
    for path in tmp_path.iterdir():
        np.testing.assert_allclose(read_disparity(path), expected, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.pfm"])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float, name: str) -> None:
    values = full_range()
    values[4, 4] = value
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path, format={".tif": "TIFF", ".pfm": "PPM"}[path.suffix])
    with pytest.raises(InputError, match="not finite"):
        read_disparity(path)
    with pytest.raises(InputError, match="from 0 to 1"):
        write_disparity(tmp_path / "out.png", values)


def test_what_is_no_depth_map_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3)).save(tmp_path / "photo.png")
    np.save(tmp_path / "volume.npy", np.zeros((3, 4, 5)))
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    np.save(tmp_path / "words.npy", np.array([["a"]]))
    np.save(tmp_path / "cut.npy", full_range())
    data = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(data[:-100])
    for name, words in [
        ("photo.png", "colour picture"),
        ("volume.npy", "height × width"),
        ("objects.npy", "not a NumPy file"),
        ("words.npy", "real numbers"),
        ("cut.npy", "not a NumPy file|cut off"),
    ]:
        with pytest.raises(InputError, match=words) as caught:
            read_disparity(tmp_path / name)
        assert name in str(caught.value)


@pytest.mark.parametrize("values", [np.zeros((2, 3, 3)), np.zeros((0, 3)), np.full((2, 3), 1.5), np.full((2, 3), -0.1)])
def test_maps_that_cannot_be_written_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    with pytest.raises(InputError, match="height × width values from 0 to 1"):
        write_disparity(tmp_path / "a.png", values)
    assert not list(tmp_path.iterdir())
