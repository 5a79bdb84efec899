"""Samples with sharp outlines: what each kind holds, and what it is a function of."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeplens.console.errors import MissingError
from deeplens.scenes import fine_mattes
from deeplens.scenes.fine_mattes import cutout_path, fine_path, load_fine, make_cutout, stands_free, trimap, unfit
from deeplens.scenes.mattes import matte_path
from deeplens.scenes.renderer import linear_to_srgb
from deeplens.scenes.sources import Sources, read_table
from deeplens.training import outline_data
from deeplens.training.depth_labels import label_path
from deeplens.training.outline_data import KINDS, OutlineStream, composed_outlines, matted
from tests.conftest import ROOT
from tests.support.tiny import make_sources, textured

ROWS, COLUMNS = np.indices((320, 320))
DISC = (np.hypot(ROWS - 170, COLUMNS - 150) < 90).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sources, Path]:
    """Sources with one subject that has a fine matte, and a data folder with coarse mattes and labels of all photos."""
    root = tmp_path_factory.mktemp("data")
    sources = make_sources(root)
    Image.fromarray(textured(120, 160, seed=9)).save(root / "subject.png")
    sources = replace(sources, subjects=(root / "subject.png",))
    for photo in sources.backgrounds + sources.subjects:
        for path in (matte_path(photo, root), label_path(photo, root)):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((DISC * 255).astype(np.uint8)).save(matte_path(photo, root))
        np.save(label_path(photo, root), (0.5 * ROWS / 320 + 0.4 * DISC).astype(np.float16))
    subject = sources.subjects[0]
    fine_path(subject, root).parent.mkdir(parents=True)
    matte = Image.fromarray((DISC * 255).astype(np.uint8)).resize((160, 120), Image.Resampling.BILINEAR)
    matte.save(fine_path(subject, root))
    cutout_path(subject, root).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.dstack((np.asarray(Image.open(subject)), np.asarray(matte)))).save(cutout_path(subject, root))
    return sources, root


def test_samples_are_what_they_say(data: tuple[Sources, Path]) -> None:
    stream = OutlineStream(data[0], seed=0, data=data[1])
    assert cutout_path(data[0].subjects[0], data[1]) in stream.sources.cutouts
    seen = set()
    for index in range(24):
        sample, kind = stream[index], ("real", "composed", "real", "layered")[index % 4]
        assert stream.kind(index) == kind
        for name in ("picture", "disparity", "valid", "segmentation"):
            assert sample[name].dtype == torch.float32
            assert sample[name].shape[1:] == (320, 320)
            assert 0 <= float(sample[name].min()) <= float(sample[name].max()) <= 1
        labels = tuple(bool(sample[f"has_{name}"]) for name in ("disparity", "anchor", "segmentation"))
        exact = [(True, False, False)]
        assert labels in {"real": [(True, False, True), (False, True, True)]}.get(kind, exact)
        seen.add((kind, labels))
        if labels == (True, False, True):
            steps = (sample["disparity"].diff(dim=2).abs() > 0.1).sum()
            assert steps > 100, "a snapped label has steps"
    assert len(seen) == 4


def test_a_sample_depends_on_its_seed_and_index_alone(data: tuple[Sources, Path]) -> None:
    one, other = (OutlineStream(data[0], seed=seed, data=data[1]) for seed in (3, 4))
    first = {index: one[index] for index in (0, 1, 5)}
    for index in (5, 1, 0):
        sample = OutlineStream(data[0], seed=3, data=data[1])[index]
        assert all(torch.equal(value, first[index][name]) for name, value in sample.items())
        assert not torch.equal(other[index]["picture"], first[index]["picture"])


def test_what_is_unfit_or_was_not_made_is_left_out(
    data: tuple[Sources, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources, root = data
    photos = sources.subjects + sources.backgrounds
    assert matted(photos, root) == sources.subjects
    (tmp_path / "unfit.tsv").write_text("photo\twhy\nsubject.png\thalf of it\n")
    monkeypatch.setattr(fine_mattes.unfit, "__defaults__", (tmp_path / "unfit.tsv",))
    assert matted(photos, root) == ()
    with pytest.raises(MissingError, match="half of it"):
        load_fine(sources.subjects[0], root)
    with pytest.raises(MissingError, match="fine_mattes"):
        OutlineStream(sources, seed=0, data=root)
    with pytest.raises(MissingError, match="fine_mattes"):
        load_fine(sources.backgrounds[0], root)


def test_every_unfit_photo_is_one_of_ours_and_has_a_reason() -> None:
    names = {entry.name for entry in read_table()}
    assert unfit()
    for name, why in unfit().items():
        assert name in names
        assert why


def test_composed_outlines_are_exact(data: tuple[Sources, Path]) -> None:
    found = composed_outlines(data[0], seed=1, count=3)
    again = composed_outlines(data[0], seed=1, count=3)
    assert all(np.array_equal(one[1], other[1]) for one, other in zip(found, again, strict=True))
    assert all(truth.min() == 0 and truth.max() == 1 for _, truth in found)


def test_layers_are_flat_and_the_photo_lies_behind(data: tuple[Sources, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two squares by hand: what covers what, in the picture and in its disparity; the photo keeps its own order."""
    sources, root = data
    middle, front = ROWS > 200, (ROWS > 150) & (COLUMNS < 120)
    for index in range(8):
        patches = iter(((0.2, middle), (0.9, front)))

        def drawn(*_args: object, patches: Iterator[tuple[float, np.ndarray]] = patches, **_options: object) -> object:
            light, where = next(patches)
            return np.full((320, 320, 3), light, np.float32), where.astype(np.float32)

        monkeypatch.setattr(outline_data, "foreground", drawn)
        picture, disparity = outline_data.layered(sources, np.random.default_rng(index), data=root)
        hidden = middle & ~front
        behind = ~middle & ~front
        assert set(disparity[front].tolist()) == {1.0}
        assert len(set(disparity[hidden].tolist())) == 1
        assert disparity[behind].max() <= disparity[hidden][0] < 1
        assert disparity[behind].min() == 0
        np.testing.assert_allclose(picture[front], linear_to_srgb(np.float32(0.9)), atol=1e-6)
        np.testing.assert_allclose(picture[hidden], linear_to_srgb(np.float32(0.2)), atol=1e-6)
        assert len(np.unique(disparity[behind])) > 50, "the photo's own map"


def test_layered_outlines_are_exact(data: tuple[Sources, Path]) -> None:
    found, again = (outline_data.layered_outlines(data[0], seed=1, count=4, data=data[1]) for _ in range(2))
    for one, other in zip(found, again, strict=True):
        assert all(np.array_equal(each, same) for each, same in zip(one, other, strict=True))
        assert (one[1].min(), one[1].max()) == (0, 1)


def test_a_trimap_is_sure_away_from_the_contour_alone() -> None:
    known = trimap(DISC)
    inside = np.hypot(ROWS - 170, COLUMNS - 150)
    assert (known[inside < 84] == 1).all()
    assert (known[inside > 96] == 0).all()
    assert (known[(inside > 89) & (inside < 91)] == 0.5).all()


def test_fine_mattes_find_the_contour_that_coarse_ones_blur() -> None:
    pytest.importorskip("pymatting")
    from scipy.ndimage import gaussian_filter, zoom

    truth = DISC[::2, ::2]
    photo = np.where(truth[..., None] > 0, (200, 80, 60), (40, 90, 160)).astype(np.uint8)
    coarse = zoom(gaussian_filter(truth, 3), 0.5, order=1).astype(np.float32)
    found = fine_mattes.fine_matte(photo, coarse)
    assert np.abs(found - truth).mean() < 0.01
    with pytest.raises(MissingError, match="no sure subject"):
        fine_mattes.fine_matte(photo, np.zeros_like(coarse))


def test_only_what_stands_free_is_cut_out() -> None:
    assert stands_free(DISC)
    assert not stands_free(np.roll(DISC, 120, 1)), "cut by a side"
    assert not stands_free(np.roll(DISC, -120, 0)), "cut by the top"
    assert stands_free(np.where(ROWS > 170, DISC[170], DISC)), "it may stand on the bottom"
    assert not stands_free(DISC * 0)


def test_a_cut_out_has_the_subject_s_colours(tmp_path: Path) -> None:
    pytest.importorskip("pymatting")
    alpha = np.clip((90 - np.hypot(ROWS - 170, COLUMNS - 150)) / 6 + 0.5, 0, 1).astype(np.float32)
    photo = (alpha[..., None] * (200, 80, 60) + (1 - alpha[..., None]) * (40, 90, 160)).astype(np.uint8)
    make_cutout(photo, alpha, tmp_path / "cutouts" / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "cutouts" / "a.png"))
    half = (pixels[..., 3] > 80) & (pixels[..., 3] < 180)
    assert half.sum() > 500
    assert np.abs(pixels[half][:, :3].astype(int) - (200, 80, 60)).mean() < 12


def test_the_mixture_is_what_the_document_says() -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (rendered|photos|cut-outs|layers)\b[^|]*\| (\d) \|", text, flags=re.MULTILINE)
    names = {"rendered": "room", "photos": "real", "cut-outs": "composed", "layers": "layered"}
    assert Counter({names[kind]: int(count) for kind, count in rows}) == Counter(KINDS)
