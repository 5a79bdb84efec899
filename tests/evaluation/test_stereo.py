"""Semi-global matching: pairs whose disparity is known, and what must not hold."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from deeplens.console.errors import MissingError
from deeplens.evaluation.stereo import census, costs, main, match, stereo_pairs


def texture(height: int, width: int, seed: int) -> np.ndarray:
    values = gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), 0.8)
    return np.clip(128 + 120 * values, 0, 255).astype(np.uint8)


def pair(*, height: int = 60, width: int = 110) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Left, right and disparity: a wall at 4 px and a square before it at 12 px."""
    wall, square = texture(height, width + 30, 1), texture(height, width + 30, 2)
    disparity = np.full((height, width), 4)
    disparity[15:45, 40:80] = 12
    rows, columns = np.indices(disparity.shape)
    left = np.where(disparity == 12, square[rows, columns], wall[rows, columns])
    right = wall[:, 4 : 4 + width].copy()  # right(x) = left(x + d)
    right[15:45, 28:68] = square[15:45, 40:80]
    return left, right, disparity


def test_disparities_come_back() -> None:
    left, right, disparity = pair()
    found = match(left, right, disparities=24)
    known = np.isfinite(found)
    assert known[:, 24:].mean() > 0.75
    assert (np.abs(found - disparity)[known] <= 1).mean() > 0.98
    swapped = match(right, left, disparities=24)  # the pair the wrong way round has no answer
    assert np.isfinite(swapped).mean() < 0.2


def test_what_only_one_eye_sees_does_not_hold() -> None:
    left, right, disparity = pair()
    hidden = np.zeros(disparity.shape, bool)
    hidden[17:43, 33:39] = True  # left of the square: behind it for the right eye
    known = np.isfinite(match(left, right, disparities=24))
    assert known[hidden].mean() < 0.4
    assert known[17:43, 45:75].mean() > 0.9


def test_noise_without_a_match_does_not_hold() -> None:
    assert np.isfinite(match(texture(60, 110, 3), texture(60, 110, 4), disparities=24)).mean() < 0.1


def test_census_knows_order_not_brightness() -> None:
    picture = texture(12, 16, 5) // 2
    np.testing.assert_array_equal(census(picture), census(2 * picture + 1))
    assert (census(picture)[4:8, 4:8] != census(np.flipud(picture))[4:8, 4:8]).any()
    found = costs(picture, picture, 4)
    assert not found[..., 0].any()
    assert (found[:, 0, 1:] == 48).all()  # outside the right picture


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"evaluation\.stereo"):
        next(stereo_pairs(tmp_path))
    with pytest.raises(MissingError, match="make data"):
        main(tmp_path)
