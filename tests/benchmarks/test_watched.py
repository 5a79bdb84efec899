"""The machine around a measurement: the state after it is compared with the state when it was warm."""

from collections.abc import Callable

import pytest

from deeplens.benchmarks import machine, state
from deeplens.benchmarks.machine import Speed
from deeplens.benchmarks.state import State
from deeplens.benchmarks.watched import watched
from deeplens.console.progress import Progress


def speed(gflops: float) -> Speed:
    return Speed(sgemm={"numpy": gflops}, bandwidth={"copy": gflops / 10}, clock=100.0)


@pytest.fixture(autouse=True)
def _made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose speed goes from 100 to 90 GFLOP/s, and whose processor throttles twice."""
    speeds, counts = iter((100.0, 90.0)), iter((5, 7))
    monkeypatch.setattr(machine, "speed", lambda **_: speed(next(speeds)))
    monkeypatch.setattr(machine, "load_average", lambda: 0.0)
    monkeypatch.setattr(state, "read_state", lambda: State(throttled={"cpu0": next(counts)}))


def test_the_state_after_the_last_run_is_taken_where_the_work_marks_it() -> None:
    """When it has returned, a GPU that has nothing to do has lowered its clocks."""

    def work(_: Progress, warmed: Callable[[], None]) -> None:
        warmed()
        warmed()

    _, around = watched(work, threads=1)  # a third reading would fail: there are two
    assert around.report["state"]["after"]["throttled"] == {"cpu0": 7}


def test_what_changed_meanwhile_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def work(_: Progress, warmed: Callable[[], None]) -> str:
        warmed()
        return "measured"

    found, around = watched(work, threads=1)
    assert found == "measured"
    assert around.remarks == [
        "the machine's sgemm rate changed by -10 % over the run",
        "the processor throttled 2 times during the run",
    ]
    assert (around.gflops, around.gbytes) == (95.0, 9.5)
    assert around.report["state"]["before"]["throttled"] == {"cpu0": 5}
    assert around.report["state"]["after"]["throttled"] == {"cpu0": 7}
    around.warn()
    assert capsys.readouterr().err.splitlines()[-2:] == [f"warning: {each}" for each in around.remarks]
