"""Puts the way from bytes to numbers and back into a graph of the whole effect. Needs the package `onnx`; no torch."""

import numpy as np

PIXELS, REFOCUSED, TOTAL = "pixels", "refocused_pixels", "total"
"""Names of the photo, of the result, both H×W×3 integers, and of the sum of the result: not finite where a value is."""


def in_pixels(graph: bytes, dtype: "np.dtype[np.uint8 | np.uint16]") -> bytes:
    """A serialised graph of the whole effect that takes and gives integers instead of `picture` and `refocused`.

    Args:
        dtype: of the pixels; its largest value is 1.0.

    Raises:
        ImportError: onnx is not installed.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(graph)
    body = model.graph
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    (picture,) = (each for each in body.input if each.name == "picture")
    height, width = (each.dim_value for each in picture.type.tensor_type.shape.dim[2:])
    body.input.remove(picture)
    body.input.append(helper.make_tensor_value_info(PIXELS, kind, [height, width, 3]))
    del body.output[:]
    body.output.append(helper.make_tensor_value_info(REFOCUSED, kind, [height, width, 3]))
    body.output.append(helper.make_tensor_value_info(TOTAL, TensorProto.FLOAT, []))
    body.initializer.append(numpy_helper.from_array(np.array(np.iinfo(dtype).max, np.float32), "pixels_largest"))
    body.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "pixels_first"))
    node = helper.make_node
    before = [
        node("Transpose", [PIXELS], ["pixels_planes"], perm=[2, 0, 1]),
        node("Cast", ["pixels_planes"], ["pixels_numbers"], to=TensorProto.FLOAT),
        node("Div", ["pixels_numbers", "pixels_largest"], ["pixels_share"]),
        node("Unsqueeze", ["pixels_share", "pixels_first"], ["picture"]),
    ]
    after = [
        node("ReduceSum", ["refocused"], [TOTAL], keepdims=0),
        node("Mul", ["refocused", "pixels_largest"], ["refocused_scaled"]),
        node("Round", ["refocused_scaled"], ["refocused_whole"]),
        node("Cast", ["refocused_whole"], ["refocused_integers"], to=kind),
        node("Squeeze", ["refocused_integers", "pixels_first"], ["refocused_planes"]),
        node("Transpose", ["refocused_planes"], [REFOCUSED], perm=[1, 2, 0]),
    ]
    nodes = [*before, *body.node, *after]
    del body.node[:]
    body.node.extend(nodes)
    serialised: bytes = model.SerializeToString()
    return serialised
