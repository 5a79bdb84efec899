"""Both beginnings of the loop, compared: what is a part of what."""

import numpy as np
import pytest

from deeplens.research.beginnings import begins_at_the_base, rows_of
from deeplens.runtimes.photo import to_8_bit
from deeplens.scenes.planes import Scene
from tests.support.fake_runtime import FakeRuntime, photo


def scene(aperture: float) -> Scene:
    disparity = np.where(np.indices((336, 640))[1] < 300, 0.9, 0.1).astype(np.float32)
    pixels = to_8_bit(photo(336, 640))
    return Scene(pixels, pixels / np.float32(255), disparity, disparity, 0.9, aperture)


def test_wide_apertures_are_compared() -> None:
    assert begins_at_the_base(scene(1.0))
    assert not begins_at_the_base(scene(0.5))


def test_parts_make_the_whole() -> None:
    rows = rows_of(iter([scene(1.0), scene(0.5)]), FakeRuntime())
    true = [row for row in rows if row[0].startswith("true")]
    assert sum(float(row[1]) for row in true[:-1]) == pytest.approx(100, abs=0.3)
    assert true[-1][0] == "true, all"
    for column in (2, 3):
        shares = [float(row[1]) / 100 * 10 ** (-float(row[column]) / 10) for row in true[:-1]]
        assert -10 * np.log10(sum(shares)) == pytest.approx(float(true[-1][column]), abs=0.1)
