"""Which cases are made: fixed shapes that serve every photo, and what is left where a network has no weights."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from deeplens.console.errors import InputError, MismatchError
from deeplens.model.contract import ALIGNMENT, DEPTH_SIZE, NETWORKS, VARIANTS
from deeplens.model.shipped import weights_file
from deeplens.parity_tests.cases import COVERAGE, LoopCase, case_sha256, made_depth, reduced
from deeplens.parity_tests.collection import Collection, read, write
from deeplens.parity_tests.conftest import SMALL
from deeplens.parity_tests.report import Report
from deeplens.parity_tests.request import Request
from deeplens.parity_tests.run import collect, compare_collections, run
from deeplens.runtimes.pyramid import geometry
from deeplens.runtimes.tiling import split

pytestmark = pytest.mark.slow

sides = st.integers(1, 4096)


def _windows(variant: str, fixed: tuple[int, int], long_side: int | None, height: int, width: int) -> None:
    """Split each level of a photo into windows; raises MismatchError where they don't fit."""
    levels = geometry(*reduced(height, width, long_side))
    for level in range(levels.steps + 1):
        network = "upsample" if level else "lens_blur"
        split(*levels.padded(max(0, level - 1)), halo=VARIANTS[variant].halo[network], tile=None, fixed_size=fixed)


@pytest.mark.parametrize("variant", VARIANTS)
@given(height=sides, width=sides)
@example(height=330, width=220)
@example(height=220, width=330)
@example(height=2048, width=1366)
@example(height=30, width=4096)
def test_the_fixed_shape_of_a_plan_serves_every_photo(variant: str, height: int, width: int) -> None:
    for graph, long_side in COVERAGE[variant].loops:
        if graph == "fixed":
            _windows(variant, COVERAGE[variant].fixed_size, long_side, height, width)


def test_a_shape_for_one_kind_of_photo_is_told_apart() -> None:
    """104×168 fits a wide photo of 330 pixels whole, but no upright one, nor one of 3:2: its halo is 52."""
    _windows("paper", (104, 168), 330, 186, 330)
    for height, width in ((330, 186), (220, 330)):
        with pytest.raises(MismatchError, match="windows of 168×104 pixels are too small"):
            _windows("paper", (104, 168), 330, height, width)


@pytest.mark.parametrize("variant", VARIANTS)
def test_levels_of_a_small_photo_are_whole_windows(variant: str) -> None:
    """At the smallest size of a fixed loop nothing is cut, upright or not, so that borders and padding are seen."""
    fixed, smallest = COVERAGE[variant].fixed_size, min(long for graph, long in COVERAGE[variant].loops if long)
    for height, width in ((smallest, smallest * 2 // 3), (smallest * 2 // 3, smallest), (smallest, smallest)):
        levels = geometry(height, width)
        assert all(side <= most for side, most in zip(levels.padded(levels.steps - 1), fixed, strict=True))
    assert all(side % ALIGNMENT == 0 for side in fixed)


def _weights(folder: Path, source: Path, *networks: str) -> Path:
    folder.mkdir()
    for network in networks:
        file = weights_file("edge", network, source)
        assert file is not None
        save_file(load_file(file), folder / f"edge_{network}.safetensors")
    return folder


def _request(weights: Path, photo: Path) -> Request:
    return Request(variants=["edge"], runtimes=["torch"], weights=weights, photo=photo, coverage=SMALL)


def _kinds(report: Report) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in report.rows:
        found.setdefault(row.status, []).append(f"{row.what} {row.input}")
    return found


LEVELS = ["level 0 loop", "level 1 loop", "8-bit picture loop"]


def test_without_depth_weights_the_loop_begins_behind_it(lively_weights: Path, strip: Path, tmp_path: Path) -> None:
    request = _request(_weights(tmp_path / "two", lively_weights, "lens_blur", "upsample"), strip)
    report = run(request)
    found = _kinds(report)
    assert found.keys() == {"passed", "not run"}
    assert found["not run"] == ["depth random"]
    assert [each for each in found["passed"] if each.endswith("loop")] == LEVELS
    assert {"lens_blur photo", "upsample photo", "lens_blur random", "upsample random"} < set(found["passed"])
    (row,) = (each for each in report.rows if each.status == "not run")
    assert row.note.startswith("not run: needs ")
    assert "edge_depth.safetensors" in row.note
    report.check()

    collect(request, tmp_path / "here")
    again = compare_collections([tmp_path / "here"])
    assert _kinds(again) == found
    collect(request, tmp_path / "there", inputs=tmp_path / "here")
    assert _kinds(compare_collections([tmp_path / "here", tmp_path / "there"])).keys() == found.keys()


def test_without_the_step_there_is_no_loop(lively_weights: Path, strip: Path, tmp_path: Path) -> None:
    report = run(_request(_weights(tmp_path / "two", lively_weights, "depth", "lens_blur"), strip))
    found = _kinds(report)
    assert set(found["passed"]) == {"depth random", "lens_blur random"}
    assert set(found["not run"]) == {"upsample random", "all levels loop"}
    assert all("edge_upsample.safetensors" in row.note for row in report.rows if row.status == "not run")
    report.check()


def test_without_any_weights_nothing_passes(strip: Path, tmp_path: Path) -> None:
    report = run(_request(_weights(tmp_path / "none", tmp_path), strip))
    assert {row.status for row in report.rows} == {"not run"}
    assert not report.ok


def test_a_given_depth_map_is_an_input(tmp_path: Path) -> None:
    """It is hashed and travels with the collection; the depth network has no part in the case."""
    depth = made_depth()
    assert (depth.shape, depth.dtype) == ((DEPTH_SIZE, DEPTH_SIZE), np.dtype(np.float32))
    assert (depth.min(), depth.max()) == (0.0, 1.0)
    pixels = np.zeros((40, 30, 3), np.uint8)
    own = LoopCase(pixels, "dynamic", (0.5, 0.5), 1.0)
    case = LoopCase(pixels, "dynamic", (0.5, 0.5), 1.0, depth)
    other = LoopCase(pixels, "dynamic", (0.5, 0.5), 1.0, depth + np.float32(1e-6))
    assert len({case_sha256(each) for each in (own, case, other)}) == 3
    assert (own.networks, case.networks) == (NETWORKS, ("lens_blur", "upsample"))
    write(tmp_path / "c", Collection({"edge": [case]}, [], None, "", {}))
    (found,) = read(tmp_path / "c").cases["edge"]
    assert isinstance(found, LoopCase)
    assert found.given is not None
    np.testing.assert_array_equal(found.given, depth, strict=True)


def test_weights_that_can_not_be_read_are_still_an_error(strip: Path, tmp_path: Path) -> None:
    (tmp_path / "edge_depth.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="can't be read as safetensors"):
        run(_request(tmp_path, strip))
