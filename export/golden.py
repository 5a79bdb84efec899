"""Golden vectors: inputs of a network and what PyTorch makes of them, for an app or a runtime to check itself with.

A JSON file names the network, the hash of its weights, for each input how it is made (`export.golden_inputs`) and the
hash that it then has, and for each output its file: raw little-endian float32, in C order, N×C×H×W, which any language
reads into an array at once. Inputs are not stored, so that a release's vectors stay small.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.files import bytes_sha256, replacing
from deeplens.console.inputs import read_bytes, read_json
from deeplens.console.package import VERSION
from deeplens.export.golden_inputs import GENERATOR, SEED, golden_inputs
from deeplens.export.own_rounding import FLOORS, in_fp16, least_agreement
from deeplens.model.contract import CONTRACTS, Contract

if TYPE_CHECKING:
    import torch

FORMAT = 1
"""Of the JSON file; another one is refused."""

REBUILD = "export the package again, or run `deeplens golden`"
"""What helps."""

GATES = {"fp32": 70.0, "fp16": FLOORS["fp16"]}
"""Precision → smallest agreement with PyTorch in dB that Apple asks of a port (`agreement`). Compressed weights have
none: their loss is reported."""


@dataclass(frozen=True)
class Golden:
    """Inputs and outputs of a network, by the names of the contract: float32 N×C×H×W.

    Attributes:
        tolerance: precision → largest |difference| from the outputs; empty where none was measured.
        least: way of rounding ("fp32", "fp16", "fp16 sums") → smallest agreement with the outputs, in dB.
    """

    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    weights_sha256: str
    network: str
    variant: str
    size: tuple[int, int]
    tolerance: dict[str, float]
    least: dict[str, float]


def write(
    folder: Path,
    module: "torch.nn.Module",
    contract: Contract,
    *,
    variant: str,
    size: tuple[int, int],
    sha256: str,
    tolerance: Mapping[str, float] = MappingProxyType({}),
) -> Path:
    """Run PyTorch at a low-resolution `size` and write the vectors; the JSON file comes last.

    Args:
        folder: made when missing.
        sha256: of the module's weights.
        tolerance: precision → largest |difference| that a runtime may have, where it was measured.

    Returns:
        the JSON file, `folder`/VARIANT_NETWORK_HxW.json.
    """
    import torch

    inputs = golden_inputs(contract, size)
    with torch.inference_mode():
        results = module(*(torch.from_numpy(array) for array in inputs.values()))
    outputs = {contract.outputs[0].name: results.numpy()}
    try:
        own = agreement(in_fp16(module, inputs), results.numpy())
    except MismatchError:  # PyTorch itself overflows in FP16
        own = math.inf
    least = {name: round(limit, 2) for name, limit in least_agreement(own).items()}

    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{variant}_{contract.network}_{size[0]}x{size[1]}"

    def described(name: str, array: np.ndarray, **more: Any) -> dict[str, Any]:
        spread = {"min": float(array.min()), "max": float(array.max())}
        return {"name": name, "shape": list(array.shape), "sha256": array_sha256(array), **more, **spread}

    made = {"generator": GENERATOR, "seed": SEED}
    items = []
    for name, array in outputs.items():
        path = folder / f"{stem}.{name}.f32"
        with replacing(path) as file:
            file.write(np.ascontiguousarray(array, "<f4").tobytes())
        items.append(described(name, array, file=path.name))
    text = {
        "format": FORMAT,
        "release": VERSION,
        "network": contract.network,
        "variant": variant,
        "weights_sha256": sha256,
        "size": list(size),
        "inputs": [described(name, array, **made) for name, array in inputs.items()],
        "outputs": items,
        "largest_difference": dict(tolerance),
        "smallest_agreement_db": {"fp32": GATES["fp32"], **least},
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
        MismatchError: a file is not the one that was written, or inputs made by the rule are not those that were run.
    """
    try:
        text = read_json(path)
        if text["format"] != FORMAT:
            raise ValueError(f"its format is {text['format']}, but this version reads format {FORMAT}")
        height, width = text["size"]
        inputs = _inputs(path, text["network"], (height, width), text["inputs"])
        outputs = {item["name"]: _array(path.parent, item) for item in text["outputs"]}
        limits, least = (
            {str(name): float(limit) for name, limit in text[key].items()}
            for key in ("largest_difference", "smallest_agreement_db")
        )
        where = (str(text["weights_sha256"]), str(text["network"]), str(text["variant"]), (height, width))
        return Golden(inputs, outputs, *where, limits, least)
    except FileNotFoundError as error:
        raise MissingError(f"golden vectors are missing ({error.filename}): {REBUILD}") from error
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{path} does not describe golden vectors ({error!r}): {REBUILD}") from error


def variant_of(path: Path) -> str:
    """The variant whose vectors a JSON file describes.

    Raises:
        InputError: it is no such file.
    """
    try:
        return str(read_json(path)["variant"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} does not describe golden vectors ({error!r}): {REBUILD}") from error


def array_sha256(array: np.ndarray) -> str:
    """Of the values as little-endian float32 in C order."""
    return hashlib.sha256(np.ascontiguousarray(array, "<f4").tobytes()).hexdigest()


def agreement(found: np.ndarray, expected: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, the peak being the spread of what is expected: max − min.

    20 · log10(spread / root mean square of the difference); infinite where there is none.

    Raises:
        MismatchError: the shapes differ, or a value found is not finite.
    """
    if found.shape != expected.shape:
        raise MismatchError(f"the output has shape {found.shape}, expected {expected.shape}: export the artefact again")
    if not np.isfinite(found).all():
        raise MismatchError("the output has values that are not finite: use another precision")
    wide = expected.astype(np.float64)
    mean_square = float(np.square(found.astype(np.float64) - wide).mean())
    spread = float(np.ptp(wide))
    return float("inf") if mean_square == 0.0 else float(10 * np.log10(spread * spread / mean_square))


def _inputs(path: Path, network: str, size: tuple[int, int], items: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    contract = CONTRACTS[network]
    if any(item["generator"] != GENERATOR for item in items):
        raise ValueError(f"its inputs were not made by the rule {GENERATOR}")
    made = golden_inputs(contract, size, seed=items[0]["seed"])
    if list(made) != [item["name"] for item in items]:
        raise ValueError("its inputs are not the network's inputs")
    for item in items:
        if array_sha256(made[item["name"]]) != item["sha256"]:
            raise MismatchError(f"{path}: {item['name']} made by the rule differs from the one that was run: {REBUILD}")
    return made


def _array(folder: Path, item: dict[str, Any]) -> np.ndarray:
    path = folder / item["file"]
    if path.parent != folder:
        raise ValueError(f"'{item['file']}' is not a file beside it")
    data = read_bytes(path)
    if bytes_sha256(data) != item["sha256"]:
        raise MismatchError(f"{path} has changed since {item['name']} was written to it: {REBUILD}")
    return np.frombuffer(data, "<f4").reshape(item["shape"]).astype(np.float32)
