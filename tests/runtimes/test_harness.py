"""The harness against networks that can be reckoned by hand."""

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deeplens.console.errors import InputError, MismatchError
from deeplens.model.contract import ALIGNMENT, CONTRACTS, DEPTH_SIZE, VARIANTS
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.harness import Harness, aperture_from_f_number
from deeplens.runtimes.pyramid import geometry
from tests.support.fake_runtime import (
    OPEN,
    FakeRuntime,
    FakeSession,
    depth_map,
    from_the_base,
    photo,
    small_halos,
)


@pytest.fixture(autouse=True)
def _always_from_the_base() -> Iterator[None]:
    with from_the_base():
        yield


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([np.uint8, np.uint16]))
@example(1, 1, np.uint8)
@example(1, 700, np.uint16)
@example(3, 5000, np.uint8)
@example(6000, 40, np.uint8)
def test_any_size_comes_back_unchanged_through_a_closed_aperture(height: int, width: int, dtype: type) -> None:
    pixels = photo(height, width, dtype)
    result = Harness(FakeRuntime()).refocus(pixels, depth_map(), focal_disparity=0.4, aperture=0.0)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, pixels)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(5, 16), st.sampled_from([8, 16]), st.sampled_from([8, 16]))
@example(700, 900, 5, 16, 8)
def test_tiled_equals_whole(height: int, width: int, tile: int, lens_blur: int, upsample: int) -> None:
    pixels, disparity = photo(height, width), depth_map()
    with small_halos(lens_blur, upsample):
        runtime = FakeRuntime()
        whole = Harness(runtime, tile=None).refocus(pixels, disparity, **OPEN)
        calls = len(runtime.runs)
        assert calls == geometry(height, width).steps + 1
        tiled = Harness(runtime, tile=8 * tile).refocus(pixels, disparity, **OPEN)
        assert all(max(size) <= 8 * tile for _, size in runtime.runs[calls:])
    np.testing.assert_array_equal(tiled, whole)


def levels_of(harness: Harness, pixels: np.ndarray, disparity: np.ndarray) -> list[tuple[int, str, Arrays]]:
    seen: list[tuple[int, str, Arrays]] = []
    harness.refocus(pixels, disparity, observe=lambda *level: seen.append(level), **OPEN)
    return seen


def test_tiled_equals_whole_at_every_level_in_float_with_the_halos_of_the_contract() -> None:
    pixels, disparity = photo(700, 1300), depth_map()
    whole = levels_of(Harness(FakeRuntime(), tile=None), pixels, disparity)
    tiled = levels_of(Harness(FakeRuntime(), tile=136), pixels, disparity)
    for (_, _, expected), (_, _, found) in zip(whole, tiled, strict=True):
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("network", ["lens_blur", "upsample"])
def test_a_halo_that_is_too_small_shows(network: str) -> None:
    pixels, disparity = photo(500, 640), depth_map()
    with small_halos():
        runtime = FakeRuntime()
        runtime.reach[network] += 1
        whole = Harness(runtime, tile=None).refocus(pixels, disparity, **OPEN)
        assert (Harness(runtime, tile=64).refocus(pixels, disparity, **OPEN) != whole).any()


def test_an_artefact_of_a_fixed_size_only_sees_that_size() -> None:
    pixels, disparity = photo(500, 640), depth_map()  # base 256×320
    with small_halos():
        whole = Harness(FakeRuntime(), tile=None).refocus(pixels, disparity, **OPEN)
        for size in [(64, 96), (256, 320), (48, 320)]:
            runtime = FakeRuntime(fixed_size=size)
            np.testing.assert_array_equal(Harness(runtime).refocus(pixels, disparity, **OPEN), whole)
            assert {found for _, found in runtime.runs} == {size}
        runtime = FakeRuntime(fixed_size=(320, 384))  # larger than the level: padded by reflection
        larger = Harness(runtime).refocus(pixels, disparity, **OPEN)
        assert {found for _, found in runtime.runs} == {(320, 384)}
        np.testing.assert_array_equal(larger[:400, :600], whole[:400, :600])
        assert larger.shape == whole.shape
        with pytest.raises(MismatchError, match="too small"):
            Harness(FakeRuntime(fixed_size=(32, 32))).refocus(pixels, disparity, **OPEN)


@pytest.mark.parametrize("size", [(500, 1000), (20, 30)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_observers_see_each_level_and_change_nothing(size: tuple[int, int], dtype: type) -> None:
    pixels, disparity = photo(*size, dtype), depth_map()
    runtime = FakeRuntime(gain=300.0)
    plain = Harness(runtime).refocus(pixels, disparity, **OPEN)
    seen: list[tuple[int, str, Arrays]] = []
    watched = Harness(runtime).refocus(pixels, disparity, observe=lambda *level: seen.append(level), **OPEN)
    np.testing.assert_array_equal(watched, plain)

    levels = geometry(*size)
    assert [(level, name) for level, name, _ in seen] == [
        (level, "upsample" if level else "lens_blur") for level in range(levels.steps + 1)
    ]
    for level, name, arrays in seen:
        contract = CONTRACTS[name]
        low = levels.padded(max(0, level - 1))
        assert {key: array.shape for key, array in arrays.items()} == {
            tensor.name: tensor.shape(*low) for tensor in (*contract.inputs, *contract.outputs)
        }
    for (_, _, below), (_, _, above) in pairwise(seen):
        output = below.get("blurred_high", below["blurred"])
        assert output.min() < 0 or output.max() > 1  # observed unclipped, handed on clipped
        np.testing.assert_array_equal(above["blurred"], np.clip(output, 0, 1))
    last = seen[-1][2].get("blurred_high", seen[-1][2]["blurred"])[0].transpose(1, 2, 0)[: size[0], : size[1]]
    rounded = np.rint(np.clip(last, 0, 1) * np.float32(np.iinfo(dtype).max))
    np.testing.assert_array_equal(plain, rounded)


@pytest.mark.parametrize(
    ("size", "scale"), [((480, 640), 1.0), ((96, 160), 0.5), ((192, 320), 1.0), ((321, 642), 642 / 1280)]
)
def test_signed_depth_is_the_same_part_of_the_picture_at_every_size_and_level(
    size: tuple[int, int], scale: float
) -> None:
    seen = levels_of(Harness(FakeRuntime()), photo(*size), np.full((320, 320), 0.9, np.float32))
    assert seen
    for level, _, arrays in seen:
        expected = min((0.9 - 0.4) * scale * 2 ** max(0, level - 1), 1.0)  # in units of the low picture's level
        np.testing.assert_allclose(arrays["signed_depth"], expected, atol=1e-6)


def test_a_judge_in_float64_keeps_its_precision_for_observers() -> None:
    pixels, disparity = photo(400, 500), depth_map()
    single = Harness(FakeRuntime()).refocus(pixels, disparity, **OPEN)
    for tile in (None, 136):
        seen = levels_of(Harness(FakeRuntime(dtype=np.float64), tile=tile), pixels, disparity)
        assert all(arrays[CONTRACTS[name].outputs[0].name].dtype == np.float64 for _, name, arrays in seen)
    result = Harness(FakeRuntime(dtype=np.float64)).refocus(pixels, disparity, **OPEN)
    assert np.abs(result.astype(int) - single).max() <= 1


def test_progress_grows_to_one() -> None:
    shares: list[float] = []
    Harness(FakeRuntime(), tile=136).refocus(photo(500, 700), depth_map(), progress=shares.append, **OPEN)
    assert len(shares) > 4
    assert all(0 < before < after for before, after in pairwise(shares))
    assert shares[-1] == 1.0


def test_the_photo_and_the_map_are_not_changed() -> None:
    pixels, disparity = photo(400, 700), depth_map()
    before = pixels.copy(), disparity.copy()
    pixels.flags.writeable = disparity.flags.writeable = False
    Harness(FakeRuntime()).refocus(pixels, disparity, **OPEN)
    np.testing.assert_array_equal(pixels, before[0])
    np.testing.assert_array_equal(disparity, before[1])


class PassingSession(FakeSession):
    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return {self.contract.outputs[0].name: inputs.get("picture_high", inputs["picture"])}


class PassingRuntime(FakeRuntime):
    def open(self, network: str) -> FakeSession:
        return PassingSession(self, CONTRACTS[network])


def peak(harness: Harness, pixels: np.ndarray, **options: Any) -> float:
    """Bytes held at most beside the input, per pixel of the photo. Pillow's own buffers are not counted."""
    tracemalloc.start()
    try:
        harness.refocus(pixels, depth_map(), **OPEN, **options)
        return tracemalloc.get_traced_memory()[1] / (pixels.size / 3)
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_is_that_of_a_quarter_of_the_photo_in_float() -> None:
    pixels = np.full((3072, 4096, 3), 90, np.uint8)
    # A float channel at level n − 1 is one byte per pixel of the photo. There and below, 4/3 of it, is signed depth,
    # and 3 of picture only below, 1/3; disparity has 1, blurred 3 and a quarter of it while it is made, the output 3;
    # tiles the rest.
    bound = 4 / 3 + 3 / 3 + 1 + 3 * 5 / 4 + 3 + 1
    assert peak(Harness(PassingRuntime()), pixels) < bound
    assert peak(Harness(PassingRuntime(), tile=None), pixels) > bound + 6  # the negative control: the photo in float


def test_disparity_comes_from_the_whole_photo_normalised() -> None:
    across = np.broadcast_to(np.linspace(0, 255, 900).astype(np.uint8)[None, :, None], (500, 900, 3))
    result = Harness(FakeRuntime()).disparity(np.ascontiguousarray(across))
    assert result.shape == (DEPTH_SIZE, DEPTH_SIZE)
    assert result.dtype == np.float32
    assert (result.min(), result.max()) == (0.0, 1.0)
    np.testing.assert_allclose(result[100], 1 - (np.arange(320) + 0.5) / 320, atol=0.01)  # the fake: bright = far
    deep = Harness(FakeRuntime()).disparity(across.astype(np.uint16) * 257)
    np.testing.assert_array_equal(deep, result)
    assert not Harness(FakeRuntime()).disparity(np.full((1, 1, 3), 9, np.uint8)).any()


class SpoilingRuntime(FakeRuntime):
    def __init__(self, network: str, how: str) -> None:
        super().__init__()
        self.network, self.how = network, how

    def spoil(self, output: np.ndarray) -> np.ndarray:
        if self.runs[-1][0] != self.network:
            return output
        if self.how == "shape":
            return output[..., :-1]
        output[..., 3, 3] = float(self.how)
        return output


@pytest.mark.parametrize("how", ["nan", "inf", "-inf", "shape"])
@pytest.mark.parametrize("network", ["depth", "lens_blur", "upsample"])
def test_a_network_that_gives_nonsense_is_named(network: str, how: str) -> None:
    harness = Harness(SpoilingRuntime(network, how))
    pixels = photo(400, 500)
    call = (
        partial(harness.disparity, pixels)
        if network == "depth"
        else partial(harness.refocus, pixels, depth_map(), **OPEN)
    )
    with pytest.raises(MismatchError, match=f"^{network} on fake gave .*(not finite|, expected)"):
        call()


@pytest.mark.parametrize("size", [(90, 120), (180, 240), (91, 120), (2, 3), (1, 1), (320, 320)])
def test_depth_maps_that_show_the_photo_are_taken(size: tuple[int, int]) -> None:
    assert Harness(FakeRuntime()).refocus(photo(90, 120), depth_map(*size), **OPEN).shape == (90, 120, 3)


def bad(values: float) -> np.ndarray:
    result = depth_map()
    result[5, 5] = values
    return result


@pytest.mark.parametrize(
    ("disparity", "message"),
    [
        (depth_map(120, 90), "the depth map of 90×120 does not fit the photo of 120×90"),
        (depth_map(120, 120), "does not fit the photo"),
        (depth_map(94, 120), "does not fit the photo"),
        (bad(np.nan), "finite values from 0 to 1"),
        (bad(np.inf), "finite values from 0 to 1"),
        (bad(1.01), "finite values from 0 to 1"),
        (bad(-0.01), "finite values from 0 to 1"),
        (depth_map()[0], "height × width"),
        (depth_map()[:0], "height × width"),
        (depth_map().astype(complex), "real numbers"),
    ],
)
def test_depth_maps_that_do_not_are_refused(disparity: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Harness(FakeRuntime()).refocus(photo(90, 120), disparity, **OPEN)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int16),
    ],
)
def test_arrays_that_are_no_photo_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(InputError, match="a photo must be a uint8 or uint16 array"):
        Harness(FakeRuntime()).refocus(pixels, depth_map(), **OPEN)
    with pytest.raises(InputError, match="a photo must be a uint8 or uint16 array"):
        Harness(FakeRuntime()).disparity(pixels)


@pytest.mark.parametrize("name", ["focal_disparity", "aperture"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_options_out_of_range_are_refused(name: str, value: float) -> None:
    options: Any = {**OPEN, name: value}
    with pytest.raises(InputError, match=f"{name} must be from 0 to 1"):
        Harness(FakeRuntime()).refocus(photo(9, 9), depth_map(), **options)


SMALLEST = 2 * max(VARIANTS["edge"].halo.values()) + ALIGNMENT


@pytest.mark.parametrize("tile", [0, -256, SMALLEST - ALIGNMENT, SMALLEST + 4])
def test_tiles_that_leave_nothing_or_are_not_aligned_are_refused(tile: int) -> None:
    with pytest.raises(InputError, match=f"tile must be a multiple of 8, and at least {SMALLEST}"):
        Harness(FakeRuntime(), tile=tile)


def test_the_aperture_is_inverse_to_the_f_number() -> None:
    assert aperture_from_f_number(1.4) == 1.0
    assert aperture_from_f_number(2.8) == pytest.approx(0.5)
    for n in (1.39, 0.0, -2.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"f-number must be 1\.4 or more"):
            aperture_from_f_number(n)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, runtimes.harness, runtimes.photo; "
        "print({'torch', 'onnxruntime', 'onnx', 'scipy', 'skimage'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
