"""Which Core ML packages a call makes: recipes, sizes of the levels, options of the command. Nothing is converted."""

import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from deeplens.console.errors import InputError
from deeplens.export import coreml
from deeplens.export.coreml import Job
from deeplens.export.coreml_jobs import level_sizes, recipes
from deeplens.export.coreml_recipe import Recipe, recipe_of
from deeplens.model.contract import CONTRACTS
from deeplens.runtimes import manifest
from deeplens.runtimes.pyramid import geometry
from tests.conftest import ROOT, Command

FIXED = Recipe(sizes=((256, 256),))


def test_the_levels_of_a_photo_and_of_the_same_photo_turned() -> None:
    """By hand: 2048 / 8 = 256 is the first halving at or below 320, 1536 / 8 = 192; the step runs at 1/8, 1/4, 1/2."""
    assert level_sizes("lens_blur", (1536, 2048)) == ((192, 256), (256, 192))
    assert level_sizes("upsample", (1536, 2048)) == (
        (192, 256), (256, 192), (384, 512), (512, 384), (768, 1024), (1024, 768),
    )  # fmt: skip
    assert level_sizes("depth", (1536, 2048)) == ((320, 320),)
    assert level_sizes("lens_blur", (640, 640)) == ((320, 320),)
    assert level_sizes("upsample", (200, 100)) == ((104, 200), (200, 104))  # no step: the size that it would begin at


@pytest.mark.parametrize("photo", [(3000, 4000), (1537, 2049), (333, 1000), (50, 5000)])
def test_the_harness_finds_all_its_levels(photo: tuple[int, int]) -> None:
    levels = geometry(*photo)
    assert levels.padded(0) in level_sizes("lens_blur", photo)
    assert {levels.padded(level) for level in range(levels.steps)} <= set(level_sizes("upsample", photo))


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        ("lens_blur", {"precision": "fp8"}, "unknown precision 'fp8'"),
        ("lens_blur", {"target": "iOS16"}, "unknown target 'iOS16'"),
        ("lens_blur", {"shapes": "free"}, "unknown shapes 'free'"),
        ("lens_blur", {"compute_units": "NE"}, "unknown compute units 'NE'"),
        ("lens_blur", {"sizes": ((256, 250),)}, "multiples of 8 from 32 up"),
        ("lens_blur", {"sizes": ((24, 256),)}, "multiples of 8 from 32 up"),
        ("lens_blur", {"sizes": ((64, 64), (64, 96))}, "one size, not 2"),
        ("lens_blur", {"shapes": "multifunction", "sizes": ((64, 64), (64, 96))}, "need --target iOS18"),
        ("lens_blur", {"shapes": "enumerated", "target": "iOS18"}, "two sizes or more"),
        ("upsample", {"images": True}, "no input that can be an image"),
        ("depth", {}, "one size, not 256x256"),
        ("depth", {"shapes": "enumerated", "target": "iOS18", "sizes": ((320, 320),)}, "use fixed shapes"),
    ],
)
def test_packages_that_cannot_be(network: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        replace(FIXED, **changes).check(CONTRACTS[network])
    assert "\n" not in str(caught.value)


def test_names_tell_packages_apart() -> None:
    blur, depth = CONTRACTS["lens_blur"], CONTRACTS["depth"]
    several = replace(FIXED, target="iOS18", sizes=((192, 256), (256, 192)))
    asked = [
        FIXED, replace(FIXED, precision="fp32"), replace(FIXED, target="iOS18"), replace(FIXED, images=True),
        replace(several, shapes="multifunction"), replace(several, shapes="enumerated"),
    ]  # fmt: skip
    names = [recipe.file_name("edge", blur) for recipe in asked]
    assert names[0] == "edge_lens_blur_256x256_fp16_iOS17.mlpackage"
    assert names[4] == "edge_lens_blur_multifunction_fp16_iOS18.mlpackage"
    assert len(set(names)) == len(names)
    assert Recipe(sizes=((320, 320),)).file_name("paper", depth) == "paper_depth_fp16_iOS17.mlpackage"


def test_functions_are_named_after_their_size() -> None:
    assert FIXED.functions == {"main": (256, 256)}
    several = replace(FIXED, target="iOS18", sizes=((192, 256), (256, 192)))
    assert replace(several, shapes="enumerated").functions == {"main": None}
    names = {"size_192x256": (192, 256), "size_256x192": (256, 192)}
    assert replace(several, shapes="multifunction").functions == names


def test_every_kind_of_package_unless_told_otherwise() -> None:
    asked = list(recipes("upsample", photo_size=(1536, 2048)))
    assert [(recipe.target, recipe.shapes, len(recipe.sizes)) for recipe in asked] == [
        ("iOS17", "fixed", 1), ("iOS18", "fixed", 1), ("iOS18", "enumerated", 6), ("iOS18", "multifunction", 6),
    ]  # fmt: skip
    assert [recipe.shapes for recipe in recipes("depth", photo_size=(1536, 2048))] == ["fixed", "fixed"]
    square = recipes("lens_blur", photo_size=(640, 640), targets=["iOS18"])
    assert [recipe.shapes for recipe in square] == ["fixed"]
    with pytest.raises(InputError, match="multiples of 8"):
        list(recipes("lens_blur", photo_size=(640, 640), fixed=[(250, 250)]))


def test_a_line_of_the_manifest_that_lacks_something() -> None:
    entry = manifest.Entry(
        "depth", "edge", "coreml", "fp16", "a", "0", "1", (), (), {}, None, False, "now", {"target": "iOS17"}
    )
    with pytest.raises(InputError, match="does not describe a "):
        recipe_of(entry)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What the command asked for; nothing is exported."""
    asked: list[Job] = []

    def keep(jobs: list[Job], **_: Any) -> list[manifest.Entry]:
        asked.extend(jobs)
        return []

    monkeypatch.setattr(coreml, "export_all", keep)
    return asked


@pytest.mark.parametrize("variant", [None, "edge", "paper"])
def test_the_command_makes_all_packages_of_a_variant(
    deeplens: Command, jobs: list[Job], tmp_path: Path, variant: str | None
) -> None:
    named = ["--variant", variant, "--weights", "initial"] if variant else []
    outcome = deeplens("export", "coreml", *named, "--out", tmp_path)
    assert outcome.status == 0
    assert {job.variant for job in jobs} == {variant or "edge"}
    assert Counter(job.network for job in jobs) == {"depth": 2, "lens_blur": 4, "upsample": 4}


def test_the_options_reach_the_packages(deeplens: Command, jobs: list[Job]) -> None:
    outcome = deeplens(
        "export", "coreml", "--variant", "paper", "--network", "lens_blur", "--weights", "initial", "--size", "96x64",
        "--shapes", "fixed", "--target", "iOS18", "--precision", "int8", "--image", "--compute-units", "cpu-and-ne",
    )  # fmt: skip
    assert (outcome.status, outcome.err) == (0, "")
    (job,) = jobs
    assert (job.variant, job.network, job.weights) == ("paper", "lens_blur", "initial")
    assert asdict(job.recipe) == {
        "precision": "int8", "target": "iOS18", "shapes": "fixed", "sizes": ((64, 96),), "images": True,
        "compute_units": "CPU_AND_NE", "plan": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variant", "edge2"], "unknown variant 'edge2'"),
        (["--network", "denoise"], "unknown network 'denoise'"),
        (["--precision", "fp8"], "unknown precision 'fp8'"),
        (["--target", "iOS16"], "unknown target 'iOS16'"),
        (["--shapes", "free"], "unknown shapes 'free'"),
        (["--size", "256"], "not WxH"),
        (["--size", "250x250"], "multiples of 8"),
        (["--photo", "big"], "not WxH"),
        (["--compute-units", "NE"], "unknown compute units 'NE'"),
        (
            ["--variant", "edge", "--shapes", "multifunction", "--target", "iOS17", "--network", "upsample"],
            "nothing to export",
        ),
    ],
)
def test_bad_options_are_refused_in_one_line(
    deeplens: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    outcome = deeplens("export", "coreml", "--out", tmp_path / "artifacts", *arguments)
    assert outcome.status == 3
    assert message in outcome.error
    assert not (tmp_path / "artifacts").exists()


def test_weights_that_are_not_there(deeplens: Command, tmp_path: Path) -> None:
    arguments = ("export", "coreml", "--variant", "edge", "--network", "upsample", "--out", tmp_path / "artifacts")
    outcome = deeplens(*arguments, "--weights", tmp_path / "none.safetensors")
    assert outcome.status == 4
    assert "no weights at" in outcome.error
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.slow
def test_it_runs_as_typed_and_imports_nothing_heavy(deeplens_process: Command) -> None:
    outcome = deeplens_process("export", "coreml", "--help", without=("torch", "coremltools", "sklearn"))
    assert (outcome.status, outcome.err) == (0, "")
    for name in ("coreml", "coreml_device"):
        script = [sys.executable, str(ROOT / "export" / f"{name}.py"), "--help"]
        assert "--compute-units" in subprocess.run(script, capture_output=True, text=True, check=True).stdout
