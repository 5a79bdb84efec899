"""FP16 on a machine that computes in float32: arrays stay float32, their values are those that FP16 has."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

BLOCK = 1 << 15
"""Values that are rounded at once: they stay in the cache."""

LIMIT = 65520.0
"""The smallest magnitude that FP16 rounds to infinity."""

Partial = Callable[[np.ndarray], np.ndarray]
"""What is done to a partial sum, which may be overwritten: `half` in pure FP16, `kept` where sums are float32."""


class Rounding(Enum):
    """Where an operation rounds when its result is FP16."""

    NONE = "it only moves or picks values"
    RESULT = "once, at the end"
    SUMS = "at the end; in pure FP16 also each partial result"


@dataclass(frozen=True)
class Computation:
    """What a kind of operation computes.

    Attributes:
        compute: parameters of MIL by name → array, or a tuple of them for several outputs. Float arrays are float32.
            With `Rounding.SUMS` it takes `partial` too. What it returns is its own, unless `rounding` is NONE.
    """

    compute: Callable[..., Any]
    rounding: Rounding


def half(values: np.ndarray) -> np.ndarray:
    """Float32 values rounded to the nearest that FP16 has, ties to even, subnormal numbers and infinity included.

    Rounds in place where `values` is contiguous. A zero loses its sign.
    """
    values = np.asarray(values, order="C")
    flat = values.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        block = flat[start : start + BLOCK]
        if not (block.min() > -LIMIT and block.max() < LIMIT):  # NaN too
            with np.errstate(over="ignore"):
                block[:] = block.astype(np.float16)
            continue
        # 1.5 · 2¹³ times the power of two below |x|: at that size float32 is as coarse as FP16 is at x, and adding
        # rounds. Below 2⁻¹⁴ FP16 gets no finer.
        exponent = np.maximum(block.view(np.uint32) & np.uint32(0x7F800000), np.uint32(0x38800000))
        coarse = exponent.view(np.float32) * np.float32(1.5 * 2**13)
        block += coarse
        block -= coarse
    return values


def kept(values: np.ndarray) -> np.ndarray:
    """The values as they are."""
    return values
