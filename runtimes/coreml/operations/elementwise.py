"""Operations on each value alone. Shapes broadcast as in NumPy."""

from collections.abc import Callable

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.runtimes.coreml.arithmetic import Computation, Rounding


def rsqrt(x: np.ndarray, epsilon: np.ndarray) -> np.ndarray:
    """1 / √(x + epsilon)."""
    return 1 / np.sqrt(x + epsilon)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(−x)), by a tanh that can't overflow."""
    return 0.5 * np.tanh(0.5 * x) + np.float32(0.5)


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x)), in a form that can't overflow."""
    return np.logaddexp(x, np.float32(0))


def inverse(x: np.ndarray, epsilon: np.ndarray = np.float32(1e-4)) -> np.ndarray:  # noqa: B008  # MIL's own
    """1 / (x + epsilon). What PyTorch calls `reciprocal` becomes this with MIL's own epsilon, 1e-4."""
    return 1 / (x + epsilon)


def log(x: np.ndarray, epsilon: np.ndarray = np.float32(1e-45)) -> np.ndarray:  # noqa: B008  # MIL's own
    """The natural logarithm of x + epsilon; of what is negative NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(x + epsilon)


def leaky_relu(x: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """x where x ≥ 0, alpha · x below."""
    return np.where(x >= 0, x, alpha * x)


def clip(x: np.ndarray, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """x brought into [alpha, beta]."""
    return np.clip(x, alpha, beta)


def cast(x: np.ndarray, dtype: str) -> np.ndarray:
    """Another type; fractions are cut off on the way to whole numbers. To FP16 the result is rounded."""
    types = {"fp16": np.float32, "fp32": np.float32, "int32": np.int32, "bool": np.bool_}
    if dtype not in types:
        raise MismatchError(f"cast to {dtype} is not known to the executor: {', '.join(types)} are")
    return x.astype(types[dtype])


def _of_one(function: Callable[[np.ndarray], np.ndarray], rounding: Rounding) -> Computation:
    """`function` of MIL's x; what has no value (the root of −1) is NaN."""

    def compute(x: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return function(x)

    return Computation(compute, rounding)


def _of_two(function: Callable[[np.ndarray, np.ndarray], np.ndarray], rounding: Rounding) -> Computation:
    """`function` of MIL's x and y; a division by 0 is infinite, of 0 NaN."""

    def compute(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return function(x, y)

    return Computation(compute, rounding)


OPERATIONS = {
    "add": _of_two(np.add, Rounding.RESULT),
    "sub": _of_two(np.subtract, Rounding.RESULT),
    "mul": _of_two(np.multiply, Rounding.RESULT),
    "real_div": _of_two(np.divide, Rounding.RESULT),
    "maximum": _of_two(np.maximum, Rounding.NONE),
    "minimum": _of_two(np.minimum, Rounding.NONE),
    "abs": _of_one(np.abs, Rounding.NONE),
    "floor": _of_one(np.floor, Rounding.NONE),
    "round": _of_one(np.rint, Rounding.NONE),
    "sqrt": _of_one(np.sqrt, Rounding.RESULT),
    "exp": _of_one(np.exp, Rounding.RESULT),
    "square": _of_one(np.square, Rounding.RESULT),
    "pow": _of_two(np.power, Rounding.RESULT),
    "relu": _of_one(lambda x: np.maximum(x, 0), Rounding.NONE),
    "relu6": _of_one(lambda x: np.clip(x, 0, 6), Rounding.NONE),
    "rsqrt": Computation(rsqrt, Rounding.RESULT),
    "inverse": Computation(inverse, Rounding.RESULT),
    "log": Computation(log, Rounding.RESULT),
    "sigmoid": Computation(sigmoid, Rounding.RESULT),
    "softplus": Computation(softplus, Rounding.RESULT),
    "leaky_relu": Computation(leaky_relu, Rounding.RESULT),
    "clip": Computation(clip, Rounding.NONE),
    "cast": Computation(cast, Rounding.RESULT),
}
