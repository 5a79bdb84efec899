"""How far PyTorch in FP16 is from PyTorch in FP32: the model's own rounding, which says what a runtime may be off by.

It is the rounding of the network as it is written, as in parity's table. With the batch norms of `edge` depth folded
into its convolutions, as in a package, PyTorch is closer to FP32 (62 to 72 dB instead of 41), but how much closer
depends on the input and on the number of threads: too much luck for a limit.
"""

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn

FACTORS = {"fp16": 2.0, "fp16 sums": 6.0}
"""Way of rounding → how many times the model's own error (root mean square) a runtime's may be. "fp16": the results of
operations are rounded, sums are float32. "fp16 sums": partial sums are rounded too, one product after the other."""

FLOORS = {"fp16": 50.0, "fp16 sums": 40.0}
"""Way of rounding → smallest agreement in dB, whatever the model's own. Apple asks 50 dB of an FP16 port, and says of
one below 40 dB: investigate. The executor's FP16 sums are no port. They are a bound: products are added one by one, in
the order that rounds worst. So 40 dB is asked of them."""


def least_agreement(own: float) -> dict[str, float]:
    """Way of rounding → smallest agreement with PyTorch in dB: `FACTORS` times the model's own error, from `FLOORS` up.

    Args:
        own: agreement of PyTorch in FP16 with PyTorch in FP32, in dB; infinite or NaN: unknown, the floors hold alone.
    """
    return {
        name: max(floor, own - 20 * math.log10(FACTORS[name])) if math.isfinite(own) else floor
        for name, floor in FLOORS.items()
    }


def in_fp16(module: "nn.Module", inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """What `module` gives in FP16 with sums in float32: N×C×H×W float32. The module stays as it is.

    Args:
        inputs: float32 N×C×H×W, in the order of the module's arguments.
    """
    import torch

    from deeplens.model.half import round_weights, rounding_mode

    own = copy.deepcopy(module).eval()
    round_weights(own)
    with torch.inference_mode(), rounding_mode():
        result: np.ndarray = own(*(torch.from_numpy(array).half().float() for array in inputs.values())).numpy()
    return result
