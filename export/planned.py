"""A precision plan on an ONNX graph: Q/DQ nodes for its INT8 layers, casts for its FP16 ones."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.export import fp16
from deeplens.export.fp16_check import check_sizes, rounded, session
from deeplens.export.int8 import quantise
from deeplens.export.layers import REST, Layer, layers
from deeplens.export.onnx_check import random_inputs, tensor_entries
from deeplens.export.onnx_forms import checked_form
from deeplens.export.precision_plan import PRECISIONS, Choice, Plan
from deeplens.model.contract import CONTRACTS
from deeplens.runtimes import manifest
from deeplens.runtimes.artefact import load as load_artefact
from deeplens.runtimes.onnx_form import CPU, form_of
from deeplens.runtimes.publish import publish, published

if TYPE_CHECKING:
    import onnx
    import torch

TOLERANCE = 2e-2
"""Largest root mean square of |graph − PyTorch with the same rounding|, as a share of the output's spread: a value on
the edge between two steps may round either way, and what follows goes with it."""


def follow(model: "onnx.ModelProto", network: str, plan: Plan, *, kind: str = "mixed") -> "onnx.ModelProto":
    """The graph that a plan asks for; `model`, the FP32 graph, is not changed.

    Raises:
        MismatchError: the plan's layers are not the graph's, or FP16 can't hold a weight that the plan puts there.
    """
    choices = plan.layers.get(network, {})
    if kind == "int8":
        choices = {path: each if each.precision == "int8" else Choice("fp32") for path, each in choices.items()}
    return planned_graph(model, network, choices)


def planned_graph(model: "onnx.ModelProto", network: str, choices: Mapping[str, Choice]) -> "onnx.ModelProto":
    """The graph in which each layer has what `choices` (path, or `REST` → choice) says; as `follow`."""
    own = layers(model, network)
    odd = sorted(set(choices) ^ {REST, *(each.path for each in own)})
    if odd:
        raise MismatchError(f"the plan and the graph of {network} have different layers, the first is {odd[0]}")
    result = quantise(
        model,
        own,
        {path: each.scales for path, each in choices.items() if each.scales is not None},
        biases={path: np.array(each.bias, np.float32) for path, each in choices.items() if each.bias},
    )
    half = frozenset(path for path, each in choices.items() if each.precision == "fp16")
    if not half:
        return result
    return fp16.convert(result, keep=kept_fp32(result, own, half))


def kept_fp32(model: "onnx.ModelProto", own: "list[Layer]", half: frozenset[str]) -> set[str]:
    """Tensors of a graph, with Q/DQ nodes or without, that stay FP32 when the layers `half` become FP16.

    Quantisers work on FP32, and what an INT8 layer gives is FP32 before it is cast.
    """
    tensors = {tensor: each.path for each in own for tensor in (each.raw, each.output)}
    kept = set()
    for node in model.graph.node:
        layer = tensors.get(node.output[0], REST)
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") or layer not in half:
            kept.update(node.output)
    return kept


def export(
    entry: manifest.Entry, plan: Plan, *, out: Path, kind: str = "int8", module: "torch.nn.Module | None" = None
) -> manifest.Entry:
    """The artefact that a plan asks for, beside an FP32 one; nothing is done where it is there already.

    Args:
        entry: of the FP32 graph, in the manifest of `out`.
        kind: one of `export.precision_plan.PLANNED`; the precision of the artefact.
        module: the network in PyTorch, to check against; None, where PyTorch is not installed: it is not checked.

    Raises:
        MissingError, MismatchError: the FP32 file is not what its entry says.
        MismatchError: the plan is of other weights, or the graph is not what PyTorch computes with the plan's rounding.
            Nothing is left behind.
    """
    import onnx

    plan.source.check_weights({entry.network: entry.weights_sha256}, what=f"the precision plan of {plan.variant}")
    path = Path(entry.path).with_name(f"{Path(entry.path).stem}_{kind}.onnx")
    made_from = {"made_from": entry.sha256, "plan": plan.digest(entry.network)}
    there = published(out, path, **made_from)
    if there is not None:
        return there
    with publish(out, path) as artefact:
        model = follow(onnx.load_from_string(load_artefact(out, entry)), entry.network, plan, kind=kind)
        for each in checked_form(form_of(entry.runtime) or CPU).quantised:
            model = each(model)
        model.metadata_props.add(key="precision", value=kind)
        difference = None if module is None else check(model, module, entry.network, plan, kind=kind)
        onnx.save(model, artefact.file)
        made = artefact.describe(
            entry,
            precision=kind,
            inputs=tensor_entries(model.graph.input),
            outputs=tensor_entries(model.graph.output),
            tools={**entry.tools, "onnx": version("onnx")},
            more={
                **made_from,
                "layers": {each: len(plan.with_precision(entry.network, each)) for each in PRECISIONS},
                "calibrated_on": {"photos": plan.source.count, "sha256": plan.source.photos},
                "calibrator": plan.methods[entry.network],
                "difference": difference,
            },
        )
    return made


def check(model: "onnx.ModelProto", module: "torch.nn.Module", network: str, plan: Plan, *, kind: str) -> float:
    """Hold a planned graph in ONNX Runtime against PyTorch with the plan's rounding, on random inputs.

    Returns:
        the root mean square of the difference, as a share of the output's spread.

    Raises:
        MismatchError: it is above `TOLERANCE`.
    """
    import torch

    from deeplens.export.fake_quant import planned

    choices = plan.layers[network] if kind == "mixed" else plan.int8(network)
    twin = planned(module, choices)
    contract = CONTRACTS[network]
    feed = random_inputs(contract, check_sizes(model, contract)[0], np.random.default_rng(0))
    with torch.inference_mode():
        expected = twin(*(torch.from_numpy(array) for array in feed.values())).numpy()
    (found,) = session(rounded(model)).run(None, feed)
    difference = float(np.sqrt(np.square(found - expected).mean())) / max(float(np.ptp(expected)), 1e-3)
    if not difference <= TOLERANCE:
        raise MismatchError(
            f"{network}: the {kind} graph differs from PyTorch with the plan's rounding by {difference:.2g} of the "
            f"spread (at most {TOLERANCE:g})"
        )
    return round(difference, 6)
