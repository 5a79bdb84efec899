"""The comparison on whole photos: what a row says of equal runtimes and of one that is off, and what passes."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from deeplens.console.errors import InputError, MismatchError
from deeplens.parity_tests.compare import MORE, PSNR
from deeplens.parity_tests.metrics import Shares
from deeplens.parity_tests.photos import PhotoRow, check, command, compared
from deeplens.runtimes.contract import Arrays, Session
from deeplens.runtimes.wrapped import WrappedRuntime, WrappedSession
from tests.support.fake_runtime import FakeRuntime, from_the_base, photo

PIXELS = photo(300, 700)
"""Two steps."""


def shifted(network: str, by: float) -> WrappedRuntime:
    """The fake networks, one of which gives `by` too much."""

    def wrap(name: str, session: Session) -> Session:
        def run(inputs: Mapping[str, np.ndarray]) -> Arrays:
            outputs = session.run(inputs)
            return {key: value + np.float32(by) for key, value in outputs.items()} if name == network else outputs

        return WrappedSession(session, run, session.describe())

    return WrappedRuntime(FakeRuntime(), wrap)


@pytest.fixture(autouse=True)
def _whole_loop() -> object:
    with from_the_base():
        yield


@pytest.mark.parametrize("depth", ["own", "given"])
def test_equal_runtimes(depth: str) -> None:
    row = compared(FakeRuntime(), FakeRuntime(), "a.jpg", PIXELS, depth=depth)
    assert (row.photo, row.depth, row.size, row.depth_error) == ("a.jpg", depth, (300, 700), 0.0)
    assert row.levels == (np.inf,) * 3
    assert (row.shares.one, row.shares.more) == (0.0, 0.0)
    assert row.passes
    check([row])


@pytest.mark.parametrize(("network", "first"), [("lens_blur", 0), ("upsample", 1)])
def test_the_level_where_it_goes_wrong_is_the_first_that_is_off(network: str, first: int) -> None:
    row = compared(FakeRuntime(), shifted(network, 0.1), "a.jpg", PIXELS, depth="own")
    assert [level == np.inf for level in row.levels] == [index < first for index in range(3)]
    assert row.levels[first] < 30
    assert row.shares.more > 0.5
    assert not row.passes


def test_a_given_depth_map_keeps_the_depth_networks_error_out() -> None:
    """Each map is normalised, so that a shift shows nothing: the map is bent where the photo is bright."""

    def wrap(name: str, session: Session) -> Session:
        def run(inputs: Mapping[str, np.ndarray]) -> Arrays:
            outputs = session.run(inputs)
            return {key: np.square(value) for key, value in outputs.items()} if name == "depth" else outputs

        return WrappedSession(session, run, session.describe())

    own, given = (
        compared(FakeRuntime(), WrappedRuntime(FakeRuntime(), wrap), "a.jpg", PIXELS, depth=depth)
        for depth in ("own", "given")
    )
    assert own.depth_error > 0.01
    assert own.levels[-1] < PSNR
    assert (given.depth_error, given.levels) == (0.0, (np.inf,) * 3)


def row(**changed: object) -> PhotoRow:
    good = PhotoRow("a.jpg", "own", (4, 4), 0.0, (50.0, PSNR + 0.1), Shares(0.9, 0.1, MORE))
    return replace(good, **changed)  # type: ignore[arg-type]


def test_limits() -> None:
    assert row().passes
    bad = [row(levels=(99.0, PSNR)), row(shares=Shares(0.5, 0.4, 2 * MORE))]
    assert [each.passes for each in bad] == [False, False]
    with pytest.raises(MismatchError, match=r"2 of 3 comparisons fail, the first is a\.jpg with the depth map own"):
        check([row(), *bad])


def test_an_unknown_depth_map() -> None:
    with pytest.raises(InputError, match="unknown depth map 'theirs': choose own or given"):
        command([], depth="theirs")
