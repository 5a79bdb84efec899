"""A PyTorch module or program → an ONNX graph: traced, simplified, described. Nothing is checked or stored here."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deeplens.model.contract import ALIGNMENT, MIN_SIZE, Contract

if TYPE_CHECKING:
    import onnx
    import torch

OPSET = 20
"""At least 18, where the exporter's own operations begin; 18 and 20 give the same operations for these networks."""

TRACE_SIZE = (64, 96)
"""Low-resolution size at which a graph with free sizes is traced; it is compared at others."""

TOOLS = ("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime")


def traced(
    module: "torch.nn.Module | torch.export.ExportedProgram", contract: Contract, size: tuple[int, int] | None
) -> "onnx.ModelProto":
    """The graph that torch.export and the exporter's own optimiser make of `module`, or the latter of a program."""
    import torch
    from torch.export import Dim

    if size is None:
        smallest = MIN_SIZE // ALIGNMENT
        h, w = Dim("h", min=smallest), Dim("w", min=smallest)
        dynamic = {
            each.name: {2: ALIGNMENT * each.scale * h, 3: ALIGNMENT * each.scale * w} for each in contract.inputs
        }
    example = [torch.zeros(tensor.shape(*(size or TRACE_SIZE))) for tensor in contract.inputs]
    with quiet():
        program = torch.onnx.export(
            module,
            tuple(example),
            dynamo=True,
            opset_version=OPSET,
            input_names=[tensor.name for tensor in contract.inputs],
            output_names=[tensor.name for tensor in contract.outputs],
            dynamic_shapes=dynamic if size is None else None,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def simplified(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The same graph, simplified by onnxsim, of standard operations.

    It fuses some attention into an operation of ONNX Runtime's own, which TensorRT does not have: then its optimiser is
    left out, and constants are folded alone.
    """
    import onnxsim

    simplified, _ = onnxsim.simplify(model)
    if any(node.domain not in ("", "ai.onnx") for node in simplified.graph.node):
        simplified, _ = onnxsim.simplify(model, perform_optimization=False)
    return simplified


def deduplicated(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The graph with each constant stored once: what levels share by value, they share by name."""
    import onnx_ir
    from onnx_ir.passes.common import DeduplicateHashedInitializersPass

    held = onnx_ir.from_proto(model)
    DeduplicateHashedInitializersPass()(held)
    return onnx_ir.to_proto(held)


def describe(model: "onnx.ModelProto", properties: Mapping[str, str]) -> None:
    """Replace the tools' notes by ours; no path of the machine that exported stays in the file."""
    del model.metadata_props[:]
    for name, value in properties.items():
        model.metadata_props.add(key=name, value=value)
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what the exporter says on every run: torchvision is not there; an axis name is derived from another."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*The axis name: .* will not be used")
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.* is deprecated")
            yield
    finally:
        logger.setLevel(level)
