"""Makes PyTorch's first calls of mathematical functions exact on a CPU.

Intel's oneMKL 2024.2, which PyTorch's x86 wheels hold, chooses the code of each vector function (`sqrt`, `exp`, …) at
its first call. Where several threads make that call together, one of them may run code of half the digits for its share
of the values, once: PyTorch issue 188792. Later calls are right. With it the first picture of a process was up to
2.2e-4 off in the lens blur, in 10 of 26 processes on two cores.
"""

from functools import cache

import torch

FUNCTIONS = (
    "acos", "asin", "atan", "cos", "erf", "erfc", "erfinv", "exp", "expm1", "log", "log10", "log1p", "log2", "sin",
    "sqrt", "tan", "tanh",
)  # fmt: skip
"""What PyTorch gives to oneMKL's vector functions, and what may join them."""


@cache
def make_first_calls() -> None:
    """Call each of `FUNCTIONS` once, on one element in float32 and in float64, so that one thread alone does it."""
    for dtype in (torch.float32, torch.float64):
        half = torch.full((1,), 0.5, dtype=dtype)
        for name in FUNCTIONS:
            getattr(torch, name)(half)
