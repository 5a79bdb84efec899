"""Is an ONNX graph the network that it came from? Its structure against the contract, its numbers against PyTorch."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deeplens.console.errors import MismatchError, one_line
from deeplens.model.contract import ALIGNMENT, Contract
from deeplens.runtimes.manifest import TensorEntry

if TYPE_CHECKING:
    import onnx
    import torch

TOLERANCE = 1e-5
"""Largest |ONNX Runtime − PyTorch| in float32; as a share of the output's spread where that is below 1."""

CHECK_SIZES = ((40, 72), (128, 80))
"""Low-resolution sizes at which a graph with free sizes is compared: a simplifier may freeze that of the trace."""


def compare(
    path: Path,
    module: "torch.nn.Module",
    contract: Contract,
    *,
    sizes: Sequence[tuple[int, int]],
    seed: int = 0,
    margin: float | None = None,
) -> float:
    """Run the graph at `path` in ONNX Runtime and `module` in PyTorch on the same random inputs.

    Args:
        sizes: low-resolution (height, width) of each run.
        seed: of the inputs (`random_inputs`).
        margin: of a network that nobody made for this tolerance: so many times its own rounding, |float32 − float64| in
            PyTorch, is allowed too.

    Returns:
        the largest |difference|.

    Raises:
        MismatchError: it is above `TOLERANCE`, or not a number, or ONNX Runtime refuses the graph.
    """
    import onnxruntime
    import torch

    generator = np.random.default_rng(seed)
    worst = 0.0
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for size in sizes:
            feed = random_inputs(contract, size, generator)
            with torch.inference_mode():
                expected = module(*(torch.from_numpy(array) for array in feed.values())).numpy()
            (found,) = session.run([contract.outputs[0].name], feed)
            if found.shape != expected.shape:
                raise MismatchError(
                    f"{contract.network}: the graph gives shape {found.shape}, PyTorch gives {expected.shape}"
                )
            difference = float(np.abs(found - expected).max())
            # An output that hardly varies would hide a wrong graph; the rounding of its offset stays allowed.
            rounding = 16 * float(np.spacing(np.abs(expected).max()))
            limit = min(TOLERANCE, TOLERANCE * float(np.ptp(expected)) + rounding)
            if margin is not None:
                limit = max(TOLERANCE * float(np.ptp(expected)), margin * own_rounding(module, feed))
            if not difference <= limit:
                where = f"{contract.network} at {size[0]}x{size[1]}"
                raise MismatchError(f"{where}: graph and PyTorch differ by {difference:.2g} (at most {limit:.2g})")
            worst = max(worst, difference)
    except MismatchError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        reason = one_line(error)
        raise MismatchError(f"{contract.network}: the exported graph doesn't run ({reason})") from error
    return worst


def own_rounding(module: "torch.nn.Module", feed: Mapping[str, np.ndarray]) -> float:
    """The largest |float32 − float64| of PyTorch's own outputs."""
    import torch

    tensors = [torch.from_numpy(array) for array in feed.values()]
    double = copy.deepcopy(module).double()
    with torch.inference_mode():
        return float((module(*tensors).double() - double(*(each.double() for each in tensors))).abs().max())


def random_inputs(contract: Contract, size: tuple[int, int], generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Inputs at a low-resolution size, in the contract's ranges: name → float32 N×C×H×W.

    Flat cells with noise on them: white noise alone averages out in a deep network, whose output then hardly varies.
    """
    feed = {}
    for tensor in contract.inputs:
        low, high = tensor.low or 0.0, 1.0 if tensor.high is None else tensor.high
        shape = tensor.shape(*size)
        cells = generator.uniform(low, high, (*shape[:2], *(-(-side // ALIGNMENT) for side in shape[2:])))
        noise = generator.uniform(-0.1, 0.1, shape)
        cells = cells.repeat(ALIGNMENT, axis=2).repeat(ALIGNMENT, axis=3)[:, :, : shape[2], : shape[3]]
        feed[tensor.name] = np.clip(cells + noise, low, high).astype(np.float32)
    return feed


def check_structure(model: "onnx.ModelProto", contract: Contract, *, size: tuple[int, int] | None) -> None:
    """Names and shapes are the contract's, batch norms are folded, operations are ONNX's own.

    Args:
        size: the low-resolution (height, width); None: free, as multiples of `model.contract.ALIGNMENT`.

    Raises:
        MismatchError: one of these is not so.
    """
    sides = ((model.graph.input, contract.inputs), (model.graph.output, contract.outputs))
    for values, tensors in sides:
        expected = []
        for tensor in tensors:
            step = ALIGNMENT * tensor.scale
            shape = (1, tensor.channels, f"{step}*h", f"{step}*w") if size is None else tensor.shape(*size)
            expected.append(TensorEntry(tensor.name, shape, "float32"))
        found = list(tensor_entries(values))
        if found != expected:
            raise MismatchError(f"{contract.network}: the graph has {found}, expected {expected}")
    if any(node.op_type == "BatchNormalization" for node in model.graph.node):
        raise MismatchError(f"{contract.network}: a batch norm was not folded into a convolution")
    foreign = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx"})
    if foreign or model.functions:
        raise MismatchError(f"{contract.network}: some operations are not standard ONNX: {', '.join(foreign)}")


def tensor_entries(values: Sequence["onnx.ValueInfoProto"]) -> tuple[TensorEntry, ...]:
    """Names, shapes and dtypes as they stand in the graph."""
    import onnx

    entries = []
    for value in values:
        tensor = value.type.tensor_type
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
        shape = tuple(each.dim_param.replace(" ", "") or each.dim_value for each in tensor.shape.dim)
        entries.append(TensorEntry(value.name, shape, dtype))
    return tuple(entries)
