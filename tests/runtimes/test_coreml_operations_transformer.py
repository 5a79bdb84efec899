"""Operations of vision transformers in the executor, each alone against PyTorch in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens.console.errors import MismatchError
from deeplens.runtimes.coreml.arithmetic import half, kept
from deeplens.runtimes.coreml.operations import OPERATIONS

FAST = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-3, 3, shape).astype(np.float32)


def double(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).double()


def run(kind: str, *values: Any, **more: Any) -> np.ndarray:
    result: np.ndarray = OPERATIONS[kind].compute(*values, **more)
    assert result.dtype == np.float32
    return result


@FAST
@given(
    transposed=st.tuples(st.booleans(), st.booleans()),
    sizes=st.tuples(*[st.integers(1, 6)] * 3),
    batch=st.sampled_from([(), (2,), (2, 3)]),
)
def test_matmul(transposed: tuple[bool, bool], sizes: tuple[int, int, int], batch: tuple[int, ...]) -> None:
    rows, inner, columns = sizes
    x = drawn(*batch, *((inner, rows) if transposed[0] else (rows, inner)))
    y = drawn(*batch, *((columns, inner) if transposed[1] else (inner, columns)), seed=1)
    left, right = (double(a).mT if turn else double(a) for a, turn in zip((x, y), transposed, strict=True))
    found = run("matmul", x, y, transpose_x=transposed[0], transpose_y=transposed[1], partial=kept)
    np.testing.assert_allclose(found, (left @ right).numpy(), rtol=1e-5, atol=1e-5)


def test_matmul_in_pure_fp16_adds_one_product_after_the_other() -> None:
    x, y = half(drawn(2, 7)), half(drawn(7, 3, seed=1))
    found = run("matmul", x, y, partial=half)
    for row in range(2):
        for column in range(3):
            total = np.float32(0)
            for inner in range(7):
                total = np.float32(np.float16(total + x[row, inner] * y[inner, column]))
            assert found[row, column] == total
    assert np.any(found != half(run("matmul", x, y, partial=kept).copy()))


@FAST
@given(bias=st.booleans(), batch=st.sampled_from([(4,), (1, 5), (2, 3, 5)]))
def test_linear(bias: bool, batch: tuple[int, ...]) -> None:
    x, weight = drawn(*batch, 6), drawn(4, 6, seed=1)
    added = drawn(4, seed=2) if bias else None
    expected = F.linear(double(x), double(weight), None if added is None else double(added))
    found = run("linear", x, weight, added, partial=kept)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


@FAST
@given(axes=st.sampled_from([(-1,), (2,), (1, 2), (-2, -1)]), scaled=st.booleans(), offset=st.sampled_from([0.0, 50.0]))
def test_layer_norm(axes: tuple[int, ...], scaled: bool, offset: float) -> None:
    x = drawn(2, 5, 7) + np.float32(offset)
    shape = [x.shape[axis] for axis in axes]
    gamma, beta = (drawn(*shape, seed=seed) if scaled else None for seed in (1, 2))
    weight, bias = (None if each is None else double(each) for each in (gamma, beta))
    expected = F.layer_norm(double(x), shape, weight, bias, eps=1e-6)
    found = run("layer_norm", x, axes, gamma, beta, np.float32(1e-6), partial=kept)
    np.testing.assert_allclose(found, expected.numpy(), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("EXACT", F.gelu),
        ("TANH_APPROXIMATION", lambda x: F.gelu(x, approximate="tanh")),
        ("SIGMOID_APPROXIMATION", lambda x: x * torch.sigmoid(1.702 * x)),
    ],
)
def test_gelu(mode: str, expected: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = np.linspace(-9, 9, 999, dtype=np.float32)
    np.testing.assert_allclose(run("gelu", x, mode), expected(double(x)).numpy(), rtol=1e-5, atol=2e-6)
    with pytest.raises(MismatchError, match="of mode 'RELU'"):
        run("gelu", x, "RELU")


def test_erf() -> None:
    x = np.linspace(-4, 4, 99, dtype=np.float32)
    np.testing.assert_allclose(run("erf", x), torch.erf(double(x)).numpy(), rtol=1e-6, atol=1e-7)


@FAST
@given(
    groups=st.sampled_from([1, 2]),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    more=st.booleans(),
    bias=st.booleans(),
)
def test_conv_transpose(
    groups: int,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    padding: tuple[int, int],
    more: bool,
    bias: bool,
) -> None:
    x, weight = drawn(2, 2 * groups, 4, 5), drawn(2 * groups, 3, *kernel, seed=1)
    added = drawn(3 * groups, seed=2) if bias else None
    extra = tuple(int(more and max(step, dilation) > 1) for step, dilation in zip(strides, dilations, strict=True))
    spans = [dilation * (size - 1) + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    if any(
        (have - 1) * step + span - 2 * pad < 1
        for have, step, span, pad in zip((4, 5), strides, spans, padding, strict=True)
    ):
        return  # nothing is left
    expected = F.conv_transpose2d(
        double(x), double(weight), None if added is None else double(added), strides, padding, extra, groups, dilations
    ).numpy()
    pad = (padding[0], padding[0], padding[1], padding[1])
    found = run(
        "conv_transpose", x, weight, added, strides=strides, pad_type="custom", pad=pad, dilations=dilations,
        groups=groups, output_shape=expected.shape if any(extra) else None, partial=kept,
    )  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_conv_transpose_that_is_not_known() -> None:
    with pytest.raises(MismatchError, match="pad_type 'same'"):
        run("conv_transpose", drawn(1, 1, 2, 2), drawn(1, 1, 2, 2), pad_type="same", partial=kept)


@pytest.mark.parametrize(
    ("kind", "expected", "more"),
    [
        ("exp", torch.exp, ()),
        ("square", torch.square, ()),
        ("softplus", F.softplus, ()),
        ("inverse", lambda x: 1 / (x + 1e-4), ()),
        ("log", lambda x: torch.log(x + 0.5), (np.float32(0.5),)),
        ("pow", lambda x: x**1.5, (np.float32(1.5),)),
    ],
)
def test_functions_of_one_value(kind: str, expected: Callable[[torch.Tensor], torch.Tensor], more: tuple) -> None:
    x = np.abs(drawn(2, 3, 4, 5)) + np.float32(0.1)
    np.testing.assert_allclose(run(kind, x, *more), expected(double(x)).numpy(), rtol=1e-6, atol=1e-6)


def test_softplus_does_not_overflow() -> None:
    np.testing.assert_array_equal(run("softplus", np.array([-200, 200], np.float32)), [0, 200])
