"""A depth network of others in INT8: convolutions and products of matrices on integers, as its plan says.

ONNX Runtime's own quantiser writes the Q/DQ nodes: symmetric, a scale for each output channel of a weight and one for
each activation. The scales come from the plan, so that the same graph is made without the photos.
"""

from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.export.depth_plan import DepthPlan
from deeplens.export.fp16_check import check_sizes, session
from deeplens.export.golden import agreement
from deeplens.export.golden_inputs import golden_inputs
from deeplens.export.onnx_check import tensor_entries
from deeplens.model.contract import CONTRACTS
from deeplens.runtimes import manifest
from deeplens.runtimes.artefact import load as load_artefact
from deeplens.runtimes.publish import publish, published

if TYPE_CHECKING:
    import onnx

PRODUCTS = ("MatMul", "Gemm")
CONVOLUTIONS = ("Conv", "ConvTranspose")

WAYS: tuple[tuple[str, ...], ...] = ((*CONVOLUTIONS, *PRODUCTS), PRODUCTS, CONVOLUTIONS)
"""Operations that may be on integers together, the most arithmetic of a vision transformer first."""

LEAST = 20.0
"""Agreement with the FP32 graph in dB on the golden inputs, at least. They are no photo, so that values may leave the
plan's scales; a scale of another tensor gives less than this."""


def ways(model: "onnx.ModelProto") -> list[tuple[str, ...]]:
    """Those of `WAYS` that differ in a graph, each with the operations that the graph has."""
    there = {node.op_type for node in model.graph.node}
    found = [tuple(each for each in way if each in there) for way in WAYS]
    return [way for way in dict.fromkeys(found) if way]


def tensors_of(model: "onnx.ModelProto", operations: Collection[str]) -> set[str]:
    """Names of the tensors whose scales are needed: what the operations read and give, without weights."""
    weights = {each.name for each in model.graph.initializer}
    chosen = [node for node in model.graph.node if node.op_type in operations]
    return {name for node in chosen for name in (*node.input, *node.output) if name and name not in weights}


def quantised(model: "onnx.ModelProto", operations: Collection[str], largest: Mapping[str, float]) -> "onnx.ModelProto":
    """The graph with some operations on integers; the one that is given stays as it is.

    Args:
        operations: their kinds in ONNX.
        largest: tensor → the largest |value| that its scale has to hold, of all of `tensors_of`.

    Raises:
        MismatchError: a tensor has no such value, or none that makes a scale.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    needed = tensors_of(model, operations)
    for name in sorted(needed):
        if not 0 < largest.get(name, 0.0) < np.inf:
            raise MismatchError(f"the tensor {name} has no scale for INT8: run `deeplens calibrate` again")
    bounds = {name: np.float32(largest[name]) for name in needed}
    ranges = {name: TensorData(lowest=-each, highest=each) for name, each in bounds.items()}
    made = onnx.ModelProto()
    made.CopyFrom(model)
    quantiser = QDQQuantizer(
        made,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
        nodes_to_quantize=None,
        nodes_to_exclude=[],
        op_types_to_quantize=list(operations),
        # Biases stay in FP32, as in the INT8 graphs of our own networks.
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )
    quantiser.quantize_model()
    quantiser.model.topological_sort()
    result: onnx.ModelProto = quantiser.model.model
    onnx.checker.check_model(result, full_check=True)
    return result


def export(entry: manifest.Entry, plan: DepthPlan, *, out: Path) -> manifest.Entry:
    """The INT8 artefact beside an FP32 one; nothing is done where it is there already.

    Args:
        entry: of the FP32 graph, in the manifest of `out`.

    Raises:
        MissingError, MismatchError: the FP32 file is not what its entry says.
        MismatchError: the plan is of another network or other weights, has no way that is good enough, or the graph is
            not near the FP32 one. Nothing is left behind.
    """
    import onnx

    plan.check(entry.variant, entry.weights_sha256)
    chosen = plan.chosen_int8()
    path = Path(entry.path).with_name(f"{Path(entry.path).stem}_int8.onnx")
    made_from: dict[str, Any] = {
        "made_from": entry.sha256,
        "operations": list(chosen.operations),
        "calibrated_on": {"photos": plan.photos, "sha256": plan.photos_sha256},
    }
    there = published(out, path, **made_from)
    if there is not None:
        return there
    with publish(out, path) as artefact:
        model = onnx.load_from_string(load_artefact(out, entry))
        made = quantised(model, chosen.operations, plan.largest)
        made.metadata_props.add(key="precision", value="int8")
        contract = CONTRACTS["depth"]
        feed = golden_inputs(contract, check_sizes(model, contract)[0])
        found = agreement(session(made).run(None, feed)[0], session(model).run(None, feed)[0])
        if found < LEAST:
            raise MismatchError(
                f"{entry.variant} in INT8 agrees with FP32 by {found:.1f} dB only, and not by {LEAST:g}: run `deeplens "
                f"calibrate --depth-network {entry.variant}` again"
            )
        onnx.save(made, artefact.file)
        written = artefact.describe(
            entry,
            precision="int8",
            inputs=tensor_entries(made.graph.input),
            outputs=tensor_entries(made.graph.output),
            tools={**entry.tools, "onnx": version("onnx"), "onnxruntime": version("onnxruntime")},
            more={**made_from, "agreement_db": round(found, 2), "photos_db": chosen.agreement_db},
        )
    return written
