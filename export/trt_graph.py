"""What a TensorRT engine is built from: the ONNX graph in the precision that is asked for, made where it is missing."""

from pathlib import Path
from typing import TYPE_CHECKING

from deeplens.console.errors import MismatchError, MissingError
from deeplens.model.contract import CONTRACTS
from deeplens.model.shipped import Weights
from deeplens.runtimes import manifest

if TYPE_CHECKING:
    import torch

    from deeplens.export.precision_plan import Plan


def graph(
    variant: str,
    network: str,
    precision: str,
    *,
    out: Path,
    weights: "Weights",
    fp16_io: bool = False,
    plan: "Plan | None" = None,
) -> manifest.Entry:
    """The ONNX artefact that an engine is built from; exported, or converted and checked, where it is missing.

    Without PyTorch the FP32 artefact in the manifest is taken as it is.

    Args:
        plan: what `precision` int8 and mixed follow; not for others.

    Raises:
        MissingError: weights or a library are not there.
        MismatchError: FP16 can't hold the graph, or the plan is of other weights; the message names what differs.
    """
    module, entry = fp32(variant, network, out=out, weights=weights)
    if precision == "fp32":
        return entry
    if plan is not None:
        from deeplens.export import planned

        return planned.export(entry, plan, out=out, kind=precision, module=module)
    from deeplens.export import fp16

    return fp16.export(entry, out=out, module=module, fp16_io=fp16_io)


def fp32(
    variant: str, network: str, *, out: Path, weights: "Weights"
) -> "tuple[torch.nn.Module | None, manifest.Entry]":
    """The network in PyTorch, where that is installed, and its FP32 graph, which computes the same."""
    try:
        from deeplens.model import build
    except ImportError:
        entry = manifest.find(out, network=network, variant=variant, runtime="onnx")
        manifest.verify(out, entry)
        return None, entry
    from deeplens.export import onnx_check, onnx_graph

    module = build.load(variant, network, weights)
    contract = CONTRACTS[network]
    sizes = onnx_check.CHECK_SIZES if contract.fixed_size is None else (contract.fixed_size,)
    try:
        entry = manifest.find(out, network=network, variant=variant, runtime="onnx")
        if entry.weights_sha256 == build.weights_sha256(module):
            onnx_check.compare(manifest.verify(out, entry), module, contract, sizes=sizes)
            return module, entry
    except (MissingError, MismatchError):
        pass  # none, or of another state of the project: made anew
    return module, onnx_graph.export_module(module, variant=variant, network=network, out=out)
