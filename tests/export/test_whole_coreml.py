"""Packages of the whole effect: what is stored and described, images in and out, several sizes, what is refused."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("coremltools")

from deeplens.console.errors import InputError, MismatchError
from deeplens.export import placement, whole_coreml
from deeplens.export.coreml_report import contents
from deeplens.export.golden import agreement
from deeplens.export.whole_check import by_harness, made_inputs
from deeplens.export.whole_coreml import WholeRecipe, recipes
from deeplens.export.whole_sizes import parts_sha256
from deeplens.model import build
from deeplens.model.whole_contract import WHOLE, WHOLE_CONTRACTS
from deeplens.runtimes import manifest
from deeplens.runtimes.coreml.executor import Executor
from deeplens.runtimes.coreml.program import import_coremltools, load
from deeplens.runtimes.pytorch import TorchRuntime
from deeplens.runtimes.whole import open_whole
from tests.conftest import Command

pytestmark = pytest.mark.slow

SIZES = ((48, 64), (56, 40))
"""Of several functions, without a step; `STEP` has one, with padding."""

STEP = (36, 330)

RECIPE = WholeRecipe(target="iOS18", sizes=(STEP,))


@dataclass(frozen=True)
class Exported:
    folder: Path
    arrays: manifest.Entry
    images: manifest.Entry

    def path(self, entry: manifest.Entry) -> Path:
        return self.folder / entry.path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("artifacts")
    wanted = (
        replace(RECIPE, precision="fp32"),
        WholeRecipe(target="iOS18", sizes=SIZES, shapes="multifunction", images=True),
    )
    effects = whole_coreml.wanted(["edge"], with_depth=False)
    arrays, images = whole_coreml.export_all(effects, wanted, out=folder)
    return Exported(folder, arrays, images)


def expected(size: tuple[int, int], seed: int = 3) -> tuple[dict[str, np.ndarray], np.ndarray]:
    inputs = made_inputs(WHOLE, size, seed=seed)
    with TorchRuntime(variant="edge") as torch:
        return inputs, by_harness(torch, WHOLE, inputs)


def test_an_fp32_package_is_the_harness_within_its_bound(exported: Exported) -> None:
    inputs, due = expected(STEP)
    runtime, effect = open_whole("coreml", size=STEP, artifacts=exported.folder, precision="fp32")
    with runtime:
        found = runtime.open(WHOLE).run(inputs)["refocused"]
    assert effect.size == STEP
    assert np.abs(found - due).max() <= 5e-5


def test_images_in_and_out_hold_8_bits_at_each_size(exported: Exported) -> None:
    package = exported.path(exported.images)
    for size in SIZES:
        inputs, due = expected(size)
        executor = Executor(load(package, f"size_{size[0]}x{size[1]}"), mode="fp16")
        found = executor.run({**inputs, "picture": 255 * inputs["picture"]})["refocused"]
        assert (found == np.rint(found)).all()
        assert found.min() >= 0
        assert found.max() <= 255
        assert agreement(found / 255, due) > 50
    assert exported.images.more["images"] == ["picture", "refocused"]


def test_the_package_describes_images_and_arrays(exported: Exported) -> None:
    description = import_coremltools().utils.load_spec(str(exported.path(exported.images))).description
    assert {each.name for each in description.functions} == {f"size_{h}x{w}" for h, w in SIZES}
    function = next(each for each in description.functions if each.name == "size_48x64")
    types = {each.name: each.type.WhichOneof("Type") for each in (*function.input, *function.output)}
    assert types == {
        "picture": "imageType",
        "disparity": "multiArrayType",
        "focal_disparity": "multiArrayType",
        "aperture": "multiArrayType",
        "refocused": "imageType",
    }
    assert (function.output[0].type.imageType.width, function.output[0].type.imageType.height) == (64, 48)
    assert "0 to 1" in next(each.shortDescription for each in function.input if each.name == "aperture")


def test_weights_are_stored_once_for_all_sizes(exported: Exported) -> None:
    parts = [build.load("edge", part) for part in ("lens_blur", "upsample")]
    weights = sum(each.numel() for part in parts for each in part.state_dict().values())
    resizing = sum(320 * side for size in SIZES for side in size)
    assert contents(exported.path(exported.images)).weights < 1.25 * 2 * (weights + resizing)
    hashes = {name: build.weights_sha256(part) for name, part in zip(("lens_blur", "upsample"), parts, strict=True)}
    for entry in (exported.arrays, exported.images):
        assert entry.more["parts"] == hashes
        assert entry.weights_sha256 == parts_sha256(hashes)
        assert entry.more["memory_mib"] >= 1
    assert exported.arrays.size == STEP
    assert [tuple(size) for size in exported.images.more["sizes"]] == list(SIZES)


def test_nothing_is_placed_off_the_neural_engine_but_what_is_named(exported: Exported) -> None:
    placed = placement.lint_package(exported.path(exported.images))
    off = {finding.rule.name for each in placed if each.verdict == "not" for finding in each.findings}
    assert off == set()


def test_half_precision_that_is_too_far_off_is_refused() -> None:
    whole_coreml._check_half(WHOLE, 61.0, 66.0, eight_bit=False)
    with pytest.raises(MismatchError, match=r"only 59\.00 dB \(at least 59\.98"):
        whole_coreml._check_half(WHOLE, 59.0, 66.0, eight_bit=False)
    with pytest.raises(MismatchError, match="at least 50"):
        whole_coreml._check_half(WHOLE, 49.0, float("inf"), eight_bit=True)


def test_packages_that_can_not_be_are_refused() -> None:
    contract = WHOLE_CONTRACTS[WHOLE]
    for wrong, what in (
        (replace(RECIPE, shapes="enumerated", sizes=SIZES), "fixed or multifunction"),
        (replace(RECIPE, sizes=((31, 64),)), "32x32 or more"),
        (replace(RECIPE, precision="mixed"), "not in mixed"),
        (replace(RECIPE, shapes="multifunction", target="iOS17", sizes=SIZES), "iOS18"),
    ):
        with pytest.raises(InputError, match=what):
            wrong.check(contract)
    found = list(recipes(SIZES, ("iOS17", "iOS18"), ("fp16",), image=True, compute_units="ALL"))
    assert [(each.target, each.shapes, len(each.sizes)) for each in found] == [
        ("iOS17", "fixed", 1),
        ("iOS17", "fixed", 1),
        ("iOS18", "multifunction", 2),
    ]
    assert found[2].file_name("edge", contract) == "edge_whole_48x64_56x40_image_fp16_iOS18.mlpackage"


def test_a_size_too_large_for_a_phone_is_refused_with_the_figure(deeplens: Command, tmp_path: Path) -> None:
    outcome = deeplens("export", "coreml", "--whole", "64x40", "--memory", "1", "--target", "iOS18", "--out", tmp_path)
    assert "a graph of 64x40 takes about" in outcome.err
    assert "on coreml, and there are 1 (--memory)" in outcome.err
    assert outcome.status != 0
    assert not list(tmp_path.rglob("*.mlpackage"))
