"""The whole effect as a PyTorch module against the harness, which is NumPy and Pillow."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from deeplens.console.errors import InputError
from deeplens.export.whole_check import by_harness, made_inputs
from deeplens.export.whole_module import Whole, bilinear, padded, whole_module
from deeplens.model.contract import CONTRACTS, DEPTH_SIZE
from deeplens.model.whole_contract import WHOLE, WHOLE_WITH_DEPTH, contract_named, parts_of
from deeplens.runtimes.contract import Runtime, Session
from deeplens.runtimes.disparity import focal_disparity_at
from deeplens.runtimes.pytorch import TorchRuntime, TorchSession

sides = st.integers(32, 420)


class Blur(nn.Module):
    """Stands for the lens blur: every number of its inputs shows in its output."""

    def forward(self, picture: Tensor, signed_depth: Tensor) -> Tensor:
        return picture * (0.7 - 0.5 * signed_depth) + 0.1 * F.avg_pool2d(picture, 3, stride=1, padding=1)


class Step(nn.Module):
    """Stands for the step, likewise; its output leaves [0, 1] at places."""

    def forward(self, picture_high: Tensor, picture: Tensor, blurred: Tensor, signed_depth: Tensor) -> Tensor:
        low = 0.6 * blurred + 0.3 * picture * signed_depth - 0.1
        return 0.7 * picture_high + F.interpolate(low, scale_factor=2.0, mode="nearest")


class Grey(nn.Module):
    """Stands for the depth network: a mean of the channels, in a unit of its own."""

    def forward(self, picture: Tensor) -> Tensor:
        return 3.0 + 7.0 * picture.mean(1, keepdim=True)


STAND_INS: dict[str, nn.Module] = {"depth": Grey(), "lens_blur": Blur(), "upsample": Step()}


class StandIns(Runtime):
    """The same stand-ins for the harness."""

    name = "torch"

    def __init__(self, variant: str) -> None:
        self.variant = variant

    def open(self, network: str) -> Session:
        module = STAND_INS[network]
        module.register_parameter("dtype", nn.Parameter(torch.zeros(1)))
        return TorchSession(module, CONTRACTS[network], None)

    def close(self) -> None:
        pass


def by_module(module: Whole, inputs: dict[str, np.ndarray]) -> np.ndarray:
    with torch.inference_mode():
        result: np.ndarray = module(*(torch.from_numpy(each) for each in inputs.values())).numpy()
    return result


def joined(network: str, variant: str, size: tuple[int, int]) -> Whole:
    return Whole({part: STAND_INS[part] for part in parts_of(network)}, variant=variant, size=size)


@settings(max_examples=15, deadline=None)
@given(sides, sides, st.sampled_from(["edge", "paper"]), st.integers(0, 99))
def test_any_size_is_what_the_harness_gives(height: int, width: int, variant: str, seed: int) -> None:
    inputs = made_inputs(WHOLE, (height, width), seed=seed)
    found = by_module(joined(WHOLE, variant, (height, width)), inputs)
    expected = by_harness(StandIns(variant), WHOLE, inputs)
    assert found.shape == expected.shape == (1, 3, height, width)
    assert np.abs(found - expected).max() <= 3e-6


@pytest.mark.parametrize("size", [(33, 1300), (900, 40), (660, 700)])
def test_several_steps_and_much_padding(size: tuple[int, int]) -> None:
    inputs = made_inputs(WHOLE, size)
    found = by_module(joined(WHOLE, "edge", size), inputs)
    assert np.abs(found - by_harness(StandIns("edge"), WHOLE, inputs)).max() <= 3e-6


def plainly_halved(self: Whole, picture: Tensor) -> list[Tensor]:
    """A fault: the mean of the values, not of the light."""
    found = [padded(picture, self.levels.padded(self.levels.steps))]
    for _ in range(self.levels.steps):
        found.append(F.avg_pool2d(found[-1], 2))
    return found[::-1]


def test_plain_halving_and_depth_of_the_wrong_level_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    size = (200, 700)
    inputs = made_inputs(WHOLE, size)
    expected = by_harness(StandIns("edge"), WHOLE, inputs)
    module = joined(WHOLE, "edge", size)
    module.by_level = False
    assert np.abs(by_module(module, inputs) - expected).max() > 1e-2
    monkeypatch.setattr(Whole, "pictures", plainly_halved)
    assert np.abs(by_module(joined(WHOLE, "edge", size), inputs) - expected).max() > 1e-2


@pytest.mark.parametrize("size", [(301, 199), (480, 640), (333, 517)])
def test_its_own_depth_is_the_harness_s(size: tuple[int, int]) -> None:
    inputs = made_inputs(WHOLE_WITH_DEPTH, size)
    module = joined(WHOLE_WITH_DEPTH, "edge", size)
    found, expected = by_module(module, inputs), by_harness(StandIns("edge"), WHOLE_WITH_DEPTH, inputs)
    # The depth network sees 8 bits: a value on the edge between two may round either way.
    assert np.mean(np.abs(found - expected) > 1e-5) < 0.01
    assert np.abs(found - expected).max() < 3 / 255


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_the_point_is_looked_up_as_by_the_harness(x: float, y: float) -> None:
    values = np.random.default_rng(0).random((DEPTH_SIZE, DEPTH_SIZE), dtype=np.float32)
    module = joined(WHOLE_WITH_DEPTH, "edge", (64, 64))
    found = module.at(torch.from_numpy(values)[None, None], torch.tensor([x, y]).view(1, 2, 1, 1))
    places = [min(int(np.float32(each) * np.float32(DEPTH_SIZE)), DEPTH_SIZE - 1) for each in (x, y)]
    assert found.shape == (1, 1, 1, 1)
    assert found.item() == values[places[1], places[0]]
    if all(abs(each * DEPTH_SIZE - round(each * DEPTH_SIZE)) > 1e-4 for each in (x, y)):
        assert found.item() == pytest.approx(focal_disparity_at(values, x, y))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 9))
def test_the_matrix_resizes_as_pillow_does(length: int, target: int, seed: int) -> None:
    line = np.random.default_rng(seed).random((1, length), dtype=np.float32)
    expected = np.asarray(Image.fromarray(line).resize((target, 1), Image.Resampling.BILINEAR))
    assert line @ bilinear(length, target).T.astype(np.float32) == pytest.approx(expected, abs=1e-6)


def test_a_flat_disparity_map_does_not_divide_by_zero() -> None:
    module = joined(WHOLE_WITH_DEPTH, "edge", (64, 64))
    with torch.inference_mode():
        found = module.predicted(torch.full((1, 3, 64, 64), 0.5))
    assert (found == 0).all()


def test_a_size_below_the_smallest_is_refused() -> None:
    with pytest.raises(InputError, match="32x32"):
        joined(WHOLE, "edge", (31, 400))


@pytest.mark.slow
def test_the_trained_networks_at_an_odd_size() -> None:
    size = (247, 330)
    module, hashes = whole_module(WHOLE, variant="edge", size=size)
    assert set(hashes) == {"lens_blur", "upsample"}
    assert list(module.state_dict()) == [
        *(f"lens_blur.{name}" for name in module.lens_blur.state_dict()),
        *(f"upsample.{name}" for name in module.upsample.state_dict()),
    ]
    inputs = made_inputs(WHOLE, size)
    with TorchRuntime(variant="edge") as runtime:
        expected = by_harness(runtime, WHOLE, inputs)
    assert np.abs(by_module(module, inputs) - expected).max() <= 5e-6
    assert tuple(inputs) == tuple(tensor.name for tensor in contract_named(WHOLE).inputs)
