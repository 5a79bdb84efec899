"""The loop over tiles: lanes that run at the same time, tiles where nothing is blurred, and a photo refocused again."""

import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from deeplens.console.errors import InputError, MismatchError
from deeplens.console.progress import Stopwatch
from deeplens.model.contract import (
    DEPTH_SIZE,
    R_MAX,
    VARIANTS,
    Contract,
)
from deeplens.runtimes import open_runtime
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.photo import read_photo
from deeplens.runtimes.pyramid import doubled
from deeplens.runtimes.tiling import split
from tests.conftest import ROOT
from tests.support.device import needs_torch
from tests.support.fake_runtime import OPEN, FakeRuntime, FakeSession, depth_map, photo, small_halos

EDGE = VARIANTS["edge"]
assert EDGE.sharp_bound is not None
assert EDGE.soft_radius is not None
assert EDGE.soft_bound is not None
SHARP_BOUND, SOFT_RADIUS, SOFT_BOUND = EDGE.sharp_bound, EDGE.soft_radius, EDGE.soft_bound


class LaneSession(FakeSession):
    """Takes as many runs at a time as its runtime says, and notes how many there were."""

    runtime: "LaneRuntime"

    def __init__(self, runtime: "LaneRuntime", contract: Contract) -> None:
        super().__init__(runtime, contract)
        self.lanes = runtime.lanes

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        runtime = self.runtime
        with runtime.lock:
            runtime.now += 1
            runtime.most = max(runtime.most, runtime.now)
            count = runtime.started
            runtime.started += 1
        try:
            if runtime.lanes > 1:
                time.sleep(0.002)  # so that the others get to run
            if count == runtime.fail_at:
                raise MismatchError("this tile fails")
            return super().run(inputs)
        finally:
            with runtime.lock:
                runtime.now -= 1


class LaneRuntime(FakeRuntime):
    def __init__(self, lanes: int, *, fail_at: int | None = None) -> None:
        super().__init__()
        self.lanes, self.fail_at = lanes, fail_at
        self.lock = threading.Lock()
        self.now = self.most = self.started = 0

    def open(self, network: str) -> LaneSession:
        return LaneSession(self, super().open(network).describe())


class TestLanes:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_the_picture_is_the_same_however_many_tiles_run_at_a_time(self, dtype: type) -> None:
        pixels, disparity = photo(500, 1300, dtype), depth_map()
        with small_halos():
            one, three = LaneRuntime(1), LaneRuntime(3)
            expected = Harness(one, tile=96).refocus(pixels, disparity, **OPEN)
            shares: list[float] = []
            found = Harness(three, tile=96).refocus(pixels, disparity, progress=shares.append, **OPEN)
        np.testing.assert_array_equal(found, expected)
        assert (one.most, three.most) == (1, 3)
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1.0)

    def test_every_lane_gets_a_tile(self) -> None:
        with small_halos():
            runtime = LaneRuntime(4)
            Harness(runtime).refocus(photo(300, 640), depth_map(), **OPEN)
        assert [network for network, _ in runtime.runs].count("upsample") == 4
        assert [network for network, _ in runtime.runs].count("lens_blur") == 4

    def test_an_error_in_a_tile_ends_the_others(self) -> None:
        with small_halos():
            complete = LaneRuntime(2)
            Harness(complete, tile=64).refocus(photo(700, 1300), depth_map(), **OPEN)
            runtime = LaneRuntime(2, fail_at=20)
            with pytest.raises(MismatchError, match="this tile fails"):
                Harness(runtime, tile=64).refocus(photo(700, 1300), depth_map(), **OPEN)
        assert len(runtime.runs) < 30 < len(complete.runs)
        assert threading.active_count() < 10

    @pytest.mark.parametrize(("lanes", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (4, 2, 2), (64, 3, 4)])
    def test_no_more_windows_than_are_worth_it(self, lanes: int, rows: int, columns: int) -> None:
        """Of 192×256 pixels with a halo of 12 twelve windows at most: each keeps at least twice what it only reads."""
        tiles = split(192, 256, halo=12, tile=256, lanes=lanes)
        assert (len(tiles.rows), len(tiles.columns)) == (rows, columns)
        assert split(256, 192, halo=12, tile=256, lanes=lanes).height == tiles.width
        assert len(list(split(192, 256, halo=12, tile=None, lanes=lanes))) == 1


def flat(value: float = 0.4) -> np.ndarray:
    return np.full((DEPTH_SIZE, DEPTH_SIZE), value, np.float32)


def left_out_in_part(pixels: np.ndarray, disparity: np.ndarray) -> np.ndarray:
    """The refocused photo, which must be that of a loop that runs every tile, though some are not run, and some are."""
    with small_halos():
        skipping, running = FakeRuntime(), FakeRuntime()
        found = Harness(skipping, tile=64).refocus(pixels, disparity, **OPEN)
        expected = Harness(running, tile=64).refocus(pixels, disparity, observe=lambda *_: None, **OPEN)
    np.testing.assert_array_equal(found, expected)
    assert 0.4 * len(running.runs) < len(skipping.runs) < 0.9 * len(running.runs)
    return found


class TestSharp:
    def test_nothing_runs_where_all_is_in_focus(self) -> None:
        pixels, runtime = photo(500, 700), FakeRuntime()
        result = Harness(runtime).refocus(pixels, flat(), **OPEN)
        np.testing.assert_array_equal(result, pixels)
        assert runtime.runs == []

    def test_a_tile_that_blur_reaches_into_is_run(self) -> None:
        """The right half is in focus; the blur of the left half spreads past the edge, and so do the runs."""
        disparity = flat()
        disparity[:, : DEPTH_SIZE // 2] = 0.5
        pixels = photo(300, 1280)
        found = left_out_in_part(pixels, disparity)
        assert (found != pixels).any(axis=(0, 2))[640:648].all()  # reaches past the edge at 640

    def test_not_of_a_variant_that_changes_what_is_in_focus(self) -> None:
        runtime = FakeRuntime()
        runtime.variant = "paper"
        assert VARIANTS["paper"].sharp_bound is None
        Harness(runtime, tile=None).refocus(photo(300, 400), flat(), **OPEN)
        assert len(runtime.runs) == 2

    @pytest.mark.slow
    @needs_torch
    @pytest.mark.parametrize("name", ["drum", "stream", "dogs"])
    def test_the_networks_give_the_photo_there_within_the_bound(self, name: str) -> None:
        """Shipped weights on a real photo: what the harness saves is what they would have computed."""
        pixels = read_photo(ROOT / "samples" / f"{name}.jpg").pixels[::2, ::2][:400, :520]
        bounds: list[float] = []

        def observe(_level: int, network: str, arrays: Arrays) -> None:
            *_, output = arrays.values()
            sharp = arrays["picture" if network == "lens_blur" else "picture_high"]
            errors = np.abs(output - sharp)
            bounds.extend((float(errors.max()), 10 * float(np.quantile(errors, 0.999))))

        with open_runtime("torch", threads=1) as runtime:
            Harness(runtime).refocus(pixels, flat(), observe=observe, **OPEN)
        assert len(bounds) == 4
        assert max(bounds) <= SHARP_BOUND

    @needs_torch
    def test_untrained_weights_break_the_bound(self) -> None:
        """The control of the test above: gates that the photo's own detail opens are not enough."""
        import torch

        from deeplens.model import build

        torch.manual_seed(0)
        network = build.build("edge", "upsample").eval()
        high = torch.rand(1, 3, 128, 128) * 0.05
        low = torch.nn.functional.avg_pool2d(high, 2)
        with torch.inference_mode():
            output = network(high, low, low, torch.zeros(1, 1, 64, 64))
        assert (output - high).abs().max() > 0.2 * SHARP_BOUND


class TestSoft:
    def test_no_step_runs_where_all_is_very_blurred(self) -> None:
        """What it gives instead is the base, doubled level by level, whatever the tiles."""
        pixels, bases = photo(1280, 700), list[np.ndarray]()

        def observe(level: int, _network: str, arrays: Arrays) -> None:
            if level == 0:
                bases.append(arrays["blurred"])

        with small_halos():
            whole, tiled = FakeRuntime(), FakeRuntime()
            Harness(whole, tile=None).refocus(pixels, flat(1.0), observe=observe, **OPEN)
            result = Harness(tiled, tile=64).refocus(pixels, flat(1.0), **OPEN)
        assert [network for network, _ in whole.runs] == ["lens_blur", "upsample", "upsample"]
        assert {network for network, _ in tiled.runs} == {"lens_blur"}
        expected = doubled(np.clip(doubled(np.clip(bases[0], 0, 1)), 0, 1))
        np.testing.assert_array_equal(
            result, np.rint(np.clip(expected[0, :, :1280, :700], 0, 1) * 255).transpose(1, 2, 0).astype(np.uint8)
        )

    def test_a_tile_with_less_blur_is_run(self) -> None:
        """Very blurred on the left, hardly on the right; the picture is that of a loop that runs everything."""
        disparity = flat(0.45)
        disparity[:, : DEPTH_SIZE // 2] = 1.0
        left_out_in_part(photo(300, 1280), disparity)

    @needs_torch
    def test_it_begins_where_the_steps_gates_are_closed(self) -> None:
        from deeplens.model.upsampler import EdgeUpsampler

        assert VARIANTS["paper"].soft_radius is None
        assert EdgeUpsampler.CLOSING[1] == SOFT_RADIUS
        assert VARIANTS["edge"].depth_by_level, "else the radius is not in pixels of the level"

    def test_not_of_a_variant_of_which_nothing_is_known(self) -> None:
        runtime = FakeRuntime()
        runtime.variant = "paper"
        Harness(runtime, tile=None).refocus(photo(300, 400), flat(1.0), **OPEN)
        assert len(runtime.runs) == 2

    @pytest.mark.slow
    @needs_torch
    @pytest.mark.parametrize("name", ["drum", "stream", "dogs"])
    @pytest.mark.parametrize(("blur", "within"), [(1.0, True), (0.2, False)], ids=["soft", "control"])
    def test_the_step_is_bilinear_there_within_the_bound(self, name: str, blur: float, within: bool) -> None:
        """Shipped weights on a real photo; the control is a blur of a third of that radius, where gates are open."""
        pixels = read_photo(ROOT / "samples" / f"{name}.jpg").pixels[:800, :1280]
        bounds: list[float] = []

        def observe(level: int, _network: str, arrays: Arrays) -> None:
            if level:
                assert (np.abs(arrays["signed_depth"]).min() * R_MAX >= SOFT_RADIUS) == within
                errors = np.abs(arrays["blurred_high"] - doubled(arrays["blurred"]))
                bounds.extend((float(errors.max()), 2 * float(np.quantile(errors, 0.999))))

        with open_runtime("torch", threads=1) as runtime:
            Harness(runtime).refocus(pixels, flat(1.0), focal_disparity=0.0, aperture=0.6 * blur, observe=observe)
        assert len(bounds) == 4
        assert (max(bounds) <= SOFT_BOUND) == within


class TestAgain:
    def test_a_prepared_photo_gives_what_refocus_gives(self) -> None:
        pixels, disparity = photo(333, 701), depth_map()
        harness = Harness(FakeRuntime(), tile=128)
        ready = harness.photo(pixels, disparity)
        for focal, aperture, width in [(0.4, 1.0, 0.0), (0.9, 0.3, 0.2), (0.4, 1.0, 0.0)]:
            found = ready.refocus(focal_disparity=focal, aperture=aperture, focus_range=width)
            expected = harness.refocus(pixels, disparity, focal_disparity=focal, aperture=aperture, focus_range=width)
            np.testing.assert_array_equal(found, expected)

    def test_the_pyramid_is_made_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ready = Harness(FakeRuntime()).photo(photo(333, 701), depth_map())
        for name in ("picture_levels", "registered_disparity"):
            monkeypatch.setattr(f"deeplens.runtimes.prepared.{name}", lambda *_: pytest.fail("made again"))
        ready.refocus(**OPEN)


def test_lanes_of_onnx_runtime_give_the_same_picture(artifacts: Path) -> None:
    pixels, disparity = photo(500, 700), depth_map()
    pictures = []
    for threads in (1, 2):
        with open_runtime("onnx", artifacts=artifacts, threads=threads) as runtime:
            pictures.append(Harness(runtime, tile=128).refocus(pixels, disparity, **OPEN))
            sessions = {name: runtime.open(name) for name in ("lens_blur", "upsample")}
            assert {name: getattr(session, "lanes", None) for name, session in sessions.items()} == {
                "lens_blur": 1,
                "upsample": threads,
            }
    np.testing.assert_array_equal(pictures[0], pictures[1])


class TestOneLevel:
    """The loop that ends at a level below the photo's own size."""

    def test_it_is_what_the_loop_has_there(self) -> None:
        """Against the levels that an observer sees, cut to the photo and rounded; blurred so much that no tile is left
        out, and that the loop begins at the base."""
        pixels, disparity = photo(700, 1000), depth_map()
        seen: dict[int, np.ndarray] = {}
        runtime = FakeRuntime()
        with small_halos():
            ready = Harness(runtime).photo(pixels, disparity)
            refocus = partial(ready.refocus, focal_disparity=0.45, aperture=1.0)

            def observe(level: int, _network: str, arrays: Arrays) -> None:
                seen[level] = list(arrays.values())[-1]

            refocus(observe=observe)
            for level in range(ready.levels.steps + 1):
                found = refocus(level=level)
                height, width = ready.levels.covered(level)
                assert found.shape == (height, width, 3)
                due = np.clip(seen[level][0, :, :height, :width].transpose(1, 2, 0), 0, 1) * 255
                off = np.abs(found - np.rint(due))
                assert off.max() <= 1
                assert (off == 0).mean() > 0.99
            np.testing.assert_array_equal(found, refocus())

    def test_the_base_comes_from_the_base(self) -> None:
        """Where the loop would begin at level 1, the base alone costs no more than the base."""
        runtime = FakeRuntime()
        ready = Harness(runtime).photo(photo(700, 1000), depth_map())
        ready.refocus(focal_disparity=0.5, aperture=0.3, level=1)
        assert runtime.runs[-1][1] > ready.levels.base
        runtime.runs.clear()
        shares: list[float] = []
        watch = Stopwatch()
        ready.refocus(focal_disparity=0.5, aperture=0.3, level=0, progress=shares.append, watch=watch)
        assert runtime.runs == [("lens_blur", ready.levels.base)]
        assert shares[-1] == 1.0
        assert list(watch.seconds) == ["lens_blur"]

    def test_what_is_held_is_told(self) -> None:
        ready = Harness(FakeRuntime()).photo(photo(700, 1000), depth_map())
        levels = ready.levels
        heights = [levels.padded(level) for level in range(levels.steps)]
        pictures = sum(3 * 4 * height * width for height, width in heights)
        disparity = sum(4 * height * width for height, width in heights)
        assert ready.held_bytes == pictures + disparity
        ready.refocus(focal_disparity=0.5, aperture=1.0, level=1)
        assert ready.held_bytes == pictures + disparity + 3 * 4 * heights[1][0] * heights[1][1]
        ready.refocus(focal_disparity=0.5, aperture=1.0, level=2)
        assert ready.held_bytes == pictures + disparity, "nothing goes on from the photo's own size"

    @pytest.mark.parametrize("level", [-1, 3])
    def test_levels_that_there_are_not(self, level: int) -> None:
        ready = Harness(FakeRuntime()).photo(photo(700, 1000), depth_map())
        with pytest.raises(InputError, match="go from 0 to 2"):
            ready.refocus(focal_disparity=0.5, aperture=1.0, level=level)
