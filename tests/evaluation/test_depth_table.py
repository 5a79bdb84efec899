"""The depth table and the focus picks: known answers of every kind of source, and the commands."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplens.console.errors import InputError, MissingError
from deeplens.evaluation import depth_pairs, depth_sources, depth_table, focus_picks
from deeplens.evaluation.depth_pairs import LARGEST, PairSet, open_pairs, smaller
from deeplens.evaluation.depth_sources import Choice, open_sources, shown
from deeplens.evaluation.depth_table import HEADERS, errors_of, rows_of
from deeplens.evaluation.focus_picks import Pick, margin, may_be_shown, read_picks
from deeplens.runtimes.depth_convention import Convention
from deeplens.runtimes.options import DepthModelChoice
from deeplens.scenes.renderer import Array
from tests.runtimes.test_depth_model import write_model
from tests.support.tiny import textured

ROWS, COLUMNS = np.mgrid[0:60, 0:90]
TRUTH = np.hypot(ROWS - 30, COLUMNS - 20).astype(np.float32)


def pairs() -> Iterator[tuple[str, np.ndarray, Array]]:
    """Two pictures; of one, a part is not known."""
    holes = TRUTH.copy()
    holes[:20] = np.nan
    yield "whole", textured(60, 90, seed=1), TRUTH
    yield "holes", textured(60, 90, seed=2), holes


def deviation(values: np.ndarray) -> float:
    values = values[np.isfinite(values)].astype(float)
    values = (values - values.min()) / np.ptp(values)
    return float(np.abs(values - values.mean()).mean())


class TestErrors:
    def test_known_answers(self) -> None:
        """The truth, bent or turned round, scores nothing; what says nothing scores the mean deviation."""
        sources = {
            "mean depth": lambda _: np.zeros((8, 8), np.float32),
            "bent": lambda _: np.exp(TRUTH / 40),
            "turned": lambda _: 5 - 2 * TRUTH,
            "elsewhere": lambda _: COLUMNS.astype(np.float32),
        }
        found = errors_of(sources, pairs())
        assert found["whole"]["mean depth"][0] == pytest.approx(deviation(TRUTH), abs=1e-6)
        assert found["holes"]["mean depth"][0] == pytest.approx(deviation(TRUTH[20:]), abs=1e-6)
        for each in found.values():
            assert max(each["bent"]) < 0.01
            assert max(each["turned"]) < 1e-5
            assert min(each["elsewhere"]) > 0.03

    def test_rows(self) -> None:
        errors = {
            name: dict(zip(("mean depth", "vertical ramp", "segmentation mask", "x"), values, strict=True))
            for name, values in {
                "a": ((0.3, 0.2), (0.2, 0.2), (0.1, 0.1), (0.1, 0.1)),
                "b": ((0.5, 0.4), (0.4, 0.2), (0.3, 0.1), (0.1, 0.3)),
            }.items()
        }
        row = rows_of(errors)[-1]
        assert (row["mae"].mean, row["mae"].error, row["mae"].count) == (0.1, 0, 2)
        assert row["mae_quantile"].mean == pytest.approx(0.2)
        assert row["ahead"]["mean depth"].mean == pytest.approx(0.3)
        assert row["ahead"]["mean depth"].error == pytest.approx(0.1)
        assert rows_of(errors)[0]["ahead"]["mean depth"] is None
        assert len(depth_table.cells(row)) == len(HEADERS)

    def test_large_maps_get_smaller_and_keep_their_values(self) -> None:
        large = np.repeat(np.repeat(np.array([[1, np.nan], [3, 4]], np.float32), 500, 0), 1000, 1)
        found = smaller(large)
        assert found.shape == (LARGEST // 2, LARGEST)
        assert set(found[np.isfinite(found)]) == {1, 3, 4}
        assert smaller(TRUTH) is TRUTH


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a set of one pair; the teacher finds the left of a photo."""
    (tmp_path / "set").mkdir()
    Image.fromarray(textured(60, 90, seed=1)).save(tmp_path / "set" / "a.png")
    np.save(tmp_path / "set" / "a_disparity.npy", TRUTH)
    left = (np.indices((320, 320))[1] < 160).astype(np.float32)
    monkeypatch.setattr(depth_sources, "open_teacher", lambda _: lambda _: left)
    return tmp_path


class TestSources:
    def test_what_they_give(self, data: Path, tmp_path: Path) -> None:
        model = DepthModelChoice(
            write_model(tmp_path / "m.onnx"), Convention.parsed({"output": "disparity", "size": "8x8"})
        )
        found = open_sources(Choice(weights="initial", model=model), data=data)
        assert list(found) == [
            "mean depth", "vertical ramp", "segmentation mask", "mask before a ramp", "paper", "edge", "m.onnx"
        ]  # fmt: skip
        del found["paper"]  # seconds of PyTorch
        photo = textured(60, 90, seed=1)
        maps = {name: shown(source(photo), (60, 90)) for name, source in found.items()}
        assert all(each.shape == (60, 90) for each in maps.values())
        assert np.ptp(maps["mean depth"]) == 0
        assert (np.diff(maps["vertical ramp"][:, 0]) > 0).all()
        assert (maps["segmentation mask"][:, [0, 89]] == [1, 0]).all()
        assert (maps["mask before a ramp"][:, 0] > maps["mask before a ramp"][:, 89]).all()

    def test_a_variant_without_weights(self, data: Path, tmp_path: Path) -> None:
        with pytest.raises(MissingError):
            open_sources(Choice(("edge",), runtime="onnx", artifacts=tmp_path), data=data)
        assert "edge" not in open_sources(Choice(None, runtime="onnx", artifacts=tmp_path), data=data)


class TestCommands:
    def test_the_table(self, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write_model(tmp_path / "m.onnx")
        depth_table.main(
            on=[f"folder:{data / 'set'}"], variant=["edge"], weights="initial", data=data, depth_model=path,
            depth_model_size="16x16", depth_model_output="disparity",
            json=tmp_path / "t.json", markdown=tmp_path / "t.md",
        )  # fmt: skip
        report = json.loads((tmp_path / "t.json").read_text())
        (found,) = report["sets"]
        rows = {row["depth"]: row for row in found["rows"]}
        assert list(rows) == [
            "mean depth", "vertical ramp", "segmentation mask", "mask before a ramp", "edge", "m.onnx"
        ]  # fmt: skip
        assert rows["mean depth"]["mae"]["mean"] == pytest.approx(deviation(TRUTH), abs=1e-6)
        assert rows["edge"]["pictures"] == 1
        assert "| mean depth | 1 |" in (tmp_path / "t.md").read_text()
        assert "mean depth" in capsys.readouterr().out

    def test_sets_that_are_not_there(self, data: Path) -> None:
        with pytest.raises(MissingError, match="make data"):
            depth_table.main(on=["real"], variant=["edge"], weights="initial", data=data)
        with pytest.raises(MissingError, match="there is no data set"):
            depth_table.main(variant=["edge"], weights="initial", data=data)
        with pytest.raises(InputError, match="real, stereo, lens"):
            open_pairs("kitti", data=data)

    def test_a_scene_of_the_lens_set_counts_once(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        from deeplens.scenes.planes import Scene

        scene = Scene(textured(60, 90, seed=1), TRUTH[..., None], TRUTH, TRUTH, 0.5, 1.0)
        names = ["a/focus0-aperture0", "a/focus1-aperture0", "b/focus0-aperture0"]
        monkeypatch.setattr(depth_pairs, "lens_truth", lambda _: ((name, scene) for name in names))
        found: PairSet = open_pairs("lens", data=tmp_path)
        assert [name for name, _, _ in found.read()] == ["a", "b"]

    def test_focus_picks(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("a", "b"):
            Image.fromarray(textured(60, 90, seed=1)).save(data / f"{name}.png")
        columns = "photo\tsubject\tsubject_x\tsubject_y\tbackground\tbackground_x\tbackground_y\tsplit\n"
        (tmp_path / "picks.tsv").write_text(
            columns
            + "data/a.png\ts\t0.1\t0.9\tb\t0.9\t0.1\tval\n"
            + "data/a.png\ts\t0.1\t0.9\tb\t0.9\t0.95\tval\n"
            + "data/b.png\ts\t0.9\t0.9\tb\t0.1\t0.1\ttrain\n"
            + "data/none.png\ts\t0.9\t0.9\tb\t0.1\t0.1\tval\n"
        )
        monkeypatch.setattr(focus_picks, "read_picks", lambda: read_picks(tmp_path / "picks.tsv"))
        focus_picks.main(
            variant=["edge"], weights="initial", data=data, json=tmp_path / "p.json",
            markdown=tmp_path / "p.md", sheet_file=tmp_path / "p.png",
        )  # fmt: skip
        lines = (tmp_path / "p.md").read_text().splitlines()
        ramp, mask = (
            next(line for line in lines if line.startswith(f"| {n} ")) for n in ("vertical ramp", "segmentation mask")
        )
        assert "50% (0.5 of 1) | 0% (0 of 1)" in ramp  # the second pair is level: its background is lower
        assert "100% (1 of 1) | – " in ramp.split("|", 4)[4]
        assert "100% (1 of 1) | 100% (1 of 1)" in mask
        assert "0% (0 of 1) | – | -1.00 |" in mask
        assert "none.png does not exist" in capsys.readouterr().out
        assert len(json.loads((tmp_path / "p.json").read_text())["pairs"]) == 3
        assert Image.open(tmp_path / "p.png").size[0] > 4 * 240


class TestPicks:
    def test_the_table_of_marks(self) -> None:
        picks = read_picks()
        assert len({pick.photo for pick in picks if pick.unseen}) >= 20
        assert sum(pick.level and pick.unseen for pick in picks) >= 15
        assert len({(pick.photo, pick.background_at) for pick in picks}) == len(picks)
        assert all((pick.split == "train") == ("/train/" in pick.photo) for pick in picks)

    def test_photos_under_the_gpl_are_not_for_every_document(self) -> None:
        shown = {pick.photo: may_be_shown(pick) for pick in read_picks()}
        assert shown["samples/drum.jpg"]
        assert shown["data/photos/calibration/astronaut.png"]
        assert not shown["data/photos/test/ColorfulCups.jpg"]
        assert not shown["data/subjects/train/panther-chameleon-female.jpg"]

    def test_margin(self) -> None:
        pick = Pick("a", "s", (0.05, 0.5), "b", (0.95, 0.5), "val")
        ramp = np.repeat(np.linspace(3, 5, 40)[None], 30, 0)
        assert margin(-ramp, pick) == pytest.approx(36 / 39, abs=1e-5)
        assert margin(ramp, pick) == pytest.approx(-36 / 39, abs=1e-5)
        assert pick.level
        assert not Pick("a", "s", (0.5, 0.5), "b", (0.5, 0.3), "val").level

    def test_marks_that_make_no_sense(self, tmp_path: Path) -> None:
        columns = "photo\tsubject\tsubject_x\tsubject_y\tbackground\tbackground_x\tbackground_y\tsplit\n"
        for line, text in (("a\ts\t1.5\t0\tb\t0\t0\tval\n", "outside"), ("a\ts\tx\t0\tb\t0\t0\tval\n", "numbers")):
            (tmp_path / "picks.tsv").write_text(columns + line)
            with pytest.raises(InputError, match=text):
                read_picks(tmp_path / "picks.tsv")
