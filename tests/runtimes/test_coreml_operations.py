"""Each operation that computes value by value, moves values or sums over axes, alone against PyTorch or NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deeplens.console.errors import MismatchError
from deeplens.runtimes.coreml.arithmetic import Rounding, half, kept
from deeplens.runtimes.coreml.operations import OPERATIONS

FAST = settings(max_examples=25, deadline=None, derandomize=True, database=None)

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, max_side=5)


def run(kind: str, *values: Any, **parameters: Any) -> Any:
    """The result with float32 sums."""
    computation = OPERATIONS[kind]
    if computation.rounding is Rounding.SUMS:
        parameters["partial"] = kept
    return computation.compute(*values, **parameters)


def drawn(shape: tuple[int, ...], seed: int = 0, *, low: float = -3.0, high: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def test_half_rounds_as_numpy_does_for_any_bits() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    finite = np.sort(every[np.isfinite(every)])
    between = (finite[:-1] + finite[1:]) / 2  # ties
    around = np.concatenate([np.nextafter(between, side, dtype=np.float32) for side in (-np.inf, np.inf)])
    limits = np.array([65504, 65519.996, 65520, 65536, -65520, 1e38, np.inf, -np.inf, np.nan, -0.0], np.float32)
    for values in (bits.view(np.float32), every, between, around, limits):
        with np.errstate(over="ignore", invalid="ignore"):
            expected = values.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(half(values.copy()), expected)


def test_half_rounds_in_place_where_it_can() -> None:
    values = drawn((3, 70_000))
    rounded = half(values)
    assert rounded is values
    part = drawn((4, 6))[:, ::2]
    before = part.copy()
    np.testing.assert_array_equal(half(part), before.astype(np.float16))
    np.testing.assert_array_equal(part, before)


BINARY: dict[str, Callable[..., torch.Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "real_div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}


@pytest.mark.parametrize("kind", BINARY)
@FAST
@given(shapes=arrays.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4), seed=st.integers(0, 99))
def test_of_two(kind: str, shapes: arrays.BroadcastableShapes, seed: int) -> None:
    x, y = (drawn(shape, seed + k, low=0.5) for k, shape in enumerate(shapes.input_shapes))
    expected = BINARY[kind](torch.from_numpy(np.array(x)), torch.from_numpy(np.array(y)))
    found = run(kind, x=x, y=y)
    assert found.shape == shapes.result_shape
    np.testing.assert_allclose(found, expected.numpy(), rtol=2e-7)


UNARY: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], dict[str, Any]]] = {
    "abs": (torch.abs, {}),
    "floor": (torch.floor, {}),
    "round": (torch.round, {}),
    "relu": (F.relu, {}),
    "relu6": (F.relu6, {}),
    "sigmoid": (torch.sigmoid, {}),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), {"alpha": np.float32(0.2)}),
    "clip": (lambda x: torch.clamp(x, -0.5, 6.0), {"alpha": np.float32(-0.5), "beta": np.float32(6.0)}),
    "identity": (lambda x: x, {}),
}


@pytest.mark.parametrize("kind", UNARY)
@FAST
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_of_one(kind: str, shape: tuple[int, ...], seed: int) -> None:
    x = drawn(shape, seed, low=-30.0, high=30.0)
    x.flat[0] = 0.0
    function, parameters = UNARY[kind]
    found = run(kind, x=x, **parameters)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, function(torch.from_numpy(x)).numpy(), rtol=2e-6, atol=1e-7)


def test_roots() -> None:
    x = drawn((2, 3), low=0.0)
    np.testing.assert_allclose(run("sqrt", x=x), np.sqrt(x.astype(np.float64)), rtol=1e-7)
    expected = 1 / np.sqrt(x.astype(np.float64) + 0.25)
    np.testing.assert_allclose(run("rsqrt", x=x, epsilon=np.float32(0.25)), expected, rtol=2e-7)
    assert np.isnan(run("sqrt", x=np.array([-1.0], np.float32))).all()


def test_divisions_by_zero() -> None:
    found = run("real_div", x=np.array([1, -1, 0], np.float32), y=np.array([0, 0, 0], np.float32))
    np.testing.assert_array_equal(found, np.array([np.inf, -np.inf, np.nan], np.float32))


def test_ties_are_rounded_to_even() -> None:
    ties = np.array([-1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    np.testing.assert_array_equal(run("round", x=ties), np.array([-2, 0, 0, 2, 2], np.float32))


@FAST
@given(shape=SHAPES, data=st.data(), keep=st.booleans())
def test_extremes(shape: tuple[int, ...], data: st.DataObject, keep: bool) -> None:
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    x = drawn(shape)
    for kind, function in (("reduce_min", torch.amin), ("reduce_max", torch.amax)):
        expected = function(torch.from_numpy(x), tuple(axes), keep).numpy()
        np.testing.assert_array_equal(run(kind, x=x, axes=np.array(axes), keep_dims=keep), expected)
        np.testing.assert_array_equal(run(kind, x=x), function(torch.from_numpy(x)).numpy())


def test_cast() -> None:
    x = np.array([-2.7, -0.5, 0.0, 0.5, 2.7], np.float32)
    np.testing.assert_array_equal(run("cast", x=x, dtype="int32"), torch.from_numpy(x).to(torch.int32).numpy())
    np.testing.assert_array_equal(run("cast", x=x, dtype="bool"), [True, True, False, True, True])
    assert run("cast", x=np.array([1, 2]), dtype="fp16").dtype == np.float32
    with pytest.raises(MismatchError, match="cast to int4 is not known"):
        run("cast", x=x, dtype="int4")


@FAST
@given(shape=SHAPES, data=st.data())
def test_concat(shape: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = [drawn(shape, seed) for seed in range(3)]
    expected = torch.cat([torch.from_numpy(part) for part in parts], axis).numpy()
    np.testing.assert_array_equal(run("concat", values=parts, axis=axis), expected)
    woven = run("concat", values=parts, axis=axis, interleave=True)
    for k, part in enumerate(parts):  # as the documentation says: out[k::3] = in_k
        np.testing.assert_array_equal(np.moveaxis(woven, axis, 0)[k::3], np.moveaxis(part, axis, 0))


def test_split() -> None:
    x = drawn((2, 6, 3))
    for found, expected in (
        (run("split", x=x, axis=1, num_splits=3), torch.from_numpy(x).split(2, 1)),
        (run("split", x=x, axis=-2, split_sizes=np.array([1, 3, 2])), torch.from_numpy(x).split([1, 3, 2], 1)),
    ):
        assert len(found) == 3
        for part, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(part, other.numpy())


@FAST
@given(shape=SHAPES, data=st.data())
def test_slice_by_index(shape: tuple[int, ...], data: st.DataObject) -> None:
    index = data.draw(arrays.basic_indices(shape, allow_newaxis=False, allow_ellipsis=False, max_dims=len(shape)))
    index = index if isinstance(index, tuple) else (index,)
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    full = [*index, *[slice(None)] * (len(shape) - len(index))]
    slices = [slice(each, None) if isinstance(each, int) else each for each in full]
    found = run(
        "slice_by_index",
        x=x,
        begin=np.array([each.start or 0 for each in slices], np.int32),
        end=np.array([each.stop or 0 for each in slices], np.int32),
        stride=np.array([each.step or 1 for each in slices], np.int32),
        begin_mask=np.array([each.start is None for each in slices]),
        end_mask=np.array([each.stop is None for each in slices]),
        squeeze_mask=np.array([isinstance(each, int) for each in full]),
    )
    np.testing.assert_array_equal(found, x[index])


def test_slice_by_index_without_masks() -> None:
    x = drawn((4, 5))
    found = run("slice_by_index", x=x, begin=np.array([1, -3]), end=np.array([3, -1]))
    np.testing.assert_array_equal(found, x[1:3, -3:-1])


@pytest.mark.parametrize(("mode", "torch_mode"), [("reflect",) * 2, ("replicate",) * 2, ("constant",) * 2])
@FAST
@given(widths=st.tuples(*[st.integers(0, 2)] * 4), seed=st.integers(0, 99))
def test_pad(mode: str, torch_mode: str, widths: tuple[int, ...], seed: int) -> None:
    x = drawn((1, 2, 3, 4), seed)
    value = {"value": 1.5} if mode == "constant" else {}
    expected = F.pad(torch.from_numpy(x), (*widths[2:], *widths[:2]), torch_mode, **value)
    for pad in (widths, (0, 0, 0, 0, *widths)):  # of the last axes, or of all
        found = run("pad", x=x, pad=np.array(pad, np.int32), mode=mode, constant_val=np.float32(1.5))
        np.testing.assert_array_equal(found, expected.numpy())


@FAST
@given(factor=st.integers(1, 3), channels=st.integers(1, 3), height=st.integers(1, 4), width=st.integers(1, 4))
def test_pixel_shuffle(factor: int, channels: int, height: int, width: int) -> None:
    x = drawn((2, channels * factor**2, height, width))
    expected = F.pixel_shuffle(torch.from_numpy(x), factor).numpy()
    np.testing.assert_array_equal(run("pixel_shuffle", x=x, upscale_factor=factor), expected)


def test_other_shapes() -> None:
    x = drawn((2, 3, 4))
    t = torch.from_numpy(x)
    for kind, parameters, expected in (
        ("reshape", {"shape": np.array([4, -1])}, t.reshape(4, -1)),
        ("reshape", {"shape": np.array([0, 12])}, t.reshape(2, 12)),
        ("transpose", {"perm": np.array([2, 0, -2])}, t.permute(2, 0, 1)),
        ("expand_dims", {"axes": np.array([0, -1])}, t[None, ..., None]),
        ("tile", {"reps": np.array([2, 1, 3])}, t.repeat(2, 1, 3)),
    ):
        np.testing.assert_array_equal(run(kind, x=x, **parameters), expected.numpy())
    np.testing.assert_array_equal(run("squeeze", x=x[:, None, :, :, None]), x)
    np.testing.assert_array_equal(run("squeeze", x=x[:, None, None], axes=np.array([1])), x[:, None])


@FAST
@given(shape=SHAPES, keep=st.booleans(), data=st.data())
def test_sums(shape: tuple[int, ...], keep: bool, data: st.DataObject) -> None:
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    signed = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]
    x = drawn(shape)
    for kind, function in (("reduce_sum", torch.sum), ("reduce_mean", torch.mean)):
        expected = function(torch.from_numpy(x), dim=tuple(axes), keepdim=keep).numpy()
        found = run(kind, x=x, axes=np.array(signed), keep_dims=keep)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        assert found.shape == expected.shape
        rounded = OPERATIONS[kind].compute(half(x.copy()), np.array(signed), keep, partial=half)
        assert rounded.shape == expected.shape
        np.testing.assert_allclose(rounded, expected, rtol=0.05, atol=0.05)
    np.testing.assert_allclose(run("reduce_sum", x=x), x.sum(), rtol=1e-5, atol=1e-5)


def test_pure_fp16_sums_lose_what_a_float32_sum_keeps() -> None:
    x = np.array([[2048.0] + [1.0] * 64], np.float32)  # FP16 has no odd numbers above 2048
    assert OPERATIONS["reduce_sum"].compute(x, np.array([1]), partial=half) == 2048.0
    assert run("reduce_sum", x=x, axes=np.array([1])) == 2112.0


@FAST
@given(shape=SHAPES, data=st.data())
def test_softmax(shape: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = drawn(shape, low=-80.0, high=80.0)
    expected = torch.softmax(torch.from_numpy(x), axis).numpy()
    np.testing.assert_allclose(run("softmax", x=x, axis=axis), expected, rtol=1e-5, atol=1e-7)
    rounded = OPERATIONS["softmax"].compute(half(x.copy()), axis, partial=half)
    np.testing.assert_allclose(rounded, torch.softmax(torch.from_numpy(half(x)), axis).numpy(), atol=5e-3)
