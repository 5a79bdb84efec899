"""How much the final picture suffers when one layer alone is computed in a lower precision, layer by layer.

What was measured is written down at once, under a key of weights, scales and photos: an interrupted run goes on where
it was.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deeplens.calibration.quality import Judge
from deeplens.console.inputs import parse_json, read_bytes
from deeplens.export.layers import REST, Layer
from deeplens.export.planned import planned_graph
from deeplens.export.precision_plan import Choice, Pair

if TYPE_CHECKING:
    import onnx

Unit = tuple[str, str, str]
"""Network, path of the layer, precision."""


@dataclass
class Notebook:
    """Measured errors, each a line of JSON in a file; lines of another key are not looked at.

    Attributes:
        key: what the errors depend on: weights, scales, photos, settings.
        errors: unit → mean squared error of the final picture of each photo.
    """

    path: Path
    key: str
    errors: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            lines = read_bytes(self.path).decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                stored = parse_json(line)
                if stored["key"] == self.key:
                    self.errors[stored["what"]] = [float(each) for each in stored["errors"]]
            except (ValueError, KeyError, TypeError, ArithmeticError):  # the last line of a run that was killed
                continue

    def measured(self, what: str, measure: Callable[[], list[float]]) -> list[float]:
        """The errors under the name `what`; measured now and written down where they are not known."""
        if what not in self.errors:
            self.errors[what] = measure()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                # A line of its own, also behind one that was cut off.
                file.write("\n" + json.dumps({"key": self.key, "what": what, "errors": self.errors[what]}))
        return self.errors[what]


def alone(path: str, precision: str, own: Sequence[Layer], scales: Mapping[str, Pair]) -> dict[str, Choice]:
    """The choices of a network all of whose layers are FP32 but one."""
    choices = {each.path: Choice("fp32") for each in own} | {REST: Choice("fp32")}
    return choices | {path: Choice(precision, scales[path] if precision == "int8" else None)}


def measure(
    models: "Mapping[str, onnx.ModelProto]",
    layers: Mapping[str, Sequence[Layer]],
    scales: Mapping[str, Mapping[str, Pair]],
    judge: Judge,
    notebook: Notebook,
    *,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[Unit, list[float]]:
    """The errors of each layer of each network in FP16 and in INT8, and of all other operations (`REST`) in FP16."""
    units: list[Unit] = []
    for network, own in layers.items():
        units += [(network, each.path, precision) for each in own for precision in ("int8", "fp16")]
        units.append((network, REST, "fp16"))
    found: dict[Unit, list[float]] = {}
    for done, unit in enumerate(units, start=1):
        network, path, precision = unit

        def errors(network: str = network, path: str = path, precision: str = precision) -> list[float]:
            choices = alone(path, precision, layers[network], scales[network])
            return judge.errors({network: planned_graph(models[network], network, choices)})

        found[unit] = notebook.measured("/".join(unit), errors)
        progress(done, len(units))
    return found
