"""`harness.json` says what the code does: its constants, for both variants, and docs/harness.md names each of them."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from deeplens.model import contract
from deeplens.runtimes import disparity, harness, harness_file, level_run, manifest, pyramid, sharp, tiling
from deeplens.runtimes.publish import publish
from tests.conftest import ROOT

OWN = {"format", "release", "document", "variants"}
DOCUMENT = (ROOT / "docs" / "harness.md").read_text(encoding="utf-8")

SOURCES = {
    "alignment": (contract, "ALIGNMENT"),
    "min_size": (contract, "MIN_SIZE"),
    "base_long_side": (contract, "BASE_LONG_SIDE"),
    "depth_size": (contract, "DEPTH_SIZE"),
    "r_max": (contract, "R_MAX"),
    "n_min": (harness, "N_MIN"),
    "epsilon": (disparity, "EPSILON"),
    "aspect_tolerance": (harness, "ASPECT_TOLERANCE"),
    "subject_sigma": (disparity, "SUBJECT_SIGMA"),
    "subject_share": (disparity, "SUBJECT_SHARE"),
    "finer_base_range": (contract, "FINER_BASE"),
    "sharp_radius": (sharp, "SHARP_RADIUS"),
    "blurred_radius": (sharp, "BLURRED_RADIUS"),
    "unblurred": (level_run, "UNBLURRED"),
    "tile": (tiling, "TILE"),
}


@pytest.fixture
def written(tmp_path: Path) -> dict[str, Any]:
    return dict(json.loads(harness_file.write(tmp_path).read_text(encoding="utf-8")))


def test_every_key_is_a_constant_of_the_code(written: dict[str, Any]) -> None:
    assert written.keys() - OWN == SOURCES.keys()


@pytest.mark.parametrize("key", SOURCES)
def test_a_constant_that_changes_in_the_code_changes_in_the_file(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name = SOURCES[key]
    before = getattr(module, name)
    assert harness_file.described()[key] == (list(before) if isinstance(before, tuple) else before)
    other = (1, 23) if isinstance(before, tuple) else 123
    monkeypatch.setattr(module, name, other)
    assert harness_file.described()[key] == (list(other) if isinstance(other, tuple) else other)


@pytest.mark.parametrize("name", contract.VARIANTS)
def test_a_variant_stands_in_the_file_as_in_the_code(name: str, written: dict[str, Any]) -> None:
    variant, found = contract.VARIANTS[name], written["variants"][name]
    assert found.keys() == {each.name for each in fields(variant)} | {"networks"}
    for each in fields(variant):
        assert found[each.name] == getattr(variant, each.name)
    assert tuple(found["networks"]) == contract.NETWORKS


def test_signed_depth_is_described_as_each_variant_takes_it(written: dict[str, Any]) -> None:
    def meaning(variant: str, network: str) -> str:
        inputs = written["variants"][variant]["networks"][network]["inputs"]
        return str(next(each["meaning"] for each in inputs if each["name"] == "signed_depth"))

    assert "times 2^k, clipped to [-1, 1]" in meaning("edge", "upsample")
    assert "level 1: 2 · D" in meaning("edge", "lens_blur")
    assert "not scaled by level" in meaning("paper", "upsample")
    assert "level 1" not in meaning("paper", "lens_blur")


def test_the_constants_are_read_where_the_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are no copies: the sizes, α and the look-up follow them."""
    monkeypatch.setattr(pyramid, "BASE_LONG_SIDE", 100)
    assert pyramid.geometry(400, 400).steps == 2
    monkeypatch.setattr(harness, "N_MIN", 1.0)
    assert harness.aperture_from_f_number(2.0) == 0.5


def test_every_artefact_has_it_beside_the_manifest(tmp_path: Path) -> None:
    with publish(tmp_path, "onnx/a.onnx") as artefact:
        artefact.file.write_bytes(b"graph")
        artefact.describe(
            network="upsample", variant="edge", runtime="onnx", precision="fp32", weights_sha256="0" * 64,
            inputs=(manifest.TensorEntry("signed_depth", (1, 1, 64, 64), "float32"),), outputs=(), tools={},
            opset=20, dynamic=False,
        )  # fmt: skip
    text = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    beside = (tmp_path / text["harness"]).read_text(encoding="utf-8")
    assert beside == json.dumps(harness_file.described(), indent=2) + "\n"
    (tensor,) = text["artifacts"][0]["inputs"]
    assert "times 2^k" in tensor["meaning"]
    assert manifest.read(tmp_path)[0].inputs == (manifest.TensorEntry("signed_depth", (1, 1, 64, 64), "float32"),)


def _documented(columns: int) -> dict[str, list[str]]:
    """Key → values, of the table in the document with so many columns of values."""
    found = {}
    section = DOCUMENT.split("## Constants")[1].split("\n## ")[0]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"`[\w.]+`", cells[0]) and len(cells) == columns + 2:
            found[cells[0].strip("`")] = cells[1:-1]
    return found


def _value(text: str) -> Any:
    """A number, or several with commas between them."""
    return json.loads(f"[{text}]") if "," in text else json.loads(text)


def test_the_document_has_every_constant_with_its_value(written: dict[str, Any]) -> None:
    documented = {key: _value(value) for key, (value,) in _documented(1).items()}
    assert documented == {key: written[key] for key in (*SOURCES, "format")}


def test_the_document_has_every_property_of_the_variants(written: dict[str, Any]) -> None:
    heading = re.search(r"\| key under `variants.VARIANT` \| `(\w+)` \| `(\w+)` \|", DOCUMENT)
    assert heading is not None
    documented = _documented(2)
    for column, variant in enumerate(heading.groups()):
        due = {key: value for key, value in written["variants"][variant].items() if key != "networks"}
        halo = due.pop("halo")
        due |= {f"halo.{network}": pixels for network, pixels in halo.items()}
        assert {key: json.loads(values[column]) for key, values in documented.items()} == due
