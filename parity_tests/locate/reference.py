"""PyTorch's side: every intermediate value of a network, what float32 and FP16 round there, and where it comes from."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens.export.frozen import drop_assertions, is_assertion
from deeplens.model.contract import Contract
from deeplens.parity_tests.captured import captured
from deeplens.parity_tests.cases import Size
from deeplens.runtimes.contract import Arrays

if TYPE_CHECKING:
    import torch
    from torch.fx import GraphModule, Node

ROOT = Path(__file__).resolve().parents[2]

FACTOR = {"fp32": 32.0, "fp16": 4.0, "int8": 64.0}
"""Precision → how many times PyTorch's own rounding at an operation (which has grown since the inputs) the operation
alone may be off; INT8 in terms of FP16's."""

FLOOR = {"fp32": 64 * 2.0**-24, "fp16": 8 * 2.0**-11, "int8": 8 * 2.0**-8}
"""The same as a share of the largest |value|, where PyTorch happens to be more exact."""

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "Sub": ("sub", "rsub"),
    "Add": ("add",),
    "Mul": ("mul",),
    "Div": ("div",),
    "clip": ("clamp",),
}
"""Kinds of operation in an artefact whose names may be lost → how PyTorch's graph calls them."""


@dataclass(frozen=True)
class Origin:
    """Where a value of the captured graph comes from: see `parity_tests.locate.found.Departure`."""

    kind: str
    module: str
    source: str


@dataclass(frozen=True, eq=False)
class Reference:
    """All values of a network on one input.

    Attributes:
        values: name in the captured graph → float32; the inputs and the output by their names in the contract too.
        rounding: precision → name → PyTorch's own rounding there: of "fp32" from float64, of "fp16" from float32.
        origins: name → where it comes from.
        order: names of the operations.
    """

    values: Arrays
    rounding: Mapping[str, Mapping[str, float]]
    origins: Mapping[str, Origin]
    order: tuple[str, ...]

    @staticmethod
    def of(
        module: "torch.nn.Module",
        contract: Contract,
        inputs: Mapping[str, np.ndarray],
        *,
        size: Size | None,
        precision: str = "fp32",
    ) -> "Reference":
        """Run the captured graph of a network operation by operation.

        Args:
            module: in float32.
            size: that the artefact was made for; None: free sizes. Names depend on it.
            precision: whose rounding is measured, "fp32" or "fp16".
        """
        graph, origins, order, last = traced(module, contract, size)
        values: Arrays = {}

        def keep(name: str, value: "torch.Tensor") -> None:
            values[name] = value.numpy()

        interpret(graph, inputs, contract, keep)
        values |= {name: np.asarray(array) for name, array in inputs.items()}
        rounding = _rounding(graph, inputs, contract, values, precision)
        output = contract.outputs[0].name
        values[output], rounding[output] = values[last], rounding[last]
        origins[output] = origins[last]
        return Reference(values, {precision: rounding}, origins, order)

    def allowed(self, name: str, precision: str) -> float:
        """How far an operation that gives this value may be off alone."""
        scale = float(np.abs(self.values[name]).max(initial=0.0))
        own = self.rounding["fp32" if precision == "fp32" else "fp16"].get(name, 0.0)
        own = own if math.isfinite(own) else 0.0
        return max(FACTOR[precision] * own, FLOOR[precision] * scale)

    def matched(self, made: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Name of a value in an artefact → its name here.

        Args:
            made: name and kind of operation, of each value that an operation gives, in order.

        Names are equal but for what exporters add. Where they were lost, values of one kind are paired in their order,
        if there are equally many on both sides.
        """
        made = list(made)
        found = {name: here for name, _ in made if (here := self._named(name)) is not None}
        taken = set(found.values())
        for kind, families in FAMILIES.items():
            lost = [name for name, each in made if each == kind and name not in found]
            free = [
                name
                for name in self.order
                if name in self.values and name not in taken and re.sub(r"_\d+$", "", name) in families
            ]
            if len(lost) == len(free):
                found |= dict(zip(lost, free, strict=True))
        return found

    def _named(self, name: str) -> str | None:
        bare = re.sub(r"_(cast_fp16|uncast|exact)$", "", name).removeprefix("_inversed_")
        return bare if bare in self.origins and bare in self.values else None


def traced(
    module: "torch.nn.Module", contract: Contract, size: Size | None
) -> "tuple[GraphModule, dict[str, Origin], tuple[str, ...], str]":
    """The captured graph, where its values come from, their order, and the name of the last."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch's own, about itself
        program = captured(module, contract, size)
    graph = program.module()
    drop_assertions(graph)
    nodes = [node for node in program.graph.nodes if node.op == "call_function" and not is_assertion(node)]
    origins = {node.name: _origin(node) for node in nodes}
    order = tuple(origins)
    last = next(iter(program.graph.find_nodes(op="output"))).args[0][0]
    return graph, origins, order, last.name


def _origin(node: "Node") -> Origin:
    stack = node.meta.get("nn_module_stack") or {}
    module = list(stack.values())[-1][0] if stack else ""
    source = ""
    for file, line in re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or ""):
        path = Path(file).resolve()  # the package is reached by links
        if path.is_relative_to(ROOT / "model"):
            source = f"{path.relative_to(ROOT).as_posix()}:{line}"
    return Origin(str(node.target), module, source)


def interpret(
    graph: "GraphModule", inputs: Mapping[str, np.ndarray], contract: Contract, take: Any, *, half: bool = False
) -> None:
    """Run a captured graph; `take(name, value)` gets each tensor and may return another for what follows.

    A batch norm gives a tuple: its first element is the value, under the name of the norm as well as of the node that
    takes it out.

    Args:
        half: every value is rounded to FP16.
    """
    import torch
    from torch.fx import Interpreter

    def rounded(value: Any) -> Any:
        return value.half().float() if half and isinstance(value, torch.Tensor) and value.is_floating_point() else value

    class Watching(Interpreter):
        def run_node(self, n: "Node") -> Any:
            result = super().run_node(n)
            if n.op != "call_function":
                return result
            if isinstance(result, torch.Tensor):
                result = rounded(result)
                other = take(n.name, result)
                return result if other is None else other
            if isinstance(result, tuple) and result and isinstance(result[0], torch.Tensor):
                value = rounded(result[0])
                other = take(n.name, value)
                return (value if other is None else other, *result[1:])
            return result

    dtype = next(graph.parameters()).dtype
    tensors = [rounded(torch.tensor(inputs[each.name], dtype=dtype)) for each in contract.inputs]
    with torch.inference_mode():
        Watching(graph).run(*tensors)


def _rounding(
    graph: "GraphModule", inputs: Mapping[str, np.ndarray], contract: Contract, values: Arrays, precision: str
) -> dict[str, float]:
    """PyTorch's own rounding at each value; the graph is not fit for anything else afterwards."""
    rounding: dict[str, float] = {}

    def compare(name: str, value: "torch.Tensor") -> None:
        with np.errstate(invalid="ignore"):
            rounding[name] = float(np.abs(value.numpy().astype(np.float64) - values[name]).max(initial=0.0))

    if precision == "fp32":
        interpret(graph.double(), inputs, contract, compare)
    else:
        from deeplens.model.half import round_weights

        round_weights(graph)
        interpret(graph, inputs, contract, compare, half=True)
    return rounding
