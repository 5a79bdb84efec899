"""Refining disparity by the photo: what the filters do to a soft edge, and how gains are counted."""

from pathlib import Path

import numpy as np
import pytest

from deeplens.console.errors import MissingError
from deeplens.research.refinement import FILTERS, gained, main, refined


def soft_step() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A photo 160×320 of two flat halves, a disparity soft at their edge, and the true one at twice the base."""
    columns = np.arange(320)
    photo = np.repeat(np.where(columns < 160, 40, 200)[None, :, None], 160, 0).repeat(3, 2).astype(np.uint8)
    soft = np.clip((columns + 0.5 - 158.5) / 3, 0, 1).astype(np.float32)
    return photo, np.repeat(soft[None], 320, 0), np.repeat((np.arange(640) >= 320)[None], 320, 0).astype(np.float32)


@pytest.mark.parametrize("name", [name for name, filter_ in FILTERS.items() if filter_ is not None])
def test_the_photos_edge_keeps_the_map_from_blurring(name: str) -> None:
    photo, soft, truth = soft_step()
    found = refined(soft, photo, FILTERS[name])
    assert found.shape == (320, 640)
    assert found.dtype == np.float32
    assert 0 <= found.min() <= found.max() <= 1
    flat = refined(soft, np.full_like(photo, 100), FILTERS[name])  # a photo that says nothing
    assert np.abs(found - truth).mean() < 0.7 * np.abs(flat - truth).mean()


def test_the_joint_bilateral_sharpens() -> None:
    photo, soft, truth = soft_step()
    plain = np.clip(((np.arange(640) + 0.5) / 2 - 158.5) / 3, 0, 1)
    found = refined(soft, photo, FILTERS["joint bilateral"])
    assert np.abs(found - truth).mean() < 0.9 * np.abs(plain - truth[0]).mean()


def test_left_as_it_is() -> None:
    photo, soft, _ = soft_step()
    assert refined(soft, photo, None) is soft


def test_gains_are_of_settings() -> None:
    before = [("a/1", 30.0, 20.0), ("a/2", 30.0, 20.0), ("b/1", 30.0, 20.0)]
    after = [("a/1", 31.0, 20.0), ("a/2", 33.0, 20.0), ("b/1", 30.0, 19.0)]
    whole, edges = (gained(after, before, which) for which in (1, 2))
    assert (whole.mean, whole.error, whole.count) == (1.0, 1.0, 2)
    assert (edges.mean, edges.error) == (-0.5, 0.5)


def test_a_folder_without_scenes_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"evaluation\.lens_truth"):
        main([tmp_path], runtime="torch", weights="initial")
