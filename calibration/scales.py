"""The scales of every layer's input and output, by each calibrator: a file that says what it was measured on.

It is reused as long as photos, their settings and weights are the same, and refused when one of these has changed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deeplens.calibration.calibrators import CALIBRATORS, threshold
from deeplens.calibration.correction import shifts
from deeplens.console.errors import InputError
from deeplens.console.files import replacing
from deeplens.console.inputs import read_json
from deeplens.export.int8 import LEVELS
from deeplens.export.precision_plan import Pair, Source

if TYPE_CHECKING:
    import onnx

    from deeplens.calibration.histogram import Histogram
    from deeplens.calibration.statistics import Statistics
    from deeplens.export.layers import Layer

FORMAT = 1


@dataclass(frozen=True)
class Scales:
    """All scales of one variant.

    Attributes:
        layers: network → path of the layer → method → scales.
        shifts: network → path of the layer → what corrects its bias (`calibration.correction`).
    """

    variant: str
    source: Source
    layers: Mapping[str, Mapping[str, Mapping[str, Pair]]]
    shifts: Mapping[str, Mapping[str, tuple[float, ...]]]

    def of(self, network: str, method: str) -> dict[str, Pair]:
        """Path of each layer of a network → its scales by one method."""
        return {path: methods[method] for path, methods in self.layers[network].items()}

    def write(self, path: Path) -> None:
        """Write the file, in place of what is there."""
        with replacing(path) as file:
            file.write((json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n").encode())


def measured(
    variant: str,
    source: Source,
    statistics: "Mapping[str, Statistics]",
    models: "Mapping[str, onnx.ModelProto]",
    layers: "Mapping[str, Sequence[Layer]]",
) -> Scales:
    """Scales from statistics, all levels of the loop together."""
    found: dict[str, dict[str, dict[str, Pair]]] = {}
    for network, own in layers.items():
        held: dict[str, Histogram] = {}
        for layer in own:
            for tensor in (layer.input, layer.output):
                if tensor not in held:
                    held[tensor] = statistics[network].tensors[tensor].all_levels
        steps = {
            tensor: {method: threshold(each, method) / LEVELS for method in CALIBRATORS}
            for tensor, each in held.items()
        }
        found[network] = {
            layer.path: {method: (steps[layer.input][method], steps[layer.output][method]) for method in CALIBRATORS}
            for layer in own
        }
    corrections = {network: shifts(models[network], own, statistics[network]) for network, own in layers.items()}
    return Scales(variant, source, found, corrections)


def read(path: Path) -> Scales:
    """The scales in a file.

    Raises:
        InputError: it holds none.
        FileNotFoundError: there is no such file.
    """
    try:
        stored = read_json(path)
        if stored["format"] != FORMAT:
            raise ValueError(f"format {stored['format']}")
        layers = {
            network: {
                layer: {method: (float(pair[0]), float(pair[1])) for method, pair in methods.items()}
                for layer, methods in own.items()
            }
            for network, own in stored["layers"].items()
        }
        corrections = {
            network: {layer: tuple(map(float, each)) for layer, each in own.items()}
            for network, own in stored["shifts"].items()
        }
        return Scales(stored["variant"], Source(**stored["source"]), layers, corrections)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{path} can't be read as scales ({error}): run `deeplens calibrate --recalibrate`") from error
