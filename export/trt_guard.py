"""Versions of TensorRT that are known to compute attention wrongly: refused unless they are asked for.

Wrong results of vision transformers in FP16 were reported for TensorRT 10.3, 10.4 and 10.7 on some devices, and right
ones from 10.12 on. Whether an engine is right on a device is for `deeplens parity` to say.
"""

import warnings
from typing import TYPE_CHECKING

from deeplens.console.errors import MismatchError

if TYPE_CHECKING:
    import onnx

REFUSED_BEFORE = (10, 6)
"""Versions before this are refused."""

DOUBTED_BEFORE = (10, 12)
"""Versions before this are told to be held against PyTorch."""

REPORTS = "wrong results of vision transformers in FP16 were reported for 10.3, 10.4 and 10.7"


def has_attention(model: "onnx.ModelProto") -> bool:
    """Whether a graph has attention: a softmax over a product of matrices, or the operation itself."""
    makers = {output: node for node in model.graph.node for output in node.output}
    through = ("Add", "Mul", "Div", "Where", "Cast", "Reshape", "Identity")

    def is_product(name: str, depth: int = 0) -> bool:
        node = makers.get(name)
        if node is None or depth > 6:
            return False
        if node.op_type in ("MatMul", "Gemm", "Einsum"):
            return True
        return node.op_type in through and any(is_product(each, depth + 1) for each in node.input)

    return any(
        node.op_type in ("Attention", "MultiHeadAttention") or (node.op_type == "Softmax" and is_product(node.input[0]))
        for node in model.graph.node
    )


def check_version(
    model: "onnx.ModelProto", *, library: str, version: str, precision: str, forced: bool = False
) -> str | None:
    """What there is to say of a version that builds an engine of a graph; None: nothing.

    Args:
        library: "tensorrt"; TensorRT for RTX has other versions and is not doubted.
        precision: of the engine; FP32 is not doubted.
        forced: build it all the same.

    Raises:
        MismatchError: the version is refused.
    """
    if library != "tensorrt" or precision == "fp32" or not has_attention(model):
        return None
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    check = "compare it with PyTorch on the device: `deeplens parity --runtime trt`"
    if numbers < REFUSED_BEFORE and not forced:
        raise MismatchError(
            f"TensorRT {version} may compute this vision transformer wrongly ({REPORTS}): use TensorRT 10.12 or later, "
            "or --precision fp32, or --force and then parity"
        )
    if numbers < DOUBTED_BEFORE:
        return f"TensorRT {version}: {REPORTS}; {check}"
    return None


def guard(graph: bytes, *, library: str, version: str, precision: str, forced: bool) -> None:
    """Warn of a version that is doubted for a graph; nothing is said where `onnx` is not installed.

    Args:
        graph: the ONNX file.
        library, version, precision, forced: as `check_version`.

    Raises:
        MismatchError: the version is refused.
    """
    try:
        import onnx
    except ImportError:  # a device without `onnx` builds what was exported elsewhere
        return
    told = check_version(
        onnx.load_model_from_string(graph), library=library, version=version, precision=precision, forced=forced
    )
    if told is not None:
        warnings.warn(told, stacklevel=3)
