"""A depth map finer than the loop's own: what is in focus in it stays as sharp as the photo."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deeplens.model.contract import BASE_LONG_SIDE, R_MAX
from deeplens.runtimes.depth_levels import signed_depth_levels
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.pyramid import geometry, registered_disparity
from deeplens.runtimes.pytorch import TorchRuntime
from deeplens.runtimes.sharp import FinerMap, SharpShares, enlarged, reach
from deeplens.scenes.renderer import Plane, linear_to_srgb, render_exact, srgb_to_linear
from tests.model.test_edge_operations import weights_file_exists
from tests.support.fake_runtime import FakeRuntime, Focus, photo

needs_weights = pytest.mark.skipif(
    not all(weights_file_exists(network) for network in ("lens_blur", "upsample")), reason="no weights are shipped"
)


def shares_of(disparity: np.ndarray, size: tuple[int, int], *, focal: float, aperture: float) -> SharpShares:
    levels = geometry(*size)
    registered = registered_disparity(disparity, levels)
    focus = {"focal_disparity": focal, "aperture": aperture, "focus_range": 0.0}
    depths = signed_depth_levels(registered, levels, **focus, by_level=True)
    return FinerMap(disparity, registered, levels).shares(depths, **focus, by_level=True)


class TestReach:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.floats(0.5, 13))
    def test_it_is_a_cone_over_each_pixel(self, seed: int, largest: float) -> None:
        """Compared with all pairs of pixels; walks are up to 8.3 % longer than straight lines."""
        rng = np.random.default_rng(seed)
        radius = np.where(rng.random((17, 23)) < 0.02, rng.uniform(0, largest, (17, 23)), 0).astype(np.float32)
        rows, columns = np.indices(radius.shape)
        distance = np.hypot(rows[..., None, None] - rows, columns[..., None, None] - columns)
        straight = np.maximum(radius - distance, 0).max((2, 3))
        longer = np.maximum(radius - 1.0824 * distance, 0).max((2, 3))
        found = reach(radius)
        assert (found <= straight + 1e-4).all()
        assert (found >= longer - 1e-4).all()

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.sampled_from([2, 4, 8]), st.integers(0, 30), st.integers(0, 20))
    def test_a_window_is_enlarged_as_pillow_does(self, seed: int, times: int, top: int, left: int) -> None:
        values = np.random.default_rng(seed).random((12, 15), np.float32)
        whole = np.asarray(Image.fromarray(values).resize((15 * times, 12 * times), Image.Resampling.BILINEAR))
        rows, columns = slice(top % (12 * times), 12 * times), slice(left % (15 * times), 15 * times)
        assert enlarged(values, times, rows, columns) == pytest.approx(whole[rows, columns], abs=1e-5)


class TestShares:
    SIZE = (1536, 2048)

    def test_in_focus_is_the_photo_unless_blur_of_something_nearer_reaches_it(self) -> None:
        disparity = np.full(self.SIZE, 0.5, np.float32)
        disparity[:, 1000:1040] = 0.9  # before the focal plane; its discs at full aperture are 0.4 · 2.5 % wide
        disparity[:, 400:440] = 0.1  # behind: its blur is hidden by what is in focus
        shares = shares_of(disparity, self.SIZE, focal=0.5, aperture=1.0)
        share = shares.share(geometry(*self.SIZE).steps, slice(700, 701), slice(0, 2048))[0]
        radius = 0.4 * R_MAX / BASE_LONG_SIDE * 2048
        columns = np.arange(2048)
        away = np.maximum(1000 - columns, columns - 1039)
        assert (share[(away > radius + 8) & ((columns < 400) | (columns >= 440))] == 1).all()
        assert (share[400:440] == 0).all()
        assert (share[(away < radius - 8)] == 0).all()

    def test_a_coarse_map_says_nothing_more(self) -> None:
        levels = geometry(*self.SIZE)
        coarse = np.full((320, 320), 0.5, np.float32)
        assert FinerMap(coarse, registered_disparity(coarse, levels), levels).last == 0
        half = np.full((768, 1024), 0.5, np.float32)
        assert FinerMap(half, registered_disparity(half, levels), levels).last == levels.steps - 1

    def test_windows_are_parts_of_the_whole(self) -> None:
        rng = np.random.default_rng(3)
        disparity = np.where(rng.random((301, 640)) < 0.02, 0.9, 0.5).astype(np.float32)
        shares = shares_of(disparity, (301, 640), focal=0.5, aperture=0.4)
        height, width = geometry(301, 640).padded(1)
        whole = shares.share(1, slice(0, height), slice(0, width))
        assert 0.05 < whole.mean() < 0.95
        assert (shares.share(1, slice(50, 170), slice(200, width)) == whole[50:170, 200:]).all()


@pytest.mark.parametrize("tile", [None, 112])
def test_an_observer_sees_the_networks_and_the_picture_is_the_same(tile: int | None) -> None:
    rng = np.random.default_rng(4)
    pixels = photo(301, 640)
    disparity = np.where(rng.random((301, 640)) < 0.05, 0.8, 0.0).astype(np.float32)
    harness, seen = Harness(FakeRuntime(), tile=tile), list[int]()
    focus = Focus(focal_disparity=0.8, aperture=1.0)
    plain = harness.refocus(pixels, disparity, **focus)
    observed = harness.refocus(pixels, disparity, **focus, observe=lambda level, *_: seen.append(level))
    assert seen == [0, 1]
    assert (plain == observed).all()
    assert (plain[disparity == np.float32(0.8)] == pixels[disparity == np.float32(0.8)]).all()
    assert (plain[disparity == 0.0] != pixels[disparity == 0.0]).any()


@needs_weights
@pytest.mark.slow
def test_a_hair_in_focus_is_kept() -> None:
    """Two pixels wide before a blurred ground, against the exact renderer."""
    side = 1100
    rng = np.random.default_rng(5)
    ground = np.kron(rng.random((22, 22, 3)), np.ones((50, 50, 1))).astype(np.float32)
    hair = np.zeros((side, side), np.float32)
    hair[:, 300:302] = hair[:, 640:642] = hair[520:522] = 1
    planes = [
        Plane(srgb_to_linear(ground), np.ones_like(hair), (0.1, 0.0, 0.0)),
        Plane(srgb_to_linear(np.full((side, side, 3), 0.08, np.float32)) * hair[..., None], hair, (0.8, 0.0, 0.0)),
    ]
    disparity = np.where(hair > 0, 0.8, 0.1).astype(np.float32)
    pixels = np.rint(255 * np.where(hair[..., None] > 0, 0.08, ground)).astype(np.uint8)
    truth = linear_to_srgb(render_exact(planes, focal=0.8, radius=R_MAX / BASE_LONG_SIDE * side, points=64))
    harness = Harness(TorchRuntime(variant="edge"))
    errors = {}
    for name, given_map in {"fine": disparity, "coarse": disparity[::3, ::3]}.items():
        found = harness.refocus(pixels, given_map, focal_disparity=0.8, aperture=1.0)
        errors[name] = float(np.abs(found / 255 - truth)[hair > 0].mean())
    assert errors["fine"] < 0.01
    assert errors["coarse"] > 0.1
