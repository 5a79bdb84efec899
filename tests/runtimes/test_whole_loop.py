"""The loop on the device as one graph: ONNX Runtime by I/O binding, TensorRT by kept inputs, and what is copied."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.model.contract import DEPTH_SIZE
from deeplens.model.whole_contract import PIXEL_CONTRACTS
from deeplens.runtimes.cuda import CudaError
from deeplens.runtimes.engine_key import Profile
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.refocuser import Refocuser
from deeplens.runtimes.trt import TrtRuntime
from tests.support.cuda_stand_in import Cudart, Misuse, Status
from tests.support.device import needs
from tests.support.fake_runtime import Focus, photo
from tests.support.small_graphs import add_graphs, add_whole
from tests.support.trt_engines import add_engine, runtime_of
from tests.support.trt_stand_in import TensorRtStandIn

SIZE = (540, 480)
MAP = np.tile(np.linspace(0, 1, DEPTH_SIZE, dtype=np.float32), (DEPTH_SIZE, 1))
PLANE = Focus(focal_disparity=0.0, aperture=0.9)
VERSIONS = ["tensorrt 10.3.0", "tensorrt_rtx 1.7.1.116"]


def refocused(pixels: np.ndarray, aperture: float) -> np.ndarray:
    """What the small graphs make, in float64."""
    found: np.ndarray = np.rint(pixels.astype(np.float64) * (1 - np.float64(np.float32(aperture)))).astype(pixels.dtype)
    return found


def assert_is(found: np.ndarray, pixels: np.ndarray, aperture: float) -> None:
    """Rounded to the nearest: float32 may decide otherwise where two are equally near."""
    due = refocused(pixels, aperture)
    assert np.abs(found.astype(int) - due).max() <= 1
    assert (found == due).mean() > 0.99 if pixels.dtype == np.uint8 else (found == due).mean() > 0.9


def check(ready: Refocuser, pixels: np.ndarray) -> None:
    for focal, aperture in ((0.0, 0.9), (0.0, 1.0), (1.0, 1.0), (0.0, 0.9)):
        found = ready.refocus(focal_disparity=focal, aperture=aperture)
        assert found.dtype == pixels.dtype
        assert found.flags.c_contiguous
        assert_is(found, pixels, aperture)


@needs("onnx")
@needs("onnxruntime")
class TestOnnxRuntime:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_bytes_go_in_and_come_out(self, tmp_path: Path, dtype: type) -> None:
        from deeplens.runtimes.ort import OnnxRuntime

        add_whole(tmp_path, SIZE)
        pixels = photo(*SIZE, dtype)
        with OnnxRuntime(artifacts=tmp_path) as runtime:
            check(Harness(runtime, loop="device").photo(pixels, MAP), pixels)

    def test_a_provider_with_memory_of_its_own_gets_each_array_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The photo and its map go there once, two numbers for each focal plane; the photo's bytes come back."""
        from deeplens.runtimes.accelerator import Accelerator
        from deeplens.runtimes.ort import OnnxRuntime
        from tests.support.ort_stand_in import OrtStandIn

        add_whole(tmp_path, SIZE)
        add_graphs(tmp_path)
        made = OrtStandIn("CUDAExecutionProvider")
        monkeypatch.setattr("deeplens.runtimes.ort.import_onnxruntime", lambda: made)
        pixels = photo(*SIZE)
        with OnnxRuntime(artifacts=tmp_path, accelerator=Accelerator("cuda")) as runtime:
            ready = Harness(runtime).photo(pixels, MAP)
            assert made.copies == [("to cuda", pixels.nbytes), ("to cuda", MAP.nbytes)]
            for _ in range(2):
                made.copies.clear()
                check(ready, pixels)
                assert Counter(made.copies) == {("to cuda", 4): 8, ("from cuda", pixels.nbytes): 4, ("from cuda", 4): 4}
            made.copies.clear()
            host = Harness(runtime, loop="host").refocus(pixels, MAP, focal_disparity=0.0, aperture=0.9)
            assert host.shape == pixels.shape
            networks = Counter(kind for kind, _ in made.copies)
            assert networks == {"to cuda": 12, "from cuda": 4}, "for each of four tiles: inputs there, an output back"

    def test_what_the_graph_does_not_do_is_done_on_the_host_or_refused(self, tmp_path: Path) -> None:
        from deeplens.runtimes.ort import OnnxRuntime

        add_whole(tmp_path, SIZE)
        pixels = photo(*SIZE)
        with OnnxRuntime(artifacts=tmp_path) as runtime:
            ready = Harness(runtime, loop="device").photo(pixels, MAP)
            with pytest.raises(InputError, match="no range in focus: leave out --loop device"):
                ready.refocus(**PLANE, focus_range=0.1)
            with pytest.raises(InputError, match="the photo's own size alone"):
                ready.refocus(**PLANE, level=0)
            with pytest.raises(InputError, match="begins above the base"):
                ready.refocus(focal_disparity=0.0, aperture=0.4)
            with pytest.raises(InputError, match="takes a disparity map of 320×320"):
                Harness(runtime, loop="device").photo(pixels, MAP[:288, :256])
            with pytest.raises(MissingError, match="--whole 48x40"):
                Harness(runtime, loop="device").photo(photo(40, 48), MAP)
            assert runtime.device_loop(pixels, MAP, tile=None, asked=False) is None, "the CPU copies nothing anyway"

    def test_values_that_are_not_finite_are_refused(self, tmp_path: Path) -> None:
        import onnxruntime

        from deeplens.runtimes.ort import OnnxRuntime

        add_whole(tmp_path, SIZE)
        with OnnxRuntime(artifacts=tmp_path) as runtime:
            ready = Harness(runtime, loop="device").photo(photo(*SIZE), MAP)
            loop: Any = ready._device
            value = onnxruntime.OrtValue.ortvalue_from_numpy(np.full((1, 1, 320, 320), np.nan, np.float32))
            loop._kept["disparity"] = value
            with pytest.raises(MismatchError, match="not finite"):
                ready.refocus(**PLANE)


def opened(folder: Path, version: str, cudart: Cudart, *, in_pixels: bool = True) -> TrtRuntime:
    """Engines of the networks and the whole effect; `in_pixels`: and those that turn bytes into numbers and back."""
    module = TensorRtStandIn(version, cudart)
    for network in ("whole", *(PIXEL_CONTRACTS if in_pixels else ())):
        add_engine(folder, network, module, profiles=(Profile.static(SIZE),))
    for network in ("lens_blur", "upsample"):
        add_engine(folder, network, module)
    return runtime_of(folder, module)


@pytest.mark.parametrize("version", VERSIONS)
class TestTensorRt:
    def test_nothing_is_copied_that_is_there_and_one_graph_is_the_refocus(self, tmp_path: Path, version: str) -> None:
        cudart = Cudart(sparing=True)
        pixels = photo(*SIZE)
        with opened(tmp_path, version, cudart) as runtime:
            ready = Harness(runtime).photo(pixels, MAP)
            assert cudart.copied == [], "nothing before it is asked for"
            runs = []
            for focal, aperture in ((0.0, 0.9), (1.0, 0.9), (1.0, 0.8), (1.0, 0.8)):
                cudart.done.clear()
                cudart.copied.clear()
                found = ready.refocus(focal_disparity=focal, aperture=aperture)
                assert_is(found, pixels, aperture)
                runs.append([each for each in cudart.done if each != "profile"])
                went = [pixels.nbytes, MAP.nbytes] * (len(runs) == 1)
                assert sorted(size for way, size in cudart.copied if way == "in" and size > 4) == sorted(went)
                assert [size for way, size in cudart.copied if way == "out"] == [pixels.nbytes, 4], "bytes come back"
            graph = ["execute" if "rtx" in version else "graph: execute"] * 2  # RTX records its own
            assert runs[0] == ["copy in"] * 4 + ["execute"] * 3 + ["copy out"] * 2
            assert runs[1:] == [["copy in", *graph, "copy out", "copy out"]] * 2 + [[*graph, "copy out", "copy out"]]
            assert cudart.count("cudaGraphLaunch") == (0 if "rtx" in version else 3), "whole and bytes are one graph"
            assert ready._device is not None
            assert ready._device.device_seconds == pytest.approx(2e-3)
        assert cudart.nothing_held

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_without_those_engines_and_in_16_bits_numbers_are_copied(
        self, tmp_path: Path, version: str, dtype: type
    ) -> None:
        """The count before: four bytes for each value, where the photo has one. TensorRT has no 16 unsigned bits."""
        cudart = Cudart(sparing=True)
        pixels = photo(*SIZE, dtype)
        with opened(tmp_path, version, cudart, in_pixels=dtype == np.uint16) as runtime:
            ready = Harness(runtime).photo(pixels, MAP)
            for focal in (0.0, 1.0):
                cudart.copied.clear()
                assert_is(ready.refocus(focal_disparity=focal, aperture=0.9), pixels, 0.9)
                went = [size for way, size in cudart.copied if way == "in" and size > 4]
                assert went == [4 * pixels.size, MAP.nbytes] * (focal == 0)
                assert [size for way, size in cudart.copied if way == "out"] == [4 * pixels.size]
        assert cudart.nothing_held

    def test_values_that_are_not_finite_are_refused(
        self, tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tests.support.trt_networks.compute", lambda _name, inputs: inputs["picture"] / 0)
        with opened(tmp_path, version, Cudart()) as runtime, np.errstate(all="ignore"):
            ready = Harness(runtime).photo(photo(*SIZE), MAP)
            with pytest.raises(MismatchError, match="not finite"):
                ready.refocus(**PLANE)

    def test_after_a_failure_all_is_put_there_again(self, tmp_path: Path, version: str) -> None:
        cudart = Cudart()
        pixels = photo(*SIZE)
        with opened(tmp_path, version, cudart) as runtime:
            ready = Harness(runtime).photo(pixels, MAP)
            cudart.fail["cudaMemcpyAsync"] = Status.cudaErrorInvalidValue
            with pytest.raises(CudaError):
                ready.refocus(**PLANE)
            cudart.fail.clear()
            assert_is(ready.refocus(**PLANE), pixels, 0.9)
        assert cudart.nothing_held

    def test_memory_that_is_short_leaves_nothing_behind(self, tmp_path: Path, version: str) -> None:
        cudart = Cudart(memory=4 * 3 * SIZE[0] * SIZE[1])
        with opened(tmp_path, version, cudart) as runtime, pytest.raises(MemoryError):
            Harness(runtime).photo(photo(*SIZE), MAP)
        assert cudart.nothing_held

    def test_threads_take_turns(self, tmp_path: Path, version: str) -> None:
        photos = [photo(*SIZE), 255 - photo(*SIZE)]
        with opened(tmp_path, version, Cudart()) as runtime, ThreadPoolExecutor(4) as pool:
            ready = [Harness(runtime).photo(each, MAP) for each in photos]
            made = list(pool.map(lambda index: ready[index % 2].refocus(**PLANE), range(12)))
        for index, found in enumerate(made):
            assert_is(found, photos[index % 2], 0.9)

    def test_the_hosts_loop_copies_for_every_tile(self, tmp_path: Path, version: str) -> None:
        """The count before: what the loop on the device saves. And sparing, the stand-in refuses it."""
        pixels = photo(*SIZE)
        with opened(tmp_path, version, cudart := Cudart()) as runtime:
            Harness(runtime, loop="host").refocus(pixels, MAP, **PLANE)
            copies = Counter(each for each in cudart.done if "copy" in each)
        assert copies == {"copy in": 12, "copy out": 4}, "two tiles a level: two inputs and an output, four and one"
        with opened(tmp_path, version, sparing := Cudart(sparing=True)) as runtime:
            with pytest.raises(Misuse, match="came from the GPU"):
                Harness(runtime, loop="host").refocus(photo(400, 340), MAP, **PLANE)
            for stream in sparing.streams.values():
                stream.clear()

    def test_photos_take_turns(self, tmp_path: Path, version: str) -> None:
        cudart = Cudart(sparing=True)
        photos = [photo(*SIZE), 255 - photo(*SIZE)]
        with opened(tmp_path, version, cudart) as runtime:
            ready = [Harness(runtime).photo(*each) for each in zip(photos, (MAP, MAP[::-1, ::-1]), strict=True)]
            for index in (0, 1, 0, 0, 1):
                found = ready[index].refocus(**PLANE)
                assert_is(found, photos[index], 0.9)

    def test_where_memory_is_shared_nothing_is_copied_at_all(self, tmp_path: Path, version: str) -> None:
        cudart = Cudart(integrated=True)
        pixels = photo(*SIZE)
        with opened(tmp_path, version, cudart) as runtime:
            check(Harness(runtime).photo(pixels, MAP), pixels)
            Harness(runtime, loop="host").refocus(pixels, MAP, **PLANE)
            assert not any("copy" in each for each in cudart.done)
            assert cudart.count("cudaMalloc") == 2, "what lies between two engines; the CPU never sees it"
        assert cudart.nothing_held

    def test_by_itself_it_takes_the_hosts_loop_without_such_an_engine(self, tmp_path: Path, version: str) -> None:
        with opened(tmp_path, version, Cudart()) as runtime:
            assert Harness(runtime).photo(photo(40, 48), MAP)._device is None
            with pytest.raises(MissingError, match="whole"):
                Harness(runtime, loop="device").photo(photo(40, 48), MAP)
