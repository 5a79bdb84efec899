"""ONNX Runtime's providers: which one runs, what is said where none can, and how many operations it leaves to the CPU.

With a stand-in for packages of ONNX Runtime that are not installed, and with the real library as far as it goes here.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deeplens import Refocuser
from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.runtimes import Accelerator, choice, open_runtime, ort, providers
from deeplens.runtimes.accelerator import notes, place, report
from deeplens.runtimes.contract import Arrays
from tests.support.ort_stand_in import CPU, OrtStandIn
from tests.support.small_graphs import add_graphs

CUDA, OPENVINO, WEBGPU = (providers.PROVIDERS[name].library_name for name in ("cuda", "openvino", "webgpu"))


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    add_graphs(tmp_path)
    return tmp_path


def stand_in(monkeypatch: pytest.MonkeyPatch, *built_in: str, **options: object) -> OrtStandIn:
    made = OrtStandIn(*built_in, **options)  # type: ignore[arg-type]
    monkeypatch.setattr(ort, "import_onnxruntime", lambda: made)
    return made


def opened(graphs: Path, provider: str, *, cpu_nodes: int | None = None) -> ort.OnnxRuntime:
    return ort.OnnxRuntime(artifacts=graphs, threads=2, accelerator=Accelerator(provider, cpu_nodes))


def upsample_inputs() -> Arrays:
    rng = np.random.default_rng(0)
    shapes = {"picture": (1, 3, 32, 32), "picture_high": (1, 3, 64, 64), "blurred": (1, 3, 32, 32)}
    return {
        **{name: rng.random(shape, np.float32) for name, shape in shapes.items()},
        "signed_depth": rng.random((1, 1, 32, 32), np.float32),
    }


def test_the_provider_runs_and_is_reported(monkeypatch: pytest.MonkeyPatch, graphs: Path) -> None:
    made = stand_in(monkeypatch, CUDA)
    with opened(graphs, "cuda") as runtime, opened(graphs, "cpu") as host:
        session, judge = runtime.open("upsample"), host.open("upsample")
        inputs = {each.name: upsample_inputs()[each.name] for each in session.describe().inputs}
        np.testing.assert_array_equal(session.run(inputs)["blurred_high"], judge.run(inputs)["blurred_high"])
        assert (session.lanes, judge.lanes) == (1, 2), "a GPU runs one tile after the other"
        assert (session.any_size, judge.any_size) == (False, True), "a GPU would plan each size anew"
        ran = {"upsample": session.ran}
    assert made.sessions[0]["providers"] == [(CUDA, {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}), CPU]
    assert made.sessions[1]["providers"] == [(CPU, {})]
    assert report(ran) == {
        "upsample": {"on": "cuda", "library": "onnxruntime 9.9.9", "nodes": 4, "cpu_nodes": 0},
    }
    assert place(ran) == " on cuda"
    assert notes(ran) == []


def test_operations_left_to_the_cpu_are_counted_and_limited(monkeypatch: pytest.MonkeyPatch, graphs: Path) -> None:
    stand_in(monkeypatch, OPENVINO, left=("Resize", "Mul"))
    ran = {"upsample": opened(graphs, "openvino", cpu_nodes=2).open("upsample").ran}
    assert notes(ran) == ["upsample: 2 of 4 operations run on the CPU and not on openvino (Mul, Resize)"]
    with pytest.raises(
        MismatchError, match=r"2 of 4 operations run on the CPU .*\(Mul, Resize\): at most 1 are allowed"
    ):
        opened(graphs, "openvino", cpu_nodes=1).open("upsample")


def test_a_library_that_does_not_count_is_no_proof(monkeypatch: pytest.MonkeyPatch, graphs: Path) -> None:
    stand_in(monkeypatch, OPENVINO, tells=False)
    ran = opened(graphs, "openvino").open("upsample").ran
    assert ran is not None
    assert ran.cpu_nodes is None
    with pytest.raises(MismatchError, match="does not tell which operations run on the CPU"):
        opened(graphs, "openvino", cpu_nodes=0).open("upsample")


@pytest.mark.parametrize("how", ["starts", "fails"])
def test_one_that_can_not_start_is_an_error_and_not_the_cpu(
    monkeypatch: pytest.MonkeyPatch, graphs: Path, how: str
) -> None:
    stand_in(monkeypatch, CUDA, **({"starts": ()} if how == "starts" else {"fails": (CUDA,)}))
    reason = "its libraries could not be loaded" if how == "starts" else "No such device"
    with pytest.raises(MissingError, match=f"'cuda' can't run here: it needs an NVIDIA GPU.*\\({reason}\\)$"):
        opened(graphs, "cuda").open("upsample")


def test_auto_takes_the_first_that_opens_and_stays_with_it(monkeypatch: pytest.MonkeyPatch, graphs: Path) -> None:
    monkeypatch.setattr(providers, "has_driver", lambda _name: True)
    made = stand_in(monkeypatch, CUDA, OPENVINO, WEBGPU, fails=(CUDA,))
    with opened(graphs, "auto") as runtime:
        ran = [runtime.open(network).ran for network in ("depth", "upsample")]
        assert [each.on for each in ran if each is not None] == ["openvino", "openvino"]
        assert runtime.open("upsample").lanes == 2
    assert [each["named"][0] for each in made.sessions] == [CUDA, OPENVINO, OPENVINO], "CUDA is tried once"
    monkeypatch.setattr(providers, "has_driver", lambda _name: False)
    made = stand_in(monkeypatch, CUDA)
    ran_on = opened(graphs, "auto").open("depth").ran
    assert ran_on is not None
    assert ran_on.on == "cpu"
    assert len(made.sessions) == 1, "without a driver CUDA is not tried"


class TestPlugins:
    MODULE = "onnxruntime_ep_webgpu"

    @pytest.fixture(autouse=True)
    def _module(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = SimpleNamespace(get_library_path=lambda: "x.so", __version__="1.2.3", __spec__=SimpleNamespace())
        monkeypatch.setitem(sys.modules, self.MODULE, module)
        monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", module)

    def test_it_is_registered_once_and_given_a_device(self, monkeypatch: pytest.MonkeyPatch, graphs: Path) -> None:
        made = stand_in(monkeypatch, devices={OPENVINO: 2})
        with opened(graphs, "openvino") as runtime:
            ran = [runtime.open(network).ran for network in ("depth", "upsample")]
        assert made.registered == [OPENVINO]
        assert made.sessions[0]["providers"] == []
        settings = made.sessions[1]["plugin"]
        assert json.loads(settings.pop("load_config"))["CPU"] == {
            "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2, "NUM_STREAMS": 2,
        }  # fmt: skip
        assert settings == {}, "the device is no setting of a plug-in"
        assert {each.library for each in ran if each is not None} == {
            "onnxruntime 9.9.9, onnxruntime-ep-openvino 1.2.3"
        }

    def test_one_without_a_device_says_what_it_needs(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        stand_in(monkeypatch)
        add_graphs(tmp_path)
        with pytest.raises(MissingError, match=r"onnxruntime-ep-openvino finds no device here .*: it needs an Intel"):
            opened(tmp_path, "openvino").open("depth")

    def test_one_that_is_broken_is_named(self, monkeypatch: pytest.MonkeyPatch, graphs: Path) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", SimpleNamespace(__spec__=SimpleNamespace()))
        stand_in(monkeypatch)
        with pytest.raises(MissingError, match=r"the plug-in onnxruntime-ep-openvino can't be loaded \(.*pip install"):
            opened(graphs, "openvino").open("depth")


def test_webgpu_reads_graphs_of_its_own_form(monkeypatch: pytest.MonkeyPatch, graphs: Path) -> None:
    """In the CPU's form WebGPU computes wrong pictures: it must not get these graphs."""
    stand_in(monkeypatch, WEBGPU)
    with pytest.raises(MissingError, match="onnx-webgpu"):
        opened(graphs, "webgpu").open("upsample")


def test_a_provider_has_its_own_order_of_precisions(tmp_path: Path) -> None:
    def precision_of(provider: str) -> str:
        return choice.resolved("auto", variant="edge", artifacts=tmp_path, accelerator=Accelerator(provider))[1]

    add_graphs(tmp_path)
    assert precision_of("cuda") == "fp32", "nothing else is there"
    add_graphs(tmp_path, precision="fp16")
    assert [precision_of(each) for each in ("cuda", "openvino", "auto")] == ["fp16", "fp32", "fp32"]


class TestReal:
    """The installed library."""

    @pytest.mark.parametrize("name", [each for each in providers.PROVIDERS if each != "cpu"])
    def test_each_runs_or_says_in_a_line_what_brings_it(self, graphs: Path, name: str) -> None:
        add_graphs(graphs, precision="fp16")
        said = ""
        try:
            with open_runtime("onnx", artifacts=graphs, accelerator=Accelerator(name)) as runtime:
                ran = runtime.open("depth").ran
            assert ran is not None
            assert ran.on == name
        except MissingError as error:
            said = str(error)
        package = providers.PROVIDERS[name].plugin.replace("_", "-")
        assert not said or name in said or (package and package in said)
        assert "\n" not in said

    def test_its_own_count_is_what_is_limited(self, monkeypatch: pytest.MonkeyPatch, graphs: Path) -> None:
        """The CPU package has a provider that takes none of our operations: all are left to the CPU."""
        import onnxruntime

        azure = providers.Provider("azure", "AzureExecutionProvider", "")
        if azure.library_name not in onnxruntime.get_available_providers():
            pytest.skip("this package of ONNX Runtime has not the provider that takes nothing")
        if not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
            pytest.skip("this version of ONNX Runtime does not tell what runs where")
        monkeypatch.setitem(providers.PROVIDERS, "azure", azure)
        monkeypatch.setattr(providers, "NAMES", (*providers.NAMES, "azure"))
        ran = opened(graphs, "azure").open("upsample").ran
        assert ran is not None
        assert ran.cpu_nodes == ran.nodes
        assert ran.cpu_nodes
        assert "Resize" in ran.kinds
        with pytest.raises(MismatchError, match="at most 0 are allowed"):
            opened(graphs, "azure", cpu_nodes=0).open("upsample")

    def test_openvino_gives_the_same_picture(self, graphs: Path) -> None:
        import onnxruntime

        if OPENVINO not in onnxruntime.get_available_providers():
            pytest.skip("needs the package onnxruntime-openvino in place of onnxruntime")
        photo = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
        options = {"artifacts": graphs, "variant": "edge"}
        with Refocuser(photo, provider="openvino", cpu_nodes=0, **options) as ours:  # type: ignore[arg-type]
            found = ours.refocus(focus=(0.5, 0.5)).pixels
        with Refocuser(photo, runtime="onnx", **options) as theirs:  # type: ignore[arg-type]
            expected = theirs.refocus(focus=(0.5, 0.5)).pixels
        assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("runtime", "accelerator", "said"),
    [
        ("onnx", Accelerator("nonsense"), "unknown provider 'nonsense': choose auto or cpu or cuda"),
        ("torch", Accelerator("cuda"), "--provider works with --runtime onnx only, not with torch"),
        ("onnx", Accelerator(device="cuda"), "--device works with --runtime torch only, not with onnx"),
        ("trt", Accelerator(compiled=True), "--compile works with --runtime torch only, not with trt"),
        ("auto", Accelerator("cuda", device="cuda"), "--provider belongs to the runtime onnx and --device to torch"),
        ("onnx", Accelerator(cpu_nodes=3), "give --provider too"),
        ("torch", Accelerator(device="tpu"), "unknown device 'tpu': choose cpu or cuda or mps"),
    ],
)
def test_what_makes_no_sense_is_refused(runtime: str, accelerator: Accelerator, said: str) -> None:
    with pytest.raises(InputError) as error:
        choice.resolved(runtime, variant="edge", accelerator=accelerator)
    assert said in str(error.value)


def test_a_provider_means_onnx_and_a_device_torch(graphs: Path) -> None:
    assert choice.resolved("auto", variant="edge", artifacts=graphs, accelerator=Accelerator("openvino"))[0] == "onnx"
    assert choice.resolved("auto", variant="edge", accelerator=Accelerator(device="cuda"))[0] == "torch"
