"""The ONNX artefacts under the evaluator of the ONNX project, which is their definition.

It shares the look-up in the manifest, the check of the hash and the contract with `runtimes.ort`. It is a check of the
graphs, not a runtime of the product.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from deeplens.console.errors import MissingError
from deeplens.console.package import pip_install
from deeplens.runtimes.ort import OnnxRuntime


@dataclass(frozen=True)
class Named:
    """An input or output by its name, as ONNX Runtime's sessions describe it."""

    name: str


@dataclass(frozen=True)
class Engine:
    """Something that runs a graph, with the few members of ONNX Runtime's session that `OnnxRuntime` uses.

    Attributes:
        compute: inputs by name → the outputs, in order.
        lock: one run at a time: the harness may ask for several.
    """

    inputs: Sequence[str]
    outputs: Sequence[str]
    compute: Any
    lock: Lock = field(default_factory=Lock)

    def get_inputs(self) -> list[Named]:
        return [Named(name) for name in self.inputs]

    def get_outputs(self) -> list[Named]:
        return [Named(name) for name in self.outputs]

    def run(self, names: Sequence[str], feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        assert list(names) == list(self.outputs)
        with self.lock:
            return [np.array(each) for each in self.compute(feed)]


class ReferenceEvaluatorRuntime(OnnxRuntime):
    """`onnx.reference.ReferenceEvaluator`: each operation as the ONNX specification's own Python code computes it."""

    name = "onnx-reference"

    def _engine(self, graph: Path | bytes, *, many: bool) -> tuple[Engine, None]:
        try:
            from onnx.reference import ReferenceEvaluator
        except ImportError as error:
            raise MissingError(f"onnx can't be imported ({error}): {pip_install('export')}") from error
        del many  # it has one thread
        evaluator = ReferenceEvaluator(
            graph if isinstance(graph, bytes) else str(graph), new_ops=[grouped_transposes()]
        )
        engine = Engine(evaluator.input_names, evaluator.output_names, lambda feed: evaluator.run(None, dict(feed)))
        return engine, None


def grouped_transposes() -> type:
    """The evaluator's ConvTranspose with its groups one by one.

    That of onnx 1.23 cuts a group's weights out by the number of outputs, where ConvTranspose has inputs first, and
    fails; each group alone it computes as it should.
    """
    from onnx.reference.ops.op_conv_transpose import ConvTranspose as Single

    class ConvTranspose(Single):
        op_domain = ""

        def _run(  # type: ignore[override]  # it passes attributes by name
            self, X: np.ndarray, W: np.ndarray, B: np.ndarray | None = None, *, group: int = 1, **options: Any
        ) -> tuple[np.ndarray]:
            biases = [None] * group if B is None else np.split(B, group)
            groups = zip(np.split(X, group, 1), np.split(W, group), biases, strict=True)
            return (np.concatenate([Single._run(self, *each, group=1, **options)[0] for each in groups], 1),)

    return ConvTranspose
