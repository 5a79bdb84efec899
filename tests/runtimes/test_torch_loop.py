"""The loop on PyTorch's device, tried on the CPU: the pixels of the host's loop, and nothing copied in between."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor

from deeplens.console.errors import InputError, MismatchError
from deeplens.model.contract import VARIANTS
from deeplens.runtimes import open_runtime
from deeplens.runtimes.contract import Runtime
from deeplens.runtimes.depth_levels import FocalPlane
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.torch_loop import SIDES, TorchLoop, side_for
from tests.support.fake_runtime import OPEN, FakeRuntime, depth_map, photo, with_edge

EVERYTHING_RUN = {"soft_radius": None, "soft_bound": None}
"""The host's loop leaves out tiles, within bounds; not for these comparisons."""


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with open_runtime("torch", threads=1) as opened:
        yield opened


def differences(
    runtime: Runtime,
    pixels: np.ndarray,
    disparity: np.ndarray,
    plane: dict[str, float],
    *,
    tile: int | None = None,
    level: int | None = None,
) -> np.ndarray:
    with with_edge(**EVERYTHING_RUN):
        device = Harness(runtime, tile=tile, loop="device").photo(pixels, disparity)
        host = Harness(runtime, tile=tile, loop="host").photo(pixels, disparity)
        found, due = (each.refocus(level=level, **plane) for each in (device, host))  # type: ignore[arg-type]
    assert found.dtype == pixels.dtype
    assert found.shape == due.shape
    assert found.flags.c_contiguous
    if level is None:
        assert np.abs(due.astype(int) - pixels).max() > 20, "the control: something is blurred"
    return np.abs(found.astype(int) - due)


PLANES = {
    "open": {"focal_disparity": 0.0, "aperture": 1.0},
    "range": {"focal_disparity": 0.0, "aperture": 1.0, "focus_range": 0.1},
    "begins at level 1": {"focal_disparity": 0.5, "aperture": 0.4},
    "mixed": {"focal_disparity": 0.5, "aperture": 0.0},  # its aperture is found below
}


@pytest.mark.parametrize("name", PLANES)
def test_the_pixels_are_those_of_the_hosts_loop(runtime: Runtime, name: str) -> None:
    pixels, disparity = photo(333, 402), depth_map(60, 73)
    plane = dict(PLANES[name])
    if name == "mixed":
        loop = runtime.device_loop(pixels, disparity, tile=None, asked=True)
        assert isinstance(loop, TorchLoop)
        shares = {
            a: loop._planes.share(FocalPlane(0.5, a), loop._extremes) for a in np.linspace(0.8, 1.2, 200).clip(0, 1)
        }
        plane["aperture"] = float(next((a for a, share in shares.items() if 0.2 < share < 0.8), 1.0))
    off = differences(runtime, pixels, disparity, plane)
    assert off.max() <= 1
    assert (off == 0).mean() > 0.999


def test_of_16_bits_in_tiles_and_below_the_last_level(runtime: Runtime) -> None:
    pixels, disparity = photo(340, 400, np.uint16), depth_map(60, 70)
    off = differences(runtime, pixels, disparity, PLANES["open"], tile=144)
    assert off.max() <= 2, "of 65535"
    off = differences(runtime, pixels, disparity, PLANES["open"], level=1)
    assert off.max() <= 2


def test_a_map_as_fine_as_the_photo_keeps_what_is_in_focus(runtime: Runtime) -> None:
    pixels = photo(330, 400)
    disparity = depth_map(330, 400)
    disparity[:, 200:] = 0.401  # hardly out of focus
    off = differences(runtime, pixels, disparity, PLANES["open"])
    assert off.max() <= 1
    assert (off == 0).mean() > 0.999
    loop = runtime.device_loop(pixels, disparity, tile=None, asked=True)
    assert isinstance(loop, TorchLoop)
    assert loop._sharp_last == 1, "the control: the map is asked again"


class Counted(TorchLoop):
    """Counts what crosses between host and device."""

    def __init__(self, *arguments: object, **named: object) -> None:
        self.log: list[tuple[str, int]] = []
        super().__init__(*arguments, **named)  # type: ignore[arg-type]

    def upload(self, array: np.ndarray) -> Tensor:
        self.log.append(("up", array.nbytes))
        return super().upload(array)

    def download(self, tensor: Tensor) -> np.ndarray:
        self.log.append(("down", tensor.nbytes))
        return super().download(tensor)


def test_the_photo_goes_there_once_and_each_result_comes_back_in_one_piece(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deeplens.runtimes.torch_loop.TorchLoop", Counted)
    pixels, disparity = photo(333, 402), depth_map(60, 73)
    ready = Harness(runtime, loop="device").photo(pixels, disparity)
    loop = ready._device
    assert isinstance(loop, Counted)
    sizes = [pixels.nbytes, 4 * np.prod(ready.levels.covered(ready.levels.finest_depth))]
    assert loop.log == [("up", size) for size in sizes]
    for focal in (0.4, 0.6):
        loop.log.clear()
        ready.refocus(focal_disparity=focal, aperture=1.0)
        expected = [("up", 12), ("down", pixels.nbytes + 1)]
        assert loop.log == expected, "three numbers there; the picture and a byte that says whether it is sound"


def test_nothing_is_read_back_in_between() -> None:
    """On PyTorch's device without memory: whatever asks for a value there fails."""

    class Meta:
        device, element_bytes = torch.device("meta"), 4

        def __init__(self, scale: int) -> None:
            self.scale = scale

        def compute(self, tensors: Sequence[Tensor]) -> Tensor:
            assert all(each.device.type == "meta" for each in tensors)
            assert all(each.dtype == torch.float32 for each in tensors)
            return tensors[0] if self.scale == 2 else tensors[0] * 1

        def settings(self) -> AbstractContextManager[None]:
            return nullcontext()

    class There(TorchLoop):
        def _read(self, numbers: Tensor) -> list[float]:
            with pytest.raises(RuntimeError):
                super()._read(numbers)
            return [0.0, 1.0]

        def download(self, tensor: Tensor) -> np.ndarray:
            with pytest.raises(NotImplementedError):
                super().download(tensor)  # the control: reading it fails
            return np.zeros(tensor.shape, np.uint8)

    pixels = photo(700, 500)
    networks = {"lens_blur": Meta(1), "upsample": Meta(2)}
    loop = There(networks, VARIANTS["edge"], pixels, depth_map(700, 500))
    loop._read = lambda numbers: pytest.fail(f"{numbers} are read")  # type: ignore[method-assign]
    assert loop._sharp_last == loop.levels.steps == 2
    for aperture in (1.0, 0.1):
        assert loop.picture(FocalPlane(0.2, aperture), loop.levels.steps).shape == pixels.shape


def test_a_level_goes_on_from_the_one_below(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    from deeplens.runtimes.pytorch import TorchSession

    calls: list[str] = []
    compute = TorchSession.compute

    def counted(self: TorchSession, tensors: Sequence[Tensor]) -> Tensor:
        calls.append(self.describe().network)
        return compute(self, tensors)

    monkeypatch.setattr(TorchSession, "compute", counted)
    ready = Harness(runtime, tile=None, loop="device").photo(photo(333, 402), depth_map(60, 73))
    levels = list(ready.preview(focal_disparity=0.0, aperture=1.0))
    assert calls == ["lens_blur", "upsample"]
    np.testing.assert_array_equal(levels[-1], ready.refocus(focal_disparity=0.0, aperture=1.0))


def test_values_that_are_not_finite_are_refused() -> None:
    with open_runtime("torch", threads=1) as runtime:
        with torch.no_grad():
            next(runtime.open("upsample").module.parameters())[0] = float("nan")  # type: ignore[attr-defined]
        ready = Harness(runtime, tile=None, loop="device").photo(photo(333, 402), depth_map(60, 73))
        with pytest.raises(MismatchError, match="not finite"):
            ready.refocus(focal_disparity=0.0, aperture=1.0)


def test_by_itself_the_cpu_has_the_hosts_loop_and_runtimes_without_one_say_so(
    runtime: Runtime,
) -> None:
    assert runtime.device_loop(photo(40, 50), depth_map(), tile=None, asked=False) is None
    with pytest.raises(InputError, match="fake has no loop on the device: leave out --loop device"):
        Harness(FakeRuntime(), loop="device").photo(photo(40, 50), depth_map())
    with pytest.raises(InputError, match="unknown loop 'gpu': choose auto, device, host"):
        Harness(FakeRuntime(), loop="gpu")


def test_an_observer_gets_the_hosts_loop(runtime: Runtime) -> None:
    seen: list[int] = []
    Harness(runtime, loop="device").refocus(
        photo(333, 402), depth_map(60, 73), **OPEN, observe=lambda level, *_: seen.append(level)
    )
    assert seen == [0, 1]


@pytest.mark.parametrize(
    ("free", "side"), [(None, None), (10**12, None), (2 * 3000 * 2**24, 4096), (2 * 3000 * 2**20, 1024), (1, 256)]
)
def test_levels_are_run_whole_where_the_memory_allows(free: int | None, side: int | None) -> None:
    assert side_for((4096, 6000), free, 3000, 12) == side
    assert SIDES[-1] == 256
