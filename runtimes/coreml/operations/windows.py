"""Operations that see a window around each pixel: convolution and pooling, in two dimensions."""

from collections.abc import Iterator, Sequence

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.runtimes.coreml.arithmetic import Computation, Partial, Rounding, kept

COLUMNS = 1 << 20
"""Values of the unfolded input that a convolution holds at once."""

Pads = tuple[tuple[int, int], tuple[int, int]]


def conv(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    strides: Sequence[int] = (1, 1),
    pad_type: str = "valid",
    pad: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    groups: int = 1,
    *,
    partial: Partial,
) -> np.ndarray:
    """(N, C, H, W) → (N, outputs, H', W'): each window's products with `weight`, summed, and `bias`.

    In pure FP16 each product is added exactly and the sum is rounded: channel by channel, row by row, column by column;
    then the bias. The order of hardware is not documented.
    """
    _check_rank(x)
    kernel = weight.shape[2:]
    spans = [(size - 1) * int(dilation) + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    pads = _pads(x.shape[2:], spans, strides, pad_type, pad)
    padded = np.pad(x, ((0, 0), (0, 0), *pads))
    height, width = _output_size(padded.shape[2:], spans, strides)

    groups, taps = int(groups), weight.shape[1] * kernel[0] * kernel[1]
    matrix = weight.reshape(groups, -1, taps)
    result = np.empty((x.shape[0], weight.shape[0], height, width), np.float32)
    rows = max(1, COLUMNS // (groups * taps * width))
    for n in range(x.shape[0]):
        for top in range(0, height, rows):
            count = min(rows, height - top)
            columns = np.empty((padded.shape[1], *kernel, count, width), np.float32)
            for i, j, window in _windows(padded[n], kernel, strides, dilations, (height, width)):
                columns[:, i, j] = window[:, top : top + count]
            summed = _product(matrix, columns.reshape(groups, taps, -1), partial)
            result[n, :, top : top + count] = summed.reshape(-1, count, width)
    if bias is not None:
        result = partial(result) + bias.reshape(-1, 1, 1)
    return result


def conv_transpose(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    strides: Sequence[int] = (1, 1),
    pad_type: str = "valid",
    pad: Sequence[int] = (0, 0, 0, 0),
    output_shape: Sequence[int] | None = None,
    dilations: Sequence[int] = (1, 1),
    groups: int = 1,
    *,
    partial: Partial,
) -> np.ndarray:
    """(N, C, H, W) → (N, outputs, H', W'): each pixel's products with `weight`, added where they fall, and `bias`.

    `weight` is inputs × outputs of a group × height × width. Pixels of the result that `pad` names are cut off.
    """
    _check_rank(x)
    if pad_type not in ("valid", "custom"):
        raise MismatchError(
            f"conv_transpose with pad_type '{pad_type}' is not known to the executor: let it pad itself"
        )
    number, channels, height, width = x.shape
    kernel, count = weight.shape[2:], int(groups)
    spans = [(size - 1) * int(dilation) + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    size = [(side - 1) * int(step) + span for side, step, span in zip((height, width), strides, spans, strict=True)]
    pads = _pads((height, width), spans, strides, pad_type, pad)
    inside = [side - before - after for side, (before, after) in zip(size, pads, strict=True)]
    if output_shape is not None:
        inside = [int(side) for side in output_shape[-2:]]
    lacking = [max(0, side + before - whole) for side, whole, (before, _) in zip(inside, size, pads, strict=True)]
    matrix = weight.reshape(count, channels // count, -1, *kernel)
    result = np.zeros((number, weight.shape[1] * count, size[0] + lacking[0], size[1] + lacking[1]), np.float32)
    for n in range(number):
        pixels = x[n].reshape(count, channels // count, -1)
        for i, j, window in _windows(result[n], kernel, strides, dilations, (height, width)):
            taps = _product(np.ascontiguousarray(matrix[..., i, j].transpose(0, 2, 1)), pixels, partial)
            window[:] = partial(window + taps.reshape(-1, height, width))
    rows, columns = (slice(before, before + side) for side, (before, _) in zip(inside, pads, strict=True))
    result = np.ascontiguousarray(result[:, :, rows, columns])
    return result if bias is None else result + bias.reshape(-1, 1, 1)


def _product(matrix: np.ndarray, columns: np.ndarray, partial: Partial) -> np.ndarray:
    """(groups, outputs, taps) · (groups, taps, pixels) → (groups, outputs, pixels)."""
    if partial is kept:
        return np.matmul(matrix, columns)
    total = np.zeros((*matrix.shape[:2], columns.shape[2]), np.float32)
    for tap in range(matrix.shape[2]):
        total += matrix[:, :, tap, None] * columns[:, None, tap]
        total = partial(total)
    return total


def avg_pool(
    x: np.ndarray,
    kernel_sizes: Sequence[int],
    strides: Sequence[int] = (1, 1),
    pad_type: str = "valid",
    pad: Sequence[int] = (0, 0, 0, 0),
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
    *,
    partial: Partial,
) -> np.ndarray:
    """The mean of each window; padding counts as zeros, or with `exclude_padding_from_average` not at all."""
    total: np.ndarray | None = None
    for window in _pooled(x, kernel_sizes, strides, pad_type, pad, ceil_mode, fill=0.0):
        total = window.copy() if total is None else partial(total + window)
    assert total is not None
    if not exclude_padding_from_average:
        return total / np.float32(np.prod(kernel_sizes))
    inside = np.ones((1, 1, *x.shape[2:]), np.float32)
    return total / sum(_pooled(inside, kernel_sizes, strides, pad_type, pad, ceil_mode, fill=0.0))


def max_pool(
    x: np.ndarray,
    kernel_sizes: Sequence[int],
    strides: Sequence[int] = (1, 1),
    pad_type: str = "valid",
    pad: Sequence[int] = (0, 0, 0, 0),
    ceil_mode: bool = False,
) -> np.ndarray:
    """The largest value of each window; padding never is."""
    largest: np.ndarray | None = None
    for window in _pooled(x, kernel_sizes, strides, pad_type, pad, ceil_mode, fill=-np.inf):
        largest = window if largest is None else np.maximum(largest, window)
    assert largest is not None
    return largest


def _pooled(
    x: np.ndarray,
    kernel: Sequence[int],
    strides: Sequence[int],
    pad_type: str,
    pad: Sequence[int],
    ceil_mode: bool,
    *,
    fill: float,
) -> Iterator[np.ndarray]:
    """For each tap of the kernel what the windows see there, (N, C, H', W')."""
    _check_rank(x)
    if ceil_mode:
        raise MismatchError("pooling with ceil_mode is not known to the executor: let the network pad")
    pads = _pads(x.shape[2:], kernel, strides, pad_type, pad)
    padded = np.pad(x, ((0, 0), (0, 0), *pads), constant_values=fill)
    size = _output_size(padded.shape[2:], kernel, strides)
    for _, _, window in _windows(padded, kernel, strides, (1, 1), size):
        yield window


def _windows(
    padded: np.ndarray, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], size: Sequence[int]
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Row i and column j of the kernel, and a view of what all windows see there."""
    for i in range(int(kernel[0])):
        for j in range(int(kernel[1])):
            index = [
                slice(tap * int(dilation), tap * int(dilation) + (count - 1) * int(stride) + 1, int(stride))
                for tap, dilation, count, stride in zip((i, j), dilations, size, strides, strict=True)
            ]
            yield i, j, padded[..., index[0], index[1]]


def _pads(size: Sequence[int], spans: Sequence[int], strides: Sequence[int], pad_type: str, pad: Sequence[int]) -> Pads:
    """(before, after) of height and width, for kernels that span so many pixels.

    "same" pads so that ⌈size / stride⌉ windows fit; an odd pixel goes behind, with "same_lower" in front.
    """
    if pad_type == "valid":
        return ((0, 0), (0, 0))
    if pad_type == "custom":
        return ((int(pad[0]), int(pad[1])), (int(pad[2]), int(pad[3])))
    if pad_type not in ("same", "same_lower"):
        raise MismatchError(f"pad_type '{pad_type}' is not one of MIL's: valid, custom, same, same_lower")
    both = []
    for length, span, stride in zip(size, spans, strides, strict=True):
        total = max(0, (-(-length // int(stride)) - 1) * int(stride) + int(span) - length)
        less, more = total // 2, total - total // 2
        both.append((less, more) if pad_type == "same" else (more, less))
    return (both[0], both[1])


def _output_size(padded: Sequence[int], spans: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    height, width = ((a - int(b)) // int(c) + 1 for a, b, c in zip(padded, spans, strides, strict=True))
    return height, width


def _check_rank(x: np.ndarray) -> None:
    if x.ndim != 4:
        raise MismatchError(f"convolution and pooling take N×C×H×W here, not an array of rank {x.ndim}")


OPERATIONS = {
    "conv": Computation(conv, Rounding.SUMS),
    "conv_transpose": Computation(conv_transpose, Rounding.SUMS),
    "avg_pool": Computation(avg_pool, Rounding.SUMS),
    "max_pool": Computation(max_pool, Rounding.NONE),
}
