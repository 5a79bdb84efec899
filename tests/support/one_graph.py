"""A small ONNX graph from x to y, and what ONNX Runtime makes of it."""

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def graph(
    channels: int,
    *nodes: onnx.NodeProto,
    constants: dict[str, np.ndarray] | None = None,
    height: int | str = "h",
    width: int | str = "w",
) -> onnx.ModelProto:
    """x (1, channels, height, width) through `nodes` to y; a size that is a word is free."""
    made = helper.make_graph(
        list(nodes), "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, height, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "H", "W"])],
        [numpy_helper.from_array(values, name) for name, values in (constants or {}).items()],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, x: np.ndarray) -> Any:
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)
