"""What FP16 loses on real photos: the largest magnitude of each tensor, and the shares below FP16's normal numbers.

    python export/fp16_report.py PHOTO… [--variant V] [--size N] [--artifacts DIR] [--json FILE]

measures each tensor of the FP32 graphs on what the networks get from these photos. Status 5 where one leaves the range.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from deeplens.console.options import JsonTarget
from deeplens.console.report import console_for, table, write_json
from deeplens.console.script import run_script
from deeplens.export.fp16_check import LARGEST, Meter, Range, check_ranges
from deeplens.model.contract import NETWORKS
from deeplens.runtimes import folders
from deeplens.runtimes.artefact import load as load_artefact
from deeplens.runtimes.contract import Arrays, Session
from deeplens.runtimes.harness import Harness, focal_disparity_at
from deeplens.runtimes.options import Artifacts, Variant
from deeplens.runtimes.photo import read_photo, to_8_bit
from deeplens.runtimes.wrapped import WrappedRuntime, WrappedSession

EVERY = 4
"""Of the tiles of a photo every fourth is measured."""

TILE = 128

SHOWN = 5
"""As many tensors are shown of each network: the largest, and those with most subnormal values."""


def measure(variant: str, photos: Sequence[Path], *, artifacts: Path, size: int) -> dict[str, list[Range]]:
    """Network → its ranges on photos, in the loop of the harness: the whole photo in focus at its middle, fully open.

    Args:
        artifacts: the folder with `manifest.json` and the FP32 graphs.
        size: photos with a longer side are made smaller, in pixels.

    Raises:
        InputError: a photo can't be read.
        MissingError, MismatchError: an artefact is not there, or is not what the manifest says.
    """
    import onnx

    from deeplens.runtimes.ort import OnnxRuntime

    with OnnxRuntime(variant=variant, artifacts=artifacts) as runtime:
        meters = {
            network: Meter(onnx.load_from_string(load_artefact(artifacts, runtime.open(network).entry)))
            for network in NETWORKS
        }
        sessions = {network: _MeteredSession(runtime.open(network), meter) for network, meter in meters.items()}
        harness = Harness(WrappedRuntime(runtime, lambda network, _: sessions[network]), tile=TILE)
        for path in photos:
            photo = Image.fromarray(to_8_bit(read_photo(path).pixels))
            photo.thumbnail((size, size), Image.Resampling.LANCZOS)
            pixels = np.asarray(photo)
            disparity = harness.disparity(pixels)
            focal = focal_disparity_at(disparity, 0.5, 0.5)
            harness.refocus(pixels, disparity, focal_disparity=focal, aperture=1.0)
    return {network: meter.ranges for network, meter in meters.items()}


class _MeteredSession(WrappedSession):
    """Measured on every `EVERY`th run."""

    def __init__(self, session: Session, meter: Meter) -> None:
        super().__init__(session, self._measured, session.describe())
        self._meter = meter
        self._runs = 0

    def _measured(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        self._runs += 1
        if self._runs % EVERY != 1:
            return self.session.run(inputs)
        return {self.describe().outputs[0].name: self._meter.run(inputs)}


def command(
    photo: Annotated[list[Path], typer.Argument(metavar="PHOTO…", help="Photos to measure on.")],
    variant: Variant = "edge",
    size: Annotated[int, typer.Option(min=64, help="Longest side in pixels; larger photos are made smaller.")] = 1280,
    artifacts: Artifacts = None,
    json: JsonTarget = None,
) -> None:
    """Measure the largest value of each tensor against FP16's range, and what FP16 would lose."""
    folder = folders.opened_folder("onnx", variant=variant, precision="fp32", artifacts=artifacts)
    found = measure(variant, photo, artifacts=folder, size=size)
    console = console_for(json)
    for network, ranges in found.items():
        shown = sorted(ranges, key=lambda each: -each.largest)[:SHOWN]
        shown += [each for each in sorted(ranges, key=lambda each: -each.subnormal)[:SHOWN] if each not in shown]
        columns = ("tensor", "operation", "largest", "of 65,504", "subnormal", "become 0")
        cells = [
            (each.tensor, each.operation, f"{each.largest:.4g}", f"{100 * each.largest / LARGEST:.2g} %",
             f"{100 * each.subnormal:.2g} %", f"{100 * each.zeroed:.2g} %")
            for each in shown
        ]  # fmt: skip
        console.print(table(f"{variant} {network}: {len(ranges)} tensors, {len(photo)} photos", columns, cells))
    plain = {network: [asdict(each) for each in ranges] for network, ranges in found.items()}
    write_json(json, {"variant": variant, "photos": [path.name for path in photo], "ranges": plain})
    for network, ranges in found.items():
        check_ranges(ranges, what=f"{variant} {network}")


if __name__ == "__main__":
    run_script(command)
