"""What texts name exists: `room.module.name` in documents, docstrings and comments."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

ROOMS = sorted(path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file() and path.name != "tests")
REFERENCE = re.compile(rf"`(?:deeplens\.)?((?:{'|'.join(ROOMS)}|commands)(?:\.\w+)+)(?:\([^`]*\))?`")
SUFFIXES = {"py", "md", "tsv", "json", "png", "jpg", "html", "npz", "safetensors", "txt", "toml", "yml"}
"""What ends like this is a file, not a name."""


def place(room: str) -> Path:
    return ROOT / "src" / "deeplens" / "commands" if room == "commands" else ROOT / room


@cache
def names(path: Path) -> dict[str, ast.stmt | None]:
    """What a module defines or imports, and whatever is defined in its classes as `Class.name`."""
    found: dict[str, ast.stmt | None] = {}

    def walk(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found[prefix + node.name] = node
                if isinstance(node, ast.ClassDef):
                    walk(node.body, f"{prefix}{node.name}.")
                    for each in ast.walk(node):  # self.name = …
                        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store):
                            found.setdefault(f"{prefix}{node.name}.{each.attr}", None)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    for each in ast.walk(target):
                        if isinstance(each, ast.Name):
                            found[prefix + each.id] = node
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    found[prefix + (alias.asname or alias.name)] = node
            elif isinstance(node, ast.If | ast.Try | ast.With):
                walk(node.body, prefix)

    walk(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found


def bases(path: Path, kind: str) -> list[str]:
    node = names(path).get(kind)
    return [base.id for base in node.bases if isinstance(base, ast.Name)] if isinstance(node, ast.ClassDef) else []


def exists(reference: str) -> bool:
    """Whether `room.module…name` leads to something: as far as the text of the modules tells, without importing."""
    room, *parts = reference.split(".")
    folder = place(room)
    while parts and (folder / parts[0]).is_dir():
        folder /= parts.pop(0)
    if not parts:
        return True
    own = (folder / f"{parts[0]}.py").is_file()
    module = folder / (f"{parts.pop(0)}.py" if own else "__init__.py")
    known = names(module)
    if not parts or ".".join(parts[:2]) in known:
        return True
    if len(parts) == 1 or parts[0] not in known:
        return False
    # An attribute of a class that comes from elsewhere, or of a base of it, or of a value: not told by this module.
    node = known[parts[0]]
    return not isinstance(node, ast.ClassDef) or bool(bases(module, parts[0]))


def texts() -> list[Path]:
    """Modules, tests and documents; the change log may name what is no more."""
    code = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    commands = (ROOT / "src" / "deeplens").rglob("*.py")
    own = [path for path in commands if not any(parent.is_symlink() for parent in path.parents)]
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "model" / "weights").glob("*.md")]
    return sorted({*code, *own, *(ROOT / "tests").rglob("*.py"), *documents} - {Path(__file__), ROOT / "CHANGELOG.md"})


def references(path: Path) -> list[tuple[int, str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [(number, match[1]) for number, line in enumerate(lines, 1) for match in REFERENCE.finditer(line)]
    return [(number, name) for number, name in found if name.rsplit(".", 1)[1] not in SUFFIXES]


def test_every_name_in_backticks_exists() -> None:
    found = [(path, number, name) for path in texts() for number, name in references(path)]
    assert len(found) > 150
    wrong = [f"{path.relative_to(ROOT)}:{number}: `{name}`" for path, number, name in found if not exists(name)]
    assert wrong == []


@pytest.mark.parametrize(
    ("reference", "there"),
    [
        ("model.contract", True),
        ("model.contract.VARIANTS", True),
        ("model.contract.Variant.halo", True),
        ("runtimes.coreml.runtime", True),
        ("runtimes.open_runtime", True),
        ("commands.refocus", True),
        ("model.contract.HALO", False),
        ("model.contract.Variant.halos", False),
        ("runtimes.openvino", False),
        ("export.manifest", False),
    ],
)
def test_what_exists(reference: str, there: bool) -> None:
    assert exists(reference) == there
