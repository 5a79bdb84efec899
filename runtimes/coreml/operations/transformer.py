"""Operations that vision transformers have beside convolutional networks: products of matrices, layer norm, GELU."""

import math
from collections.abc import Sequence

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.runtimes.coreml.arithmetic import Computation, Partial, Rounding, kept
from deeplens.runtimes.coreml.operations.reductions import reduce_mean


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, partial: Partial) -> np.ndarray:
    """x · weightᵀ + bias over the last axis; `weight` is outputs × inputs."""
    result = matmul(x, weight, transpose_y=True, partial=partial)
    return result if bias is None else partial(result) + bias


def matmul(
    x: np.ndarray, y: np.ndarray, transpose_x: bool = False, transpose_y: bool = False, *, partial: Partial
) -> np.ndarray:
    """The product over the last two axes; others broadcast. In pure FP16 products are added one after the other."""
    x = np.swapaxes(x, -1, -2) if transpose_x else x
    y = np.swapaxes(y, -1, -2) if transpose_y else y
    if partial is kept:
        return np.matmul(x, y)
    total: np.ndarray | None = None
    for inner in range(x.shape[-1]):
        product = x[..., inner, None] * y[..., None, inner, :]
        total = partial(product if total is None else total + product)
    assert total is not None
    return total


def layer_norm(
    x: np.ndarray,
    axes: Sequence[int] | None = None,
    gamma: np.ndarray | None = None,
    beta: np.ndarray | None = None,
    epsilon: float = 1e-5,
    *,
    partial: Partial,
) -> np.ndarray:
    """(x − mean) / √(variance + epsilon) · gamma + beta over `axes`, all of them if None."""
    over = np.arange(x.ndim) if axes is None else np.asarray(axes)
    centred = partial(x - reduce_mean(x, over, True, partial=partial))
    variance = reduce_mean(partial(centred * centred), over, True, partial=partial)
    result = centred / np.sqrt(variance + np.float32(epsilon))
    if gamma is not None:
        result = partial(result) * gamma
    return result if beta is None else partial(result) + beta


def gelu(x: np.ndarray, mode: str = "EXACT") -> np.ndarray:
    """x · Φ(x), Φ being the normal distribution's; by a tanh or a sigmoid where `mode` says so."""
    if mode == "EXACT":
        inside = x * np.float32(math.sqrt(0.5))
        return np.float32(0.5) * x * (1 + erf(inside))
    if mode == "TANH_APPROXIMATION":
        inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3)
        return np.float32(0.5) * x * (1 + np.tanh(inner))
    if mode == "SIGMOID_APPROXIMATION":
        return x * (np.float32(0.5) * np.tanh(np.float32(0.851) * x) + np.float32(0.5))
    raise MismatchError(f"gelu of mode '{mode}' is not known to the executor")


def erf(x: np.ndarray) -> np.ndarray:
    """The error function, computed in double precision."""
    flat = np.frompyfunc(math.erf, 1, 1)(x.astype(np.float64))
    return np.asarray(flat, np.float64).astype(np.float32)


OPERATIONS = {
    "linear": Computation(linear, Rounding.SUMS),
    "matmul": Computation(matmul, Rounding.SUMS),
    "layer_norm": Computation(layer_norm, Rounding.SUMS),
    "gelu": Computation(gelu, Rounding.RESULT),
    "erf": Computation(erf, Rounding.RESULT),
}
