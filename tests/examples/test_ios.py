"""The iOS sample, which nobody here can compile: it parses as Swift, and names what the package has."""

import re
from pathlib import Path

import pytest

from deeplens.model.whole_contract import WHOLE_CONTRACTS, WHOLE_WITH_DEPTH
from deeplens.runtimes.harness import N_MIN
from tests.conftest import ROOT

FOLDER = ROOT / "examples" / "ios"
SOURCES = sorted(FOLDER.rglob("*.swift"))


def faults(source: bytes) -> list[int]:
    """Lines at which a Swift grammar can't go on, or misses something."""
    tree_sitter = pytest.importorskip("tree_sitter")
    grammar = pytest.importorskip("tree_sitter_swift")
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    found, left = [], [parser.parse(source).root_node]
    while left:
        node = left.pop()
        if node.is_error or node.is_missing:
            found.append(node.start_point[0] + 1)
        left += node.children
    return sorted(found)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_parses_as_swift(path: Path) -> None:
    source = path.read_bytes()
    assert faults(source) == []
    last = source.rindex(b"}")
    assert faults(source[:last]), "a brace that is missing must be seen"
    assert faults(source.replace(b"let ", b"let let ", 1)), "a word that is doubled must be seen"


def test_there_is_something_to_parse() -> None:
    assert [path.name for path in SOURCES] == ["RefocusApp.swift", "Refocuser.swift"]


def test_it_names_the_inputs_and_the_output_of_the_package() -> None:
    text = (FOLDER / "Refocus" / "Refocuser.swift").read_text()
    contract = WHOLE_CONTRACTS[WHOLE_WITH_DEPTH]
    block = text[text.index("MLDictionaryFeatureProvider") : text.index("let outputs")]
    assert re.findall(r'"(\w+)":', block) == [tensor.name for tensor in contract.inputs]
    assert re.findall(r'featureValue\(for: "(\w+)"\)', text) == [tensor.name for tensor in contract.outputs]
    assert float(re.findall(r"openFNumber: Float = ([\d.]+)", text)[0]) == N_MIN


def test_the_functions_are_those_that_the_readme_exports() -> None:
    text = (FOLDER / "Refocus" / "Refocuser.swift").read_text()
    readme = (FOLDER / "README.md").read_text()
    functions = {f"{height}x{width}" for height, width in re.findall(r"\(height: (\d+), width: (\d+)\)", text)}
    exported = {"x".join(size.split("x")[::-1]) for size in re.findall(r"--whole (\d+x\d+)", readme)}
    assert functions == exported
    assert all(f"size_{each}" in readme for each in functions)
    assert 'function: "size_\\(size.height)x\\(size.width)"' in text
