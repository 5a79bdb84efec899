"""How far the work is: lines where standard error is no terminal, a bar where it is one, nothing on standard output."""

import io
import os
import pty
import subprocess
import sys
import time

import pytest

from deeplens.console import progress
from deeplens.console.progress import Lines, Progress, progress_bar


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class TestLines:
    def test_one_line_in_five_seconds(self, clock: Clock) -> None:
        stream = io.StringIO()
        lines = Lines("Refocusing", stream=stream, clock=clock)
        for second in range(1, 13):
            clock.now += 1
            lines.show(second / 20, f"{second}.jpg")
        assert stream.getvalue().splitlines() == [
            "Refocusing: 25 %, 5.jpg, 5 s so far",
            "Refocusing: 50 %, 10.jpg, 10 s so far",
        ]

    def test_also_while_nothing_is_told(self, clock: Clock) -> None:
        stream = io.StringIO()
        lines = Lines("Exporting", stream=stream, clock=clock)
        clock.now += 6
        lines.tick()
        lines.show(0.5, "edge depth, int8")
        clock.now += 4
        lines.tick()
        clock.now += 1
        lines.tick()
        lines.end()
        assert stream.getvalue().splitlines() == [
            "Exporting: 6 s so far",
            "Exporting: 50 %, edge depth, int8, 11 s so far",
            "Exporting: done in 11 s",
        ]

    def test_short_work_says_nothing(self, clock: Clock) -> None:
        stream = io.StringIO()
        lines = Lines("Exporting", stream=stream, clock=clock)
        clock.now += 4.9
        lines.show(1.0, "")
        lines.end()
        assert stream.getvalue() == ""

    def test_a_reader_that_went_away_stops_nothing(self, clock: Clock) -> None:
        stream = io.StringIO()
        stream.close()
        lines = Lines("Exporting", stream=stream, clock=clock)
        clock.now += 6
        lines.tick()
        lines.end()


class TestShares:
    def test_each_item_takes_the_same_share(self) -> None:
        told: list[tuple[float, str]] = []
        made = Progress(lambda share, doing: told.append((share, doing)))
        assert list(made.each([1, 2], lambda item: f"item {item}")) == [1, 2]
        assert told == [(0.0, "item 1"), (0.5, "item 2"), (1.0, "")]

    def test_within_an_item(self) -> None:
        told: list[tuple[float, str]] = []
        made = Progress(lambda share, doing: told.append((share, doing)))
        made(0.0, "photo")
        made.within(1, 4)(0.5)
        made.now("other")
        made(7.0)
        assert told == [(0.0, "photo"), (0.375, "photo"), (0.375, "other"), (1.0, "other")]


def test_piped_lines_come_by_themselves_and_never_on_standard_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.02)
    with progress_bar("Measuring") as made:
        made(0.4, "first")
        time.sleep(0.3)
    found = capsys.readouterr()
    assert found.out == ""
    lines = found.err.splitlines()
    assert len(lines) >= 3
    assert all(line == "Measuring: 40 %, first, 0 s so far" for line in lines[:-1])
    assert lines[-1].startswith("Measuring: done in ")


def test_work_that_fails_is_not_called_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)

    def fails() -> None:
        with progress_bar("Measuring") as made:
            made(0.4)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fails()
    assert "done" not in capsys.readouterr().err
    with progress_bar("Next"):
        pass  # the one that failed is shown no longer, else this would be within it
    assert not progress.shown


def test_work_within_work_speaks_through_the_outer_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with progress_bar("Outer") as outer:
        outer(0.5)
        with progress_bar("Inner") as inner:
            inner(0.9, "deep")
    lines = capsys.readouterr().err.splitlines()
    assert "Outer: 50 %, Inner, deep, 0 s so far" in lines
    assert not any(line.startswith("Inner") for line in lines)


def test_a_bar_on_a_terminal_leaves_piped_standard_output_alone() -> None:
    """Standard error is a terminal, standard output a pipe: what is printed while the bar is there goes to the pipe."""
    code = (
        "from deeplens.console.progress import progress_bar\n"
        "with progress_bar('Exporting') as made:\n"
        "    made(0.5, 'depth'); print('a line of the answer'); made(1.0)\n"
    )
    leader, follower = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    ran = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=follower, env=environment)
    os.close(follower)
    told = b""
    try:
        while part := os.read(leader, 65536):
            told += part
    except OSError:  # the end of a terminal
        pass
    os.close(leader)
    assert ran.returncode == 0
    assert ran.stdout == b"a line of the answer\n"
    assert b"Exporting" in told
    assert b"answer" not in told
