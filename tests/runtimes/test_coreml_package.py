"""What a Core ML package's own list names lies in the package."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deeplens.console.errors import MismatchError
from deeplens.runtimes.coreml.program import check_package

GOOD = {
    "itemInfoEntries": {"1": {"path": "com.apple.CoreML/model.mlmodel"}, "2": {"path": "com.apple.CoreML/weights"}},
    "rootModelIdentifier": "1",
}


def package(root: Path, listed: Any) -> Path:
    path = root / "a.mlpackage"
    (path / "Data" / "com.apple.CoreML" / "weights").mkdir(parents=True)
    (path / "Data" / "com.apple.CoreML" / "model.mlmodel").write_text("")
    (path / "Manifest.json").write_text(listed if isinstance(listed, str) else json.dumps(listed))
    return path


def with_item(path: Any, root: str = "1") -> Mapping[str, Any]:
    return {"itemInfoEntries": {**GOOD["itemInfoEntries"], "3": {"path": path}}, "rootModelIdentifier": root}  # type: ignore[dict-item]


def test_one_as_coremltools_writes_it(tmp_path: Path) -> None:
    check_package(package(tmp_path, GOOD))


@pytest.mark.parametrize(
    ("listed", "text"),
    [
        (with_item("../outside"), "not inside it"),
        (with_item("com.apple.CoreML/../../a"), "not inside it"),
        (with_item("/etc/passwd"), "not inside it"),
        (with_item(""), "not inside it"),
        (with_item("a\0b"), "not inside it"),
        (with_item("com.apple.CoreML/none"), "is missing"),
        (with_item(3), "can't be read"),
        (with_item("com.apple.CoreML/weights", root="9"), "can't be read"),
        ({"itemInfoEntries": []}, "can't be read"),
        ([], "can't be read"),
        ("[" * 100_000, "nested too deep"),
        ("no JSON", "can't be read"),
    ],
)
def test_others(tmp_path: Path, listed: Any, text: str) -> None:
    with pytest.raises(MismatchError, match=text):
        check_package(package(tmp_path, listed))


def test_links_within(tmp_path: Path) -> None:
    path = package(tmp_path, with_item("com.apple.CoreML/link/file"))
    (tmp_path / "file").write_text("")
    (path / "Data" / "com.apple.CoreML" / "link").symlink_to(tmp_path)
    with pytest.raises(MismatchError, match="not inside it"):
        check_package(path)


def test_without_a_list(tmp_path: Path) -> None:
    path = package(tmp_path, GOOD)
    (path / "Manifest.json").unlink()
    with pytest.raises(MismatchError, match="can't be read"):
        check_package(path)
