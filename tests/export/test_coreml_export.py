"""Core ML packages: what is in them, that they compute what PyTorch does, what is refused."""

import hashlib
import json
import shutil
import struct
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deeplens
from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.export import coreml, coreml_report
from deeplens.export import golden as vectors
from deeplens.export.coreml_check import compare
from deeplens.export.coreml_recipe import Recipe, recipe_of
from deeplens.model import build
from deeplens.model.contract import CONTRACTS
from deeplens.runtimes import manifest
from deeplens.runtimes.coreml.executor import Executor
from deeplens.runtimes.coreml.program import load
from tests.conftest import Command
from tests.export.test_onnx_graph import StandIn, Swapped

pytestmark = pytest.mark.slow

SIZES = ((32, 32), (32, 40))
WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")
UPSAMPLE, LENS_BLUR = CONTRACTS["upsample"], CONTRACTS["lens_blur"]
FULL = Recipe(precision="fp32", sizes=SIZES[:1])
HALF = Recipe(target="iOS18", sizes=SIZES[:1])
LEVELS = Recipe(target="iOS18", shapes="multifunction", sizes=SIZES)
PALETTE = Recipe(precision="palette4", sizes=SIZES[:1])
IMAGE = Recipe(target="iOS18", shapes="enumerated", sizes=SIZES, images=True, compute_units="CPU_AND_NE")


@dataclass(frozen=True)
class Exported:
    folder: Path
    entries: dict[Recipe, manifest.Entry]

    def path(self, recipe: Recipe) -> Path:
        return self.folder / self.entries[recipe].path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The trained edge step four ways, and a stand-in for the lens blur with an image input."""
    folder = tmp_path_factory.mktemp("artifacts")
    step = build.load("edge", "upsample")
    entries = {
        recipe: coreml.export_module(step, recipe, variant="edge", network="upsample", out=folder, weights="shipped")
        for recipe in (FULL, HALF, LEVELS, PALETTE)
    }
    entries[IMAGE] = coreml.export_module(
        stand_in(), IMAGE, variant="edge", network="lens_blur", out=folder, weights="initial"
    )
    return Exported(folder, entries)


def stand_in() -> StandIn:
    torch.manual_seed(3)
    return StandIn().eval()


def run(path: Path, inputs: dict[str, np.ndarray], function: str = "main", mode: str = "float32") -> np.ndarray:
    (result,) = Executor(load(path, function), mode=mode).run(inputs).values()  # type: ignore[arg-type]
    return result


def random_inputs(size: tuple[int, int], *, network: str = "upsample", seed: int = 5) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    inputs = {}
    for tensor in CONTRACTS[network].inputs:
        assert tensor.low is not None
        inputs[tensor.name] = generator.uniform(tensor.low, 1.0, tensor.shape(*size)).astype(np.float32)
    return inputs


def in_pytorch(module: nn.Module, inputs: dict[str, np.ndarray]) -> np.ndarray:
    with torch.inference_mode():
        return module(*(torch.from_numpy(array) for array in inputs.values())).numpy()


def test_every_package_computes_what_pytorch_does(exported: Exported) -> None:
    """At sizes and on inputs other than those that the export looked at."""
    step = build.load("edge", "upsample")
    inputs = random_inputs(SIZES[0])
    expected = in_pytorch(step, inputs)
    full = np.abs(run(exported.path(FULL), inputs) - expected).max() / np.ptp(expected)
    assert full <= 1e-5
    half, palette = (
        vectors.agreement(run(exported.path(recipe), inputs, mode="fp16"), expected) for recipe in (HALF, PALETTE)
    )
    assert half >= 60
    assert 10 <= palette < half
    inputs = random_inputs(SIZES[1])
    found = run(exported.path(LEVELS), inputs, function="size_32x40", mode="fp16")
    assert vectors.agreement(found, in_pytorch(step, inputs)) >= 60


def test_an_image_input_takes_pixels(exported: Exported) -> None:
    inputs = random_inputs(SIZES[1], network="lens_blur")
    pixels = np.rint(255 * inputs["picture"])
    inputs["picture"] = (pixels / 255).astype(np.float32)
    expected = in_pytorch(stand_in(), inputs)
    found = run(exported.path(IMAGE), {**inputs, "picture": pixels}, mode="fp16")
    assert vectors.agreement(found, expected) >= 50
    unscaled = run(exported.path(IMAGE), inputs, mode="fp16")  # the control: 0 … 1 is nearly black
    assert vectors.agreement(unscaled, expected) < 30


def test_the_package_says_what_it_is(exported: Exported) -> None:
    spec = ct.utils.load_spec(str(exported.path(FULL)))
    metadata = spec.description.metadata
    assert (metadata.author, metadata.versionString) == ("The contributors to DeepLens", deeplens.__version__)
    assert "MIT" in metadata.license
    entry = exported.entries[FULL]
    notes = metadata.userDefined
    assert (
        notes["deeplens.weights_sha256"] == entry.weights_sha256 == build.weights_sha256(build.load("edge", "upsample"))
    )
    assert (notes["deeplens.coremltools"], notes["deeplens.precision"]) == (ct.__version__, "fp32")
    assert json.loads(notes["contract"])["network"] == "upsample"
    assert notes["deeplens.harness"] == "harness.json"
    meaning = {feature.name: feature.shortDescription for feature in spec.description.input}
    assert "times 2^k, clipped to [-1, 1], 0 at the focal plane" in meaning["signed_depth"]
    assert "from -1 to 1" in meaning["signed_depth"]
    assert "unbounded" in spec.description.output[0].shortDescription
    image = ct.utils.load_spec(str(exported.path(IMAGE))).description.input[0]
    assert image.type.WhichOneof("Type") == "imageType"
    assert "8 bits" in image.shortDescription


def test_the_manifest_says_what_it_is(exported: Exported) -> None:
    entries = {entry.path: entry for entry in manifest.read(exported.folder)}
    for recipe, entry in exported.entries.items():
        assert entries[entry.path] == entry
        assert recipe_of(entry) == recipe
        assert manifest.verify(exported.folder, entry) == exported.path(recipe)
    assert [tensor.shape for tensor in exported.entries[HALF].inputs] == [t.shape(32, 32) for t in UPSAMPLE.inputs]
    assert {tensor.dtype for tensor in exported.entries[HALF].inputs} == {"float16"}
    levels = exported.entries[LEVELS]
    assert levels.size is None
    assert levels.inputs[0].shape == (1, 3, "2*h", "2*w")
    assert [tensor.dtype for tensor in exported.entries[IMAGE].inputs] == ["uint8", "float16"]
    names = "edge_upsample_32x32_fp32_iOS17 edge_upsample_32x32_fp16_iOS18 edge_upsample_multifunction_fp16_iOS18"
    names += " edge_upsample_32x32_palette4_iOS17 edge_lens_blur_enumerated_image_fp16_iOS18"
    assert [exported.path(recipe).stem for recipe in exported.entries] == names.split()


def test_nothing_else_is_left(exported: Exported) -> None:
    left = {path.name for path in (exported.folder / "coreml").iterdir()}
    assert left == {"golden", *(exported.path(recipe).name for recipe in exported.entries)}
    assert not [path for path in (exported.folder / "coreml" / "golden").iterdir() if path.name.startswith(".")]


def test_functions_share_their_weights(exported: Exported) -> None:
    one, two = (coreml_report.contents(exported.path(recipe)) for recipe in (HALF, LEVELS))
    assert set(two.operations) == {"size_32x32", "size_32x40"}
    assert one.weights > 50_000
    assert two.weights == one.weights


def test_the_report_counts_operations_and_bytes(exported: Exported) -> None:
    path = exported.path(PALETTE)
    found = coreml_report.contents(path)
    expected = Counter(operation.kind for operation in load(path).operations)
    assert found.operations == {"main": dict(expected)}
    assert expected["constexpr_lut_to_dense"] > 0
    assert found.size == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    half = coreml_report.contents(exported.path(HALF)).weights
    assert found.weights < 0.5 * half
    row = found.row(exported.entries[PALETTE])
    assert row[0] == path.stem
    assert row[5] == sum(count for kind, count in expected.items() if kind != "constexpr_lut_to_dense")


def test_a_round_trip_keeps_the_weights(exported: Exported, tmp_path: Path) -> None:
    for recipe in (FULL, LEVELS, PALETTE):
        source, copy = exported.path(recipe), tmp_path / exported.path(recipe).name
        ct.models.MLModel(str(source), skip_model_load=True).save(str(copy))
        again = tmp_path / f"again_{copy.name}"
        ct.models.MLModel(str(copy), skip_model_load=True).save(str(again))
        hashes = {hashlib.sha256((path / WEIGHTS).read_bytes()).hexdigest() for path in (source, copy, again)}
        assert len(hashes) == 1
        assert coreml_report.contents(again) == coreml_report.contents(source)
    inputs = random_inputs(SIZES[0])
    again = tmp_path / f"again_{exported.path(FULL).name}"
    assert np.array_equal(run(again, inputs), run(exported.path(FULL), inputs))


@pytest.mark.parametrize("fault", ["missing", "altered"])
def test_a_package_without_its_own_weights_is_refused(exported: Exported, tmp_path: Path, fault: str) -> None:
    shutil.copytree(exported.folder, tmp_path / "artifacts")
    weights = tmp_path / "artifacts" / exported.entries[HALF].path / WEIGHTS
    if fault == "missing":
        weights.unlink()
    else:
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    with pytest.raises(MismatchError, match=r"mlpackage has SHA-256.*rebuild it with `deeplens export coreml"):
        manifest.verify(tmp_path / "artifacts", exported.entries[HALF])


def golden_of(module: nn.Module, folder: Path) -> vectors.Golden:
    path = vectors.write(folder, module, UPSAMPLE, variant="edge", size=SIZES[0], sha256="0")
    return vectors.read(path)


def test_a_wrong_graph_or_weight_is_seen(exported: Exported, tmp_path: Path) -> None:
    """Against other networks the packages fail; against their own they pass."""
    step = build.load("edge", "upsample")
    path = exported.path(FULL)
    assert compare(path, UPSAMPLE, FULL, golden_of(step, tmp_path)) >= 100
    with pytest.raises(MismatchError, match="of the spread"):
        compare(path, UPSAMPLE, FULL, golden_of(Swapped(step), tmp_path))
    with pytest.raises(MismatchError, match=r"to only .* dB"):
        compare(exported.path(HALF), UPSAMPLE, HALF, golden_of(Swapped(step), tmp_path))
    with torch.no_grad():
        next(step.parameters()).mul_(1.01)
    with pytest.raises(MismatchError, match="of the spread"):
        compare(path, UPSAMPLE, FULL, golden_of(step, tmp_path))


def test_what_pytorch_does_not_compute_takes_no_place(tmp_path: Path) -> None:
    module = StandIn(nan=True).eval()
    recipe = replace(FULL, precision="fp16")
    with pytest.raises(MismatchError, match="not finite"):
        coreml.export_module(module, recipe, variant="edge", network="lens_blur", out=tmp_path, weights="initial")
    assert list((tmp_path / "coreml").glob("*mlpackage*")) == []
    assert manifest.read(tmp_path) == []


class Foreign(nn.Module):
    """Keeps the contract's names with an operation that coremltools can't convert."""

    def forward(self, picture: Tensor, signed_depth: Tensor) -> Tensor:
        return picture * torch.special.bessel_j0(signed_depth)


def test_what_cannot_be_converted_is_refused_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MismatchError, match=r"lens_blur: coremltools .* can't convert it .*bessel") as caught:
        coreml.export_module(Foreign(), FULL, variant="edge", network="lens_blur", out=tmp_path, weights="initial")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    assert list((tmp_path / "coreml").glob("*mlpackage*")) == []


def step_inputs(x: int, height: int, width: int) -> list[list[float]]:
    """The rule of `export.golden_inputs` for the step, in whole numbers, a value at a time."""

    def byte() -> int:
        nonlocal x
        x = (1664525 * x + 1013904223) % 2**32
        return x >> 24

    rows, columns = height // 8, width // 8
    cells = [[[byte() for _ in range(columns)] for _ in range(rows)] for _ in range(3)]

    def picture(side: int, noise: Callable[[], int]) -> list[float]:
        return [
            ((3 * cells[c][y // side][x_ // side] + noise()) >> 2) / 255
            for c in range(3)
            for y in range(rows * side)
            for x_ in range(columns * side)
        ]

    high, low, blurred = picture(16, byte), picture(8, byte), picture(8, lambda: 127)
    depth = [[2 * byte() - 255 for _ in range(columns)] for _ in range(rows)]
    signed = [depth[y // 8][x_ // 8] / 255 for y in range(height) for x_ in range(width)]
    return [high, low, blurred, signed]


def test_any_language_can_read_the_golden_vectors(exported: Exported) -> None:
    """By the JSON file, its rule for the inputs and struct alone, as an app would."""
    path = exported.folder / exported.entries[HALF].more["golden"]
    text = json.loads(path.read_text())
    assert (text["network"], text["variant"], text["size"]) == ("upsample", "edge", [32, 32])
    least = text["smallest_agreement_db"]
    assert least.keys() == {"fp32", "fp16", "fp16 sums"}
    assert (least["fp32"], least["fp16"] >= 50, 40 <= least["fp16 sums"] <= least["fp16"]) == (70.0, True, True)
    values = {}
    for item, numbers in zip(text["inputs"], step_inputs(text["inputs"][0]["seed"], *text["size"]), strict=True):
        data = struct.pack(f"<{len(numbers)}f", *numbers)
        assert hashlib.sha256(data).hexdigest() == item["sha256"]
        values[item["name"]] = np.array(struct.unpack(f"<{len(numbers)}f", data), np.float32).reshape(item["shape"])
    (item,) = text["outputs"]
    data = (path.parent / item["file"]).read_bytes()
    numbers = list(struct.unpack(f"<{len(data) // 4}f", data))
    expected = np.array(numbers, np.float32).reshape(item["shape"])
    assert (min(numbers), max(numbers)) == pytest.approx((item["min"], item["max"]))
    assert list(values) == [tensor.name for tensor in UPSAMPLE.inputs]
    found = in_pytorch(build.load("edge", "upsample"), values)
    assert np.abs(found - expected).max() <= 1e-6


def test_golden_pictures_fit_an_image_input(exported: Exported) -> None:
    golden = vectors.read(exported.folder / exported.entries[IMAGE].more["golden"])
    pixels = 255 * golden.inputs["picture"].astype(np.float64)
    assert np.abs(pixels - np.rint(pixels)).max() < 1e-4
    assert len(np.unique(np.rint(pixels))) > 100


def test_other_golden_vectors_are_refused(exported: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "golden"
    shutil.copytree(exported.folder / "coreml" / "golden", folder)
    path = folder / "edge_upsample_32x32.json"
    data = folder / "edge_upsample_32x32.blurred_high.f32"
    data.write_bytes(data.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(MismatchError, match=r"blurred_high\.f32 has changed"):
        vectors.read(path)
    data.unlink()
    with pytest.raises(MissingError, match=r"blurred_high\.f32.*export the package again"):
        vectors.read(path)
    path.write_text("{}")
    with pytest.raises(InputError, match="does not describe golden vectors"):
        vectors.read(path)


def test_agreement_is_the_ratio_of_spread_and_error() -> None:
    expected = np.array([10.0, 12.0], np.float32)
    assert vectors.agreement(expected + np.float32(0.002), expected) == pytest.approx(60, abs=0.01)
    assert vectors.agreement(expected, expected) == np.inf
    with pytest.raises(MismatchError, match="expected"):
        vectors.agreement(expected[:1], expected)


def test_without_a_library_the_extra_is_named(deeplens_process: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = deeplens_process("export", "coreml", "--variant", "edge", without=("coremltools",))
    assert (outcome.status, "pip install 'deeplens-edge[coreml]'" in outcome.error) == (4, True)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingError, match=r"pip install 'deeplens-edge\[coreml\]'"):
        coreml.export("edge", "upsample", FULL, out=Path("unused"))
