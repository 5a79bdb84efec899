"""How a photo gets into a depth network and the map back out: sizes, frames, and that a frame changes nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deeplens.console.errors import InputError
from deeplens.model.contract import DEPTH_SIZE
from deeplens.runtimes.fit import Fit, in_aspect
from deeplens.runtimes.harness import Harness

KEPT = Fit((518, 518), multiple=14, aspect="keep", resample="bicubic", frame=(0.485, 0.456, 0.406))

SIDES = st.integers(1, 4000)


def photo(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class TestSizes:
    @pytest.mark.slow
    @settings(deadline=None)  # the first call imports the library
    @given(SIDES, SIDES, st.sampled_from([(518, 14), (504, 14), (384, 32), (256, 32)]))
    def test_native_sizes_are_those_of_the_transformers_library(
        self, height: int, width: int, kind: tuple[int, int]
    ) -> None:
        library = pytest.importorskip("transformers.models.dpt.image_processing_pil_dpt")
        side, multiple = kind
        image = np.zeros((3, height, width), np.uint8)
        expected = library.get_resize_output_image_size(image, (side, side), True, multiple)
        found = Fit((side, side), multiple=multiple, aspect="keep").native_size(height, width)
        # The library gives 0 pixels for very long photos; one patch is the least.
        assert found == (max(multiple, expected.height), max(multiple, expected.width))

    @given(SIDES, SIDES)
    def test_a_framed_photo_fits_and_touches_two_sides(self, height: int, width: int) -> None:
        inner = KEPT.framed_size(height, width)
        assert not any(side % 14 for side in inner)
        assert max(inner) == 518
        assert min(inner) >= 14

    def test_of_the_canvas_own_aspect_nothing_is_framed(self) -> None:
        fit = Fit((392, 518), multiple=14, aspect="keep")
        placed = fit.placed(photo(392 * 2, 518 * 2))
        assert placed.box == (0, 0, 392, 518)


class TestPlaced:
    def test_the_frame_is_the_mean_and_patches_stay_patches(self) -> None:
        placed = KEPT.placed(photo(300, 400))
        top, left, bottom, right = placed.box
        assert placed.picture.shape == (1, 3, 518, 518)
        assert (top % 14, left) == (0, 0)
        assert (bottom - top, right - left) == KEPT.framed_size(300, 400)
        for channel, mean in enumerate(KEPT.frame):
            assert np.all(placed.picture[0, channel, :top] == np.float32(mean))
            assert np.all(placed.picture[0, channel, bottom:] == np.float32(mean))

    def test_a_smaller_map_is_cropped_in_proportion(self) -> None:
        placed = KEPT.placed(photo(200, 400))
        top, _, bottom, _ = placed.box
        rows = np.repeat(np.arange(37.0)[:, None], 37, 1)  # one value a patch
        found = placed.cropped(rows)
        assert found[0, 0] == top / 14
        assert found[-1, 0] == bottom / 14 - 1

    @given(st.integers(1, 60), st.integers(1, 60))
    def test_any_photo_has_a_map(self, height: int, width: int) -> None:
        for native in (False, True):
            fit = Fit((56, 56), multiple=14, aspect="keep", native=native)
            placed = fit.placed(photo(height, width))
            assert placed.cropped(placed.picture[0, 0]).size > 0

    def test_stretched_is_what_it_was(self) -> None:
        from PIL import Image

        pixels = photo(30, 50)
        placed = Fit((32, 32)).placed(pixels)
        small = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR), np.float32) / 255
        np.testing.assert_array_equal(placed.picture[0].transpose(1, 2, 0), small)
        assert placed.box == (0, 0, 32, 32)

    def test_what_is_no_fit(self) -> None:
        assert Fit.from_json(KEPT.to_json()) == KEPT
        for wrong in ({}, {"size": 3, "frame": [0, 0, 0]}, {"size": [1, 2], "frame": [0, 0, 0], "more": 1}):
            with pytest.raises(InputError, match="export it again"):
                Fit.from_json(wrong)


def test_in_aspect() -> None:
    ramp = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    assert in_aspect(ramp, 2.5).shape == (4, 10)
    assert in_aspect(ramp, 0.5).shape == (10, 5)
    assert in_aspect(ramp, 1000.0).shape[1] == 20


@pytest.mark.parametrize("size", [(701, 468), (468, 701), (2048, 1366), (400, 3000)])
def test_the_depth_network_gets_what_the_contract_says(size: tuple[int, int]) -> None:
    """Columns, then rows, whatever side shrinks more: the picture of the vectors and the one that is run are one."""
    pixels = np.random.default_rng(4).integers(0, 256, (*size, 3), dtype=np.uint8)
    seen = Fit((DEPTH_SIZE, DEPTH_SIZE)).placed(pixels).picture
    due = Harness.depth_picture(pixels)
    np.testing.assert_array_equal(np.rint(seen[0].transpose(1, 2, 0) * 255), due)
    columns = Image.fromarray(pixels).resize((DEPTH_SIZE, size[0]), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(due, columns.resize((DEPTH_SIZE, DEPTH_SIZE), Image.Resampling.BILINEAR))
