"""A plugin for pytest: `-p tests.support.cpu_time` says which tests take long enough to be marked `slow`.

It counts processor seconds, of the test's own process and of those that it started and waited for, so that a busy
machine changes little. What a shared fixture takes counts for the test that asks for it first.
"""

import os
from collections.abc import Generator

import pytest

SLOW = 1.5
"""Seconds from which a test is marked `slow`."""

_seconds: dict[str, float] = {}
_marked: set[str] = set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Count what a test takes with its fixtures."""
    before = sum(os.times()[:4])
    result = yield
    _seconds[item.nodeid] = sum(os.times()[:4]) - before
    if item.get_closest_marker("slow") is not None:
        _marked.add(item.nodeid)
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The tests that are not marked `slow` and take longer than `SLOW`, and the sums."""
    fast = {name: seconds for name, seconds in _seconds.items() if name not in _marked}
    total = sum(_seconds.values())
    terminalreporter.section("processor seconds")
    for name, seconds in sorted(fast.items(), key=lambda each: -each[1]):
        if seconds >= SLOW:
            terminalreporter.line(f"{seconds:6.1f}  {name}  is not marked slow")
    terminalreporter.line(f"{total:.0f} s in all, {sum(fast.values()):.0f} s in {len(fast)} tests that are not slow")
