"""A soft map snapped to a matte: steps where the contour is, the order as it was."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from deeplens.console.errors import MissingError
from deeplens.model.shipped import weights_file
from deeplens.scenes.sources import Sources
from deeplens.training import depth_labels
from deeplens.training.depth_labels import label_path, load_label, make_labels, snapped
from deeplens.training.outlines import at_matte
from tests.support.tiny import textured

SIZE = 320
ROWS, COLUMNS = np.indices((SIZE, SIZE))
MATTE = (np.hypot(ROWS - 150, COLUMNS - 160) < 80).astype(np.float32)
GROUND = 0.4 * ROWS / SIZE


def soft(sigma: float, *, subject: float = 0.9) -> np.ndarray:
    """A subject before a ground, its outline blurred."""
    return gaussian_filter(np.where(MATTE > 0, subject, GROUND), sigma).astype(np.float32)


def test_a_soft_outline_gets_sharp_and_stays_where_the_matte_is() -> None:
    before, after = at_matte(soft(5), MATTE), at_matte(snapped(soft(5), MATTE), MATTE)
    assert before is not None
    assert after is not None
    assert before.width is not None
    assert after.width is not None
    assert after.offset is not None
    assert before.width > 30
    assert after.width < 4
    assert after.offset < 1.5


def test_far_from_the_outline_nothing_changes_but_scale() -> None:
    label, map_ = snapped(soft(5), MATTE), soft(5)
    for apart in (np.hypot(ROWS - 150, COLUMNS - 160) < 60, np.hypot(ROWS - 150, COLUMNS - 160) > 100):
        scaled = np.polyfit(map_[apart], label[apart], 1)
        np.testing.assert_allclose(np.polyval(scaled, map_[apart]), label[apart], atol=0.03)
    assert (label.min(), label.max()) == (0, 1)


def test_a_subject_that_the_map_has_not_seen_is_put_before() -> None:
    label = snapped(GROUND.astype(np.float32), MATTE, least=0.2)
    edge = (np.hypot(ROWS - 150, COLUMNS - 160) < 78) & (np.hypot(ROWS - 150, COLUMNS - 160) > 75)
    outside = (np.hypot(ROWS - 150, COLUMNS - 160) < 85) & (np.hypot(ROWS - 150, COLUMNS - 160) > 82)
    assert float(np.median(label[edge]) - np.median(label[outside])) > 0.1


def test_thin_parts_have_the_subject_s_depth() -> None:
    matte = MATTE.copy()
    matte[20:80, 158:163] = 1  # a stalk of five pixels
    soft_map = gaussian_filter(np.where(MATTE > 0, 0.9, GROUND), 5).astype(np.float32)  # which the map has lost
    label = snapped(soft_map, matte)
    assert float(label[30, 160]) > 0.85
    assert float(label[30, 140]) < 0.2


def test_holes_in_a_subject_get_half_as_deep() -> None:
    """A subject's differences from its median are halved; what is outside of it keeps its own."""
    hole = np.hypot(ROWS - 150, COLUMNS - 160) < 20
    map_ = np.where(hole, 0.5, np.where(MATTE > 0, 0.9, GROUND)).astype(np.float32)
    label = snapped(map_, MATTE)
    scale = float(np.ptp(label[ROWS > 250]) / np.ptp(map_[ROWS > 250]))
    assert float(label[100, 160] - label[150, 160]) / scale == pytest.approx(0.4 / 2, rel=0.01)


def test_without_a_contour_nothing_is_done() -> None:
    for matte in (np.zeros((SIZE, SIZE), np.float32), np.ones((SIZE, SIZE), np.float32)):
        np.testing.assert_array_equal(snapped(soft(5), matte), soft(5))


def test_a_label_that_was_not_made(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"training\.depth_labels"):
        load_label(Path("a.jpg"), tmp_path)


def test_labels_do_not_depend_on_the_side_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = {"one": textured(120, 160, seed=9)}
    photos["mirrored"] = photos["one"][:, ::-1]
    paths = tuple(tmp_path / f"{name}.png" for name in photos)
    for path, pixels in zip(paths, photos.values(), strict=True):
        Image.fromarray(pixels).save(path)
    given = {"train": Sources(paths[:1], (), ()), "val": Sources((), (), paths[1:])}
    monkeypatch.setattr(depth_labels, "shipped", lambda split, _: given[split])
    weights = weights_file("edge", "depth")
    assert weights is not None
    assert make_labels(tmp_path, weights) == 2
    one, mirrored = (load_label(path, tmp_path) for path in paths)
    assert (float(one.min()), float(one.max())) == (0, 1)
    np.testing.assert_allclose(one, mirrored[:, ::-1], atol=2e-3)
    assert np.abs(one - one[:, ::-1]).max() > 0.1
    np.save(label_path(paths[0], tmp_path), np.zeros((SIZE, SIZE), np.float16))
    make_labels(tmp_path, weights)
    assert not load_label(paths[0], tmp_path).any(), "what is there stays"
    make_labels(tmp_path, weights, again=True)
    np.testing.assert_array_equal(load_label(paths[0], tmp_path), one)
