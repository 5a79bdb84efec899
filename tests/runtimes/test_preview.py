"""A person who drags: the base at once, level after level, and a newer wish that ends an older one between tiles."""

import threading
from functools import partial

import numpy as np
import pytest

from deeplens.console.errors import Cancelled, InputError
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.refocuser import Refocuser
from tests.support.fake_runtime import FakeRuntime, Focus, SlowRuntime, depth_map, photo, small_halos
from tests.support.studio_browser import until

BLURRED = Focus(focal_disparity=0.45, aperture=1.0)
HARDLY = Focus(focal_disparity=0.5, aperture=0.3)
"""So little that the loop begins at level 1."""


def prepared(runtime: FakeRuntime, *, tile: int = 128) -> Refocuser:
    return Harness(runtime, tile=tile).photo(photo(700, 1000), depth_map())


@pytest.mark.parametrize(
    ("plane", "width", "any_size"), [(BLURRED, 0.0, False), (HARDLY, 0.0, True), (BLURRED, 0.2, True)]
)
def test_each_level_is_what_a_refocus_gives_there(plane: Focus, width: float, any_size: bool) -> None:
    ready, judge = (prepared(FakeRuntime(any_size=any_size), tile=256) for _ in range(2))
    made = list(ready.preview(**plane, focus_range=width))
    assert [each.shape[:2] for each in made] == [ready.levels.covered(level) for level in range(3)]
    np.testing.assert_array_equal(made[-1], judge.refocus(**plane, focus_range=width))
    for level in (1, 0):  # from above, so that nothing goes on from one another
        np.testing.assert_array_equal(made[level], judge.refocus(level=level, **plane, focus_range=width))


def test_nothing_is_computed_before_it_is_asked_for_nor_twice() -> None:
    with small_halos():
        runtime = FakeRuntime()
        ready = prepared(runtime, tile=64)
        ready.refocus(**BLURRED)
        once = list(runtime.runs)
        runtime.runs.clear()
        pictures = ready.preview(**BLURRED)
        assert runtime.runs == []
        next(pictures)
        assert {network for network, _ in runtime.runs} == {"lens_blur"}
        list(pictures)
        assert sorted(runtime.runs) == sorted(once), "every tile once: the levels go on from one another"


def test_levels_asked_for_one_after_the_other_go_on() -> None:
    """As the studio asks: each level in a request of its own."""
    with small_halos():
        runtime = FakeRuntime()
        ready = prepared(runtime, tile=64)
        for level in range(3):
            runtime.runs.clear()
            ready.refocus(level=level, **BLURRED)
            assert {network for network, _ in runtime.runs} == {"lens_blur" if level == 0 else "upsample"}
        runtime.runs.clear()
        ready.refocus(level=1, focal_disparity=0.46, aperture=1.0)
        assert {network for network, _ in runtime.runs} == {"lens_blur", "upsample"}, "another plane begins anew"


def test_a_newer_one_cancels_an_older_one() -> None:
    ready = prepared(FakeRuntime())
    older = ready.preview(**BLURRED)
    next(older)
    newer = ready.preview(**HARDLY)
    with pytest.raises(Cancelled, match="newer preview"):
        next(older)
    assert len(list(newer)) == 3
    with pytest.raises(StopIteration):
        next(newer)


@pytest.mark.parametrize("how", ["newer", "cancel"])
def test_it_ends_between_two_tiles_from_another_thread(how: str) -> None:
    with small_halos():
        runtime = SlowRuntime()
        ready = prepared(runtime, tile=64)
        ended: list[BaseException] = []
        older = ready.preview(**BLURRED)

        def drag() -> None:
            try:
                list(older)
            except Cancelled as error:
                ended.append(error)

        thread = threading.Thread(target=drag)
        thread.start()
        until(lambda: len(runtime.runs) > 3)
        before = len(runtime.runs)
        if how == "newer":
            first = next(ready.preview(level=0, **HARDLY))
            assert first.shape[:2] == ready.levels.covered(0)
        else:
            older.cancel()
        thread.join(5)
        assert [type(each) for each in ended] == [Cancelled]
        own = 35 if how == "newer" else 0  # the tiles of the newer one's base
        assert len(runtime.runs) - before <= 2 + own
        everything = prepared(FakeRuntime(), tile=64)
        np.testing.assert_array_equal(  # what was cancelled leaves nothing wrong behind
            ready.refocus(level=1, **BLURRED),
            everything.refocus(level=1, **BLURRED),
        )


def test_many_threads_get_what_they_asked_for_or_are_told() -> None:
    with small_halos():
        ready, judge = prepared(FakeRuntime(), tile=128), prepared(FakeRuntime(), tile=128)
        planes = [0.1, 0.3, 0.5, 0.7]
        due = {each: judge.refocus(focal_disparity=each, aperture=1.0, level=1) for each in planes}
        wrong: list[float] = []
        done: list[float] = []

        def drag(plane: float) -> None:
            for _ in range(4):
                try:
                    *_, last = ready.preview(focal_disparity=plane, aperture=1.0, level=1)
                    done.append(plane)
                except Cancelled:
                    continue
                if not np.array_equal(last, due[plane]):
                    wrong.append(plane)

        threads = [threading.Thread(target=partial(drag, plane)) for plane in planes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert done
        assert not wrong


@pytest.mark.parametrize("level", [-1, 3])
def test_levels_that_there_are_not(level: int) -> None:
    with pytest.raises(InputError, match="go from 0 to 2"):
        prepared(FakeRuntime()).preview(level=level, **BLURRED)
