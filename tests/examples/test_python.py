"""The Python example, which uses nothing of the package, against the package's harness at any size of photo."""

import ast
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deeplens.runtimes import harness_file
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.harness import Harness, aperture_from_f_number, focal_disparity_at
from deeplens.runtimes.ort import OnnxRuntime
from deeplens.runtimes.pyramid import geometry, picture_levels, registered_disparity
from tests.support.examples import FOLDER, loaded

SOURCE = FOLDER / "python" / "refocus.py"
LIBRARIES = {"argparse", "arrays", "hashlib", "json", "math", "numpy", "onnxruntime", "pathlib", "PIL"}


@pytest.fixture(scope="module")
def exported(artifacts: Path) -> Path:
    """What an exporter leaves: the graphs, the manifest and the constants."""
    harness_file.write(artifacts)
    return artifacts


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return loaded("python/refocus.py")


def test_it_is_short_and_uses_no_other_library() -> None:
    text = SOURCE.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    imported = {
        name.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert {name.split(".")[0] for name in imported} == LIBRARIES


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    kind=st.sampled_from(("square", "small", "level 1", "whole", "larger")),
    f_number=st.floats(1.4, 6.0),
    focus=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_computes_what_the_harness_computes(
    exported: Path, example: ModuleType, height: int, width: int, kind: str, f_number: float,
    focus: tuple[float, float], seed: int,
) -> None:  # fmt: skip
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
    steps = geometry(height, width).steps
    times = {"small": 0.3, "level 1": 2.0 ** (1 - steps), "whole": 1.0, "larger": 1.5}
    size = (320, 320) if kind == "square" else tuple(math.ceil(times[kind] * side) for side in (height, width))
    coarse = generator.random((5, 5), np.float32)  # with large parts in focus, where the photo shows
    disparity = np.asarray(Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.NEAREST))
    stages: Arrays = {}
    example.Effect(exported).refocus(pixels, disparity, f_number, focus, stages=stages)

    seen: Arrays = {}

    def observe(level: int, network: str, arrays: Arrays) -> None:
        low = level if network == "lens_blur" else level - 1
        seen[f"signed_depth_{low}"] = arrays["signed_depth"]
        if network == "upsample":
            seen[f"blurred_{low}"] = arrays["blurred"]

    levels = geometry(height, width)
    with OnnxRuntime(artifacts=exported) as runtime:
        seen["picture"] = Harness(runtime, tile=None).refocus(
            pixels,
            disparity,
            focal_disparity=focal_disparity_at(disparity, *focus),
            aperture=aperture_from_f_number(f_number),
            observe=observe,
            from_base=False,
        )
    seen["registered"] = registered_disparity(disparity, levels)
    seen |= {f"picture_{level}": each for level, each in enumerate(picture_levels(pixels, levels))}
    seen["depth_picture"] = Harness.depth_picture(pixels)
    assert stages.keys() == seen.keys() | {"scalars"}
    for name, due in seen.items():
        found = stages[name]
        assert found.dtype == due.dtype, name
        assert found.shape == due.shape, name
        allowed = 1 if due.dtype == np.uint8 else 2e-6
        assert np.abs(found.astype(np.float64) - due).max() <= allowed, name


def test_a_photo_is_refocused_with_predicted_depth(exported: Path, example: ModuleType, pixels: np.ndarray) -> None:
    effect = example.Effect(exported)
    with OnnxRuntime(artifacts=exported) as runtime:
        due = Harness(runtime).disparity(pixels)
    assert np.abs(effect.disparity(pixels) - due).max() <= 1e-6
    assert effect.refocus(pixels, due, 1.4, (0.5, 0.5)).shape == pixels.shape


def test_an_altered_graph_is_refused(tmp_path: Path, example: ModuleType) -> None:
    from tests.support.small_graphs import add_graphs

    add_graphs(tmp_path)
    harness_file.write(tmp_path)
    graph = tmp_path / "onnx" / next(each.name for each in (tmp_path / "onnx").iterdir() if "upsample" in each.name)
    graph.write_bytes(graph.read_bytes() + b" ")
    with pytest.raises(SystemExit, match="is not the file"):
        example.Effect(tmp_path)
