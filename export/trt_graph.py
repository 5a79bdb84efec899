"""What a TensorRT engine is built from: the ONNX graph in the precision that is asked for, made where it is missing."""

from pathlib import Path
from typing import TYPE_CHECKING

from deeplens.console.errors import MismatchError, MissingError
from deeplens.model.contract import CONTRACTS, VARIANTS
from deeplens.model.shipped import Weights
from deeplens.runtimes import depth_store, manifest

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
    """The network in PyTorch, where that is installed, and its FP32 graph, which computes the same.

    Args:
        variant: the name of a depth network of others, too.
    """
    if variant not in VARIANTS:
        return _named(variant, out=out)
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


def _named(name: str, *, out: Path) -> "tuple[torch.nn.Module | None, manifest.Entry]":
    """A depth network of others: the graph that is there, if it is of the same weights, else made anew."""
    from deeplens.export import onnx_graph
    from deeplens.export.foreign_depth import foreign_module

    try:
        module = foreign_module(name)
    except MissingError:  # no PyTorch here: the graph is taken as it is
        entry = manifest.find(out, network="depth", variant=name, runtime="onnx")
        manifest.verify(out, entry)
        return None, entry
    try:
        entry = manifest.find(out, network="depth", variant=name, runtime="onnx")
        manifest.verify(out, entry)
        if entry.weights_sha256 == weights_of(name, module) and entry.size == depth_store.find(name).card.size:
            return module, entry
    except (MissingError, MismatchError):
        pass  # none, or of another state: made anew
    return module, onnx_graph.export_named(name, out=out)


def weights_of(name: str, module: "torch.nn.Module | None") -> str:
    """SHA-256 of a network's weights, as its artefacts have it."""
    if module is None:
        found = depth_store.find(name)
        return found.sha256[found.weights.name]
    from deeplens.model.build import weights_sha256

    return weights_sha256(module)
