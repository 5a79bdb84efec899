"""The figure of the two renderers: what it shows, and that the two differ only where blurred edges overlap."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplens.research import figures
from deeplens.research.figures import GAIN, SIZE, figure, scene


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twentieth of the pixels: the exact renderer takes its time."""
    for name, value in (("SIZE", 72), ("MARGIN", 8), ("RADIUS", 6.0)):
        monkeypatch.setattr(figures, name, value)


@pytest.mark.usefixtures("small")
class TestFigure:
    def test_three_panels_under_a_caption(self) -> None:
        found = figure()
        side = figures.SIZE
        assert found.shape == (24 + side, 3 * side, 3)
        assert found.dtype == np.uint8
        assert (found[:24] == 255).any()
        assert found[:24].min() < 100, "there is text"
        layered, exact, difference = (found[24:, k * side : (k + 1) * side].astype(int) for k in range(3))
        assert np.abs(difference - np.minimum(255, GAIN * np.abs(layered - exact))).max() <= GAIN + 1
        assert 0.005 < (difference.max(2) > 64).mean() < 0.5, "they differ, and not everywhere"

    def test_what_is_in_focus_is_the_photo_in_both(self) -> None:
        """The lower left corner shows the back alone."""
        found, side = figure(), figures.SIZE
        corner = np.s_[24 + side - 8 :, :8]
        layered, exact = (found[:, k * side : (k + 1) * side][corner].astype(int) for k in range(2))
        assert np.abs(layered - exact).max() <= 2
        assert np.ptp(exact) > 4

    @pytest.mark.slow
    def test_the_command_writes_it(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "new" / "renderers.png"
        figures.main(path)
        assert capsys.readouterr().out.strip() == str(path)
        np.testing.assert_array_equal(np.asarray(Image.open(path)), figure())


def test_the_scene_lies_in_three_depths() -> None:
    back, middle, front = scene()
    assert back.disparity[0] < middle.disparity[0] < front.disparity[0]
    assert back.light.shape[0] > SIZE
    assert (back.coverage == 1).all()
    both = (middle.coverage > 0.5) & (front.coverage > 0.5)
    assert 0.01 < both.mean() < 0.3, "the bar covers a part of the disc"
