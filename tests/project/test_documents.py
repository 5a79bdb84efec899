"""The documents: how they are written, and that every command, file and page that they name exists."""

import importlib
import inspect
import re
import shlex
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from typer.main import get_command

import deeplens
from deeplens.app import main
from deeplens.benchmarks.candidate import KNOWN
from deeplens.console.guard import guarded
from deeplens.console.package import DISTRIBUTION, VERSION
from deeplens.model.contract import VARIANTS
from deeplens.parity_tests.candidates import COMPARED
from tests.conftest import ROOT
from tests.project.test_project import tracked
from tests.project.test_workflows import check, make
from tests.support.project_file import EXTRAS, PYPROJECT

CARDS = (ROOT / "model" / "weights").glob("*.md")
READMES = [*ROOT.glob("examples/*/README.md"), *(ROOT / name / "README.md" for name in ("samples", "web"))]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *CARDS, *READMES])

NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

COLUMNS = 120

VALUES = {"--runtime": {*COMPARED, *KNOWN, "auto"}, "--variant": set(VARIANTS)}
"""Option → what it may be, where that is looked at only when the work begins."""

PROGRAMS = ("deeplens", "python", "python3", "pip", "make", "pytest")


PUBLIC = set(deeplens.__all__) - {"__version__"}

_END = re.compile(r"""[.!?]["”’*_)]*\s+(?=[A-ZÄÖÜ`*\[“"(])""")
_ABBREVIATION = re.compile(r"(?:\be\.g|\bi\.e|\bal|\bvs|\bcf|\bNo|\bFig)\.\s*$")


# --- Reading a document


def lines_of(text: str, *, code: bool) -> Iterator[tuple[int, str]]:
    """(Line number, line) of code blocks, or of what is neither code nor table."""
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced == code and (code or not line.startswith(("|", ":::", "    "))):
            yield number, line


def unbreakable(line: str) -> bool:
    """Whether a long line holds a link, a picture or a code span that can't be broken to fit."""
    return max(map(len, re.findall(r"!?\[[^\]]*\]\([^)]*\)|`[^`]*`|\S+", line)), default=0) > COLUMNS - 40


def long_lines(text: str) -> list[int]:
    """Lines of code blocks and of prose with more than `COLUMNS` characters."""
    code = [number for number, line in lines_of(text, code=True) if len(line) > COLUMNS]
    prose = [number for number, line in lines_of(text, code=False) if len(line) > COLUMNS and not unbreakable(line)]
    return code + prose


def crowded_lines(text: str) -> list[int]:
    """Lines of prose in which a sentence ends and another begins."""
    found = []
    for number, line in lines_of(text, code=False):
        plain = re.sub(r"`[^`]*`", "`x`", re.sub(r"^[\s#]*\d+\.\s|^!\[\d+\.", "", line))
        for match in _END.finditer(plain):
            before = plain[: match.end()]
            if before.count("(") <= before.count(")") and not _ABBREVIATION.search(before):
                found.append(number)
                break
    return found


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """(Line, words) of every command of ours in code blocks and code spans."""
    lines: list[str] = []
    for block in re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        lines += block.replace("\\\n", " ").splitlines()
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", outside)]
    for line in lines:
        for part in re.split(r"&&|;", re.sub(r"(?:^|\s)#.*$", "", line)):
            try:
                words = [word.replace("…", "") for word in shlex.split(part)]
            except ValueError:
                continue
            words = [word for word in words if word]
            if words and Path(words[0]).name in PROGRAMS and (len(words) > 1 or words[0] == "deeplens"):
                yield line, [Path(words[0]).name, *words[1:]]


# --- Checking a command


def check_command(words: list[str]) -> None:
    """Raise AssertionError unless the command exists and has the options that are given."""
    program, arguments = words[0], [word.replace("*", "x") for word in words[1:]]
    match program:
        case "pip":
            check_pip(arguments)
        case "pytest":
            check_pytest(arguments)
        case "make":
            assert make(*(each for each in arguments if "=" not in each)), arguments
        case "python" | "python3" if arguments[0] == "-m":
            check_module(arguments[1], arguments[2:])
        case "python" | "python3" if arguments[0].endswith(".py"):
            assert (ROOT / arguments[0]).is_file(), arguments
            if arguments[0].startswith("examples/"):  # no part of the package
                check_script(ROOT / arguments[0], arguments[1:])
                return
            check_module(f"deeplens.{arguments[0].removesuffix('.py').replace('/', '.')}", arguments[1:])
        case "python" | "python3":
            assert arguments[0] == "-c", arguments
        case _:
            check_deeplens(arguments)


def check_deeplens(arguments: list[str]) -> None:
    """`deeplens …`, as the command line itself reads it; see `test_workflows.check`."""
    count = next((index for index, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    assert main([*arguments[:count], "--help", *arguments[count:]]) == 0, arguments
    for option, value in pairwise(arguments):
        assert option not in VALUES or value in VALUES[option], (option, value)


def check_script(path: Path, arguments: list[str]) -> None:
    """A script with argparse: it has the options that are given."""
    known = set(re.findall(r'add_argument\((?:"-\w", )?"(--[\w-]+)"', path.read_text(encoding="utf-8")))
    known |= set(re.findall(r'add_argument\("(-\w)"', path.read_text(encoding="utf-8")))
    assert {each for each in arguments if each.startswith("-")} <= known, arguments


def check_module(module: str, arguments: list[str]) -> None:
    """`python -m module`: it exists, and its options are those given."""
    if module == "venv" or "ROOM" in module:
        return
    if module == "pytest":
        check_pytest(arguments)
        return
    assert module.startswith("deeplens."), f"{module}: modules are run as deeplens.ROOM.MODULE"
    found = importlib.import_module(module)
    entry: Callable[..., object] = found.__dict__.get("command") or found.__dict__.get("demo") or found.main
    if "arguments" in inspect.signature(entry).parameters:
        check(["python", "-m", module, *arguments])  # argparse: by its help
        return
    app = typer.Typer(add_completion=False)
    app.command()(entry)
    parser = get_command(app)
    # The parser answers a question for help once all words are understood.
    assert guarded(lambda: parser(["--help", *arguments], standalone_mode=False)) == 0, (module, arguments)


def check_pytest(arguments: list[str]) -> None:
    """The files and folders of tests exist."""
    assert all((ROOT / each).exists() for each in arguments if not each.startswith("-")), arguments


def check_pip(arguments: list[str]) -> None:
    """What is ours is called by the distribution's name, and its extras and groups exist."""
    assert arguments[0] == "install", arguments
    for option, value in pairwise(arguments):
        assert option != "--group" or value in PYPROJECT["dependency-groups"], value
    for word in arguments[1:]:
        ours = re.fullmatch(r"(?:(?:\S*/)?(deeplens[\w.-]*?)|\.)(?:\[([\w,-]+)\])?", word)
        if ours is None:
            continue
        name, extras = ours[1], ours[2]
        wheel = f"{DISTRIBUTION.replace('-', '_')}-{VERSION}-py3-none-any.whl"
        assert name in (None, DISTRIBUTION, wheel), f"{name}: the distribution is called {DISTRIBUTION}"
        assert set((extras or "").split(",")) - {""} <= EXTRAS.keys(), word


# --- The rules


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_a_document_is_written_by_the_rules(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert long_lines(text) == [], f"more than {COLUMNS} columns"
    assert crowded_lines(text) == [], "more than one sentence in a line"


def test_a_document_against_the_rules_is_told() -> None:
    assert long_lines("word " * 30) == [1]
    assert long_lines("| " + "word " * 30) == []
    assert long_lines("```\n" + "word " * 30 + "\n```") == [2]
    assert long_lines("see [results](https://example.org/" + "a" * 100 + ")") == []
    assert crowded_lines("One sentence. Another one.") == [1]
    assert crowded_lines("One sentence (see *this*). `code` begins another.") == [1]
    assert crowded_lines("A version 1.4 by Wang et al. Another name, e.g. `This`.\n`a. B` is code.") == []


@pytest.mark.slow
@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_every_command_in_a_document_exists(path: Path) -> None:
    wrong = []
    for line, words in commands(path.read_text(encoding="utf-8")):
        try:
            check_command(words)
        except (AssertionError, ImportError, AttributeError) as error:
            wrong.append((line, str(error).splitlines()[0]))
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "```\ndeeplens refocus photo.jpg --fokus 0.5,0.5 -o out.jpg\n```",
        "```\ndeeplens refokus photo.jpg -o out.jpg   # a comment\n```",
        "```\ndeeplens parity \\\n    --runtime onxn\n```",
        "```\npython -m training.fit_blur --steps 3\n```",
        "```\npython -m deeplens.training.fit_blur --step-count 3\n```",
        "```\n.venv/bin/python -m deeplens.scenes.fetch --onyl furniture\n```",
        "```\npython export/tensorrt.py\n```",
        "```\npython examples/python/refocus.py --fokus 1,1\n```",
        "```\npip install 'deeplens[onnx]'\n```",
        "```\npip install 'deeplens-edge[onix]'\n```",
        "```\npip install --group cellar\n```",
        "```\ncd docs && make dots\n```",
        "The test is `pytest tests/test_nothing.py`.",
        "Give `deeplens export trt --shape 256x256`.",
    ],
)
def test_a_command_that_does_not_exist_is_told(text: str) -> None:
    ((_, words),) = commands(text)
    with pytest.raises((AssertionError, ImportError)):
        check_command(words)


@pytest.mark.parametrize(
    "path", [each for each in DOCUMENTS if each.name != "CHANGELOG.md"], ids=lambda path: path.name
)
def test_every_file_that_a_document_names_exists(path: Path) -> None:
    """Those in code spans, from the top of the repository, and links between documents."""
    text = path.read_text(encoding="utf-8")
    rooms = {each.name for each in ROOT.iterdir() if each.is_dir()} - {"artifacts", "data", "demo", "dist", "runs"}
    missing = []
    for name in re.findall(r"`([\w.-]+/[\w./*-]*)`", text):
        if name.split("/")[0] in rooms and "NAME" not in name and not any(ROOT.glob(name.rstrip("/"))):
            missing.append(name)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http", "mailto")) and not (path.parent / target).exists():
            missing.append(target)
    assert missing == []


def test_readme_fits_on_two_screens() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100


def test_the_changelog_knows_this_version() -> None:
    assert f"## [{VERSION}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_picture_of_the_floors_is_the_order_that_the_linter_holds() -> None:
    (floors,) = (each for each in PYPROJECT["tool"]["importlinter"]["contracts"] if each["name"] == "floors")
    svg = ElementTree.parse(ROOT / "docs" / "images" / "architecture.svg").getroot()
    texts = [each for each in svg.iter("{http://www.w3.org/2000/svg}text") if each.get("class") == "room"]
    drawn = [str(each.text) for each in sorted(texts, key=lambda text: float(text.get("y", 0)))]
    rooms = [name for layer in floors["layers"] for name in re.split(r"\s*[|:]\s*", layer) if name != "__main__"]
    assert [name for row in drawn for name in re.split(r" \| |, ", row)] == rooms


def test_every_public_name_is_on_the_page_of_the_api() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    documented = re.findall(r"^::: (deeplens[\w.]*)\.(\w+)$", page, flags=re.MULTILINE)
    assert {name for _, name in documented} >= PUBLIC
    for module, name in documented:
        assert inspect.getdoc(getattr(importlib.import_module(module), name)), f"{module}.{name} has no docstring"


def test_every_page_is_in_the_menu_of_the_site() -> None:
    menu = set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE))
    pages = {path.name for path in tracked(".md") if path.parent == ROOT / "docs"}
    assert menu == pages | {"index.md", "contributing.md", "changelog.md"}


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    own = ROOT / ".venv-docs" / "bin" / "mkdocs"
    mkdocs = str(own) if own.is_file() else shutil.which("mkdocs")
    if mkdocs is None:
        pytest.skip("mkdocs is not installed: `make docs` brings it")
    result = subprocess.run(
        [mkdocs, "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "index.html").is_file()
