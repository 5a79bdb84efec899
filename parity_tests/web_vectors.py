"""The golden vectors that the web page carries: small enough to be fetched, for `?selftest` on a visitor's device.

    python -m deeplens.parity_tests.web_vectors [--out DIR]

writes selftest.json and selftest.bin: each network on one input, and a photo from pixels to pixels, with what PyTorch
makes of them and how far a device may be from it. `make web` calls it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from deeplens.console.files import replacing
from deeplens.console.script import run_script
from deeplens.export.web_graphs import VARIANT
from deeplens.model.contract import CONTRACTS
from deeplens.parity_tests.cases import LoopCase, seen_inputs, window
from deeplens.parity_tests.compare import NETWORK, PICTURE
from deeplens.parity_tests.harness_photos import SamplePhoto, Setting
from deeplens.runtimes.contract import Runtime
from deeplens.runtimes.harness import Harness, aperture_from_f_number, focal_disparity_at
from deeplens.runtimes.web_page import MODELS, PAGE_FOLDER

FORMAT = 1
"""Of selftest.json."""

PHOTO = SamplePhoto("drum", "drum.jpg", (300, 500, 1001, 925), (330, 200), (200, 330))
"""One step, padded in both axes, and a map as fine as the photo."""

SETTING = Setting(2.2, (0.35, 0.6))

SIZE = (64, 96)
"""Low-resolution height and width at which lens blur and step are tested."""


class _File:
    """Arrays one after the other, each at a multiple of four bytes."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, array: np.ndarray) -> dict[str, Any]:
        """Where an array is; bytes are values in [0, 1] times 255."""
        bytes_ = array.dtype == np.uint8
        about = {
            "offset": len(self.data),
            "dtype": "uint8" if bytes_ else "float32",
            "shape": list(array.shape),
        }
        self.data += np.ascontiguousarray(array, "u1" if bytes_ else "<f4").tobytes()
        self.data += bytes(-len(self.data) % 4)
        return about


def make(folder: Path, *, reference: Runtime) -> Path:
    """Write the vectors into `folder`; returns selftest.json.

    Args:
        reference: PyTorch.

    Raises:
        MissingError: a sample photo or weights are not there.
    """
    file = _File()
    pixels, disparity = PHOTO.pixels(), PHOTO.disparity()
    case = LoopCase(pixels, "dynamic", SETTING.focus, aperture_from_f_number(SETTING.f_number))
    seen = seen_inputs(reference, case)
    networks = [_network(file, reference, name, inputs) for name, inputs in seen.items()]
    picture = Harness(reference).refocus(
        pixels,
        disparity,
        focal_disparity=focal_disparity_at(disparity, *SETTING.focus),
        aperture=case.aperture,
        observe=lambda *_: None,  # then nothing is skipped
        from_base=False,
    )
    loop = {
        "name": f"photo, f/{SETTING.f_number:g}",
        "photo": file.add(pixels),
        "disparity": file.add(disparity.astype(np.float32)),
        "focus": list(SETTING.focus),
        "f_number": SETTING.f_number,
        "picture": file.add(picture),
        "allowed": PICTURE.absolute / 255,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "selftest.bin") as out:
        out.write(bytes(file.data))
    path = folder / "selftest.json"
    with replacing(path) as out:
        text = {"format": FORMAT, "variant": VARIANT, "networks": networks, "loops": [loop]}
        out.write((json.dumps(text, indent=2) + "\n").encode())
    return path


def _network(file: _File, reference: Runtime, name: str, seen: Mapping[str, np.ndarray]) -> dict[str, Any]:
    contract = CONTRACTS[name]
    size = contract.fixed_size or SIZE
    inputs = window(contract, seen, size)
    if name == "depth":  # a photo's bytes, which the file holds in a quarter of the room
        stored = {key: np.rint(array * 255).astype(np.uint8) for key, array in inputs.items()}
        inputs = {key: array.astype(np.float32) / np.float32(255) for key, array in stored.items()}
    else:
        stored = inputs
    output = reference.open(name).run(inputs)[contract.outputs[0].name]
    return {
        "name": name.replace("_", " "),
        "network": name,
        "inputs": {key: file.add(array) for key, array in stored.items()},
        "output": file.add(output),
        "allowed": NETWORK.absolute,
    }


def main(
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the page's models.")] = PAGE_FOLDER
    / MODELS,
) -> None:
    """Write the golden vectors that the web page carries."""
    from deeplens.runtimes.pytorch import TorchRuntime

    with TorchRuntime(variant=VARIANT) as reference:
        path = make(folder, reference=reference)
    size = sum(each.stat().st_size for each in folder.glob("selftest.*"))
    typer.echo(f"{size / 1e6:.1f} MB of golden vectors for the page: {path}")


if __name__ == "__main__":
    run_script(main)
