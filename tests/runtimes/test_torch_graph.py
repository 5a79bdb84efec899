"""The loop as one graph: nothing in it waits, it serves every focus, and its pixels are those of the host's loop."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deeplens.console.errors import InputError
from deeplens.model.contract import VARIANTS
from deeplens.runtimes import open_runtime, torch_graph
from deeplens.runtimes.accelerator import Accelerator
from deeplens.runtimes.depth_levels import FocalPlane
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.pytorch import TorchRuntime
from deeplens.runtimes.torch_graph import CudaGraphs, Recorded
from deeplens.runtimes.torch_loop import TorchLoop
from tests.support.fake_runtime import depth_map, photo, with_edge
from tests.support.graph_stand_in import TracedGraphs

SIZE = (330, 400)
OPEN = FocalPlane(0.0, 1.0)


@pytest.fixture(scope="module")
def runtime() -> Iterator[TorchRuntime]:
    with open_runtime("torch", threads=1) as opened:
        assert isinstance(opened, TorchRuntime)
        yield opened


def made(
    runtime: TorchRuntime, disparity: np.ndarray, pixels: np.ndarray, *, tile: int | None = None
) -> tuple[TorchLoop, TracedGraphs]:
    """A loop whose pictures are recorded, and what records them: it knows what lies on the device."""
    graphs = TracedGraphs()
    networks = {network: runtime.open(network) for network in ("lens_blur", "upsample")}
    loop = TorchLoop(networks, VARIANTS[runtime.variant], pixels, disparity, tile=tile, record=graphs)
    there: list[Tensor] = [*loop.pictures, *loop._maps, loop._planes.numbers]
    there += [loop._finest, loop._nearest] if loop._sharp_last else []
    for session in networks.values():
        there += [*session.module.parameters(), *session.module.buffers()]
    graphs.there = {each.data_ptr() for each in there}
    return loop, graphs


def assert_is_the_hosts(
    runtime: TorchRuntime, loop: TorchLoop, disparity: np.ndarray, pixels: np.ndarray, plane: FocalPlane
) -> None:
    with with_edge(soft_radius=None, soft_bound=None):
        host = Harness(runtime, tile=None, loop="host").photo(pixels, disparity)
        due = host.refocus(
            focal_disparity=plane.focal_disparity, aperture=plane.aperture, focus_range=plane.focus_range
        )
    found = loop.picture(plane, loop.levels.steps)
    assert found.dtype == pixels.dtype
    off = np.abs(found.astype(int) - due)
    assert off.max() <= 1
    assert (off == 0).mean() > 0.999
    assert np.abs(due.astype(int) - pixels).max() > 20, "the control: something is blurred"


@pytest.mark.slow
def test_one_graph_serves_every_focus_and_aperture_of_its_kind(runtime: TorchRuntime) -> None:
    """It was traced with the first plane: with a number of that in it, the others would come out wrong."""
    pixels, disparity = photo(*SIZE), depth_map(60, 73)
    loop, graphs = made(runtime, disparity, pixels)
    loop.picture(OPEN, loop.levels.steps)
    assert graphs.made == [], "a picture that comes once is not recorded"
    for focal, aperture in ((0.0, 1.0), (1.0, 1.0), (0.02, 0.99)):
        assert_is_the_hosts(runtime, loop, disparity, pixels, FocalPlane(focal, aperture))
    assert len(graphs.made) == 1
    assert graphs.launched == 3
    assert loop.held_bytes == sum(each.nbytes for each in (*loop.pictures, *loop._maps)) + graphs.held_bytes
    assert graphs.operations()["aten.convolution.default"] > 20, "the control: the networks are in it"


@pytest.mark.slow
def test_the_device_is_not_asked_for_its_memory_while_it_records(
    runtime: TorchRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, graphs = made(runtime, depth_map(60, 73), photo(*SIZE))
    loop.picture(OPEN, loop.levels.steps)
    monkeypatch.setattr("deeplens.runtimes.torch_loop.room", lambda device: pytest.fail(f"{device} is asked"))
    loop.picture(FocalPlane(1.0, 1.0), loop.levels.steps)
    assert len(graphs.made) == 1


@pytest.mark.slow
def test_a_range_in_focus_is_its_own_kind_and_reads_nothing_back(runtime: TorchRuntime) -> None:
    """How level 1 is made depends on the depth: in the graph it is made in both ways and mixed; no value is read."""
    pixels, disparity = photo(*SIZE), depth_map(60, 73)
    loop, graphs = made(runtime, disparity, pixels)
    loop._read = lambda numbers: pytest.fail(f"{numbers} are read")  # type: ignore[method-assign]
    loop.picture(FocalPlane(0.0, 1.0, 0.1), loop.levels.steps)
    for plane in (FocalPlane(0.0, 1.0, 0.1), FocalPlane(0.9, 0.9, 0.3)):
        assert_is_the_hosts(runtime, loop, disparity, pixels, plane)
    # so little blur that the host begins at level 1, without the base
    assert_is_the_hosts(runtime, loop, disparity, pixels, FocalPlane(0.0, 0.4, 0.05))
    assert len(graphs.made) == 1
    assert graphs.launched == 3


@pytest.mark.slow
def test_a_map_as_fine_as_the_photo_and_tiles_are_recorded_too(runtime: TorchRuntime) -> None:
    pixels, disparity = photo(330, 400), depth_map(330, 400)
    disparity[:, 200:] = 0.401  # hardly out of focus
    loop, graphs = made(runtime, disparity, pixels, tile=144)
    assert loop._sharp_last == 1, "the control: the map is asked again"
    loop.picture(FocalPlane(1.0, 1.0), loop.levels.steps)
    assert_is_the_hosts(runtime, loop, disparity, pixels, OPEN)
    assert graphs.launched == 1


def test_a_preview_goes_on_level_by_level_and_is_not_recorded(runtime: TorchRuntime) -> None:
    loop, graphs = made(runtime, depth_map(60, 73), photo(*SIZE))
    for _ in range(2):
        for level in range(loop.levels.steps + 1):
            loop.picture(OPEN, level)
    assert graphs.made == []
    seen: list[float] = []
    for _ in range(2):
        loop.picture(FocalPlane(0.1, 1.0), loop.levels.steps, seen.append)
    assert len(graphs.made) == 1
    assert seen == [1.0, 1.0], "a graph has no moment between two levels"


@contextmanager
def told() -> Iterator[list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        said: list[str] = []
        yield said
        said += [str(each.message) for each in caught]


@pytest.mark.parametrize(
    ("work", "why"),
    [
        (lambda x: x * x.sum().item(), "_local_scalar_dense"),
        (lambda x: x if x.sum() > 0 else -x, "data-dependent|bool|value|is_nonzero"),
        (lambda x: x + torch.tensor([1.0, 2.0]), "lift_fresh|does not lie"),
        (lambda x: x[x > 0], "nonzero"),
    ],
)
def test_what_would_wait_for_the_gpu_is_found_and_said(work: Callable[[Tensor], Tensor], why: str) -> None:
    """The control of the stand-in, and what a user sees where a recording fails: the picture, and one line."""
    x = torch.tensor([3.0, 1.0])
    recorded = Recorded(TracedGraphs([x]))
    with told() as said:
        results = [recorded.run("kind", lambda: work(x)) for _ in range(4)]
    assert len(said) == 1
    assert said[0].startswith("the loop runs without a CUDA graph: PyTorch can't record it (")
    with pytest.raises(RuntimeError, match=f"(?i){why}"):
        TracedGraphs([x])(lambda: work(x))
    assert all(torch.equal(each, work(x)) for each in results)
    assert recorded.count == 0


class Cuda:
    """`torch.cuda` as far as `CudaGraphs` uses it. A recording that fails leaves its stream current, as there."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.now = "usual"
        self.recording = False
        self.fails = False
        self.streams = 0
        cuda = self

        class Stream:
            def __init__(self, name: str = "own") -> None:
                cuda.streams += name == "own"
                self.name = name

            def wait_stream(self, other: "Stream") -> None:
                cuda.log.append(f"{self.name} waits for {other.name}")

        class CUDAGraph:
            def pool(self) -> tuple[int, int]:
                return (0, 1)

            def replay(self) -> None:
                cuda.log.append(f"replay on {cuda.now}")

        @contextmanager
        def stream(which: Stream) -> Iterator[None]:
            before, cuda.now = cuda.now, which.name
            try:
                yield
            finally:
                cuda.now = before

        @contextmanager
        def graph(_graph: CUDAGraph, *, pool: object, stream: Stream, capture_error_mode: str) -> Iterator[None]:
            cuda.log.append(f"record, pool {pool}, {capture_error_mode}")
            cuda.now, cuda.recording = f"{stream.name}, recorded", True
            try:
                yield
            finally:
                cuda.recording = False
            if cuda.fails:
                raise RuntimeError("operation not permitted when stream is capturing")
            cuda.now = stream.name

        self.Stream, self.CUDAGraph, self.stream, self.graph = Stream, CUDAGraph, stream, graph
        self.empty_cache = lambda: None
        self.memory_reserved = lambda: 700 * sum("record, " in each for each in self.log)
        self.current_stream = lambda: Stream(self.now)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    made = Cuda()
    monkeypatch.setattr(torch_graph, "torch", SimpleNamespace(cuda=made))
    return made


def test_cuda_is_called_in_the_order_that_pytorch_asks_for(cuda: Cuda) -> None:
    def work() -> Any:
        cuda.log.append(f"work on {cuda.now}")
        return len(cuda.log)

    graphs = CudaGraphs()
    again = graphs(work)
    assert cuda.log == [
        "own waits for usual", "work on own", "record, pool None, thread_local", "work on own, recorded",
        "usual waits for own",
    ]  # fmt: skip
    assert [int(again()) for _ in range(2)] == [4, 4], "the output of what was recorded"
    assert cuda.log[-2:] == ["replay on usual"] * 2
    cuda.log.clear()
    graphs(work)
    assert "record, pool (0, 1), thread_local" in cuda.log, "graphs of one photo share their memory"
    assert cuda.streams == 1, "else the memory that one has freed is not the other's to take"
    assert graphs.held_bytes > 0


def test_after_a_recording_that_failed_the_usual_stream_is_current(cuda: Cuda) -> None:
    cuda.fails = True
    recorded: Any = Recorded(CudaGraphs())
    with told() as said:
        assert [recorded.run("kind", lambda: cuda.now) for _ in range(3)] == ["usual"] * 3
    assert len(said) == 1
    assert "not permitted" in said[0]


def test_it_is_asked_for_by_name_and_needs_the_gpu() -> None:
    with pytest.raises(InputError, match="--cuda-graph needs an NVIDIA GPU: give --device cuda, not cpu"):
        open_runtime("torch", accelerator=Accelerator(cuda_graph=True))
    with pytest.raises(InputError, match="--cuda-graph works with --runtime torch only"):
        open_runtime("onnx", accelerator=Accelerator(cuda_graph=True))


@pytest.mark.slow
def test_fp32_is_fp32_also_where_the_environment_says_tf32() -> None:
    """NVIDIA's containers set the variable. In a process of its own: PyTorch reads it once."""
    import os
    import subprocess
    import sys

    code = """
import torch
from deeplens.runtimes.pytorch import _exact_float32
torch.cuda.is_available = lambda: True
cuda = torch.backends.cuda.matmul
def told(): return [torch.backends.cudnn.conv.fp32_precision, cuda.fp32_precision, cuda.allow_tf32,
                    torch.backends.mkldnn.matmul.fp32_precision]
before = told()
with _exact_float32():
    within = told()
assert "tf32" not in within[:2] and within[2] is False, within
assert told() == before, (before, told())
print(before)
"""
    environment = {**os.environ, "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(", ")[0] == "['tf32'", "the control: PyTorch's own choice for convolutions"
    assert "'tf32', True" in done.stdout, "the control: the variable works"
