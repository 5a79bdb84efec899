"""The bill of materials and the licences: complete, and true to the files."""

import base64
import json
import re
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import pytest

from deeplens.console.files import file_sha256
from deeplens.console.package import VERSION
from deeplens.export import bill, licences
from deeplens.model.shipped import WEIGHTS
from deeplens.runtimes.web_page import PAGE_FOLDER
from deeplens.scenes.sources import read_table
from tests.conftest import ROOT, Command


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="lists what is installed")
def test_the_bill(artifacts: Path, tmp_path: Path) -> None:
    made = bill.bill(packaged=artifacts)
    assert (made["bomFormat"], made["specVersion"], made["metadata"]["component"]["version"]) == (
        "CycloneDX", "1.6", VERSION
    )  # fmt: skip
    parts = {each["bom-ref"]: each for each in made["components"]}
    assert len(parts) == len(made["components"])  # references are unique
    names = {each["name"] for each in parts.values()}
    assert {"numpy", "pillow", "onnxruntime", "flatbuffers", "edge_depth.safetensors"} <= names
    assert not names & {"torch", "pytest", "mypy"}
    assert all(each["licenses"] for each in parts.values() if each["name"] in {"numpy", "pillow", "onnxruntime"})
    hashes = {each["name"]: each["hashes"][0]["content"] for each in parts.values() if "hashes" in each}
    for path in [*WEIGHTS.glob("*.safetensors"), *artifacts.rglob("*.onnx")]:
        name = path.name if path.suffix == ".safetensors" else path.relative_to(artifacts).as_posix()
        assert hashes[name] == file_sha256(path)
    assert set(made["dependencies"][0]["dependsOn"]) <= parts.keys()
    assert all(each["licenses"] for each in parts.values() if each["name"].startswith(("edge_", "paper_")))
    bill.main(tmp_path)
    assert json.loads(next(tmp_path.glob("*.cdx.json")).read_text())["components"]


def test_the_bill_names_what_the_page_is_built_from(artifacts: Path, tmp_path: Path) -> None:
    lock = json.loads((ROOT / "web" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    listed = []
    for name in ("onnxruntime-web", "libheif-js", "@protobufjs/base64"):
        entry = lock[f"node_modules/{name}"]
        listed.append({"name": name, **{key: entry[key] for key in ("version", "license", "integrity")}})
    (tmp_path / "packages.json").write_text(json.dumps(listed))
    with_page = {each["bom-ref"]: each for each in bill.bill(packaged=artifacts, page=tmp_path)["components"]}
    without = {each["bom-ref"] for each in bill.bill(packaged=artifacts, page=tmp_path / "none")["components"]}
    heif, web, base = (with_page[f"pkg:npm/{quote(each['name'], safe='/')}@{each['version']}"] for each in (
        listed[1], listed[0], listed[2]
    ))  # fmt: skip
    assert {heif["bom-ref"], web["bom-ref"], base["bom-ref"]} == with_page.keys() - without
    assert base["purl"].startswith("pkg:npm/%40protobufjs/base64@")
    assert heif["licenses"] == [{"license": {"name": "LGPL-3.0"}}]
    assert web["hashes"][0]["content"] == base64.b64decode(listed[0]["integrity"].removeprefix("sha512-")).hex()


def test_the_built_page_lists_its_packages() -> None:
    path = PAGE_FOLDER / "packages.json"
    if not path.is_file():
        pytest.skip("the web page is not built: make web")
    listed = {each["name"]: each["version"] for each in json.loads(path.read_text(encoding="utf-8"))}
    wanted = json.loads((ROOT / "web" / "package.json").read_text(encoding="utf-8"))["dependencies"]
    assert wanted.items() <= listed.items()
    licences = (PAGE_FOLDER / "licences.txt").read_text(encoding="utf-8")
    assert all(f"{name} {version}:" in licences for name, version in listed.items())


def test_licences_are_those_that_are_stated() -> None:
    rows = licences.listed()
    assert {row.what for row in rows} == {"code", "weights", "data", "samples"}
    assert all(row.licence for row in rows), [row for row in rows if not row.licence]
    data = [row for row in rows if row.what == "data"]
    assert sum(row.count for row in data) == len(read_table())
    assert {row.name for row in rows if row.what == "samples"} == {
        path.name for path in (ROOT / "samples").glob("*.jpg")
    }
    for path in WEIGHTS.glob("*.md"):
        counted = [line for line in path.read_text().splitlines() if re.match(r"- \d+ ", line)]
        own = [row for row in rows if row.name == f"{path.stem}.safetensors" and row.count]
        assert len(own) == len(counted), path.name


def test_weights_without_a_card(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"")
    assert [row.licence for row in licences.of_weights(tmp_path)] == [""]


def test_the_command(deeplens: Command, tmp_path: Path) -> None:
    result = deeplens("licences", "--json", tmp_path / "a.json")
    assert result.status == 0
    assert "MIT" in result.out
    assert len(json.loads((tmp_path / "a.json").read_text())["licences"]) == len(licences.listed())


def test_the_lock_is_that_of_the_constraints() -> None:
    """Every version is the tried one and has hashes; nothing that the constraints name is missing but PyTorch."""

    def pins(text: str) -> dict[str, str]:
        found = re.findall(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", text, re.MULTILINE)
        return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}

    lock = (ROOT / "requirements" / "ci.txt").read_text()
    locked, tried = pins(lock), pins((ROOT / "constraints.txt").read_text())
    assert {name: version for name, version in locked.items() if tried.get(name, version) != version} == {}
    assert tried.keys() - locked.keys() == {"torch"}
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", lock.split("\n\n")[0] if "\n\n" in lock else lock)
    assert all("--hash=sha256:" in block for block in blocks if "==" in block)
