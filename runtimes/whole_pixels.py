"""The way from a photo's integers to numbers and back as a part of a graph. Needs the package `onnx`; no torch.

TensorRT has one unsigned type, 8 bits, for inputs and outputs only: they become float32 before anything else is done,
and integers after everything else. Its cast cuts off what is behind the point, so rounding comes before.
"""

from typing import TYPE_CHECKING

import numpy as np

from deeplens.model.whole_contract import PIXELS, PIXELS_IN, PIXELS_OUT, REFOCUSED, TOTAL

if TYPE_CHECKING:
    import onnx

OPSET = 18

LARGEST, FIRST, LOW, HIGH = "pixels_largest", "pixels_first", "pixels_low", "pixels_high"
"""Names of constants: the largest value of the photo's type, the axis of the batch, 0 and 1."""


def in_pixels(graph: bytes, dtype: "np.dtype[np.uint8 | np.uint16]") -> bytes:
    """A serialised graph of the whole effect that takes and gives integers instead of `picture` and `refocused`.

    Args:
        dtype: of the pixels; its largest value is 1.0.

    Raises:
        ImportError: onnx is not installed.
    """
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load_from_string(graph)
    body = model.graph
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    (picture,) = (each for each in body.input if each.name == "picture")
    height, width = (each.dim_value for each in picture.type.tensor_type.shape.dim[2:])
    body.input.remove(picture)
    body.input.append(helper.make_tensor_value_info(PIXELS, kind, [height, width, 3]))
    del body.output[:]
    body.output.append(helper.make_tensor_value_info(REFOCUSED, kind, [height, width, 3]))
    body.output.append(helper.make_tensor_value_info(TOTAL, TensorProto.FLOAT, [1, 1, 1, 1]))
    body.initializer.extend(_constants(dtype))
    nodes = [*_taken(), *body.node, *_given(kind)]
    del body.node[:]
    body.node.extend(nodes)
    serialised: bytes = model.SerializeToString()
    return serialised


def pixel_graphs(size: tuple[int, int]) -> dict[str, bytes]:
    """The two ends of it alone, for photos of 8 bits: name → serialised graph.

    Args:
        size: height and width of the photo.

    Raises:
        ImportError: onnx is not installed.
    """
    from onnx import TensorProto, helper

    floats, integers = TensorProto.FLOAT, TensorProto.UINT8
    planes, photo, one = [1, 3, *size], [*size, 3], [1, 1, 1, 1]
    ends = {
        PIXELS_IN: (_taken(), [(PIXELS, integers, photo)], [("picture", floats, planes)]),
        PIXELS_OUT: (
            _given(integers),
            [("refocused", floats, planes)],
            [(REFOCUSED, integers, photo), (TOTAL, floats, one)],
        ),
    }
    found = {}
    for name, (nodes, inputs, outputs) in ends.items():
        before, after = ([helper.make_tensor_value_info(*each) for each in side] for side in (inputs, outputs))
        used = {each for node in nodes for each in node.input}
        constants = [each for each in _constants(np.dtype(np.uint8)) if each.name in used]
        graph = helper.make_graph(nodes, name, before, after, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        found[name] = model.SerializeToString()
    return found


def _constants(dtype: "np.dtype[np.uint8 | np.uint16]") -> "list[onnx.TensorProto]":
    from onnx import numpy_helper

    values: dict[str, np.ndarray] = {
        LARGEST: np.array(np.iinfo(dtype).max, np.float32),
        FIRST: np.array([0], np.int64),
        LOW: np.array(0, np.float32),
        HIGH: np.array(1, np.float32),
    }
    return [numpy_helper.from_array(array, name) for name, array in values.items()]


def _taken() -> "list[onnx.NodeProto]":
    """`PIXELS` → `picture`."""
    from onnx import TensorProto, helper

    node = helper.make_node
    return [
        node("Cast", [PIXELS], ["pixels_numbers"], to=TensorProto.FLOAT),
        node("Div", ["pixels_numbers", LARGEST], ["pixels_share"]),
        node("Transpose", ["pixels_share"], ["pixels_planes"], perm=[2, 0, 1]),
        node("Unsqueeze", ["pixels_planes", FIRST], ["picture"]),
    ]


def _given(kind: int) -> "list[onnx.NodeProto]":
    """`refocused` → `REFOCUSED` in integers of `kind`, and `TOTAL`."""
    from onnx import helper

    node = helper.make_node
    return [
        node("ReduceSum", ["refocused"], [TOTAL], keepdims=1),
        node("Clip", ["refocused", LOW, HIGH], ["refocused_share"]),
        node("Mul", ["refocused_share", LARGEST], ["refocused_scaled"]),
        node("Round", ["refocused_scaled"], ["refocused_whole"]),
        node("Squeeze", ["refocused_whole", FIRST], ["refocused_planes"]),
        node("Transpose", ["refocused_planes"], ["refocused_photo"], perm=[1, 2, 0]),
        node("Cast", ["refocused_photo"], [REFOCUSED], to=kind),
    ]
