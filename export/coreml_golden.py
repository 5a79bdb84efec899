"""Golden vectors: inputs of a network and what PyTorch makes of them, for an app to check itself with.

A JSON file names the network, the hash of its weights, and for each input and output its shape and its file: raw
little-endian float32, in C order, which any language reads into an array at once. Pictures hold multiples of 1/255, so
that the same numbers go into an image input.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.coreml_package import IMAGES
from export.manifest import file_sha256
from export.onnx_check import random_inputs
from model.contract import Contract
from model.errors import InputError, MismatchError, MissingError
from runtimes.image_file import replacing

if TYPE_CHECKING:
    import torch

SEED = 2018

GATES = {"fp32": 70.0, "fp16": 50.0}
"""Precision → smallest agreement with PyTorch in dB that Apple asks of a port (`agreement`). Compressed weights have
none: their loss is reported."""


@dataclass(frozen=True)
class Golden:
    """Inputs and outputs of a network, by the names of the contract: float32 N×C×H×W."""

    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    weights_sha256: str


def write(
    folder: Path, module: "torch.nn.Module", contract: Contract, *, variant: str, size: tuple[int, int], sha256: str
) -> Path:
    """Run PyTorch at a low-resolution `size` and write the vectors; the JSON file comes last.

    Args:
        folder: made when missing.
        sha256: of the module's weights.

    Returns:
        the JSON file, `folder`/VARIANT_NETWORK_HxW.json.
    """
    import torch

    inputs = random_inputs(contract, size, np.random.default_rng(SEED))
    for name in IMAGES[contract.network]:
        inputs[name] = np.rint(inputs[name] * np.float32(255)) / np.float32(255)
    with torch.inference_mode():
        results = module(*(torch.from_numpy(array) for array in inputs.values()))
    outputs = {contract.outputs[0].name: results.numpy()}

    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{variant}_{contract.network}_{size[0]}x{size[1]}"

    def described(arrays: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        items = []
        for name, array in arrays.items():
            path = folder / f"{stem}.{name}.bin"
            with replacing(path) as file:
                file.write(np.ascontiguousarray(array, "<f4").tobytes())
            low, high = float(array.min()), float(array.max())
            item = {"name": name, "shape": list(array.shape), "file": path.name, "sha256": file_sha256(path)}
            items.append({**item, "min": low, "max": high})
        return items

    text = {
        "network": contract.network,
        "variant": variant,
        "weights_sha256": sha256,
        "size": list(size),
        "inputs": described(inputs),
        "outputs": described(outputs),
        "smallest_agreement_db": GATES,
    }
    path = folder / f"{stem}.json"
    with replacing(path) as file:
        file.write((json.dumps(text, indent=2) + "\n").encode())
    return path


def read(path: Path) -> Golden:
    """The vectors that a JSON file names.

    Raises:
        MissingError: the file or one that it names is not there.
        InputError: it is no such file.
        MismatchError: a file is not the one that was written.
    """
    try:
        text = json.loads(path.read_text(encoding="utf-8"))
        inputs, outputs = (
            {item["name"]: _array(path.parent, item) for item in text[side]} for side in ("inputs", "outputs")
        )
        return Golden(inputs, outputs, str(text["weights_sha256"]))
    except FileNotFoundError as error:
        raise MissingError(f"golden vectors are missing ({error.filename}): export the package again") from error
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} does not describe golden vectors ({error!r}): export the package again") from error


def agreement(found: np.ndarray, expected: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, the peak being the spread of what is expected: max − min.

    20 · log10(spread / root mean square of the difference); infinite where there is none.

    Raises:
        MismatchError: the shapes differ, or a value found is not finite.
    """
    if found.shape != expected.shape:
        raise MismatchError(f"the output is {found.shape}, expected {expected.shape}: export the package again")
    if not np.isfinite(found).all():
        raise MismatchError("the output has values that are not finite: use a package of another precision")
    wide = expected.astype(np.float64)
    mean_square = float(np.square(found.astype(np.float64) - wide).mean())
    spread = float(np.ptp(wide))
    return float("inf") if mean_square == 0.0 else float(10 * np.log10(spread * spread / mean_square))


def _array(folder: Path, item: dict[str, Any]) -> np.ndarray:
    path = folder / item["file"]
    data = path.read_bytes()
    if file_sha256(path) != item["sha256"]:
        raise MismatchError(f"{path} is not the file that {item['name']} was written to: export the package again")
    return np.frombuffer(data, "<f4").reshape(item["shape"]).astype(np.float32)
