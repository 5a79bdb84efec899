"""Help texts: every command and every option says in a plain sentence what it is."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from deeplens.app import app


def walk(command: Any, name: str = "deeplens") -> Iterator[tuple[str, Any]]:
    """(Full name, command) of every command that does something."""
    if hasattr(command, "commands"):
        for each, below in command.commands.items():
            yield from walk(below, f"{name} {each}")
    else:
        yield name, command


COMMANDS = dict(walk(get_command(app)))


def faults(text: str | None) -> list[str]:
    """What is wrong with a help text."""
    if not text:
        return ["there is none"]
    sentence, found = text, []
    if re.search(r"\[|\(default", text):
        found.append("a default belongs into show_default: brackets are not shown, they are markup")
    if not re.match(r"[A-Z0-9`]", sentence):
        found.append("it begins with a small letter")
    if not sentence.endswith((".", ".)")):
        found.append("it does not end with a full stop")
    if re.match(r"(Of|In|As|For real|May be|At least so|Where (?!to )|Whose)\b", sentence):
        found.append("it does not say what the option is")
    if len(sentence.split()) < 2:
        found.append("it is one word")
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name: str) -> None:
    command = COMMANDS[name]
    assert faults(command.help.split("\n\n")[0].strip()) == []
    wrong = {str(each.name): faults(each.help) for each in command.params if each.name != "help"}
    assert {option: found for option, found in wrong.items() if found} == {}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_value_has_a_name(name: str) -> None:
    """Not the type of a Python object: `--precision PRECISION`, not `--precision <list[str]>`."""
    valued = [each for each in COMMANDS[name].params if not getattr(each, "is_flag", False) and each.name != "help"]
    assert [each.name for each in valued if not each.metavar] == []


@pytest.mark.parametrize(
    "text", [None, "Kind of depth; may be repeated. [default: all]",
              "", "Of the artefacts.", "In pixels.", "May be repeated.", "As in refocus.", "just one kind",
             "Machines.", "Whose depth map: own, or given."]
)  # fmt: skip
def test_a_riddle_is_told(text: str | None) -> None:
    assert faults(text)


def test_there_is_something_to_read() -> None:
    assert COMMANDS.keys() >= {"deeplens refocus", "deeplens export trt", "deeplens parity"}
