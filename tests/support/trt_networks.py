"""What the engines of `tests.support.trt_stand_in` compute."""

from typing import Any

import numpy as np

from deeplens.model.contract import Tensor
from deeplens.model.whole_contract import PIXELS, PIXELS_IN, PIXELS_OUT, REFOCUSED, TOTAL, PixelTensor, contract_named


def dtype_of(tensor: Tensor, dtype: str) -> "np.dtype[Any]":
    """Of an input or output of an engine in `dtype`: a photo has 8 unsigned bits, what stands around it is float32."""
    return np.dtype(np.uint8 if isinstance(tensor, PixelTensor) else dtype)


def outputs_of(network: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Output → what a network gives, float32 or as it lies in memory."""
    if network == PIXELS_IN:
        return {"picture": inputs[PIXELS].transpose(2, 0, 1)[None] / np.float32(255)}
    if network == PIXELS_OUT:
        refocused = inputs["refocused"]
        whole = np.rint(np.clip(refocused, 0, 1) * np.float32(255))[0].transpose(1, 2, 0)
        return {REFOCUSED: whole, TOTAL: refocused.sum(keepdims=True)}
    return {contract_named(network).outputs[0].name: compute(network, inputs)}


def compute(network: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """As the graphs of `tests.conftest.artifacts`."""
    if network == "depth":
        return inputs["picture"].mean(axis=1, keepdims=True, dtype=np.float32)
    if network == "whole":
        whole: np.ndarray = inputs["picture"] * (1 - inputs["aperture"]) + 0 * inputs["focal_disparity"]
        return whole + 0 * inputs["disparity"].mean()
    share = 1 - np.abs(inputs["signed_depth"])
    if network == "lens_blur":
        return inputs["picture"] * share
    return inputs["picture_high"] * share.repeat(2, axis=2).repeat(2, axis=3)
