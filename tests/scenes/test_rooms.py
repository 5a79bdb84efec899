"""Rendered rooms but for Blender: disparity, what is kept, the files, and a run that is cut off and goes on."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import deeplens.scenes.room_render as render_module
import deeplens.scenes.rooms as rooms
from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.scenes.room_scene import Camera, Scene
from deeplens.scenes.rooms import (
    LEVELS,
    VIEWS,
    developed,
    is_good_depth,
    is_good_picture,
    load_room,
    quantised,
    render_rooms,
    room_files,
)
from tests.scenes.test_room_layout import MODELS, SOURCES

ROWS = np.repeat((np.arange(320) + 0.5)[:, None] / 320, 320, 1)


def floor(horizon: float = 0.4) -> np.ndarray:
    """Depth of a level floor under an eye 1.5 m high: 1/z rises linearly below the horizon; a wall 6 m away."""
    inverse = np.clip((ROWS - horizon) / 1.5, 1 / 6, None)
    return (1 / inverse).astype(np.float32)


def with_subject(depth: np.ndarray, distance: float) -> np.ndarray:
    depth = depth.copy()
    depth[60:300, 90:180] = distance
    return depth


def test_disparity_by_hand() -> None:
    disparity, near, far = quantised(np.array([[1.0, 2.0], [4.0, np.inf]], np.float32))
    assert (near, far) == (1.0, 0.0)
    assert disparity.dtype == np.uint16
    np.testing.assert_array_equal(disparity, [[65535, 32768], [16384, 0]])
    disparity, near, far = quantised(np.full((2, 2), 2.0, np.float32))
    assert (near, far) == (0.5, 0.5)
    assert not disparity.any()


@settings(deadline=None, max_examples=60)
@given(npst.arrays(np.float32, (4, 4), elements=st.floats(0.125, 1000, width=32)))
def test_depth_comes_back(depth: np.ndarray) -> None:
    disparity, near, far = quantised(depth)
    inverse = far + disparity.astype(np.float64) / LEVELS * (near - far)
    assert np.abs(inverse - 1 / depth.astype(np.float64)).max() <= 0.5000001 * (near - far) / LEVELS + 1e-12


def test_what_depth_is_worth_a_picture() -> None:
    assert is_good_depth(with_subject(floor(), 1.2))
    noise = np.random.default_rng(0).normal(0, 0.01, (320, 320)).astype(np.float32)
    refused = {
        "a wall": np.full((320, 320), 3, np.float32) + noise,
        "a floor alone": (1 / (0.1 + 0.6 * ROWS)).astype(np.float32),
        "a slanting wall": (1 / (0.1 + 0.4 * ROWS + 0.3 * ROWS.T)).astype(np.float32),
        "inside something": with_subject(floor(), 0.1),
        "nothing": np.full((320, 320), np.inf, np.float32),
    }
    speck = floor()
    speck[100:103, 100:103] = 0.25
    refused["a speck before all else"] = speck
    assert [name for name, depth in refused.items() if is_good_depth(depth)] == []


def test_what_picture_is_worth_keeping() -> None:
    picture = np.random.default_rng(0).integers(20, 236, (320, 320, 3)).astype(np.uint8)
    assert is_good_picture(picture)
    half = picture.copy()
    half[:200] = 0
    white = picture.copy()
    white[:200] = 255
    for bad in (half, white, picture // 16, 255 - picture // 16, np.full_like(picture, 128)):
        assert not is_good_picture(bad)


def test_exposure() -> None:
    light = np.random.default_rng(0).uniform(0.2, 0.3, (64, 64, 3)).astype(np.float32)
    picture = developed(light * 1e-3, key=0.2)
    np.testing.assert_array_equal(picture, developed(light * 10, key=0.2))  # Blender's unit does not matter
    assert picture.mean() / 255 == pytest.approx(0.4845, abs=0.004)  # sRGB of 0.2, by IEC 61966-2-1
    light[:3] = 1e4  # a lamp leaves the rest as it is
    lit = developed(light, key=0.2)
    assert np.abs(lit[3:].astype(int) - picture[3:]).max() <= 12
    assert lit[:3].min() >= 254
    ramp = np.linspace(0, 4, 256, dtype=np.float32)[:, None, None].repeat(3, 2)
    assert np.all(np.diff(developed(ramp, key=0.5)[:, 0, 0].astype(int)) >= 0)
    assert not developed(np.zeros_like(light), key=0.2).any()


class FakeRenderer:
    """In place of Blender: every picture has its own subject; every third camera sees nothing but a wall."""

    calls = 0

    def build(self, scene: Scene, scratch: Path) -> None:
        assert scratch.is_dir()
        self.scene = scene

    def surfaces(self, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        depth, items = self.depth(camera), np.full((320, 320), -1)
        if camera.subject is not None:
            items[60:300, 90:180] = camera.subject
        return depth, items

    def depth(self, camera: Camera) -> np.ndarray:
        FakeRenderer.calls += 1
        if round(camera.focal * 1000) % 3 == 0:
            return np.full((320, 320), 3, np.float32)
        return with_subject(floor(), 0.5 + (camera.focal % 1))

    def light(self, camera: Camera) -> np.ndarray:
        rng = np.random.default_rng(round(camera.focal * 1000))
        return rng.uniform(0.1, 0.9, (320, 320, 3)).astype(np.float32)


@pytest.fixture
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_module, "Renderer", FakeRenderer)
    monkeypatch.setattr(render_module, "cutout_shape", lambda _: 0.8)
    monkeypatch.setattr(rooms, "models_of", lambda *_: MODELS)
    monkeypatch.setattr(rooms, "shipped", lambda *_: SOURCES)


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("_fake")
def test_files_and_reader(tmp_path: Path) -> None:
    assert render_rooms(out=tmp_path, data=tmp_path, split="train", count=7, seed=3) == 7
    files = room_files("train", tmp_path)
    assert len(files) == 7
    assert all(path.name.startswith("3_0000") for path in files)
    picture, disparity = load_room(files[0])
    assert picture.shape == (320, 320, 3)
    assert disparity.shape == (320, 320)
    assert [str(each.dtype) for each in (picture, disparity)] == ["uint8", "float32"]
    assert (disparity.min(), disparity.max()) == (0, 1)
    with np.load(files[0]) as file:
        about, near, far = json.loads(str(file["about"])), float(file["near"]), float(file["far"])
    assert about["kind"] in ("indoor", "outdoor")
    assert set(about["cutouts"]) <= {path.name for path in SOURCES.cutouts}
    assert set(about["models"]) <= {model.key for model in MODELS}
    assert about["people"] == []
    subject = 0.5 + about["camera"]["focal"] % 1
    depth = with_subject(floor(), subject)
    np.testing.assert_allclose(far + disparity * (near - far), 1 / depth, atol=2e-5)


@pytest.mark.usefixtures("_fake")
def test_what_a_camera_is_close_to_has_its_outline(tmp_path: Path) -> None:
    expected = np.zeros((320, 320), np.uint8)
    expected[60:300, 90:180] = 255
    render_rooms(out=tmp_path, data=tmp_path, split="train", count=12, seed=3)
    kinds = []
    for path in room_files("train", tmp_path):
        with np.load(path) as file:
            kinds.append(json.loads(str(file["about"]))["subject"])
            assert ("subject" in file.files) == (kinds[-1] is not None)
            if kinds[-1] is not None:
                np.testing.assert_array_equal(file["subject"], expected)
                assert file["subject"].dtype == np.uint8
        load_room(path)  # with and without it
    assert {None, "model"} <= set(kinds) <= {None, "model", "cutout"}


@pytest.mark.usefixtures("_fake")
def test_who_is_hidden_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that is close to something which something else covers is not used."""
    hidden = np.full((320, 320), -1)
    monkeypatch.setattr(FakeRenderer, "surfaces", lambda self, camera: (self.depth(camera), hidden))
    render_rooms(out=tmp_path, data=tmp_path, split="train", count=5, seed=3)
    for path in room_files("train", tmp_path):
        with np.load(path) as file:
            assert "subject" not in file.files


@pytest.mark.usefixtures("_fake")
def test_a_run_that_is_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = VIEWS + 2
    render_rooms(out=tmp_path / "whole", data=tmp_path, split="val", count=count, seed=0)
    whole = contents(tmp_path / "whole")
    assert len(whole) == count

    saved, save = [], np.savez_compressed

    def cut_off(stream: object, **arrays: object) -> None:
        saved.append(stream)
        if len(saved) == 4:
            stream.write(b"half a file")  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        save(stream, **arrays)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(np, "savez_compressed", cut_off)
        with pytest.raises(KeyboardInterrupt):
            render_rooms(out=tmp_path / "parts", data=tmp_path, split="val", count=count, seed=0)
    assert contents(tmp_path / "parts").items() < whole.items()
    assert len(contents(tmp_path / "parts")) == 3
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").rglob("*.npz")}
    assert render_rooms(out=tmp_path / "parts", data=tmp_path, split="val", count=count, seed=0) == count - 3
    assert contents(tmp_path / "parts") == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    calls = FakeRenderer.calls
    assert render_rooms(out=tmp_path / "parts", data=tmp_path, split="val", count=count, seed=0) == 0
    assert FakeRenderer.calls == calls


@pytest.mark.usefixtures("_fake")
def test_splits_and_seeds_differ(tmp_path: Path) -> None:
    for split, seed in (("train", 0), ("train", 1), ("val", 0)):
        render_rooms(out=tmp_path / f"{split}{seed}", data=tmp_path, split=split, count=1, seed=seed)
    assert len(set(contents(tmp_path).values())) == 3


@pytest.mark.usefixtures("_fake")
def test_gives_up_where_nothing_turns_out_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRenderer, "depth", lambda *_: np.full((320, 320), 3, np.float32))
    monkeypatch.setattr(rooms, "PATIENCE", 2)
    with pytest.raises(MismatchError, match="no usable picture"):
        render_rooms(out=tmp_path, data=tmp_path, split="val", count=1, seed=0)
    assert contents(tmp_path) == {}


def test_what_can_be_wrong_with_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train, val, test"):
        room_files("calibration", tmp_path)
    with pytest.raises(MissingError, match=r"python -m deeplens\.scenes\.rooms --split val"):
        room_files("val", tmp_path)
    path = tmp_path / "0.npz"
    for content in (b"", b"PK\x03\x04 cut off", b"no archive at all"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="render again"):
            load_room(path)
    np.savez(path, picture=np.zeros((320, 320, 3), np.uint8))
    with pytest.raises(InputError, match="render again"):
        load_room(path)
    np.savez(path, picture=np.zeros((32, 32, 3), np.uint8), disparity=np.zeros((32, 32), np.uint16))
    with pytest.raises(MismatchError, match="320×320"):
        load_room(path)


def test_without_blender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bpy", None)
    with pytest.raises(MissingError, match="pip install --group rooms"):
        render_module.Renderer()
    with pytest.raises(InputError, match="train, val, test"):
        render_rooms(out=tmp_path, data=tmp_path, split="calibration", count=1, seed=0)


def test_importing_is_light() -> None:
    code = "import sys, deeplens.scenes.rooms, deeplens.scenes.room_render; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "scipy", "bpy"} & set(done.stdout.split())
