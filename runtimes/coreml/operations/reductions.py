"""Sums and extremes over axes."""

import numpy as np

from deeplens.runtimes.coreml.arithmetic import Computation, Partial, Rounding, kept


def reduce_sum(
    x: np.ndarray, axes: np.ndarray | None = None, keep_dims: bool = False, *, partial: Partial
) -> np.ndarray:
    """The sum over `axes`, all of them if None."""
    chosen = _axes(x, axes)
    if partial is kept:
        return np.sum(x, chosen, keepdims=bool(keep_dims))
    front = np.moveaxis(x, chosen, range(len(chosen))).reshape(-1, *(np.delete(x.shape, chosen)))
    total = front[0].copy()
    for each in front[1:]:
        total = partial(total + each)
    return np.expand_dims(total, chosen) if keep_dims else total


def reduce_mean(
    x: np.ndarray, axes: np.ndarray | None = None, keep_dims: bool = False, *, partial: Partial
) -> np.ndarray:
    """The mean over `axes`, all of them if None."""
    total = reduce_sum(x, axes, keep_dims, partial=partial)
    return total / np.float32(x.size // total.size)


def reduce_min(x: np.ndarray, axes: np.ndarray | None = None, keep_dims: bool = False) -> np.ndarray:
    """The least value over `axes`, all of them if None."""
    return np.min(x, _axes(x, axes), keepdims=bool(keep_dims))


def reduce_max(x: np.ndarray, axes: np.ndarray | None = None, keep_dims: bool = False) -> np.ndarray:
    """The largest value over `axes`, all of them if None."""
    return np.max(x, _axes(x, axes), keepdims=bool(keep_dims))


def _axes(x: np.ndarray, axes: np.ndarray | None) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axes is None else tuple(int(axis) % x.ndim for axis in axes)


def softmax(x: np.ndarray, axis: int = -1, *, partial: Partial) -> np.ndarray:
    """exp(x − max) over its sum along `axis`."""
    weights = partial(np.exp(partial(x - x.max(axis, keepdims=True))))
    return weights / reduce_sum(weights, np.array([axis]), True, partial=partial)


OPERATIONS = {
    **{function.__name__: Computation(function, Rounding.SUMS) for function in (reduce_sum, reduce_mean, softmax)},
    **{function.__name__: Computation(function, Rounding.NONE) for function in (reduce_min, reduce_max)},
}
