"""Scenes: the same for a seed and an index, made of the given sources alone, and what their depths promise."""

import hashlib
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_erosion

from deeplens.model.contract import R_MAX
from deeplens.runtimes.pyramid import geometry
from deeplens.scenes import planes as scenes
from deeplens.scenes.planes import (
    LARGE_TEST_CONFIG,
    TEST_CONFIG,
    TEST_SCENES,
    TEST_SEED,
    PhotoConfig,
    Scene,
    SceneConfig,
    make_scene,
    test_scenes,
)
from deeplens.scenes.renderer import Plane, composite
from deeplens.scenes.sources import SPLITS, Sources, read_table
from deeplens.scenes.stream import LARGE_EVERY, SceneStream, write_scenes
from tests.support.tiny import make_sources

test_scenes.__test__ = False  # type: ignore[attr-defined]  # a stream of scenes, no test

SMALL = SceneConfig(size=64, steps=1)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return make_sources(tmp_path_factory.mktemp("sources"))


def digest(scene: Scene) -> str:
    parts = [part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode() for part in astuple(scene)]
    return hashlib.sha256(b"|".join(parts)).hexdigest()


def test_a_scene_depends_on_its_seed_and_index_alone(sources: Sources) -> None:
    def made(seed: int, index: int) -> str:
        return digest(make_scene(sources, seed=seed, index=index, config=SMALL))

    first = [made(3, index) for index in (0, 1, 2)]
    scenes.decoded_photo.cache_clear()
    scenes.decoded_cutout.cache_clear()
    assert [made(3, index) for index in (2, 0, 1)] == [first[2], first[0], first[1]]
    assert len({*first, *(made(4, index) for index in (0, 1, 2))}) == 6


def test_fields_have_their_shapes_and_ranges(sources: Sources) -> None:
    for index in range(8):
        scene = make_scene(sources, seed=0, index=index, config=SMALL)
        assert scene.picture.shape == scene.target.shape == (64, 64, 3)
        assert scene.picture.dtype == np.uint8
        assert scene.target.dtype == np.float32
        for disparity in (scene.disparity, scene.corrupted):
            assert disparity.shape == (64, 64)
            assert disparity.dtype == np.float32
            assert disparity.min() >= 0
            assert disparity.max() <= 1
        assert 0 <= scene.target.min() <= scene.target.max() <= 1
        assert 0 <= scene.focal <= 1
        assert 0 <= scene.aperture <= 1


def test_narrow_scenes_are_the_same_scenes_with_a_smaller_aperture(sources: Sources) -> None:
    apertures = []
    for index in range(12):
        usual = make_scene(sources, seed=5, index=index, config=SMALL)
        narrow = make_scene(sources, seed=5, index=index, config=replace(SMALL, narrow=1.0))
        assert np.array_equal(usual.picture, narrow.picture)
        assert usual.focal == narrow.focal
        apertures.append(narrow.aperture)
    assert 0.02 <= min(apertures) < 0.1
    assert 0.2 < max(apertures) <= 0.5


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[list[Plane]]:
    """The planes of every scene that is made from here on."""
    seen: list[list[Plane]] = []

    def record(planes: list[Plane]) -> np.ndarray:
        seen.append(planes)
        return composite(planes)

    monkeypatch.setattr(scenes, "composite", record)
    return seen


def test_three_planes_from_back_to_front(sources: Sources, recorded: list[list[Plane]]) -> None:
    ramps = 0
    for index in range(24):
        make_scene(sources, seed=1, index=index, config=SMALL)
    for background, middle, front in recorded:
        behind = background.disparity_map()
        assert background.coverage.min() == 1
        assert 1 >= front.disparity[0] > middle.disparity[0] >= behind.max()
        assert front.disparity[1:] == middle.disparity[1:] == (0, 0)
        assert behind.min() >= -1e-6
        if background.disparity != (0, 0, 0):
            ramps += 1
            slopes = [slope != 0 for slope in background.disparity[1:]]
            assert sum(slopes) == 1, "along one axis"
            assert behind.max() > behind.min()
    assert 4 <= ramps <= 20, "zero or a ramp, half of each"


def test_the_target_is_the_picture_where_the_depth_is_in_focus(sources: Sources) -> None:
    """Scenes with a small blur everywhere: the target is the photo to its 8 bits. And most are not so."""
    still = blurred = 0
    for index in range(40):
        scene = make_scene(sources, seed=0, index=index, config=SMALL)
        widest = np.abs(scene.disparity - scene.focal).max() * scene.aperture * SMALL.radius
        difference = np.abs(scene.target - scene.picture / 255).max()
        if scene.aperture == 0:
            still += 1
            assert difference < 1 / 255
        elif widest > 4:
            blurred += 1
            assert difference > 4 / 255
    assert still >= 1
    assert blurred >= 15


def test_corrupted_disparity_differs_near_outlines_only(sources: Sources, recorded: list[list[Plane]]) -> None:
    config = SceneConfig(size=64, steps=1)
    reach, margin = 2**config.steps * 2, int(np.ceil(config.radius)) + 2
    inner = slice(margin, margin + config.size)
    changed = {"nearer": 0, "farther": 0}
    for index in range(16):
        scene = make_scene(sources, seed=2, index=index, config=config)
        near_outline = np.zeros(recorded[-1][0].coverage.shape, bool)
        for plane in recorded[-1][1:]:
            mask = plane.coverage >= 0.5
            rim = mask ^ binary_erosion(mask, np.ones((3, 3)), border_value=1)
            near_outline |= binary_dilation(rim, np.ones((2 * reach + 1,) * 2))
        moved = scene.corrupted != scene.disparity
        assert not (moved & ~near_outline[inner, inner]).any()
        changed["nearer"] += int((scene.corrupted > scene.disparity).sum())
        changed["farther"] += int((scene.corrupted < scene.disparity).sum())
    assert min(changed.values()) > 50, "dilated and eroded, both"


def test_an_exact_scene_is_the_same_scene(sources: Sources) -> None:
    fast, exact = (
        make_scene(sources, seed=0, index=1, config=SceneConfig(size=32, steps=0, exact=exact))
        for exact in (False, True)
    )
    np.testing.assert_array_equal(fast.picture, exact.picture)
    np.testing.assert_array_equal(fast.corrupted, exact.corrupted)
    assert not np.array_equal(fast.target, exact.target)
    assert np.square(fast.target - exact.target).mean() < 1e-3


def test_only_the_given_sources_are_read(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[Path] = set()

    def recording(load: Callable[[Path], np.ndarray]) -> Callable[[Path], np.ndarray]:
        def loaded(path: Path) -> np.ndarray:
            read.add(path)
            return load(path)

        return loaded

    for name in ("load_background", "load_cutout"):
        monkeypatch.setattr(scenes, name, recording(getattr(scenes, name)))
    scenes.decoded_photo.cache_clear()
    scenes.decoded_cutout.cache_clear()
    for index in range(30):
        make_scene(sources, seed=0, index=index, config=SMALL)
    assert read == {*sources.backgrounds, *sources.cutouts}


def test_the_test_split_is_fixed(sources: Sources) -> None:
    small = PhotoConfig(size=64, steps=0, cutout_only=True)
    found = list(test_scenes(sources, start=2, count=2, config=small))
    expected = [make_scene(sources, seed=TEST_SEED, index=index, config=small) for index in (2, 3)]
    assert [digest(scene) for scene in found] == [digest(scene) for scene in expected]
    assert TEST_SCENES == 500
    assert TEST_CONFIG.cutout_only
    assert LARGE_TEST_CONFIG.cutout_only


def test_sources_of_the_test_split_are_in_no_other() -> None:
    splits: dict[str, set[str]] = {split: set() for split in SPLITS}
    for entry in read_table():
        if entry.split in splits:
            splits[entry.split].add(entry.sha256)
    assert splits["test"]
    for split in set(SPLITS) - {"test"}:
        assert not splits["test"] & splits[split]


@pytest.mark.parametrize(("config", "radius"), [(TEST_CONFIG, 16), (LARGE_TEST_CONFIG, 32)])
def test_photo_scenes_blur_as_the_harness_does(config: PhotoConfig, radius: float) -> None:
    levels = geometry(config.size, config.size)
    assert config.steps == levels.steps
    assert config.radius == radius == R_MAX * levels.blur_scale * 2**levels.steps


def test_scenes_have_light_in_them(sources: Sources) -> None:
    """The control of all the above: pictures are neither flat nor equal to the bare background."""
    scene = make_scene(sources, seed=0, index=0, config=SMALL)
    assert scene.picture.std() > 10
    assert len(np.unique(scene.disparity)) > 1


# --- The stream


def test_stream_is_stateless_and_mixes_sizes(sources: Sources) -> None:
    large = SceneConfig(size=128, steps=2)
    stream = SceneStream(sources, seed=0, batch=2, small=SMALL, large=large)
    sizes = [stream.config(index).size for index in range(2 * 2 * LARGE_EVERY)]
    assert sizes == 2 * ([64] * 6 + [128] * 2)
    order = (7, 1, 0)
    first = {index: stream[index] for index in order}
    again = SceneStream(sources, seed=0, batch=2, small=SMALL, large=large)
    for index in reversed(order):
        sample = again[index]
        assert all(torch.equal(value, first[index][name]) for name, value in sample.items())
    assert first[7]["picture"].shape == (3, 128, 128)
    assert first[7]["signed_depth"].shape == (1, 128, 128)
    assert int(first[7]["steps"]) == 2
    scene = make_scene(sources, seed=0, index=1, config=SMALL)
    assert torch.equal(first[1]["target"], torch.from_numpy(scene.target).permute(2, 0, 1))


def test_stream_gives_true_corrupted_and_coarse_depth(sources: Sources) -> None:
    stream = SceneStream(sources, seed=5, batch=100, small=SMALL, large=SMALL)
    kinds = {"true": 0, "corrupted": 0, "coarse": 0}
    for index in range(24):
        scene = make_scene(sources, seed=5, index=index, config=SMALL)
        found = stream[index]["signed_depth"][0].numpy()
        assert np.abs(found).max() <= 1
        for kind, disparity in (("true", scene.disparity), ("corrupted", scene.corrupted)):
            if np.array_equal(found, (disparity - np.float32(scene.focal)) * np.float32(scene.aperture)):
                kinds[kind] += 1
                break
        else:
            kinds["coarse"] += 1
    assert min(kinds.values()) >= 3, kinds


def test_a_network_s_errors_are_in_as_many_scenes_as_asked(sources: Sources) -> None:
    """None at 0, so that the fits before are the same; about half at 0.5; the picture and its truth as they are."""
    plain, some = (
        SceneStream(sources, seed=5, batch=100, small=SMALL, large=SMALL, errors=share) for share in (0, 0.5)
    )
    same = []
    for index in range(24):
        right, wrong = plain[index], some[index]
        assert torch.equal(right["picture"], wrong["picture"])
        assert torch.equal(right["target"], wrong["target"])
        same.append(torch.equal(right["signed_depth"], wrong["signed_depth"]))
    assert 6 <= sum(same) <= 20, same


def test_written_scenes_are_those_of_the_stream(sources: Sources, tmp_path: Path) -> None:
    write_scenes(sources, tmp_path / "set", seed=1, count=2, config=SMALL)
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["00000.npz", "00001.npz"]
    scene = make_scene(sources, seed=1, index=1, config=SMALL)
    with np.load(tmp_path / "set" / "00001.npz") as stored:
        np.testing.assert_array_equal(stored["picture"], scene.picture)
        for name in ("target", "disparity", "corrupted"):
            assert stored[name].dtype == np.uint16
            np.testing.assert_allclose(stored[name] / 65535, getattr(scene, name), atol=0.51 / 65535)
        assert (float(stored["focal"]), float(stored["aperture"])) == (scene.focal, scene.aperture)
    before = (tmp_path / "set" / "00000.npz").stat().st_mtime_ns
    write_scenes(sources, tmp_path / "set", seed=1, count=3, config=SMALL)
    assert (tmp_path / "set" / "00000.npz").stat().st_mtime_ns == before
    assert len(list((tmp_path / "set").iterdir())) == 3
