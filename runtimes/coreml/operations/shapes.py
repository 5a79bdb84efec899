"""Operations that move values: nothing is computed, so nothing is rounded. Results may be views of the input."""

from collections.abc import Sequence

import numpy as np

from deeplens.runtimes.coreml.arithmetic import Computation, Rounding


def identity(x: np.ndarray) -> np.ndarray:
    """The same values."""
    return x


def concat(values: Sequence[np.ndarray], axis: int, interleave: bool = False) -> np.ndarray:
    """One after the other along `axis`; interleaved: the first of each, then the second of each…"""
    if not interleave:
        return np.concatenate(values, axis)
    stacked = np.stack([np.moveaxis(value, axis, 0) for value in values], 1)
    return np.moveaxis(stacked.reshape(-1, *stacked.shape[2:]), 0, axis)


def split(
    x: np.ndarray, axis: int, num_splits: int | None = None, split_sizes: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
    """Parts of `split_sizes` along `axis`, or `num_splits` equal ones."""
    if split_sizes is not None:
        return tuple(np.split(x, np.cumsum(split_sizes)[:-1], axis))
    assert num_splits is not None
    return tuple(np.split(x, int(num_splits), axis))


def slice_by_index(
    x: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    stride: np.ndarray | None = None,
    begin_mask: np.ndarray | None = None,
    end_mask: np.ndarray | None = None,
    squeeze_mask: np.ndarray | None = None,
) -> np.ndarray:
    """x[begin : end : stride] on each axis.

    Where a mask is set: from the first (`begin_mask`), to the last (`end_mask`), or the value at `begin` alone, without
    its axis (`squeeze_mask`).
    """
    index: list[int | slice] = []
    for axis in range(x.ndim):
        if squeeze_mask is not None and squeeze_mask[axis]:
            index.append(int(begin[axis]))
            continue
        start = None if begin_mask is not None and begin_mask[axis] else int(begin[axis])
        stop = None if end_mask is not None and end_mask[axis] else int(end[axis])
        index.append(slice(start, stop, 1 if stride is None else int(stride[axis])))
    return x[tuple(index)]


def pad(x: np.ndarray, pad: np.ndarray, mode: str = "constant", constant_val: float = 0.0) -> np.ndarray:
    """Pads the last axes by (before, after) of each; "reflect" does not repeat the border, "replicate" does."""
    before_after = np.asarray(pad).reshape(-1, 2)
    widths = np.vstack([np.zeros((x.ndim - len(before_after), 2), np.int64), before_after])
    if mode == "constant":
        return np.pad(x, widths, constant_values=constant_val)
    return np.pad(x, widths, mode="reflect" if mode == "reflect" else "edge")


def pixel_shuffle(x: np.ndarray, upscale_factor: int) -> np.ndarray:
    """(N, C·f², H, W) → (N, C, H·f, W·f): channel c·f² + i·f + j goes to row i and column j of each f×f block."""
    factor = int(upscale_factor)
    number, channels, height, width = x.shape
    blocks = x.reshape(number, channels // factor**2, factor, factor, height, width)
    return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(number, -1, height * factor, width * factor)


def reshape(x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """In row-major order; −1 stands for what is left, 0 for the input's size on that axis."""
    sizes = [x.shape[axis] if size == 0 else int(size) for axis, size in enumerate(shape)]
    return x.reshape(sizes)


def transpose(x: np.ndarray, perm: np.ndarray) -> np.ndarray:
    """Axis i of the result is axis perm[i] of x."""
    return x.transpose([int(axis) for axis in perm])


def expand_dims(x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """With an axis of one at each of `axes` of the result."""
    return np.expand_dims(x, tuple(int(axis) for axis in axes))


def squeeze(x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    """Without `axes`, which have one value; None: without all such."""
    return np.squeeze(x, None if axes is None else tuple(int(axis) for axis in axes))


def tile(x: np.ndarray, reps: np.ndarray) -> np.ndarray:
    """Axis i reps[i] times, one after the other."""
    return np.tile(x, [int(times) for times in reps])


OPERATIONS = {
    function.__name__: Computation(function, Rounding.NONE)
    for function in (
        identity,
        concat,
        split,
        slice_by_index,
        pad,
        pixel_shuffle,
        reshape,
        transpose,
        expand_dims,
        squeeze,
        tile,
    )
}
