"""Bias correction: rounding a weight shifts the mean of what its layer gives, by what is known beforehand.

A channel of a convolution gives w·x + b; with ŵ = w + e in INT8 its mean is off by e·E[x]. Subtracting that from the
bias takes the shift away (Nagel et al., "Data-free quantization through weight equalization and bias correction",
2019), with E[x] of each input channel as it was measured on photos.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from deeplens.export.int8 import quantised_weight, weight_scales

if TYPE_CHECKING:
    import onnx

    from deeplens.calibration.statistics import Statistics
    from deeplens.export.layers import Layer


def shift(weight: np.ndarray, means: np.ndarray) -> np.ndarray:
    """What is to be added to the bias of a layer in INT8.

    Args:
        weight: outputs × inputs a group × height × width, FP32.
        means: E[x] of each input channel, (groups · inputs a group,).

    Returns:
        (outputs,), float32.
    """
    scales = weight_scales(weight)
    error = quantised_weight(weight, scales) * scales.reshape(-1, 1, 1, 1) - weight.astype(np.float64)
    outputs, inputs = weight.shape[:2]
    groups = len(means) // inputs
    own = np.repeat(means.reshape(groups, inputs), outputs // groups, axis=0)
    return (-(error.sum((2, 3)) * own).sum(1)).astype(np.float32)


def shifts(
    model: "onnx.ModelProto", own: "Sequence[Layer]", statistics: "Statistics"
) -> Mapping[str, tuple[float, ...]]:
    """Path of each layer of a network → what is to be added to its bias, one number an output channel."""
    from onnx import numpy_helper

    weights = {each.name: each for each in model.graph.initializer}
    found = {}
    for layer in own:
        means = statistics.tensors[layer.input].all_levels.means
        by_channel = shift(numpy_helper.to_array(weights[layer.weight]), means)
        found[layer.path] = tuple(float(f"{each:.3g}") for each in by_channel)
    return found
