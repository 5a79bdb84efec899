"""Width and offset of a map's step at an outline, against steps worked out by hand."""

import numpy as np
import pytest
from scipy.special import erf

from deeplens.scenes.renderer import Array
from deeplens.training.outlines import Outline, at_matte, at_steps

SIZE = 320
ROWS, COLUMNS = np.indices((SIZE, SIZE))
DISC = (100.0, 90.0, 110.0)
"""Row, column and radius of a subject whose outline leaves the picture nowhere that counts."""

TO_WIDTH = 2.563
"""From 10 to 90 % of a Gaussian edge, in deviations."""


def distance() -> Array:
    """From the outline of a disc, in pixels, positive inside."""
    row, column, radius = 160.0, 150.0, 90.0
    return (radius - np.hypot(ROWS - row, COLUMNS - column)).astype(np.float32)


def edge(sigma: float, *, shift: float = 0.0) -> Array:
    """A step from 0.2 to 0.8 at the disc's outline, `shift` pixels outside of it, blurred by a Gaussian."""
    return (0.5 + 0.3 * erf((distance() + shift) / (sigma * 2**0.5))).astype(np.float32)


def thousandths(pixels: float) -> float:
    return pixels * 1000 / SIZE


MATTE = (distance() > 0).astype(np.float32)
TRUTH = np.where(distance() > 0, 1.0, 0.0).astype(np.float32)


def both(disparity: Array) -> list[Outline]:
    found = [at_matte(disparity, MATTE), at_steps(disparity, TRUTH)]
    assert all(each is not None for each in found)
    return [each for each in found if each is not None]


def width(found: Outline) -> float:
    assert found.width is not None
    return found.width


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.5])
def test_the_width_of_a_gaussian_step(sigma: float) -> None:
    for found in both(edge(sigma)):
        assert width(found) == pytest.approx(thousandths(TO_WIDTH * sigma), rel=0.1)  # sampling widens a little
        assert found.offset is not None
        assert found.offset < thousandths(0.4)
        assert found.found > 0.95


@pytest.mark.parametrize("shift", [-4.0, -1.5, 1.5, 4.0])
def test_the_offset_of_a_shifted_step(shift: float) -> None:
    for found in both(edge(0.7, shift=shift)):
        assert found.offset == pytest.approx(thousandths(abs(shift)), abs=thousandths(0.4))
        assert width(found) == pytest.approx(thousandths(TO_WIDTH * 0.7), abs=thousandths(0.5))


def test_units_scale_and_size_do_not_matter() -> None:
    expected = both(edge(2.0))
    for found, other in zip(both(40 * edge(2.0) - 7), expected, strict=True):
        assert (found.width, found.offset) == pytest.approx((other.width, other.offset), rel=1e-3, abs=1e-3)
    twice = at_matte(np.kron(edge(2.0), np.ones((2, 2))), np.kron(MATTE, np.ones((2, 2))))
    assert twice is not None
    assert width(twice) == pytest.approx(expected[0].width, rel=0.1)


def test_planted_faults_are_seen() -> None:
    """A map turned round, a flat one, a ramp and one of something else have no step there, or few."""
    for wrong in (1 - edge(1.0), np.full((SIZE, SIZE), 0.5, np.float32), np.roll(edge(1.0), 160, 1)):
        for found in (at_matte(wrong, MATTE), at_steps(wrong, TRUTH)):
            assert found is None or found.found < 0.35
    blurred, sharp = both(edge(6.0)), both(edge(1.0))
    assert all(width(one) > 4 * width(other) for one, other in zip(blurred, sharp, strict=True))


def test_half_an_outline_is_found_by_half() -> None:
    half = np.where(ROWS < 160, edge(1.0), 0.2)
    for found in both(half.astype(np.float32)):
        assert found.found == pytest.approx(0.5, abs=0.08)


def test_what_has_no_outline_has_no_measure() -> None:
    assert at_matte(edge(1.0), np.zeros((SIZE, SIZE), np.float32)) is None
    assert at_matte(edge(1.0), np.ones((SIZE, SIZE), np.float32)) is None
    assert at_steps(edge(1.0), (COLUMNS / SIZE).astype(np.float32)) is None, "a ramp is no step"


def test_a_step_between_slants_is_none_that_is_measured() -> None:
    """Where the truth itself rises beside its step, the plateaus would not be the step's."""
    slanted = (TRUTH * 0.3 + 0.7 * COLUMNS / SIZE * 4 % 1).astype(np.float32)
    clean = at_steps(TRUTH, TRUTH)
    messy = at_steps(slanted, slanted)
    assert clean is not None
    assert messy is None or width(messy) < thousandths(2)
