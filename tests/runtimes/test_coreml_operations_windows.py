"""Convolution, pooling and resizing alone against PyTorch, and in pure FP16 against sums taken one by one."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens.console.errors import MismatchError
from deeplens.runtimes.coreml.arithmetic import half, kept
from deeplens.runtimes.coreml.operations import windows
from deeplens.runtimes.coreml.operations.resize import grid, resize_bilinear, upsample_bilinear
from deeplens.runtimes.coreml.operations.windows import avg_pool, conv, max_pool

FAST = settings(max_examples=25, deadline=None, derandomize=True, database=None)

PADS = st.tuples(*[st.integers(0, 3)] * 4)
SMALL = st.integers(1, 3)


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def padded(x: np.ndarray, pad: tuple[int, ...], value: float = 0.0) -> torch.Tensor:
    """With `pad` as MIL orders it: top, bottom, left, right."""
    return F.pad(torch.from_numpy(x), (*pad[2:], *pad[:2]), value=value)


@FAST
@given(
    groups=SMALL,
    each_in=SMALL,
    each_out=SMALL,
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(SMALL, SMALL),
    dilations=st.tuples(SMALL, SMALL),
    pad=PADS,
    bias=st.booleans(),
    images=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_conv(
    groups: int,
    each_in: int,
    each_out: int,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pad: tuple[int, ...],
    bias: bool,
    images: int,
    seed: int,
) -> None:
    x = drawn(images, groups * each_in, 11, 13, seed=seed)
    weight = drawn(groups * each_out, each_in, *kernel, seed=seed + 1)
    added = drawn(groups * each_out, seed=seed + 2) if bias else None
    expected = F.conv2d(
        padded(x, pad).double(),
        torch.from_numpy(weight).double(),
        None if added is None else torch.from_numpy(added).double(),
        strides,
        0,
        dilations,
        groups,
    ).numpy()
    common: dict[str, Any] = {"strides": strides, "pad_type": "custom", "pad": pad, "dilations": dilations}
    common |= {"bias": added, "groups": np.int32(groups)}
    found = conv(x, weight, **common, partial=kept)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    rounded = half(conv(half(x), half(weight), **common, partial=half))
    np.testing.assert_allclose(rounded, expected, rtol=0.05, atol=0.05)


def test_conv_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = drawn(1, 3, 17, 9), drawn(4, 3, 3, 3)
    whole = conv(x, weight, strides=(2, 1), partial=kept)
    monkeypatch.setattr(windows, "COLUMNS", 200)
    np.testing.assert_allclose(conv(x, weight, strides=(2, 1), partial=kept), whole, rtol=1e-6, atol=1e-6)


def test_conv_in_pure_fp16_rounds_after_each_product() -> None:
    """Against a loop over NumPy's own FP16 numbers."""
    x, weight, bias = half(drawn(1, 2, 4, 5)), half(drawn(2, 2, 2, 3)), half(drawn(2))
    found = half(conv(x, weight, bias, partial=half))
    one_sum = conv(x, weight, bias, partial=kept)
    assert np.any(found != half(one_sum.copy()))
    for output in range(2):
        for row in range(3):
            for column in range(3):
                total = np.float16(0)
                for channel in range(2):
                    for i in range(2):
                        for j in range(3):
                            product = weight[output, channel, i, j] * x[0, channel, row + i, column + j]
                            total = np.float16(np.float32(total) + product)
                total = np.float16(np.float32(total) + bias[output])
                assert found[0, output, row, column] == total


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("size", [5, 6, 7])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_conv_padded_to_the_same_size(size: int, kernel: int, stride: int) -> None:
    x, weight = drawn(1, 1, size, size), drawn(1, 1, kernel, kernel)
    same = conv(x, weight, strides=(stride, stride), pad_type="same", partial=kept)
    assert same.shape[2] == -(-size // stride)
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    behind = (total // 2, total - total // 2) * 2
    front = (total - total // 2, total // 2) * 2
    for pad_type, pad in (("same", behind), ("same_lower", front)):
        found = conv(x, weight, strides=(stride, stride), pad_type=pad_type, partial=kept)
        expected = F.conv2d(padded(x, pad), torch.from_numpy(weight), stride=stride).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    if stride == 1:  # PyTorch's own "same", which has an odd pixel behind
        expected = F.conv2d(torch.from_numpy(x), torch.from_numpy(weight), padding="same").numpy()
        np.testing.assert_allclose(same, expected, rtol=1e-5, atol=1e-6)


def test_what_is_not_known_is_refused() -> None:
    x = drawn(1, 1, 4, 4)
    with pytest.raises(MismatchError, match="pad_type 'around'"):
        conv(x, x, pad_type="around", partial=kept)
    with pytest.raises(MismatchError, match="rank 3"):
        conv(x[0], x, partial=kept)
    with pytest.raises(MismatchError, match="ceil_mode"):
        max_pool(x, (2, 2), ceil_mode=True)
    with pytest.raises(MismatchError, match="sampling mode 'NEAR'"):
        resize_bilinear(x, 2, 2, "NEAR", partial=kept)


@FAST
@given(
    kernel=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    strides=st.tuples(SMALL, SMALL),
    pad=st.tuples(*[st.integers(0, 1)] * 2),
    counted=st.booleans(),
)
def test_pooling(kernel: tuple[int, int], strides: tuple[int, int], pad: tuple[int, int], counted: bool) -> None:
    x = drawn(2, 3, 9, 8)
    t = torch.from_numpy(x)
    four = (pad[0], pad[0], pad[1], pad[1])
    place: dict[str, Any] = {"strides": strides, "pad_type": "custom", "pad": four}
    expected = F.avg_pool2d(t, kernel, strides, pad, count_include_pad=counted).numpy()
    for partial, tolerance in ((kept, 1e-6), (half, 5e-3)):
        found = avg_pool(x, kernel, **place, exclude_padding_from_average=not counted, partial=partial)
        np.testing.assert_allclose(found, expected, atol=tolerance)
    np.testing.assert_array_equal(max_pool(x, kernel, **place), F.max_pool2d(t, kernel, strides, pad).numpy())


def test_pooling_of_uneven_borders() -> None:
    x = drawn(1, 2, 6, 6) - 2  # all below 0: a padded 0 would show
    pad = (1, 0, 0, 2)
    expected = F.max_pool2d(padded(x, pad, -np.inf), 3, 1).numpy()
    np.testing.assert_array_equal(max_pool(x, (3, 3), pad_type="custom", pad=pad), expected)
    expected = F.avg_pool2d(padded(x, pad), 3, 1).numpy()
    found = avg_pool(x, (3, 3), pad_type="custom", pad=pad, partial=kept)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@FAST
@given(height=st.integers(1, 7), width=st.integers(1, 7), factor=st.integers(1, 5), corners=st.booleans())
def test_upsample_bilinear(height: int, width: int, factor: int, corners: bool) -> None:
    x = drawn(1, 2, height, width)
    expected = F.interpolate(torch.from_numpy(x), scale_factor=float(factor), mode="bilinear", align_corners=corners)
    for partial, tolerance in ((kept, 1e-6), (half, 3e-3)):
        found = upsample_bilinear(x, factor, float(factor), corners, partial=partial)
        np.testing.assert_allclose(found, expected.numpy(), atol=tolerance)


@FAST
@given(size=st.tuples(st.integers(2, 7), st.integers(2, 7)), target=st.tuples(st.integers(2, 9), st.integers(2, 9)))
def test_resize_bilinear(size: tuple[int, int], target: tuple[int, int]) -> None:
    x = drawn(1, 2, *size)
    for mode, corners in (("UNALIGN_CORNERS", False), ("STRICT_ALIGN_CORNERS", True), ("ALIGN_CORNERS", True)):
        expected = F.interpolate(torch.from_numpy(x), size=target, mode="bilinear", align_corners=corners).numpy()
        np.testing.assert_allclose(resize_bilinear(x, *target, mode, partial=kept), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("mode", "target", "expected"),
    [
        ("UNALIGN_CORNERS", 5, [0, 0.1, 0.5, 0.9, 1]),
        ("STRICT_ALIGN_CORNERS", 5, [0, 0.25, 0.5, 0.75, 1]),
        ("DEFAULT", 5, [0, 0.4, 0.8, 1, 1]),
        ("OFFSET_CORNERS", 5, [0.1, 0.3, 0.5, 0.7, 0.9]),
        ("UNALIGN_CORNERS", 6, [0, 0, 1 / 3, 2 / 3, 1, 1]),
        ("ALIGN_CORNERS", 6, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ("DEFAULT", 6, [0, 1 / 3, 2 / 3, 1, 1, 1]),
        ("OFFSET_CORNERS", 6, [1 / 12, 0.25, 5 / 12, 7 / 12, 0.75, 11 / 12]),
        ("ALIGN_CORNERS", 1, [0.5]),
        ("STRICT_ALIGN_CORNERS", 1, [0]),
    ],
)
def test_samples_lie_where_coremltools_documents_them(mode: str, target: int, expected: list[float]) -> None:
    np.testing.assert_allclose(grid(2, target, mode), expected, atol=1e-12)
