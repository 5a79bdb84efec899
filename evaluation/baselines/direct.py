"""Direct regression: a U-Net from photo, disparity and aperture to the picture, trained on the same scenes."""

from pathlib import Path

import numpy as np
import torch

from deeplens.console.errors import MissingError
from deeplens.evaluation.baselines import Blur
from deeplens.model.build import read_weights
from deeplens.runtimes.pyramid import pad_to, quantise
from deeplens.training.direct import ALIGNMENT, RADIUS_UNIT, DirectUNet


def direct_blur(weights: Path) -> Blur:
    """The trained U-Net as a function: blur(photo, disparity, *, focal, aperture, radius) → H×W×3, uint8.

    The arguments of the result are those of `evaluation.baselines.Blur`.

    Args:
        weights: direct_unet.safetensors, or the folder of the run that holds it.

    Raises:
        MissingError: no such file.
        InputError: it can't be read.
        MismatchError: it holds other weights.
    """
    path = weights / "direct_unet.safetensors" if weights.is_dir() else weights
    if not path.is_file():
        raise MissingError(f"no weights at {path}: train them with python -m deeplens.training.direct")
    network = DirectUNet().eval().requires_grad_(False)
    read_weights(network, path, what="the U-Net of direct regression")
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its stub knows none

    def blur(photo: np.ndarray, disparity: np.ndarray, *, focal: float, aperture: float, radius: float) -> np.ndarray:
        height, width = photo.shape[:2]
        padded = (-(-height // ALIGNMENT) * ALIGNMENT, -(-width // ALIGNMENT) * ALIGNMENT)
        picture = photo.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
        signed = ((disparity - focal) * (aperture * radius / RADIUS_UNIT)).astype(np.float32)[None, None]
        with torch.no_grad():
            output = network(*(torch.from_numpy(pad_to(each, *padded)) for each in (picture, signed))).numpy()
        result = np.empty_like(photo)
        quantise(output[:, :, :height, :width], result)
        return result

    return blur
