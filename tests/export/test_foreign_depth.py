"""Depth networks of others through every exporter: two vision transformers, a user's ONNX file, and our own network."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.export import foreign_depth, golden
from deeplens.export.foreign_depth import foreign
from deeplens.export.onnx_check import random_inputs
from deeplens.model.contract import composed
from deeplens.parity_tests.candidates import candidates
from deeplens.parity_tests.cases import NetworkCase
from deeplens.parity_tests.compare import compare
from deeplens.parity_tests.produce import TorchKind, produce, torch_opener
from deeplens.runtimes import depth_store, manifest
from deeplens.runtimes.fit import Fit
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.manifest_entry import FIT
from deeplens.runtimes.ort import OnnxRuntime
from tests.conftest import Command
from tests.support.tiny import textured

pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

FAMILIES = ("vit-anything", "vit-dpt")


@dataclass(frozen=True)
class Exported:
    """A network of each kind in a user's folder, and its artefacts."""

    store: Path
    out: Path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Both vision transformers as ONNX and Core ML, in FP32 and FP16, with an engine."""
    from deeplens.app import main
    from tests.support.tiny_depth import depth_anything, dpt

    root = tmp_path_factory.mktemp("foreign")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(depth_store.ENVIRONMENT, str(root / "store"))
        depth_anything(root / "a")
        dpt(root / "b")
        out = str(root / "out")
        for name, folder, *told in ((FAMILIES[0], "a"), (FAMILIES[1], "b", "--output", "disparity")):
            assert main(["depth", "add", name, "--from", str(root / folder), *told]) == 0
            named = ["--depth-network", name, "--out", out]
            assert main(["export", "onnx", *named, "--precision", "fp16"]) == 0
            assert main(["export", "onnx", *named, "--form", "openvino"]) == 0
            system = "iOS17" if folder == "a" else "iOS18"  # their converters have other passes
            assert main(["export", "coreml", *named, "--precision", "fp32", "--precision", "fp16", "--target",
                         system]) == 0  # fmt: skip
            assert main(["export", "trt", *named, "--target", "rtx", "--compute-capability", "8.9"]) == 0
    return Exported(root / "store", root / "out")


@pytest.fixture(autouse=True)
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = "exported" not in request.fixturenames
    path = tmp_path / "store" if own else request.getfixturevalue("exported").store
    monkeypatch.setenv(depth_store.ENVIRONMENT, str(path))


@pytest.mark.parametrize("name", FAMILIES)
class TestVisionTransformers:
    def test_every_runtime_computes_the_same(self, exported: Exported, name: str) -> None:
        """The parity table of the network, with limits from its own rounding; each way of rounding is there."""
        other = foreign(name)
        case = NetworkCase("depth", "random", "fixed", other.size, random_inputs(other.contract, other.size, RNG()))
        kinds: tuple[TorchKind, ...] = ("float32", "float64", "float16")
        reference, judge, half = (
            produce(torch_opener(name, weights="shipped", fixed_size=other.size, dtype=kind), [case]) for kind in kinds
        )
        rows = []
        for each in candidates(("torch", "onnx", "openvino", "coreml"), ("fp32", "fp16")):
            opener = each.opener(name, artifacts=exported.out, weights="shipped", fixed_size=other.size)
            made = produce(opener, [case])
            rows += compare(name, each.label, [case], candidate=made, reference=reference, judge=judge,
                            half=None if each.rounding == "fp32" else half, precision=each.rounding)  # fmt: skip
        assert {row.status for row in rows} == {"passed"}, [(row.runtime, row.status, row.note) for row in rows]
        assert len(rows) == 7

    def test_a_changed_weight_is_seen(self, exported: Exported, name: str) -> None:
        """The check that an export makes fails for another network: one weight of an attention, 2 % off."""
        from deeplens.export import onnx_check

        other = foreign(name)
        entry = manifest.find(exported.out, network="depth", variant=name, runtime="onnx")
        path = manifest.verify(exported.out, entry)
        onnx_check.compare(path, other.module, other.contract, sizes=[other.size], margin=foreign_depth.MARGIN)
        with torch.no_grad():
            next(each for key, each in other.module.named_parameters() if "attention" in key).view(-1)[0] += 0.02
        with pytest.raises(MismatchError, match="differ by"):
            onnx_check.compare(path, other.module, other.contract, sizes=[other.size], margin=foreign_depth.MARGIN)

    def test_graphs_are_of_standard_operations(self, exported: Exported, name: str) -> None:
        """Neither bicubic interpolation, nor tests for NaN, nor ONNX Runtime's own attention is left."""
        import onnx

        for precision in ("fp32", "fp16"):
            entry = manifest.find(exported.out, network="depth", variant=name, runtime="onnx", precision=precision)
            model = onnx.load(exported.out / entry.path)
            kinds = {node.op_type for node in model.graph.node}
            assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
            assert not kinds & {"IsNaN", "Where", "BatchNormalization"}
            modes = {each.s for node in model.graph.node for each in node.attribute if each.name == "mode"}
            assert b"cubic" not in modes

    def test_operations_are_paired_with_pytorch_when_locating(self, exported: Exported, name: str) -> None:
        """Names are those of what the exporter traced; a wrong pairing would be a departure of another shape."""
        from deeplens.parity_tests.locate.program import judge_program
        from deeplens.parity_tests.locate.reference import Reference
        from deeplens.runtimes.coreml.program import load

        other = foreign(name)
        feed = random_inputs(other.contract, other.size, RNG())
        reference = Reference.of(other.fixed, other.contract, feed, size=other.size, precision="fp16")
        more = {"shapes": "fixed", "images": []}
        entry = manifest.find(
            exported.out, network="depth", variant=name, runtime="coreml", precision="fp16", more=more
        )
        verdict = judge_program(load(exported.out / entry.path), feed, reference, mode="fp16")
        assert verdict.departure is None, str(verdict)

    def test_its_transposed_convolutions_have_a_form_for_webgpu(self, exported: Exported, name: str) -> None:
        import onnx

        from deeplens.export.fp16_check import session
        from deeplens.export.onnx_forms import in_form

        entry = manifest.find(exported.out, network="depth", variant=name, runtime="onnx")
        model = onnx.load(exported.out / entry.path)
        assert "ConvTranspose" in {node.op_type for node in model.graph.node}
        made = in_form(model, "webgpu")
        assert "ConvTranspose" not in {node.op_type for node in made.graph.node}
        other = foreign(name)
        feed = random_inputs(other.contract, other.size, RNG())
        (due,), (found,) = (session(each).run(None, feed) for each in (model, made))
        np.testing.assert_allclose(found, due, rtol=0, atol=1e-5 * np.ptp(due))

    def test_gates_and_entries(self, exported: Exported, name: str) -> None:
        found = [each for each in manifest.read(exported.out) if each.variant == name]
        kinds = {(each.runtime, each.precision) for each in found}
        assert kinds == {
            *(("onnx", "fp32"), ("onnx", "fp16"), ("onnx-openvino", "fp32")),
            *(("coreml", "fp32"), ("coreml", "fp16"), ("trt", "fp16")),
        }
        card = depth_store.find(name).card
        described = json.loads((exported.out / manifest.FILE_NAME).read_text())["artifacts"]
        meanings = {each["inputs"][0]["meaning"] for each in described if each["variant"] == name}
        assert [("aspect kept" in each) for each in meanings] == [card.aspect == "keep"]
        for entry in found:
            fit = Fit.from_json(entry.more[FIT])
            assert (fit.size, fit.aspect, fit.native) == (card.size, card.aspect, False)
            assert entry.size == card.size
        decibels = {each.precision: each.more["agreement_db"] for each in found if each.runtime == "coreml"}
        assert decibels["fp32"] > golden.GATES["fp32"]
        assert decibels["fp16"] > golden.GATES["fp16"]

    def test_the_harness_frames_a_photo_alike(self, exported: Exported, name: str) -> None:
        from deeplens.runtimes.pytorch import TorchRuntime

        pixels = textured(60, 100, seed=4)
        maps = []
        for runtime in (OnnxRuntime(variant=name, artifacts=exported.out), TorchRuntime(variant=name, native=False)):
            with runtime:
                harness = Harness.__new__(Harness)  # a harness needs all networks' halos: a bare name has one network
                harness._runtime = runtime
                maps.append(harness.disparity(pixels))
        np.testing.assert_allclose(maps[0], maps[1], atol=1e-4)
        assert maps[0].shape[1] / maps[0].shape[0] == pytest.approx(100 / 60, rel=0.02)


def RNG() -> np.random.Generator:  # noqa: N802  # as NumPy's own
    return np.random.default_rng(5)


class TestNames:
    @pytest.mark.parametrize("command", ["onnx", "coreml", "trt"])
    def test_options_that_do_not_go_with_it(self, deeplens: Command, tmp_path: Path, command: str) -> None:
        wrong = deeplens("export", command, "--depth-network", "x", "--network", "depth", "--out", tmp_path / "o")
        assert wrong.status == InputError.exit_code
        assert "--network does not go with --depth-network" in wrong.error
        missing = deeplens("export", command, "--depth-network", "depth-pro", "--out", tmp_path / "o")
        assert missing.status == MissingError.exit_code
        assert "run `deeplens depth add depth-pro`" in missing.error

    def test_golden_vectors_by_name(self, exported: Exported, deeplens: Command, tmp_path: Path) -> None:
        folder = tmp_path / "golden"
        assert deeplens("golden", "--depth-network", FAMILIES[0], "--out", folder).status == 0
        assert [path.name for path in folder.glob("*.json")] == [f"{FAMILIES[0]}_depth_70x70.json"]
        checked = deeplens(
            "golden", "--check", folder, "--depth-network", FAMILIES[0], "--runtime", "onnx", "--precision", "fp32",
            "--artifacts", exported.out,
        )  # fmt: skip
        assert checked.status == 0, checked.err
        assert "passed" in checked.out
        none = deeplens("golden", "--check", folder, "--depth-network", FAMILIES[1], "--artifacts", exported.out)
        assert f"make them with `deeplens golden --depth-network {FAMILIES[1]} --out" in none.error


class TestFile:
    """A user's ONNX file: the artefact has all that the file leaves out in its graph."""

    @pytest.mark.parametrize(
        "kind", ["normalised", "swapped", "half", "bytes", "last", "second output", "depth"]
    )  # what is special about it
    def test_the_artefact_is_the_file(self, deeplens: Command, tmp_path: Path, kind: str) -> None:
        from onnx import TensorProto

        from tests.runtimes.test_depth_model import write_model

        more: dict = {
            "half": {"dtype": TensorProto.FLOAT16}, "bytes": {"dtype": TensorProto.UINT8},
        }.get(kind, {})  # fmt: skip
        if kind == "last":
            more = {"shape": (1, "h", "w", 3), "axis": 3}
        told = ["--output", "depth" if kind == "depth" else "disparity", "--size", "40x24", "--aspect", "keep",
                "--multiple", "8"]  # fmt: skip
        if kind not in ("bytes", "half"):
            told += ["--mean", "-0.5,-0.4,-0.3", "--std", "0.2,0.3,0.4"]
        told += ["--channels", "bgr"] if kind == "swapped" else []
        if kind == "second output":
            more = {"outputs": 2}
            told += ["--output-name", "map1"]
        path = write_model(tmp_path / "m.onnx", **more)
        assert deeplens("depth", "add", "mine", "--from", path, *told).status == 0
        precision = "fp16" if kind == "swapped" else "fp32"
        result = deeplens(
            "export", "onnx", "--depth-network", "mine", "--out", tmp_path / "out", "--precision", precision
        )
        assert result.status == 0, result.err
        entry = manifest.find(tmp_path / "out", network="depth", variant="mine", runtime="onnx")
        assert [(each.name, each.shape, each.dtype) for each in entry.inputs] == [
            ("picture", (1, 3, 24, 40), "float32")
        ]
        session = OnnxRuntime(variant="mine", artifacts=tmp_path / "out").open("depth")
        from deeplens.runtimes.depth_file import open_file

        picture = np.random.default_rng(0).random((1, 3, 24, 40), np.float32)
        expected = open_file("mine").run({"picture": picture})["disparity"]
        tolerance = 2e-3 if kind == "half" else 1e-5
        np.testing.assert_allclose(
            session.run({"picture": picture})["disparity"], expected, atol=tolerance * np.ptp(expected)
        )

    def test_it_has_no_form_for_core_ml(self, deeplens: Command, tmp_path: Path) -> None:
        from tests.runtimes.test_depth_model import write_model

        told = ("--output", "disparity", "--size", "40x24", "--aspect", "stretch")
        assert deeplens("depth", "add", "mine", "--from", write_model(tmp_path / "m.onnx"), *told).status == 0
        result = deeplens("export", "coreml", "--depth-network", "mine", "--out", tmp_path / "out")
        assert result.status == MissingError.exit_code
        assert "PyTorch weights as another network" in result.error


class TestOurOwn:
    def test_our_network_as_a_users_file_goes_all_the_way(self, deeplens: Command, tmp_path: Path) -> None:
        """The shipped depth network, brought as a file of weights: the same map, packages, engine and picture."""
        from PIL import Image

        from deeplens.model.build import load
        from deeplens.model.shipped import WEIGHTS

        told = ("--module", "deeplens.model.depth:EdgeDepth", "--aspect", "stretch", "--mean", "0", "--std", "1",
                "--output", "disparity", "--licence", "MIT", "--replace")  # fmt: skip
        weights = WEIGHTS / "edge_depth.safetensors"
        assert deeplens("depth", "add", "ours", "--from", weights, "--size", "320x320", *told).status == 0
        Image.fromarray(textured(64, 96, seed=1)).save(tmp_path / "photo.png")
        written: list[np.ndarray] = []
        for more in ((), ("--depth-network", "ours")):
            target = tmp_path / f"{len(written)}.png"
            result = deeplens(
                "refocus", tmp_path / "photo.png", "--focus", "0.5,0.5", "--runtime", "torch", "-o", target, *more
            )
            assert result.status == 0, result.err
            written.append(np.asarray(Image.open(target)).astype(int))
        assert np.abs(written[0] - written[1]).max() <= 1
        # Its artefacts at a smaller size, which the check of each export runs sooner.
        assert deeplens("depth", "add", "ours", "--from", weights, "--size", "192x192", *told).status == 0
        out = tmp_path / "out"
        for command in (("onnx",), ("coreml", "--target", "iOS17"),
                        ("trt", "--target", "rtx", "--compute-capability", "8.9", "--precision", "fp32")):  # fmt: skip
            result = deeplens("export", *command, "--depth-network", "ours", "--out", out)
            assert result.status == 0, result.err
        picture = np.random.default_rng(0).random((1, 3, 192, 192), np.float32)
        with torch.inference_mode():
            expected = load("edge", "depth")(torch.from_numpy(picture)).numpy()
        found = OnnxRuntime(variant="ours", artifacts=out).open("depth").run({"picture": picture})["disparity"]
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.ptp(expected))


@pytest.mark.parametrize(("kind", "output"), [("depth_pro", "disparity"), ("zoedepth", "depth")])
def test_other_families_are_frozen(deeplens: Command, tmp_path: Path, kind: str, output: str) -> None:
    """Depth Pro cuts its picture into patches, ZoeDepth gives metres by bins: what the exporters get is the same."""
    from deeplens.export.onnx_check import own_rounding
    from tests.support import tiny_depth

    folder = getattr(tiny_depth, kind)(tmp_path / "net")
    assert deeplens("depth", "add", "other", "--from", folder).status == 0
    other = foreign("other")
    assert other.card.output == output
    feed = random_inputs(other.contract, other.size, RNG())
    with torch.inference_mode():
        expected, found = (each(torch.from_numpy(feed["picture"])).numpy() for each in (other.module, other.fixed))
    limit = max(1e-5 * np.ptp(expected), foreign_depth.MARGIN * own_rounding(other.module, feed))
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit)
    assert isinstance(other.fixed, torch.fx.GraphModule)
    operations = {str(node.target) for node in other.fixed.graph.nodes}
    assert not [each for each in operations if "bicubic" in each or "reciprocal" in each]


def test_composed_variants_find_the_artefact(exported: Exported) -> None:
    runtime = OnnxRuntime(variant=composed("edge", FAMILIES[0]), artifacts=exported.out)
    assert runtime.open("depth").entry.variant == FAMILIES[0]
    with pytest.raises(MissingError, match="export onnx --variant edge"):
        runtime.open("lens_blur")
