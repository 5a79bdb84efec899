"""A plugin for pytest: `-p tests.support.device` runs the tests of the device half and leaves out the others.

The device half runs artefacts: it works with Python 3.10 and without PyTorch. A test file belongs to the other half if
it imports, when it is loaded, what a device doesn't have: one of `LIBRARIES` or a module of `WORKSHOP`. Every other
file must be loadable on a device: an import of PyTorch that finds its way into the runtimes is an error here.
A test in a file of the device half that needs PyTorch is marked `needs_torch`.
"""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LIBRARIES = {"coremltools", "matplotlib", "onnxscript", "onnxsim", "safetensors", "scipy", "skimage", "torch"}
"""What a device doesn't have."""

WORKSHOP = (
    "deeplens.calibration",
    "deeplens.evaluation",
    "deeplens.export.coreml",
    "deeplens.export.placement",
    "deeplens.export.whole_capture",
    "deeplens.export.whole_onnx",
    "deeplens.model.build",
    "deeplens.model.cost",
    "deeplens.model.depth",
    "deeplens.model.layers",
    "deeplens.model.lens_blur",
    "deeplens.model.upsampler",
    "deeplens.parity_tests.lively",
    "deeplens.research",
    "deeplens.runtimes.pytorch",
    "deeplens.scenes",
    "deeplens.training",
)
"""Beginnings of the names of modules that work on a machine with PyTorch, not on a device."""


def needs(library: str) -> pytest.MarkDecorator:
    """A mark: the test is skipped, with the reason, where a library is not installed."""
    return pytest.mark.skipif(find_spec(library) is None, reason=f"{library} is not installed")


needs_torch = needs("torch")

_left_out: set[Path] = set()


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out a test file of the other half."""
    if collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    if not needed_elsewhere(collection_path):
        return None
    _left_out.add(collection_path)
    return True


def pytest_report_collectionfinish() -> str:
    """Say how many files were left out."""
    return f"device half: {len(_left_out)} test files were left out, which import what a device doesn't have"


@cache
def needed_elsewhere(path: Path) -> frozenset[str]:
    """What a test file imports when it is loaded that a device doesn't have, itself or by a helper in tests/."""
    found: set[str] = set()
    for name in _imported(ast.parse(path.read_text(encoding="utf-8")).body):
        if name.split(".")[0] in LIBRARIES or name.startswith(WORKSHOP):
            found.add(name)
        elif name.startswith("tests."):
            helper = ROOT.joinpath(*name.split(".")).with_suffix(".py")
            if helper.is_file() and helper != path:
                found |= needed_elsewhere(helper)
    return frozenset(found)


def _imported(body: list[ast.stmt]) -> list[str]:
    """Names of modules, in order; `from a import b` gives both a and a.b. What only a type checker reads is left."""
    names: list[str] = []
    for node in body:
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
    return names
