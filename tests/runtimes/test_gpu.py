"""What only a GPU shows: our use of CUDA with the real driver. Skipped where there is none."""

import warnings

import numpy as np
import pytest
import torch

from deeplens.console.errors import MissingError
from deeplens.runtimes import Accelerator, open_runtime
from deeplens.runtimes.cuda import Cuda, CudaError, DeviceBuffer, HostBuffer, MappedBuffer, Stream, Timer
from deeplens.runtimes.harness import Harness
from tests.support.fake_runtime import depth_map, photo, with_edge


@pytest.fixture(scope="module")
def cuda() -> Cuda:
    try:
        return Cuda()
    except MissingError as missing:
        pytest.skip(str(missing))


needs_torch_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no NVIDIA GPU here")


def test_the_gpu_says_what_it_is(cuda: Cuda) -> None:
    name, capability = cuda.gpu
    assert name.isprintable()
    assert name
    assert float(capability) >= 5
    assert all(float(version) >= 11 for version in cuda.versions)


def test_copies_there_and_back_alone_and_as_a_graph(cuda: Cuda) -> None:
    """As `runtimes.trt_lane` does it: pinned memory → GPU → other pinned memory, recorded once and launched twice."""
    stream, timer = Stream(cuda), Timer(cuda)
    source, target, device = HostBuffer(cuda), HostBuffer(cuda), DeviceBuffer(cuda)
    shape, dtype = (3, 700, 500), np.dtype(np.float32)
    size = int(np.prod(shape)) * dtype.itemsize
    for buffer in (source, target, device):
        buffer.reserve(size)
    rng = np.random.default_rng(0)

    def filled() -> np.ndarray:
        values = rng.random(shape, np.float32)
        source.array(shape, dtype)[:] = values
        target.array(shape, dtype)[:] = -1
        return values

    def both_ways() -> None:
        stream.copy_in(device, source, size)
        stream.copy_out(target, device, size)

    expected = filled()
    timer.begin(stream)
    both_ways()
    timer.end(stream)
    stream.wait()
    np.testing.assert_array_equal(target.array(shape, dtype), expected)
    assert 0 < timer.seconds < 5

    expected = filled()
    stream.begin_capture()
    both_ways()
    graph = stream.end_capture()
    stream.wait()
    assert (target.array(shape, dtype) == -1).all(), "recorded, not done"
    for _ in range(2):
        graph.launch(stream)
        stream.wait()
        np.testing.assert_array_equal(target.array(shape, dtype), expected)
        expected = filled()
    for thing in (graph, timer, stream):
        thing.close()
    for buffer in (source, target, device):
        buffer.free()


def test_a_failed_call_and_used_up_memory_are_told_apart(cuda: Cuda) -> None:
    with pytest.raises(MemoryError):
        DeviceBuffer(cuda).reserve(1 << 50)
    with pytest.raises(CudaError, match="cudaMemcpy"):
        cuda.call("cudaMemcpyAsync", 8, 16, 4, cuda.constant("cudaMemcpyKind", "cudaMemcpyHostToDevice"), 0)


def test_a_capture_that_failed_can_be_abandoned(cuda: Cuda) -> None:
    stream = Stream(cuda)
    stream.begin_capture()
    with pytest.raises(CudaError):
        stream.wait()  # not allowed while recording
    stream.abandon_capture()
    stream.wait()
    stream.close()


def test_memory_that_is_mapped_is_seen_by_both(cuda: Cuda) -> None:
    """As `runtimes.trt_lane` uses it on a Jetson; a GPU of its own sees it too, over the bus."""
    stream, mapped, back, device = Stream(cuda), MappedBuffer(cuda), HostBuffer(cuda), DeviceBuffer(cuda)
    shape, dtype = (3, 100, 50), np.dtype(np.float32)
    size = int(np.prod(shape)) * dtype.itemsize
    for buffer in (mapped, back, device):
        buffer.reserve(size)
    mapped.array(shape, dtype)[:] = expected = np.random.default_rng(0).random(shape, np.float32)
    kind = cuda.constant("cudaMemcpyKind", "cudaMemcpyDeviceToDevice")
    cuda.call("cudaMemcpyAsync", device.address, mapped.address, size, kind, stream.handle)
    stream.copy_out(back, device, size)
    stream.wait()
    np.testing.assert_array_equal(back.array(shape, dtype), expected)
    assert isinstance(cuda.shares_memory, bool)
    for each in (mapped, back, device):
        each.free()
    stream.close()


@needs_torch_cuda
@pytest.mark.parametrize(("precision", "most", "least"), [("fp32", 1, 0.999), ("fp16", 3, 0.99)])
def test_the_loop_on_the_gpu_gives_the_pixels_of_the_hosts_loop(precision: str, most: int, least: float) -> None:
    """Each level whole, nothing left out, against PyTorch on the CPU in FP32."""
    pixels, disparity = photo(700, 1000), depth_map()
    with with_edge(soft_radius=None, soft_bound=None), open_runtime("torch") as host:
        due = Harness(host, loop="host").refocus(pixels, disparity, focal_disparity=0.1, aperture=1.0)
    with open_runtime("torch", precision=precision, accelerator=Accelerator(device="cuda")) as runtime:
        ready = Harness(runtime).photo(pixels, disparity)
        assert ready._device is not None, "a GPU has this loop by itself"
        found = ready.refocus(focal_disparity=0.1, aperture=1.0)
        assert ready._device.device_seconds is not None
        assert 0 < ready._device.device_seconds < 5
    off = np.abs(found.astype(int) - due)
    assert off.max() <= most
    assert (off <= (precision != "fp32")).mean() >= least


@needs_torch_cuda
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_one_graph_of_the_loop_gives_the_pixels_of_the_loop_as_it_runs(precision: str) -> None:
    """Recorded at the second picture and launched from then on, with other planes than it was recorded with."""
    pixels, disparity = photo(700, 1000), depth_map()
    planes = [(0.1, 1.0, 0.0), (0.1, 1.0, 0.0), (0.9, 1.0, 0.0), (0.2, 0.95, 0.0), (0.1, 1.0, 0.1), (0.2, 1.0, 0.2)]

    def made(*, cuda_graph: bool) -> list[np.ndarray]:
        placed = Accelerator(device="cuda", cuda_graph=cuda_graph)
        with open_runtime("torch", precision=precision, accelerator=placed) as runtime:
            ready = Harness(runtime).photo(pixels, disparity)
            found = [
                ready.refocus(focal_disparity=focal, aperture=aperture, focus_range=width)
                for focal, aperture, width in planes
            ]
            recorded = ready._device._recorded  # type: ignore[union-attr]
            assert (recorded.count if recorded else 0) == (2 if cuda_graph else 0)
            return found

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a graph that could not be recorded
        graphs = made(cuda_graph=True)
    for one, other in zip(graphs, made(cuda_graph=False), strict=True):
        off = np.abs(one.astype(int) - other)
        assert off.max() <= (1 if precision == "fp32" else 3)
        assert (off <= (precision != "fp32")).mean() >= 0.99
