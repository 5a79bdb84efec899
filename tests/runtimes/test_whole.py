"""Graphs of the whole effect behind the runtimes' contract: on graphs that can be reckoned by hand, without PyTorch."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from deeplens.console.errors import InputError, MissingError
from deeplens.runtimes import folders
from deeplens.runtimes.whole import OneFile, open_whole
from tests.support.small_graphs import add_graphs, add_whole

SIZE = (40, 72)
MAP = np.full((320, 320), 0.5, np.float32)


@pytest.fixture
def effect(tmp_path: Path) -> OneFile:
    add_whole(tmp_path, SIZE)
    return open_whole("onnx", size=SIZE, artifacts=tmp_path)[1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_keep_their_type_and_are_rounded(effect: OneFile, dtype: type) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (*SIZE, 3), dtype)
    result = effect.refocus(pixels, MAP, focal_disparity=0.5, aperture=0.25)
    assert result.dtype == dtype
    assert np.abs(result - np.rint(pixels * 0.75)).max() <= 1
    assert (effect.refocus(pixels, MAP, focal_disparity=0.5, aperture=0.0) == pixels).all()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"pixels": np.zeros((40, 73, 3), np.uint8)}, "72x40"),
        ({"pixels": np.zeros((40, 72, 3), np.float32)}, "float32"),
        ({"disparity": MAP[1:]}, "320×320"),
        ({"disparity": MAP * np.nan}, "finite"),
        ({"disparity": MAP * 3}, "from 0 to 1"),
        ({"disparity": None}, "disparity map"),
        ({"focal_disparity": None}, "focal disparity"),
        ({"focal_disparity": -0.1}, "focal_disparity must be"),
        ({"aperture": 1.1}, "aperture must be"),
        ({"focus": (0.5, 0.5)}, "no focus point"),
    ],
)
def test_what_it_does_not_take_is_refused(effect: OneFile, change: dict[str, object], what: str) -> None:
    given: dict[str, object] = {
        "pixels": np.zeros((*SIZE, 3), np.uint8), "disparity": MAP, "focal_disparity": 0.5, "aperture": 1.0
    }  # fmt: skip
    with pytest.raises(InputError, match=what):
        effect.refocus(**given | change)  # type: ignore[arg-type]


def test_another_size_and_another_runtime_say_what_helps(tmp_path: Path) -> None:
    add_whole(tmp_path, SIZE)
    with pytest.raises(MissingError, match="--whole 48x48"):
        open_whole("onnx", size=(48, 48), artifacts=tmp_path)
    with pytest.raises(MissingError, match=r"--whole 72x40 --with-depth"):
        open_whole("onnx", size=SIZE, artifacts=tmp_path, with_depth=True)
    with pytest.raises(InputError, match="choose onnx, coreml or trt"):
        open_whole("torch", size=SIZE, artifacts=tmp_path)


def test_a_folder_of_such_graphs_alone_does_not_hide_the_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, networks = tmp_path / "whole", tmp_path / "networks"
    for folder in (whole, networks):
        folder.mkdir()
    add_whole(whole, SIZE)
    add_graphs(networks)
    monkeypatch.setattr(folders, "search_path", lambda: (whole, networks))
    assert folders.folder_of("onnx", variant="edge") == networks
    assert folders.folder_of("onnx", variant="edge", whole=True) == whole
    runtime, _ = open_whole("onnx", size=SIZE)
    runtime.close()
