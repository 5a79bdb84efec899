"""FP32 graph → FP16 graph with explicit types: every cast is a node of the graph, so that strong typing needs no flag.

Weights and activations become FP16. Inputs and outputs keep FP32 (with a cast behind or before them) unless asked.
A tensor can be kept in FP32 by its name. Two parts of `edge` depth are always kept: its first depthwise layer
(`sensitive`) and, in depth's own graph, the filters at its end (`of_filters`).
"""

from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.export.fp16_check import LARGEST, check
from deeplens.export.onnx_check import tensor_entries
from deeplens.runtimes import manifest
from deeplens.runtimes.artefact import load as load_artefact
from deeplens.runtimes.publish import publish, published

if TYPE_CHECKING:
    import onnx
    import torch

FP32_INPUTS: Mapping[str, frozenset[int]] = {"Resize": frozenset({1, 2})}
"""Operation → positions of inputs that ONNX defines as FP32 whatever the type of the data."""


DIFFERENCES = "stages.0.0.body.0.weight"
"""How the name of a weight ends whose convolution takes small differences of large activations: weights up to 28 of
either sign on activations up to 6. Rounding those to FP16 did more to the map of `edge` depth than all other tensors
together."""


def sensitive(model: "onnx.ModelProto") -> set[str]:
    """Tensors that stay FP32 in every FP16 graph: from the convolution before that of `DIFFERENCES` to its output."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    kept: set[str] = set()
    for node in model.graph.node:
        if node.op_type != "Conv" or not node.input[1].endswith(DIFFERENCES):
            continue
        kept.update(node.output)
        before = made_by.get(node.input[0])
        while before is not None:
            kept.update(before.output)
            before = None if before.op_type == "Conv" else made_by.get(before.input[0])
    return kept


def of_filters(model: "onnx.ModelProto") -> set[str]:
    """Tensors of the filters at the end of a graph of `edge` depth: what the first MaxPool takes, and all after it.

    The nearest value of the map is one of them. Rounded to FP16 it would change the scale of the whole map.
    """
    nodes = list(model.graph.node)
    taken = next((node.input[0] for node in nodes if node.op_type == "MaxPool"), None)
    first = next((place for place, node in enumerate(nodes) if taken in node.output), len(nodes))
    return {name for node in nodes[first:] for name in node.output}


def convert(model: "onnx.ModelProto", *, keep: Collection[str] = (), fp16_io: bool = False) -> "onnx.ModelProto":
    """The FP16 graph of an FP32 graph, which is not changed.

    Args:
        keep: tensors that are computed in FP32, beside those of `sensitive`.
        fp16_io: inputs and outputs are FP16 too.

    Raises:
        MismatchError: a weight is larger than FP16 can hold; the message names it.
    """
    import onnx

    half = onnx.ModelProto()
    half.CopyFrom(model)
    _Conversion(half, sensitive(model).union(keep), fp16_io).run()
    onnx.checker.check_model(half, full_check=True)
    return half


class _Conversion:
    """One pass over the nodes, in order: a cast goes in where a tensor's type is not the one that its reader takes."""

    def __init__(self, model: "onnx.ModelProto", keep: set[str], fp16_io: bool) -> None:
        import onnx

        self._make_node, self._arrays = onnx.helper.make_node, onnx.numpy_helper
        self._half, self._single = int(onnx.TensorProto.FLOAT16), int(onnx.TensorProto.FLOAT)
        self._graph = model.graph
        self._keep = keep
        self._types = dict.fromkeys(_float_tensors(model), self._single)
        self._weights = {each.name: each for each in model.graph.initializer}
        self._copies: dict[tuple[str, int], str] = {}
        self._nodes: list[onnx.NodeProto] = []
        if fp16_io:
            for value in (*model.graph.input, *model.graph.output):
                value.type.tensor_type.elem_type = self._half
            self._types |= {value.name: self._half for value in model.graph.input}

    def run(self) -> None:
        graph = self._graph
        outputs = {value.name: value.type.tensor_type.elem_type for value in graph.output}
        for node in graph.node:
            wanted = self._single if self._keep.intersection(node.output) else self._half
            fp32_only = FP32_INPUTS.get(node.op_type, frozenset())
            for position, name in enumerate(node.input):
                if name in self._types and position not in fp32_only:
                    node.input[position] = self._as(name, wanted)
            self._nodes.append(node)
            for position, name in enumerate(node.output):
                if name not in self._types:
                    continue
                if outputs.get(name, wanted) != wanted:
                    node.output[position] = f"{name}_uncast"
                    self._cast(node.output[position], name, outputs[name])
                    self._copies[name, wanted] = node.output[position]
                else:
                    self._types[name] = wanted
        del graph.node[:]
        graph.node.extend(self._nodes)
        used = {name for node in graph.node for name in node.input}
        weights = [each for each in graph.initializer if each.name in used]
        del graph.initializer[:]
        graph.initializer.extend(weights)
        del graph.value_info[:]  # the types there are the old ones

    def _as(self, name: str, wanted: int) -> str:
        """The tensor `name` in the type `wanted`: itself, a weight in that type, or what a cast makes of it."""
        if self._types[name] == wanted:
            return name
        if (name, wanted) not in self._copies:
            copy = self._copies[name, wanted] = f"{name}_{'fp16' if wanted == self._half else 'fp32'}"
            if name in self._weights:
                self._graph.initializer.append(self._halved(self._weights[name], copy))
            else:
                self._cast(name, copy, wanted)
        return self._copies[name, wanted]

    def _cast(self, source: str, target: str, wanted: int) -> None:
        self._nodes.append(self._make_node("Cast", [source], [target], name=f"cast_{target}", to=wanted))

    def _halved(self, weight: "onnx.TensorProto", name: str) -> "onnx.TensorProto":
        values = self._arrays.to_array(weight)
        largest = float(np.abs(values).max(initial=0.0))
        if not largest <= LARGEST:
            raise MismatchError(f"the weight {weight.name} reaches {largest:.3g}, but FP16 ends at {LARGEST:.0f}")
        return self._arrays.from_array(values.astype(np.float16), name)


def _float_tensors(model: "onnx.ModelProto") -> set[str]:
    """Names of all FP32 tensors: inputs, weights and what the nodes give."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    single = onnx.TensorProto.FLOAT
    values = (*graph.input, *graph.output, *graph.value_info)
    names = {each.name for each in values if each.type.tensor_type.elem_type == single}
    return names | {each.name for each in graph.initializer if each.data_type == single}


def export(
    entry: manifest.Entry,
    *,
    out: Path,
    module: "torch.nn.Module | None" = None,
    fp16_io: bool = False,
    keep: Collection[str] = (),
) -> manifest.Entry:
    """The FP16 artefact beside an FP32 one, checked; nothing is done where it is there already.

    Args:
        entry: of the FP32 graph, in the manifest of `out`.
        module: the network in PyTorch, to check against: see `export.fp16_check.check`.
        fp16_io: inputs and outputs are FP16 too.
        keep: tensors that stay in FP32, beside those of `sensitive` and, in `edge` depth, of `of_filters`.

    Raises:
        MissingError, MismatchError: the FP32 file is not what its entry says.
        MismatchError: FP16 can't hold the graph; the message names the tensor. Nothing is left behind.
    """
    import onnx

    name = Path(entry.path).stem + ("_fp16io" if fp16_io else "_fp16") + ".onnx"
    path = Path(entry.path).with_name(name)
    model = onnx.load_from_string(load_artefact(out, entry))
    kept = sensitive(model)
    if kept and entry.network == "depth":
        kept |= of_filters(model)
    kept |= set(keep)
    made_from: dict[str, Any] = {"made_from": entry.sha256}
    if kept:
        made_from["kept"] = sorted(kept)
    there = published(out, path, **made_from)
    if there is not None:
        return there
    with publish(out, path) as artefact:
        half = convert(model, keep=kept, fp16_io=fp16_io)
        half.metadata_props.add(key="precision", value="fp16")
        figures = check(model, half, network=entry.network, module=module, kept=kept)
        onnx.save(half, artefact.file)
        made = artefact.describe(
            entry,
            precision="fp16",
            inputs=tensor_entries(half.graph.input),
            outputs=tensor_entries(half.graph.output),
            tools={**entry.tools, "onnx": version("onnx"), "onnxruntime": version("onnxruntime")},
            more={**made_from, "fp16_check": figures},
        )
    return made
