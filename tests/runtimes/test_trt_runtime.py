"""The TensorRT runtime's own logic, on stand-ins of CUDA and TensorRT that refuse wrong order, addresses and sizes."""

import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.files import file_sha256
from deeplens.model.contract import CONTRACTS
from deeplens.runtimes import manifest, trust
from deeplens.runtimes.engine_key import Profile
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.ort import OnnxRuntime
from deeplens.runtimes.trt import TrtRuntime
from tests.support.cuda_stand_in import Cudart, Status
from tests.support.trt_engines import LEVEL, OTHER, PROFILES, add_engine, inputs_of, runtime_of
from tests.support.trt_networks import compute
from tests.support.trt_stand_in import BINDINGS, TensorRtStandIn, engine_bytes

CLASSIC = [name for name in BINDINGS if name.startswith("tensorrt ")]
FOR_RTX = [name for name in BINDINGS if name.startswith("tensorrt_rtx ")]

Opened = Callable[..., TrtRuntime]


@pytest.fixture
def cudart() -> Cudart:
    return Cudart()


@pytest.fixture(params=sorted(BINDINGS))
def module(request: pytest.FixtureRequest, cudart: Cudart) -> TensorRtStandIn:
    return TensorRtStandIn(request.param, cudart)


@pytest.fixture
def opened(tmp_path: Path, module: TensorRtStandIn) -> Opened:
    """A runtime on engines of all networks."""

    def open_runtime(**options: object) -> TrtRuntime:
        for network in CONTRACTS:
            add_engine(tmp_path, network, module)
        return runtime_of(tmp_path, module, **options)

    return open_runtime


def test_a_photo_comes_out_as_with_onnx_runtime(opened: Opened, artifacts: Path, cudart: Cudart) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (360, 300, 3), dtype=np.uint8)
    with opened() as ours, OnnxRuntime(artifacts=artifacts) as theirs:
        results = []
        for runtime in (ours, theirs):
            harness = Harness(runtime)
            disparity = harness.disparity(pixels)
            results.append(harness.refocus(pixels, disparity, focal_disparity=0.4, aperture=1.0))
    assert np.abs(results[0].astype(int) - results[1]).max() <= 1
    assert (results[0] != results[1]).mean() < 1e-4
    assert cudart.nothing_held


def test_the_static_profile_goes_before_the_fallback(opened: Opened, module: TensorRtStandIn) -> None:
    with opened(in_flight=1) as runtime:
        session = runtime.open("upsample")
        lane = session.opened[0]
        for size, profile in ((LEVEL, 0), (OTHER, 1), ((32, 256), 1), (LEVEL, 0)):
            inputs = inputs_of(size)
            np.testing.assert_array_equal(session.run(inputs)["blurred_high"], compute("upsample", inputs))
            assert profile in lane.levels
        assert sum(line.startswith("context") for line in module.log) == 2  # one for each profile, made once


def test_outputs_are_allocated_once_and_belong_to_the_caller(opened: Opened, cudart: Cudart) -> None:
    with opened(in_flight=1) as runtime:
        session = runtime.open("upsample")
        first = session.run(inputs_of())["blurred_high"]
        before, allocations = first.copy(), (cudart.count("cudaMalloc"), cudart.count("cudaHostAlloc"))
        for seed in range(1, 5):
            session.run(inputs_of(seed=seed))
        np.testing.assert_array_equal(first, before)
        assert allocations == (5, 5)  # four inputs and an output
        assert (cudart.count("cudaMalloc"), cudart.count("cudaHostAlloc")) == allocations


def test_copies_and_network_are_in_order_on_one_stream(opened: Opened, cudart: Cudart) -> None:
    with opened(in_flight=1, graphs=False) as runtime:
        runtime.open("upsample").run(inputs_of())
    assert cudart.done == ["profile", *["copy in"] * 4, "execute", "copy out"]


def test_the_time_of_the_network_alone_is_told(opened: Opened) -> None:
    """The stand-in's operations take a millisecond each: four copies in, the network, a copy out."""
    with opened() as runtime:
        session = runtime.open("upsample")
        for _ in range(3):  # the second run is recorded as a graph, the third launches it
            session.run(inputs_of(LEVEL))
            assert session.device_seconds == pytest.approx(1e-3)


@pytest.mark.parametrize("module", CLASSIC, indirect=True)
def test_a_graph_is_recorded_for_the_second_run_and_again_when_shape_or_address_change(
    opened: Opened, cudart: Cudart
) -> None:
    with opened(in_flight=1) as runtime:
        session = runtime.open("upsample")

        def run(size: tuple[int, int]) -> str:
            cudart.done.clear()
            inputs = inputs_of(size, seed=len(cudart.calls))
            np.testing.assert_array_equal(session.run(inputs)["blurred_high"], compute("upsample", inputs))
            return next(name for name in cudart.done if name.endswith("execute"))

        graph, plain = "graph: execute", "execute"
        assert [run(OTHER) for _ in range(4)] == [plain, graph, graph, graph]
        assert cudart.count("cudaGraphInstantiate") == 1
        assert [run((48, 40)) for _ in range(3)] == [plain, graph, graph]  # smaller: another shape, the same addresses
        assert [run((128, 96)) for _ in range(3)] == [plain, graph, graph]  # larger: other addresses
        assert cudart.count("cudaGraphInstantiate") == 3
        assert [run(LEVEL) for _ in range(2)] == [plain, graph]  # another level keeps the graph of the first
        assert run((128, 96)) == graph
        assert cudart.count("cudaGraphInstantiate") == cudart.count("cudaGraphExecDestroy") + 2
    assert cudart.nothing_held


@pytest.mark.parametrize("module", FOR_RTX, indirect=True)
def test_rtx_gets_its_own_graphs(opened: Opened, module: TensorRtStandIn, cudart: Cudart) -> None:
    for graphs, strategy in ((True, "WHOLE_GRAPH_CAPTURE"), (False, "DISABLED")):
        with opened(in_flight=1, graphs=graphs) as runtime:
            for _ in range(3):
                runtime.open("upsample").run(inputs_of())
        assert module.log[-1] == f"context CudaGraphStrategy.{strategy}"
    assert cudart.count("cudaStreamBeginCapture") == 0


@pytest.mark.parametrize("module", CLASSIC, indirect=True)
def test_where_no_graph_can_be_recorded_runs_stay_right(opened: Opened, cudart: Cudart) -> None:
    cudart.fail["cudaGraphInstantiate"] = Status.cudaErrorInvalidValue
    inputs = inputs_of()
    with opened(in_flight=1) as runtime:
        session = runtime.open("upsample")
        session.run(inputs)
        with pytest.warns(UserWarning, match="upsample runs without a CUDA graph"):
            second = session.run(inputs)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it warns once
            third = session.run(inputs)
        for result in (second, third):
            np.testing.assert_array_equal(result["blurred_high"], compute("upsample", inputs))
    assert cudart.nothing_held


def test_several_runs_in_flight(opened: Opened) -> None:
    with opened(in_flight=3) as runtime:
        session = runtime.open("upsample")
        everything = [inputs_of(size, seed=seed) for seed, size in enumerate((LEVEL, OTHER, LEVEL))]
        pending = [session.submit({name: array.copy() for name, array in inputs.items()}) for inputs in everything]
        with pytest.raises(InputError, match="3 runs are in progress: take a result first"):
            session.submit(everything[0])
        for inputs, run in reversed(list(zip(everything, pending, strict=True))):
            np.testing.assert_array_equal(run.result()["blurred_high"], compute("upsample", inputs))
        with pytest.raises(InputError, match="was already taken"):
            pending[0].result()
        addresses = [buffer.address for lane in session.opened for level in lane.levels.values()
                     for buffer in level.device.values()]  # fmt: skip
        assert len(set(addresses)) == len(addresses)


def test_inputs_may_change_once_a_run_has_begun(opened: Opened) -> None:
    with opened() as runtime:
        inputs = inputs_of()
        expected = compute("upsample", inputs)
        pending = runtime.open("upsample").submit(inputs)
        for array in inputs.values():
            array[:] = 0
        np.testing.assert_array_equal(pending.result()["blurred_high"], expected)


def test_threads_share_a_session(opened: Opened) -> None:
    with opened(in_flight=2) as runtime:
        session = runtime.open("lens_blur")
        wrong: list[int] = []

        def work(seed: int) -> None:
            for step in range(5):
                inputs = inputs_of(network="lens_blur", seed=10 * seed + step)
                if not np.array_equal(session.run(inputs)["blurred"], compute("lens_blur", inputs)):
                    wrong.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert wrong == []


def test_closing_waits_and_frees_everything(opened: Opened, cudart: Cudart) -> None:
    runtime = opened()
    session = runtime.open("upsample")
    session.run(inputs_of())
    pending = session.submit(inputs_of())
    runtime.close()
    assert cudart.nothing_held
    with pytest.raises(InputError, match="closed"):
        pending.result()
    with pytest.raises(InputError, match="closed"):
        session.run(inputs_of())


def test_a_size_that_no_profile_holds_names_the_command(tmp_path: Path, module: TensorRtStandIn) -> None:
    add_engine(tmp_path, "upsample", module, profiles=(Profile.static(LEVEL), Profile.static(OTHER)))
    add_engine(tmp_path, "lens_blur", module, profiles=(Profile.static(LEVEL),))
    with runtime_of(tmp_path, module) as runtime:
        with pytest.raises(
            InputError, match=r"takes 40x48, 64x56, not 48x48: rebuild it with --size 48x48 beside `deep"
        ):
            runtime.open("upsample").run(inputs_of((48, 48)))
        # One static profile is a fixed size: the harness cuts its tiles so.
        assert runtime.open("lens_blur").describe() == replace(CONTRACTS["lens_blur"], fixed_size=LEVEL)
        assert runtime.open("upsample").describe() == CONTRACTS["upsample"]


def test_half_precision_inputs_and_outputs(tmp_path: Path, module: TensorRtStandIn) -> None:
    entry = add_engine(tmp_path, "upsample", module)
    path = tmp_path / entry.path
    path.write_bytes(engine_bytes("upsample", PROFILES, dtype="float16"))
    manifest.add(tmp_path, replace(entry, sha256=file_sha256(path)))
    trust.remember_engine(file_sha256(path))
    inputs = inputs_of()
    with runtime_of(tmp_path, module) as runtime:
        found = runtime.open("upsample").run(inputs)["blurred_high"]
    assert found.dtype == np.float32
    assert 0 < np.abs(found - compute("upsample", inputs)).max() < 2e-3


def test_out_of_gpu_memory_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    module = TensorRtStandIn("tensorrt 10.3.0", Cudart(memory=200_000))
    add_engine(tmp_path, "upsample", module)
    with runtime_of(tmp_path, module, in_flight=1) as runtime:
        session = runtime.open("upsample")
        with pytest.raises(MemoryError, match="out of GPU memory"):
            session.run(inputs_of((128, 128)))
        inputs = inputs_of((32, 32))
        np.testing.assert_array_equal(session.run(inputs)["blurred_high"], compute("upsample", inputs))


def test_a_failed_run_frees_its_lane(opened: Opened, module: TensorRtStandIn) -> None:
    with opened(in_flight=1) as runtime:
        session = runtime.open("upsample")
        module.fail = "execute"
        for _ in range(2):
            with pytest.raises(MismatchError, match="can't run the engine"):
                session.run(inputs_of())
        module.fail = ""
        inputs = inputs_of()
        np.testing.assert_array_equal(session.run(inputs)["blurred_high"], compute("upsample", inputs))


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "cuda.bindings"):  # as if they were installed
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(runtime=Cudart(gpus=0)))
    with pytest.raises(MissingError, match=r"no NVIDIA GPU .*cudaErrorInsufficientDriver.*or use --runtime onnx"):
        TrtRuntime()


def test_without_the_bindings_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingError, match=r"CUDA's Python bindings .*deeplens-edge\[tensorrt\].*--runtime onnx"):
        TrtRuntime()
