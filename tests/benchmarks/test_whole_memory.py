"""What a graph of the whole effect takes, measured: on a graph that can be reckoned by hand."""

import json
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from deeplens.benchmarks import whole_memory
from deeplens.console.errors import MissingError
from deeplens.runtimes.manifest import FILE_NAME
from tests.support.small_graphs import add_whole

SIZE = (600, 800)


@pytest.mark.slow
def test_the_growth_is_about_what_the_tensors_take(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="--whole 1024x768"):
        whole_memory.measure(tmp_path)
    add_whole(tmp_path, SIZE)
    with pytest.raises(MissingError, match="--whole 1024x768"):
        whole_memory.measure(tmp_path)  # it says nothing of its memory
    manifest = tmp_path / FILE_NAME
    text = json.loads(manifest.read_text())
    picture = 4 * 3 * SIZE[0] * SIZE[1]
    text["artifacts"][0]["peak_bytes"] = 2 * picture
    manifest.write_text(json.dumps(text))
    ((path, counted, took, share),) = whole_memory.measure(tmp_path)
    assert path == "onnx/edge_whole_600x800.onnx"
    assert counted == round(2 * picture / 2**20)
    # The darker picture and the result: between one and four pictures, whatever the arena rounds up to.
    assert picture / 2**20 <= took <= 4 * picture / 2**20 + 8
    assert share == pytest.approx(took / (2 * picture / 2**20))
