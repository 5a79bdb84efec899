"""The search for a plan: on errors made up so that the answer is known, and on the step network itself."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
import torch
from PIL import Image

from deeplens.calibration import calibrate, inputs, page, pareto
from deeplens.calibration.photos import photo
from deeplens.calibration.quality import Judge, decibels
from deeplens.calibration.search import Assignment, cheapest, costs, ordered
from deeplens.calibration.sensitivity import Notebook
from deeplens.console.errors import InputError, MismatchError
from deeplens.export import onnx_graph, onnx_trace
from deeplens.export.layers import REST, Layer, layers, rest_operations
from deeplens.export.onnx_forms import FORMS, in_form
from deeplens.export.precision_plan import Choice, Source, for_variant, read
from deeplens.model import build
from deeplens.model.contract import CONTRACTS, NETWORKS
from deeplens.model.cost import cost
from deeplens.runtimes import manifest
from deeplens.runtimes.ort import OnnxRuntime
from tests.support.tiny import textured


def layer(path: str, multiplications: int) -> Layer:
    return Layer("depth", path, "x", f"{path}.weight", path, path, (8, 8, 1, 1), multiplications)


LAYERS = {"depth": [layer("cheap", 10), layer("dear", 1000), layer("guilty", 100)]}
ERRORS: dict[tuple[str, str, str], Sequence[float]] = {
    ("depth", "cheap", "int8"): [1e-6],
    ("depth", "dear", "int8"): [1e-6],
    ("depth", "guilty", "int8"): [1e-3],
    ("depth", "cheap", "fp16"): [1e-9],
    ("depth", "dear", "fp16"): [1e-9],
    ("depth", "guilty", "fp16"): [9.9e-4],
    ("depth", REST, "fp16"): [1e-10],
}
UNITS = [("depth", "cheap"), ("depth", "dear"), ("depth", "guilty"), ("depth", REST)]


def added(chosen: Assignment) -> list[float]:
    return [sum(0.0 if each == "fp32" else ERRORS[unit[0], unit[1], each][0] for unit, each in chosen.items())]


class TestSearch:
    def test_the_guilty_layer_goes_first_and_past_a_precision_that_does_not_help(self) -> None:
        search = ordered(("int8", "fp16", "fp32"), ERRORS, costs(LAYERS, {"depth": 5}))
        assert search.order[0] == (("depth", "guilty"), "int8", "fp32")
        assert [unit for unit, _, _ in search.order].index(("depth", "cheap")) < [
            unit for unit, _, _ in search.order
        ].index(("depth", "dear"))
        assert search.at(0) == {unit: "int8" if unit[1] != REST else "fp16" for unit in UNITS}
        assert set(search.at(len(search.order)).values()) == {"fp32"}

    @pytest.mark.parametrize("floor", [10.0, 35.0, 57.0, 60.0, 85.0, 119.0])
    def test_the_fewest_that_reach_the_floor(self, floor: float) -> None:
        search = ordered(("int8", "fp16", "fp32"), ERRORS, costs(LAYERS, {"depth": 5}))
        raised = cheapest(search, added, floor=floor)
        every = [decibels(added(search.at(count))) for count in range(len(search.order) + 1)]
        assert every[raised] >= floor
        assert raised == 0 or every[raised - 1] < floor

    def test_costs_by_hand(self) -> None:
        cost_of = costs(LAYERS, {"depth": 890})
        chosen = dict(zip(UNITS, ("int8", "fp16", "fp32", "fp32"), strict=True))
        assert cost_of.arithmetic(chosen) == pytest.approx((10 / 4 + 1000 / 2 + 100 + 890) / 2000)
        assert cost_of.size(chosen) == pytest.approx((1 / 4 + 1 / 2 + 1) / 3)


class TestNotebook:
    def test_what_was_measured_is_not_measured_again(self, tmp_path: Path) -> None:
        path = tmp_path / "errors.jsonl"
        assert Notebook(path, "key").measured("a", lambda: [0.25]) == [0.25]
        with path.open("a") as file:
            file.write('\n{"key": "key", "what": "b", "err')  # killed while writing
        assert Notebook(path, "key").measured("a", _never) == [0.25]
        with pytest.raises(AssertionError):
            Notebook(path, "key").measured("b", _never)
        with pytest.raises(AssertionError):
            Notebook(path, "other key").measured("a", _never)


def _never() -> list[float]:
    raise AssertionError("measured again")


@pytest.fixture(scope="module")
def graphs(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The step of `edge` beside stand-ins for depth and lens blur, which feed it."""
    out = tmp_path_factory.mktemp("graphs")
    shutil.copytree(artifacts, out, dirs_exist_ok=True)
    module = build.build("edge", "upsample")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # initial weights predict nothing, and would hide what a layer does
        module.get_parameter("predict.weight").copy_(0.2 * torch.randn(28, 32, 1, 1, generator=generator))
    onnx_graph.export_module(module, variant="edge", network="upsample", out=out)
    return out


@pytest.fixture
def calibration(graphs: Path, tmp_path: Path) -> calibrate.Calibration:
    """Of the step network alone, on two photos."""
    photos = []
    for seed in range(2):
        path = tmp_path / f"{seed}.png"
        Image.fromarray(textured(330, 400, seed=seed)).save(path)
        photos.append(photo(path))
    runtime = OnnxRuntime(artifacts=graphs, threads=1)
    entry = runtime.open("upsample").entry
    model = onnx.load(manifest.verify(graphs, entry))
    hashes = {network: runtime.open(network).entry.weights_sha256 for network in NETWORKS}
    settings = inputs.Settings(longest=400, window=32)
    source = Source("p" * 64, 2, {"longest": 400, "window": 32}, hashes)
    own = {"upsample": layers(model, "upsample")}
    return calibrate.Calibration("edge", runtime, {"upsample": model}, own, photos, source, tmp_path / "work", settings)


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_layers_are_those_of_the_network(network: str) -> None:
    module = build.build("edge", network)
    convolutions = {
        name
        for name, each in module.named_modules()
        if isinstance(each, torch.nn.Conv2d) and not name.startswith("segmentation_head")
    }
    contract = CONTRACTS[network]
    model = onnx_trace.simplified(onnx_trace.traced(module, contract, contract.fixed_size))
    own = layers(model, network)
    assert {each.path for each in own} == convolutions
    planned = set(for_variant("edge").layers[network]) - {REST}
    assert planned <= convolutions
    for form in (name for name, each in FORMS.items() if "int8" in each.precisions):
        assert {each.path for each in layers(in_form(model, form), network)} == planned, form
    if network != "upsample":  # one run a photo
        counted = sum(each.multiplications for each in own)
        total = cost("edge", network, *(contract.fixed_size or (192, 256)))["multiplications"]
        assert counted <= total <= counted + rest_operations(model, network)


@pytest.mark.slow
class TestOnTheStep:
    @pytest.mark.slow
    def test_from_photos_to_a_page(self, calibration: calibrate.Calibration) -> None:
        said: list[str] = []
        (calibration.folder / "inputs").mkdir(parents=True)
        found = calibration.scales(said.append, anew=False)
        assert calibration.scales(said.append, anew=False) == found
        assert "already exist" in said[-1]
        goal = calibrate.Goal(floor=50, fp16_floor=60, judges=1, longest=400)
        result = calibrate.searched(calibration, found, goal, said.append)
        assert result.plan.reached >= 50
        assert set(result.plan.layers["upsample"]) == {REST, *(each.path for each in calibration.layers["upsample"])}
        result.plan.write(calibration.folder / "plan.json")
        plan = read(calibration.folder / "plan.json")
        assert plan.digest("upsample") == result.plan.digest("upsample")
        # What the plan file says is what was measured.
        judge = Judge(calibration.runtime, calibration.photos[:1], longest=400)
        again = decibels(judge.errors(calibration.graphs({"upsample": plan.layers["upsample"]})))
        assert again == pytest.approx(plan.reached, abs=0.1)

        lines = calibration.file("errors.jsonl").read_text().splitlines()
        calibrate.searched(calibration, found, goal, said.append)
        assert calibration.file("errors.jsonl").read_text().splitlines() == lines, "nothing is measured twice"

        points = pareto.points(calibration, result)
        by_name = {each.name: each for each in points}
        assert by_name["all INT8"].size < by_name["all FP16"].size < by_name["all FP32"].size
        assert by_name["all INT8"].arithmetic < by_name["the plan"].arithmetic + 1e-9 <= 1.0
        held = calibration.statistics(said.append)
        target, file = calibration.folder / "plan.json", calibration.folder / "page.html"
        page.write(file, calibration, held, result, points, goal=goal, plan=target)
        text = file.read_text()
        assert text.count("data:image/png") == 2 * (3 + 1 + 2)  # light and dark: plans, layers, tensors
        assert f"The picture keeps {result.plan.reached:.1f} dB against FP32" in text
        assert f"deeplens export onnx --precision int8 --plan {target}" in text
        stored = json.loads(calibration.file("statistics.json").read_text())
        assert stored["tensors"]["upsample"]["picture_high"]["levels"]["1"]["high"] <= 1.0

    def test_scales_of_other_weights_are_refused_unless_asked(self, calibration: calibrate.Calibration) -> None:
        calibration.folder.mkdir(parents=True)
        found = calibration.scales(lambda _line: None, anew=False)
        calibration.source = Source("q" * 64, 2, calibration.source.settings, calibration.source.weights)
        with pytest.raises(MismatchError, match="other photos"):
            calibration.scales(lambda _line: None, anew=False)
        assert calibration.scales(lambda _line: None, anew=True).layers == found.layers

    def test_a_worse_graph_is_seen(self, calibration: calibrate.Calibration) -> None:
        calibration.folder.mkdir(parents=True)
        found = calibration.scales(lambda _line: None, anew=False)
        judge = Judge(calibration.runtime, calibration.photos[:1], longest=400)
        own = calibration.layers["upsample"]
        pairs = found.of("upsample", "minmax")
        reached = []
        for factor in (1, 16):
            choices = {
                each.path: Choice("int8", (factor * pairs[each.path][0], factor * pairs[each.path][1])) for each in own
            } | {REST: Choice("fp32")}
            reached.append(decibels(judge.errors(calibration.graphs({"upsample": choices}))))
        assert reached[0] > reached[1] + 10
        assert decibels(judge.errors({})) == 120.0, "FP32 against itself"

    def test_no_photo_to_judge_by(self, calibration: calibrate.Calibration) -> None:
        with pytest.raises(InputError, match="no photo has a side of 4000 pixels"):
            calibrate.judges_of(calibration.photos, calibrate.Goal(longest=4000))
