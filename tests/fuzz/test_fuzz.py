"""A short run of the fuzzing: every target reads its corpus and some new cases. `make fuzz` goes on for longer."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from deeplens.console.errors import InputError
from tests.fuzz.targets import TARGETS
from tests.fuzz.watch import BUDGET, FindingError, Watch, peak
from tests.fuzz.worker import CORPUS, PREPARED, REFUSED, Bench, cases, corpus

CASES = 30
HEAVY = ("checkpoint", "package", "collection")
"""Targets whose libraries or cases take long: `make fuzz` has them."""


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in HEAVY])
def test_a_few_cases(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if TARGETS[name].needs and find_spec(TARGETS[name].needs) is None:
        pytest.skip(f"{TARGETS[name].needs} is not installed")
    monkeypatch.chdir(tmp_path)
    found = {said for _, said in cases(name, tmp_path, CASES, seed=7) if said not in ("", REFUSED, PREPARED)}
    assert found == set()
    bench = Bench(TARGETS[name], tmp_path)
    for data in corpus(name):
        bench.case(data)


def test_the_corpus_belongs_to_targets() -> None:
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} <= TARGETS.keys()


class TestWatch:
    """What is watched for is seen."""

    @pytest.fixture
    def watch(self, tmp_path: Path) -> Watch:
        (tmp_path / "case").mkdir()
        return Watch(tmp_path / "case", base=peak())

    def test_an_exception(self, watch: Watch) -> None:
        with pytest.raises(FindingError, match="ValueError"):
            watch.case(lambda _: int("a"), watch.folder / "a")

    def test_what_is_refused(self, watch: Watch) -> None:
        def refuse(path: Path) -> None:
            raise InputError(f"{path} is empty")

        assert watch.case(refuse, watch.folder / "a")
        assert not watch.case(lambda _: None, watch.folder / "a")

    def test_a_message_of_two_lines(self, watch: Watch) -> None:
        class TwoLinesError(InputError):
            def __str__(self) -> str:
                return "it\nis empty"

        def refuse(_path: Path) -> None:
            raise TwoLinesError

        with pytest.raises(FindingError, match="several lines"):
            watch.case(refuse, watch.folder / "a")

    def test_a_file_outside(self, watch: Watch) -> None:
        watch.case(lambda path: path.write_text("inside"), watch.folder / "a")
        for write in (
            lambda path: (path.parent.parent / "b").write_text("outside"),
            lambda path: (path.parent.parent / "c").mkdir(),
            lambda path: (path.parent.parent / "d").symlink_to(path),
        ):
            with pytest.raises(FindingError, match="outside"):
                watch.case(write, watch.folder / "a")

    def test_memory_and_time(self, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tests.fuzz.watch.SLOW", 0.0)
        with pytest.raises(FindingError, match="slow"):
            watch.case(lambda _: sum(range(1000)), watch.folder / "a")
        monkeypatch.setattr("tests.fuzz.watch.SLOW", 10.0)
        watch.base = peak() - BUDGET - (1 << 20)
        with pytest.raises(FindingError, match="memory"):
            watch.case(lambda _: None, watch.folder / "a")
