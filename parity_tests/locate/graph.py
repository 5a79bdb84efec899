"""ONNX graphs: cut into pieces that get PyTorch's own intermediates.

A cut changes what ONNX Runtime can fuse. So the graph is first cut into blocks, within which all is fused as in the
whole; the first block that departs is then cut operation by operation. Where no operation departs alone, the fault lies
in what is fused in that block, and that is said.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens.parity_tests.locate.found import Departure, Verdict
from deeplens.parity_tests.locate.judge import Judge
from deeplens.parity_tests.locate.reference import Reference

if TYPE_CHECKING:
    import onnx


def judge_graph(
    model: "onnx.ModelProto", inputs: Mapping[str, np.ndarray], reference: Reference, *, precision: str = "fp32"
) -> Verdict:
    """The first operation of a graph that departs, each judged alone.

    Args:
        model: its tensors are float32: an FP16 graph as `export.fp16_check.rounded` makes it.
        inputs: as the graph takes them.
        reference: on the same inputs; made with free sizes where the graph has those.
    """
    cutter = Cutter(model, inputs, reference)
    judge = Judge(reference, cutter.names, precision)
    count = len(cutter.nodes)
    step = max(1, math.isqrt(count))
    for start in range(0, count, step):
        block = range(start, min(start + step, count))
        wrong = _departs(cutter, judge, block)
        if wrong is None:
            continue
        for place in block:
            single = _departs(cutter, judge, [place])
            if single is not None:
                judge.departure = single
                break
        else:
            kinds = ", ".join(f"{cutter.nodes[place].op_type} {cutter.nodes[place].output[0]}" for place in block)
            judge.departure = Departure(
                wrong.operation, wrong.module, wrong.source, wrong.off, wrong.allowed, f"only as fused among {kinds}"
            )
        break
    return judge.verdict(len(cutter.made))


def _departs(cutter: "Cutter", judge: Judge, places: Sequence[int] | range) -> Departure | None:
    for name, kind, value in cutter.run(places):
        found = judge.departs(name, kind, value)
        if found is not None:
            return found
    return None


class Cutter:
    """Runs parts of a graph on the reference's values.

    Attributes:
        nodes: of the graph, in order.
        made: name and kind of operation of each value.
        names: value → value of the reference.
    """

    def __init__(self, model: "onnx.ModelProto", inputs: Mapping[str, np.ndarray], reference: Reference) -> None:
        import onnx

        self._model = model
        self.nodes = list(model.graph.node)
        self.made = [(name, node.op_type) for node in self.nodes for name in node.output if not _inner(name)]
        self.names = reference.matched(self.made)
        self._maker = {name: place for place, node in enumerate(self.nodes) for name in node.output}
        self._weights = {each.name: each for each in model.graph.initializer}
        self._known: dict[str, np.ndarray] = {name: np.asarray(array) for name, array in inputs.items()}
        self._known |= {name: reference.values[here] for name, here in self.names.items()}
        self._onnx = onnx

    def run(self, places: Iterable[int]) -> Iterator[tuple[str, str, np.ndarray]]:
        """Name, kind and value of all that these nodes give and the reference knows.

        A node whose input the reference doesn't know brings with it the nodes that make that input.
        """
        wanted = set(places)
        outputs = [name for place in sorted(wanted) for name in self.nodes[place].output if name in self.names]
        if not outputs:
            return
        chosen, feeds = self._closed(wanted)
        session = self._session([self.nodes[place] for place in sorted(chosen)], feeds, outputs)
        values = session.run(outputs, {name: np.ascontiguousarray(self._known[name]) for name in feeds})
        for name, value in zip(outputs, values, strict=True):
            yield name, self.nodes[self._maker[name]].op_type, value

    def _closed(self, wanted: set[int]) -> tuple[set[int], list[str]]:
        """The nodes, with those that make what the reference doesn't know, and what has to be fed."""
        chosen = set(wanted)
        feeds: list[str] = []
        waiting = [name for place in sorted(wanted) for name in self.nodes[place].input]
        while waiting:
            name = waiting.pop()
            if not name or name in self._weights or name in feeds:
                continue
            maker = self._maker.get(name)
            if maker in wanted or maker in chosen:
                continue
            if name in self._known:
                feeds.append(name)
            elif maker is not None:
                chosen.add(maker)
                waiting += self.nodes[maker].input
        return chosen, feeds

    def _session(self, nodes: "list[onnx.NodeProto]", feeds: list[str], outputs: list[str]) -> Any:
        import onnxruntime

        helper, types = self._onnx.helper, self._onnx.TensorProto
        used = {name for node in nodes for name in node.input}
        inputs = [helper.make_tensor_value_info(name, types.FLOAT, self._known[name].shape) for name in feeds]
        results = [helper.make_tensor_value_info(name, types.FLOAT, None) for name in outputs]
        weights = [self._weights[name] for name in used if name in self._weights]
        graph = helper.make_graph(nodes, "piece", inputs, results, weights)
        piece = helper.make_model(
            graph, opset_imports=list(self._model.opset_import), ir_version=self._model.ir_version
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(piece.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _inner(name: str) -> bool:
    """A name that `export.fp16_check.rounded` gave a step of the rounding."""
    return name.endswith(("_exact", "_half"))
