"""End-to-end vectors: a port that keeps to the document passes, one that lacks a fact is told which stage departs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.parity_tests.conftest import TWO_STEPS
from deeplens.parity_tests.harness_check import CheckedCase, check
from deeplens.parity_tests.harness_photos import PHOTOS, SETTINGS
from deeplens.parity_tests.harness_vectors import make
from deeplens.runtimes import harness_file
from deeplens.runtimes.pyramid import geometry
from tests.conftest import Command, deeplens  # noqa: F401
from tests.support.device import needs_torch
from tests.support.examples import loaded

pytestmark = [needs_torch, pytest.mark.slow]

Artifacts = Callable[[str], Path]
Port = Callable[..., list[CheckedCase]]
"""Takes what changes the effect, if anything does."""


@pytest.fixture
def example() -> ModuleType:
    return loaded("python/refocus.py")


@pytest.fixture
def port(artifacts: Artifacts, vectors: Path, example: ModuleType, tmp_path: Path) -> Port:
    """Run the example on the vectors after `change(effect)`, and check what it wrote."""

    def run(change: Callable[[Any], None] = lambda _effect: None) -> list[CheckedCase]:
        effect = example.Effect(artifacts("edge"))
        change(effect)
        loaded("python/vectors.py").write(effect, vectors, tmp_path / "results")
        return check(tmp_path / "results", vectors)

    return run


def test_the_photos_are_what_the_document_says() -> None:
    sizes = {photo.name: photo.pixels().shape for photo in PHOTOS}
    assert sizes == {
        "odd": (313, 467, 3), "upright": (900, 600, 3), "1024": (576, 1024, 3), "2048": (1365, 2048, 3)
    }  # fmt: skip
    assert [geometry(*shape[:2]).steps for shape in sizes.values()] == [1, 2, 2, 3]
    assert all(0.0 <= photo.disparity().min() < photo.disparity().max() <= 1.0 for photo in PHOTOS)


def assert_passed(found: list[CheckedCase]) -> None:
    for case in found:
        assert case.departure is None, case
        assert case.compared == case.stages
        assert case.largest is not None
        assert case.largest <= 1
        assert case.decibels is not None
        assert case.decibels >= 60


def test_the_example_passes_stage_by_stage(port: Port) -> None:
    found = port()
    assert len(found) == 2 * len(SETTINGS)
    assert_passed(found)


def test_the_example_passes_with_the_other_variant(
    weights: Path, artifacts: Artifacts, example: ModuleType, tmp_path: Path
) -> None:
    folder, results = tmp_path / "vectors", tmp_path / "results"
    make(folder, variants=["paper"], weights=weights, photos=[TWO_STEPS], settings=SETTINGS[:1], report=lambda _: None)
    loaded("python/vectors.py").write(example.Effect(artifacts("paper"), "paper"), folder, results, "paper")
    assert_passed(check(results, folder))
    effect = example.Effect(artifacts("paper"), "paper")
    effect.variant["depth_by_level"] = True
    loaded("python/vectors.py").write(effect, folder, results, "paper")
    (case,) = check(results, folder)
    assert case.departure is not None
    assert case.departure.stage == "signed_depth_1"


def test_the_loop_begins_at_both_levels(vectors: Path) -> None:
    begins = {
        (text["variant"], case["first_level"])
        for text in (json.loads(path.read_text()) for path in vectors.glob("*_loop_*.json"))
        for case in text["cases"]
    }
    assert begins == {("edge", 0), ("edge", 1)}


def _edge(array: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.pad(array, [(0, height - array.shape[0]), (0, width - array.shape[1])] + [(0, 0)] * (array.ndim - 2),
                  mode="edge")  # fmt: skip


def _edge_for_depth(example: ModuleType) -> Callable[..., np.ndarray]:
    reflected = example.reflected

    def mixed(array: np.ndarray, height: int, width: int) -> np.ndarray:
        return np.asarray((reflected if array.ndim == 3 else _edge)(array, height, width))

    return mixed


def _stretched(disparity: np.ndarray, height: int, width: int, pixel: int) -> np.ndarray:
    from PIL import Image

    size = (-(-width // pixel), -(-height // pixel))
    return np.asarray(Image.fromarray(disparity).resize(size, Image.Resampling.BILINEAR))


def _halo_less(effect: Any) -> None:
    """A step that gets the picture in place of the blurred one."""
    run = effect.run

    def wrong(network: str, **inputs: np.ndarray) -> np.ndarray:
        if network == "upsample":
            inputs["blurred"] = inputs["picture"]
        return np.asarray(run(network, **inputs))

    effect.run = wrong


def _floor(effect: Any) -> None:
    run = effect.run
    effect.run = lambda network, **inputs: run(network, **inputs) - np.float32(0.5 / 255)


def constant(name: str, value: Any) -> Callable[[Any], None]:
    return lambda effect: effect.constants.update({name: value})


FAULTS: dict[str, tuple[Callable[[ModuleType, pytest.MonkeyPatch], None] | None, Callable[[Any], None] | None, str]] = {
    "no reflection": (lambda module, patch: patch.setattr(module, "reflected", _edge), None, "picture_0"),
    "no reflection of depth": (
        lambda module, patch: patch.setattr(module, "reflected", _edge_for_depth(module)), None, "signed_depth_0",
    ),
    "plain halving": (lambda module, patch: patch.setattr(module, "halved", module.quartered), None, "picture_0"),
    "no factor 2^k": (
        lambda module, patch: patch.setattr(module, "at_level", lambda depth, _k: depth), None, "signed_depth_1",
    ),
    "stretched disparity": (
        lambda module, patch: patch.setattr(module, "registered", _stretched), None, "registered",
    ),
    "wrong aperture": (None, constant("n_min", 1.0), "aperture"),
    "wrong size of the base": (None, constant("base_long_side", 128), "picture_0"),
    "wrong alignment": (None, constant("alignment", 16), "picture_0"),
    "loop from the base": (None, lambda effect: effect.variant.update(finer_base=False), "blurred_1"),
    "beginnings not mixed": (None, constant("finer_base_range", (0.55, 0.5500001)), "picture"),
    "a finer map not asked": (None, lambda effect: effect.variant.update(sharp_bound=None), "picture"),
    "blur of what is nearer forgotten": (
        lambda module, patch: patch.setattr(module, "reach", lambda radius: 0 * radius), None, "picture",
    ),
    "blurred picture forgotten": (None, _halo_less, "picture"),
    "half a step off": (None, _floor, "blurred_0"),
}  # fmt: skip
"""Fact removed from the port → how, and the stage that must be named in one of the cases."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fact_that_is_removed_is_named(
    fault: str, port: Port, example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch, change, due = FAULTS[fault]
    if patch is not None:
        patch(example, monkeypatch)
    found = port() if change is None else port(change)
    named = [case.departure.stage for case in found if case.departure is not None]
    assert due in named, found
    if due.startswith(("picture_", "registered", "aperture")):
        assert set(named) == {due}


def test_where_and_by_how_much_is_told(port: Port, example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example, "at_level", lambda depth, _k: depth)
    case = next(each for each in port() if each.photo == "strip" and each.case == "f1.4")
    assert case.departure is not None
    assert case.departure.largest is not None
    assert 0.1 < case.departure.largest <= 1
    assert "row" in case.departure.where
    assert "signed_depth_1 departs by" in case.sentence()
    assert "section 7" in case.sentence()


@pytest.mark.parametrize("at", [(0, 0, 0, 0), (0, 2, 31, 100)])
def test_a_single_number_that_is_wrong_is_found(at: tuple[int, ...], vectors: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(vectors, results)
    path = results / "edge_loop_strip.f1.4.blurred_1.f32"
    array = np.fromfile(path, "<f4").reshape(1, 3, 64, -1)
    array[at] += 1e-3
    array.tofile(path)
    wrong = [case for case in check(results, vectors) if case.departure is not None]
    assert [(case.variant, case.photo, case.case) for case in wrong] == [("edge", "strip", "f1.4")]
    off = wrong[0].departure
    assert off is not None
    assert off.stage == "blurred_1"
    assert f"row {at[2]}, column {at[3]}" in off.where
    array[at] = np.nan
    array.tofile(path)
    assert any(case.departure is not None for case in check(results, vectors))
    assert any(case.departure is not None for case in check(results, vectors, precision="fp16"))


def test_missing_and_broken_results_are_told(vectors: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="there is no folder"):
        check(tmp_path / "none", vectors)
    with pytest.raises(MissingError, match="no end-to-end vectors"):
        check(tmp_path, tmp_path)
    with pytest.raises(MissingError, match="has the name of a stage"):
        check(tmp_path, vectors)
    with pytest.raises(InputError, match="unknown precision"):
        check(tmp_path, vectors, precision="bf16")
    (tmp_path / "edge_loop_strip.picture_0.f32").write_bytes(b"1234")
    found = check(tmp_path, vectors)
    assert {case.photo for case in found} == {"strip"}
    assert all(case.departure is not None and "4 bytes, expected" in case.departure.where for case in found)
    shutil.copy(vectors / "edge_loop_strip.picture_0.f32", tmp_path)
    assert all("is missing" in case.sentence() for case in check(tmp_path, vectors))
    altered = tmp_path / "altered"
    shutil.copytree(vectors, altered)
    (altered / "edge_loop_strip.picture_0.f32").write_bytes(b"1234")
    with pytest.raises(MismatchError, match="has changed"):
        check(tmp_path, altered)


def test_the_folder_says_what_it_was_made_with(vectors: Path) -> None:
    assert json.loads((vectors / "harness.json").read_text()) == json.loads(json.dumps(harness_file.described()))
    text = json.loads((vectors / "edge_loop_strip.json").read_text())
    assert (text["steps"], text["levels"][0]) == (2, [32, 168])
    for stage in (*text["stages"], *(each for case in text["cases"] for each in case["stages"])):
        assert (vectors / stage["file"]).is_file()
        limit = stage["largest_difference"]["fp32"]
        assert 0 <= limit <= (1 if stage["dtype"] == "uint8" else 5e-5)


def test_the_command_checks_a_folder(deeplens: Command, vectors: Path, tmp_path: Path) -> None:  # noqa: F811
    arguments = ("golden", "--end-to-end", "--vectors", vectors, "--check")
    outcome = deeplens(*arguments, vectors)
    assert outcome.status == 0, outcome.err
    assert "passed" in outcome.out
    results = tmp_path / "results"
    shutil.copytree(vectors, results)
    path = results / "edge_loop_one_step.f2.2.scalars.f32"
    (np.fromfile(path, "<f4") * np.float32(1.5)).tofile(path)
    outcome = deeplens(*arguments, results)
    assert outcome.status == 5
    assert "aperture departs" in outcome.error
    answer = json.loads(deeplens(*arguments, results, "--json", "-").out)
    assert (answer["ok"], len(answer["cases"])) == (False, 2 * len(SETTINGS))
    assert "give one --precision" in deeplens(*arguments, results, "--precision", "fp16", "--precision", "fp32").error
    assert "--runtime" in deeplens(*arguments, results, "--runtime", "onnx").error
    assert "--vectors goes with" in deeplens("golden", "--vectors", vectors).error
