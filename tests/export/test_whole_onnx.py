"""Graphs of the whole effect for ONNX Runtime: what is stored, what is checked, what is refused."""

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from deeplens.console.errors import InputError, MismatchError
from deeplens.export import whole_check, whole_onnx
from deeplens.export.precision_plan import for_variant
from deeplens.export.whole_check import by_harness, made_inputs
from deeplens.export.whole_sizes import Wanted, parts_sha256
from deeplens.model import build
from deeplens.model.whole_contract import PIXELS, PIXELS_IN, PIXELS_OUT, WHOLE, contract_named
from deeplens.runtimes import manifest
from deeplens.runtimes.engine_key import from_entry
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.pytorch import TorchRuntime
from deeplens.runtimes.whole import open_whole
from deeplens.runtimes.whole_pixels import in_pixels, pixel_graphs
from tests.conftest import Command
from tests.support.fake_runtime import with_edge

pytestmark = pytest.mark.slow

SIZE = (36, 650)
"""Two steps, both sides padded."""

WANTED = Wanted(variant="edge", network=WHOLE, size=SIZE)


@dataclass(frozen=True)
class Exported:
    folder: Path
    entries: dict[str, manifest.Entry]

    def model(self, precision: str) -> onnx.ModelProto:
        return onnx.load(self.folder / self.entries[precision].path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("artifacts")
    made = whole_onnx.export(WANTED, out=folder, precisions=whole_onnx.PRECISIONS, plan=for_variant("edge"))
    return Exported(folder, {each.precision: each for each in made})


def test_entries_and_metadata_say_what_is_inside(exported: Exported) -> None:
    hashes = {part: build.weights_sha256(build.load("edge", part)) for part in ("lens_blur", "upsample")}
    for precision, entry in exported.entries.items():
        assert entry.key == ("edge", WHOLE, "onnx", precision, entry.path)
        assert entry.size == SIZE
        assert entry.more["parts"] == hashes
        assert entry.weights_sha256 == parts_sha256(hashes)
        assert entry in manifest.read(exported.folder)
    notes = {each.key: each.value for each in exported.model("fp32").metadata_props}
    assert notes["upsample_weights_sha256"] == hashes["upsample"]
    names = [each["name"] for each in json.loads(notes["contract"])["inputs"]]
    assert names == ["picture", "disparity", "focal_disparity", "aperture"]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_each_constant_is_stored_once(exported: Exported, precision: str) -> None:
    model = exported.model(precision)
    large = [each for each in model.graph.initializer if np.prod(each.dims) > 16]
    values = Counter((each.data_type, tuple(each.dims), numpy_helper.to_array(each).tobytes()) for each in large)
    assert set(values.values()) == {1}
    stored = {each.name for each in model.graph.initializer if len(each.dims) == 4}
    readers = [name for node in model.graph.node for name in node.input if name.startswith("upsample.context")]
    weights = [name for name in readers if name in stored]
    assert len(weights) == 2, "the step runs twice"
    assert len(set(weights)) == 1


def test_the_file_is_hardly_larger_than_the_networks_and_the_map_s_matrices(exported: Exported) -> None:
    weights = sum(
        each.numel() for part in ("lens_blur", "upsample") for each in build.load("edge", part).state_dict().values()
    )
    model = exported.model("fp32")
    resizing = sum(int(np.prod(each.dims)) for each in model.graph.initializer if each.name in ("rows", "columns"))
    size = (exported.folder / exported.entries["fp32"].path).stat().st_size
    assert size < 1.25 * 4 * (weights + resizing)


@pytest.mark.parametrize(("precision", "decibels"), [("fp32", 110), ("fp16", 55), ("int8", 40)])
def test_it_gives_the_harness_s_picture_from_pixels_to_pixels(
    exported: Exported, precision: str, decibels: float
) -> None:
    inputs = made_inputs(WHOLE, SIZE, seed=5)
    pixels = np.rint(255 * inputs["picture"][0].transpose(1, 2, 0)).astype(np.uint8)
    with TorchRuntime(variant="edge") as torch:
        expected = by_harness(torch, WHOLE, inputs)
    runtime, effect = open_whole("onnx", size=SIZE, artifacts=exported.folder, precision=precision)
    with runtime:
        given = {"aperture": inputs["aperture"].item(), "focal_disparity": inputs["focal_disparity"].item()}
        result = effect.refocus(pixels, inputs["disparity"][0, 0], **given)
        raw = runtime.open(WHOLE).run(inputs)["refocused"]
        with pytest.raises(InputError, match="650x36"):
            effect.refocus(pixels[:, 1:], inputs["disparity"][0, 0], **given)
        with pytest.raises(InputError, match="focus point"):
            effect.refocus(pixels, focus=(0.5, 0.5), aperture=1.0)
        with pytest.raises(InputError, match="320"):
            effect.refocus(pixels, inputs["disparity"][0, 0, 1:], **given)
    error = np.sqrt(np.square(raw - expected, dtype=np.float64).mean())
    assert -20 * np.log10(error) > decibels
    if precision == "fp32":
        assert np.abs(raw - expected).max() <= 5e-5
        due = np.rint(255 * expected[0].transpose(1, 2, 0)).astype(int)
        assert np.abs(result.astype(int) - due).max() <= 1
        assert np.mean(result != due) < 1e-3


def test_bytes_in_and_out_around_it_give_the_hosts_loop(exported: Exported) -> None:
    """What TensorRT runs one after the other, and ONNX Runtime in one graph, from the photo's bytes to the result's."""
    inputs = made_inputs(WHOLE, SIZE, seed=6)
    pixels = np.rint(255 * inputs["picture"][0].transpose(1, 2, 0)).astype(np.uint8)
    numbers = {name: inputs[name] for name in ("disparity", "focal_disparity", "aperture")}
    whole = exported.model("fp32").SerializeToString()
    ends = pixel_graphs(SIZE)
    (picture,) = run(ends[PIXELS_IN], {PIXELS: pixels})
    (refocused,) = run(whole, {"picture": picture, **numbers})
    result, total = run(ends[PIXELS_OUT], {"refocused": refocused})
    joined, _ = run(in_pixels(whole, pixels.dtype), {PIXELS: pixels, **numbers})
    with TorchRuntime(variant="edge") as torch, with_edge(soft_radius=None, soft_bound=None, finer_base=False):
        due = Harness(torch, tile=None, loop="host").refocus(
            pixels,
            inputs["disparity"][0, 0],
            focal_disparity=inputs["focal_disparity"].item(),
            aperture=inputs["aperture"].item(),
        )
    assert np.abs(due.astype(int) - pixels).max() > 20, "the control: something is blurred"
    for found in (result, joined):
        assert found.dtype == np.uint8
        off = np.abs(found.astype(int) - due)
        assert off.max() <= 1
        assert (off == 0).mean() > 0.999
    assert total.item() == pytest.approx(float(refocused.sum()), rel=1e-4)


def run(graph: bytes, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    made: list[np.ndarray] = session.run(None, inputs)
    return made


def test_a_picture_that_is_too_bright_is_refused() -> None:
    inputs = made_inputs(WHOLE, SIZE)
    with TorchRuntime(variant="edge") as torch:
        expected = by_harness(torch, WHOLE, inputs)

    def brighter(_inputs: dict[str, np.ndarray]) -> np.ndarray:
        return expected + np.float32(1e-4)

    with pytest.raises(MismatchError, match=r"differ by 0\.0001"):
        whole_check.check(brighter, WHOLE, inputs, expected, precision="fp32")


def test_tensorrt_for_rtx_builds_it_and_the_two_around_it(
    exported: Exported, deeplens: Command, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx")
    folder = shutil.copytree(exported.folder, tmp_path / "artifacts")
    command = ("export", "trt", "--target", "rtx", "--whole", f"{SIZE[1]}x{SIZE[0]}", "--precision", "fp16",
               "--variant", "edge", "--compute-capability", "8.9", "--out", folder)  # fmt: skip
    assert deeplens(*command).status == 0
    engines = {each.network: each for each in manifest.read(folder) if each.runtime == "trt"}
    graphs = {WHOLE: (folder / exported.entries["fp16"].path).read_bytes(), **pixel_graphs(SIZE)}
    assert set(engines) == set(graphs)
    for network, entry in engines.items():
        assert entry.size == SIZE
        assert {each.name for each in entry.outputs} == {each.name for each in contract_named(network).outputs}
        assert from_entry(entry).onnx_sha256 == sha256(graphs[network]).hexdigest(), "another graph is another engine"
        assert (folder / entry.path).stat().st_size > (1e5 if network == WHOLE else 1e3)
    assert deeplens(*command).out.count("already there, with the same key") == len(graphs)


def test_the_command_says_what_does_not_go_together(deeplens: Command, tmp_path: Path) -> None:
    out = ("--out", tmp_path)
    assert "--with-depth works with --whole" in deeplens("export", "onnx", "--with-depth", *out).error
    assert "--size does not work" in deeplens("export", "onnx", "--whole", "64x64", "--size", "64x64", *out).error
    assert "32x32 or more" in deeplens("export", "onnx", "--whole", "64x31", *out).error
    assert "not in mixed" in deeplens("export", "onnx", "--whole", "64x64", "--precision", "mixed", *out).error
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_missing_graph_is_answered_with_the_command_that_makes_it(exported: Exported) -> None:
    with pytest.raises(Exception, match=r"deeplens export onnx --variant edge --whole 64x48 --out"):
        open_whole("onnx", size=(48, 64), artifacts=exported.folder)
