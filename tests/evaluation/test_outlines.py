"""The table of outlines: known answers of every kind of picture, the sheet, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from deeplens.console.errors import InputError, MissingError
from deeplens.evaluation import depth_sources, outline_sets, outlines
from deeplens.evaluation.outline_sets import SETS, Outlined, photo_paths, read_set
from deeplens.evaluation.outline_sheet import SIDE, crop, places, sheet_of
from deeplens.evaluation.outlines import HEADERS, TRUTH, cells, rows_of, scores_of, truth_of
from deeplens.scenes.fine_mattes import fine_path, unfit
from deeplens.scenes.sources import read_table
from tests.support.tiny import make_sources, textured

ROWS, COLUMNS = np.indices((300, 400))
DISC = (np.hypot(ROWS - 150, COLUMNS - 200) < 90).astype(np.float32)
PHOTO = textured(300, 400, seed=1)


class TestScores:
    @pytest.mark.parametrize("picture", [Outlined("m", PHOTO, matte=DISC), Outlined("t", PHOTO, truth=7 * DISC)])
    def test_the_truth_has_all_and_a_soft_map_less(self, picture: Outlined) -> None:
        sharp, soft = (scores_of(each, picture) for each in (DISC, gaussian_filter(DISC, 5)))
        small = scores_of(truth_of(picture), picture)
        for score in (sharp, small):
            assert score["width"] is not None
            assert score["width"] < 6
            assert score["found"] == pytest.approx(1, abs=0.05)
        assert soft["width"] == pytest.approx(2.563 * 5 * 1000 / 400, rel=0.1)
        for name in ("recall",) if picture.matte is not None else ("recall", "precision", "f1"):
            assert sharp[name] is None or sharp[name] == pytest.approx(1)
            assert soft[name] is None or soft[name] < 0.5  # type: ignore[operator]
        flat = scores_of(0 * DISC, picture)
        assert (flat["width"], flat["found"]) == (None, 0)
        assert scores_of(DISC, Outlined("n", PHOTO, truth=0 * DISC))["found"] is None, "no outline, no share of it"

    def test_a_truth_with_holes_has_no_width(self) -> None:
        holed = np.where(ROWS < 50, np.nan, DISC)
        found = scores_of(DISC, Outlined("h", PHOTO, truth=holed))
        assert found["width"] is None
        assert found["f1"] == pytest.approx(1)

    def test_rows_are_means_over_the_pictures_that_have_a_value(self) -> None:
        scores = [
            {"width": 4.0, "offset": 1.0, "found": 1.0, "recall": None, "precision": 0.5, "f1": None},
            {"width": None, "offset": None, "found": 0.0, "recall": None, "precision": 0.7, "f1": None},
        ]
        ((name, count, found),) = rows_of({"edge": scores})
        assert (name, count, found["width"].mean, found["width"].count) == ("edge", 2, 4.0, 1)
        assert (found["found"].mean, found["recall"].mean) == (0.5, None)
        assert len(cells((name, count, found))) == len(HEADERS)


class TestSets:
    def test_the_photos_are_none_that_a_network_learned_from(self) -> None:
        entries = {entry.name: entry for entry in read_table()}
        paths = photo_paths(Path("data"))
        assert len(paths) >= 20
        assert len(set(paths)) == len(paths)
        for path in paths:
            assert path.name not in unfit()
            if path.parts[0] == "data":
                entry = entries[path.name]
                assert entry.target(Path("data")) == path
                assert entry.split in ("test", "calibration")
            else:
                assert path.is_file()

    def test_sets_that_are_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="photos, composed"):
            read_set("kitti", tmp_path)
        for name in SETS:
            with pytest.raises(MissingError):
                read_set(name, tmp_path)

    def test_composed_pictures(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sources = make_sources(tmp_path)
        monkeypatch.setattr(outline_sets, "shipped", lambda split, _: sources if split == "test" else None)
        monkeypatch.setattr(outline_sets, "COMPOSED", 3)
        title, found = read_set("composed", tmp_path)
        assert "test" in title
        assert [each.picture.shape for each in found] == [(320, 320, 3)] * 3
        assert all(each.truth is not None and np.ptp(each.truth) == 1 for each in found)


class TestSheet:
    def test_places_are_on_the_contour(self) -> None:
        (top, far) = places(DISC)
        assert top == pytest.approx((0.5, 61 / 300), abs=0.02)
        assert far == pytest.approx((0.5, 239 / 300), abs=0.04)
        assert places(0 * DISC) == []

    def test_crops_are_at_100_percent_and_inside(self) -> None:
        large = textured(700, 900, seed=2)
        assert np.array_equal(crop(large, 0.5, 0.5), large[230:470, 330:570])
        for x, y in ((0, 0), (1, 1), (0, 1)):
            assert crop(large, x, y).shape == (SIDE, SIDE, 3)
        assert crop(PHOTO[:100], 0.5, 0.5).shape == (100, 100, 3)

    def test_a_row_for_each_place(self) -> None:
        pictures = [Outlined("a", PHOTO, matte=DISC), Outlined("b", PHOTO, truth=DISC)]
        found = sheet_of(pictures, [{"edge": DISC}, {"edge": DISC}])
        assert found.shape[1] > 3 * SIDE
        assert 2 * SIDE < found.shape[0] < 3 * SIDE


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    left = (np.indices((320, 320))[1] < 160).astype(np.float32)
    monkeypatch.setattr(depth_sources, "open_teacher", lambda _: lambda _: left)
    monkeypatch.setattr(outline_sets, "photo_paths", lambda _: [tmp_path / "a.png"])
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    fine_path(tmp_path / "a.png", tmp_path).parent.mkdir(parents=True)
    half = (np.indices((300, 400))[1] < 200).astype(np.uint8) * 255
    Image.fromarray(half).save(fine_path(tmp_path / "a.png", tmp_path))
    outlines.main(
        variant=["edge"], weights="initial", data=tmp_path, json=tmp_path / "o.json", markdown=tmp_path / "o.md",
        sheet_file=tmp_path / "o.png",
    )  # fmt: skip
    (report,) = json.loads((tmp_path / "o.json").read_text())["sets"]
    rows = {row["depth"]: row for row in report["rows"]}
    assert list(rows) == ["segmentation mask", "edge", TRUTH]
    for name in ("segmentation mask", TRUTH):
        assert rows[name]["width"]["mean"] < 7
        assert rows[name]["offset"]["mean"] < 2
        assert rows[name]["found"]["mean"] == pytest.approx(1)
    assert "| segmentation mask | 1 |" in (tmp_path / "o.md").read_text()
    assert Image.open(tmp_path / "o.png").size[0] > 4 * SIDE
    assert "left out" in capsys.readouterr().out
    with pytest.raises(MissingError, match=r"scenes\.rooms"):
        outlines.main(on=["rooms"], variant=["edge"], weights="initial", data=tmp_path)
