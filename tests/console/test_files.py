"""What is written whole or not at all, and the one scheme of temporary names."""

import re
from pathlib import Path

import pytest

from deeplens.console.errors import InputError
from deeplens.console.files import TEMPORARY, replacing, staged, temporary_name

OWN_SCHEME = re.compile(r'\b(?:mkstemp|NamedTemporaryFile)\(|\.(?:tmp|part|old)"')


def test_a_temporary_name_lies_beside_its_file_and_is_never_the_same(tmp_path: Path) -> None:
    names = {temporary_name(tmp_path / "a.png") for _ in range(100)}
    assert len(names) == 100
    assert all(name.parent == tmp_path and re.fullmatch(r"\.part-[0-9a-f]{16}", name.name) for name in names)
    assert re.fullmatch(r"\.part-[0-9a-f]{16}\.mlpackage", temporary_name(tmp_path / "a", suffix=".mlpackage").name)


def test_while_it_is_written_only_the_temporary_name_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with staged(path) as temporary:
        temporary.write_text("new")
        assert sorted(tmp_path.glob("*")) == sorted([path, *tmp_path.glob(f"{TEMPORARY}*")])
        assert path.read_text() == "old"
    assert [path.read_text() for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), staged(path) as temporary:  # noqa: PT012
        if kind == "folder":
            (temporary / "inside").mkdir(parents=True)
        elif kind == "file":
            temporary.write_text("half")
        raise KeyboardInterrupt
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a.txt", "old")]


def test_replacing_says_what_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path, message in ((tmp_path / "folder", "give a file name"), (tmp_path / "gone" / "a", "create it first")):
        with pytest.raises(InputError, match=message), replacing(path):
            raise AssertionError("the block must not begin")
    with pytest.raises(InputError, match=r"a\.txt can't be written: too wide"), replacing(tmp_path / "a.txt"):
        raise ValueError("too wide")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_no_module_has_a_scheme_of_its_own() -> None:
    root = Path(__file__).parents[2]
    rooms = [link.name for link in (root / "src" / "deeplens").iterdir() if link.is_symlink()]
    files = [path for room in rooms for path in (root / room).rglob("*.py")]
    assert len(files) > 150
    files += (root / "src" / "deeplens" / "commands").glob("*.py")
    assert [str(path) for path in files if OWN_SCHEME.search(path.read_text(encoding="utf-8"))] == []
