"""INT8 beside FP32 on photos: what is counted, by hand; the command on small graphs, good ones and bad ones."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplens.calibration import held_out
from deeplens.calibration.held_out import AMPLIFIED, BLOCK, CELL, FLOOR, Row, compared, strip
from deeplens.calibration.quality import CEILING
from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.runtimes.ort import OnnxRuntime
from tests.support.fake_runtime import photo as pattern
from tests.support.small_graphs import add_graphs

Artefacts = Callable[[float], Path]


@pytest.fixture
def artefacts(tmp_path: Path) -> Artefacts:
    """Small graphs, and beside them "int8" ones whose pictures are off by a share of the photo."""

    def made(off: float) -> Path:
        add_graphs(tmp_path)
        add_graphs(tmp_path, precision="int8", off=off)
        return tmp_path

    return made


def row_of(folder: Path, pixels: np.ndarray) -> tuple[Row, list[np.ndarray]]:
    with OnnxRuntime(artifacts=folder) as whole, OnnxRuntime(artifacts=folder, precision="int8") as other:
        return compared("photo", pixels, whole, other)


def test_equal_networks_give_equal_pictures(artefacts: Artefacts) -> None:
    row, (whole, other) = row_of(artefacts(0.0), pattern(90, 130))
    assert (row.decibels, row.off, row.cast, row.block) == (CEILING, 0.0, 0.0, 0.0)
    assert row.size == (90, 130)
    assert min(row.seconds) > 0
    np.testing.assert_array_equal(whole, other)
    assert row.passes


def test_what_is_off_is_counted(artefacts: Artefacts) -> None:
    """A photo of one colour: each pixel is off by the same, 0.1 of it (one step would be 1/255)."""
    pixels = np.full((96, 128, 3), (100, 50, 0), np.uint8)
    row, (whole, other) = row_of(artefacts(0.1), pixels)
    difference = 255 * (other.astype(np.float64) - whole)
    assert difference[..., 0].mean() > 2 * difference[..., 1].mean() * 0.99 > 1
    assert np.abs(difference[..., 2]).max() == 0
    assert row.cast == pytest.approx(difference[..., 0].mean())
    assert row.block == pytest.approx(difference[:BLOCK, :BLOCK, 0].mean(), rel=0.05)
    assert row.block >= row.cast - 1e-9, "some block is off by the mean at least"
    assert row.decibels == pytest.approx(-10 * math.log10(np.square(difference / 255).mean()))
    assert row.off == 1.0
    assert not row.passes


def test_a_photo_that_is_narrower_than_a_block(artefacts: Artefacts) -> None:
    row, _ = row_of(artefacts(0.1), np.full((20, 96, 3), 200, np.uint8))
    assert row.block == pytest.approx(row.cast)


def test_the_strip_shows_the_difference_about_grey() -> None:
    pictures = [np.full((50, 100, 3), value, np.float32) for value in (0.5, 0.51)]
    row = Row("a.png", (50, 100), 40.0, 0.0, 0.0, 0.0, (1.0, 0.5))
    found = strip(row, pictures)
    assert found.shape == (20 + CELL // 2, 3 * CELL, 3)
    shown = found[100, [10, CELL + 10, 2 * CELL + 10], 0]
    np.testing.assert_allclose(shown, 255 * np.array([0.5, 0.51, 0.5 + AMPLIFIED * 0.01]), atol=1)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Call the command; what it wrote to standard output."""

    def called(*photos: Path, **options: object) -> str:
        held_out.command(list(photos), **options)  # type: ignore[arg-type]
        return capsys.readouterr().out

    return called


@pytest.mark.parametrize("count", [1, 3])
def test_the_command(artefacts: Artefacts, run: Callable[..., str], photo: Path, tmp_path: Path, count: int) -> None:
    answer, sheet = tmp_path / "answer.json", tmp_path / "sheet.jpg"
    out = run(*[photo] * count, artifacts=artefacts(0.0), sheet=sheet, json=answer, size=64)
    assert f"least 120.0 dB on {count} photos" in out
    text = json.loads(answer.read_text())
    assert [each["size"] for each in text["rows"]] == [[43, 64]] * count
    assert text["megabytes"][0] == pytest.approx(text["megabytes"][1], rel=0.01)
    shape = (20 + round(43 * CELL / 64)) * math.ceil(count / 2), 3 * CELL * min(count, 2)
    assert Image.open(sheet).size == shape[::-1]


def test_a_photo_below_the_floor_fails_and_the_answer_is_written_all_the_same(
    artefacts: Artefacts, run: Callable[..., str], photo: Path, tmp_path: Path
) -> None:
    answer = tmp_path / "answer.json"
    with pytest.raises(MismatchError, match=rf"1 of 1 photos fail, the first: photo\.png .*more than {FLOOR:g} needed"):
        run(photo, artifacts=artefacts(0.1), json=answer)
    assert json.loads(answer.read_text())["rows"][0]["decibels"] < FLOOR


def test_what_is_missing_is_named(run: Callable[..., str], artifacts: Path, photo: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="--precision int8"):
        run(photo, artifacts=artifacts)
    add_graphs(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        run(tmp_path / "none.png", artifacts=tmp_path, precision="fp32")
