"""Operations that runtimes run badly, written as others that give the same numbers.

Measured on ONNX Runtime 1.32, one thread: a pixel shuffle as a grouped transposed convolution with a one-hot kernel
takes a sixth of the time of DepthToSpace, bit by bit the same. Output channels of a convolution are computed in blocks
of 16 (AVX-512), so that one channel takes the time of sixteen: with its two thin 3×3 convolutions as 1×1 convolutions,
one channel for each tap, and sums of slices, `edge` depth takes 0.92 of the time.
Sums and means: see `export.onnx_sums`. Weighted sums of taps: see `export.onnx_taps`. Which graph gets which of these:
see `export.onnx_forms`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from deeplens.export.onnx_links import TO_THE_END, channel_window, constant, options_of

if TYPE_CHECKING:
    import onnx

THIN = 3
"""A 3×3 convolution to more output channels than this stays as it is."""

NodeRule = Callable[
    ["onnx.NodeProto", int, "dict[str, onnx.TensorProto]"],
    "list[onnx.NodeProto] | None",
]
"""A node, the channels of its first input and the graph's constants, which it may add to → the nodes in its place, or
None where it does not apply."""


def by_node(model: "onnx.ModelProto", rules: Mapping[str, NodeRule]) -> "onnx.ModelProto":
    """A graph of the same inputs, outputs and numbers (sums to rounding); tensors keep their names.

    Args:
        rules: operation → what is written in its place.
    """
    shapes = channels_of(model)
    constants = {each.name: each for each in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        channels = shapes.get(node.input[0]) if node.input else None
        rule = rules.get(node.op_type)
        made = rule(node, channels, constants) if rule is not None and channels is not None else None
        nodes += [node] if made is None else made
    return with_nodes(model, nodes, constants)


def first_of(*rules: NodeRule) -> NodeRule:
    """What the first rule that applies makes."""

    def rule(
        node: "onnx.NodeProto", channels: int, constants: "dict[str, onnx.TensorProto]"
    ) -> "list[onnx.NodeProto] | None":
        return next((made for each in rules if (made := each(node, channels, constants)) is not None), None)

    return rule


def with_nodes(
    model: "onnx.ModelProto", nodes: "Sequence[onnx.NodeProto]", constants: "Mapping[str, onnx.TensorProto]"
) -> "onnx.ModelProto":
    """The graph with other nodes, and those of the constants that they use; `model` stays as it is."""
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    del result.graph.initializer[:]
    result.graph.initializer.extend(each for name, each in constants.items() if name in used)
    return result


def channels_of(model: "onnx.ModelProto") -> dict[str, int]:
    """The second size of every tensor of rank 4 that has a known one."""
    return {name: sizes[1] for name, sizes in shapes_of(model).items() if sizes[1]}


def shapes_of(model: "onnx.ModelProto") -> dict[str, tuple[int, int, int, int]]:
    """The sizes of every tensor of rank 4 that a node may read; 0 is a size that is not known."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    found = {}
    for value in (*graph.input, *graph.value_info):
        sizes = value.type.tensor_type.shape.dim
        if len(sizes) == 4:
            batch, channels, height, width = (each.dim_value for each in sizes)
            found[value.name] = batch, channels, height, width
    return found


def shuffle_by_convolution(
    node: "onnx.NodeProto", channels: int, constants: "dict[str, onnx.TensorProto]"
) -> "list[onnx.NodeProto] | None":
    """DepthToSpace of 2×2 in PyTorch's order: channel 4c + 2i + j goes to row i, column j of each cell of c."""
    from onnx import helper

    options = options_of(node)
    if options.get("blocksize") != 2 or options.get("mode", b"DCR") != b"CRD":
        return None
    kernel = np.tile(np.eye(4, dtype=np.float32).reshape(4, 1, 2, 2), (channels // 4, 1, 1, 1))
    name = constant(constants, f"shuffle_{channels}", kernel)
    return [
        helper.make_node(
            "ConvTranspose",
            [node.input[0], name],
            list(node.output),
            name=node.name,
            strides=[2, 2],
            group=channels // 4,
        )
    ]


def transposed_by_shuffle(
    node: "onnx.NodeProto", channels: int, constants: "dict[str, onnx.TensorProto]"
) -> "list[onnx.NodeProto] | None":
    """ConvTranspose whose steps are as long as its square kernel: each pixel gives a cell of its own.

    A 1×1 convolution makes the k·k values of each cell, channel k²c + ki + j for row i, column j of output channel c,
    and DepthToSpace lays them out.
    """
    from onnx import helper, numpy_helper

    options = options_of(node)
    if len(node.input) < 2 or node.input[1] not in constants:
        return None
    kernel = numpy_helper.to_array(constants[node.input[1]])
    side = kernel.shape[-1]
    plain = {
        "strides": [side, side], "kernel_shape": [side, side], "dilations": [1, 1], "pads": [0] * 4,
        "output_padding": [0, 0], "auto_pad": b"NOTSET", "group": options.get("group", 1),
    }  # fmt: skip
    if kernel.ndim != 4 or kernel.shape[2] != side or side < 2 or options.get("strides") != plain["strides"]:
        return None
    if any(plain.get(name) != value for name, value in options.items()):
        return None
    groups = int(options.get("group", 1))
    # (inputs, outputs of a group, k, k) → (outputs · k², inputs of a group, 1, 1)
    parted = kernel.reshape(groups, channels // groups, -1, side, side).transpose(0, 2, 3, 4, 1)
    weights = parted.reshape(-1, channels // groups, 1, 1)
    inputs = [node.input[0], constant(constants, f"cells_of_{node.input[1]}", np.ascontiguousarray(weights))]
    if len(node.input) > 2 and node.input[2]:
        if node.input[2] not in constants:
            return None
        added = numpy_helper.to_array(constants[node.input[2]]).repeat(side * side)
        inputs.append(constant(constants, f"cells_of_{node.input[2]}", added))
    (target,) = node.output
    return [
        helper.make_node("Conv", inputs, [f"{target}_cells"], name=f"{target}_cells", group=groups),
        helper.make_node("DepthToSpace", [f"{target}_cells"], [target], name=node.name, blocksize=side, mode="CRD"),
    ]


def thin_by_taps(
    node: "onnx.NodeProto", channels: int, constants: "dict[str, onnx.TensorProto]"
) -> "list[onnx.NodeProto] | None":
    """A 3×3 convolution to a few channels that keeps the size: Σ over taps of a 1×1 convolution, moved by the tap."""
    from onnx import helper, numpy_helper

    options = options_of(node)
    weight = constants.get(node.input[1])
    if weight is None or any(name not in constants for name in node.input[2:]):
        return None
    kernel = numpy_helper.to_array(weight)
    if kernel.shape[2:] != (3, 3) or len(kernel) > THIN or kernel.shape[1] != channels:  # the last: no groups
        return None
    if list(options.get("pads", ())) != [1] * 4 or any(
        {*options.get(each, ())} - {1} for each in ("strides", "dilations")
    ):
        return None
    outputs, target = len(kernel), node.output[0]
    products, padded = f"{target}_products", f"{target}_padded"
    taps = constant(constants, f"{target}_taps", kernel.transpose(2, 3, 0, 1).reshape(9 * outputs, channels, 1, 1))
    around = constant(constants, "around", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    axes = constant(constants, "channels_rows_columns", np.array([1, 2, 3], np.int64))
    made = [
        helper.make_node("Conv", [node.input[0], taps], [products], name=node.name),
        helper.make_node("Pad", [products, around], [padded], name=padded),
    ]
    terms = []
    for tap in range(9):
        row, column = divmod(tap, 3)
        begin = np.array([tap * outputs, row, column], np.int64)
        end = np.array(
            [(tap + 1) * outputs, *(TO_THE_END if each == 2 else each - 2 for each in (row, column))], np.int64
        )
        window = [
            constant(constants, f"tap_{tap}_{outputs}_{name}", at) for name, at in (("begin", begin), ("end", end))
        ]
        terms.append(f"{target}_tap_{tap}")
        made.append(helper.make_node("Slice", [padded, *window, axes], [terms[-1]], name=terms[-1]))
    for name in node.input[2:]:
        values = numpy_helper.to_array(constants[name]).reshape(1, outputs, 1, 1)
        terms.append(constant(constants, f"{target}_bias", values))
    return [*made, helper.make_node("Sum", terms, [target], name=f"{target}_sum")]


def used_channels(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The same graph without the output channels of convolutions that nothing but a slice reads, and that it drops."""
    import onnx
    from onnx import numpy_helper

    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {each.name: each for each in graph.initializer}
    read = Counter([*(name for node in graph.node for name in node.input), *(each.name for each in graph.output)])
    makers = {node.output[0]: node for node in graph.node if node.op_type == "Conv" and read[node.output[0]] == 1}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        convolution = makers.get(node.input[0]) if node.op_type == "Slice" else None
        window = None if convolution is None else _channels_kept(node, convolution, constants)
        if convolution is None or window is None:
            nodes.append(node)
            continue
        for place, name in enumerate(convolution.input[1:], 1):
            values = numpy_helper.to_array(constants[name])[window]
            convolution.input[place] = constant(constants, f"{node.output[0]}_{place}", np.ascontiguousarray(values))
        convolution.output[0] = node.output[0]
    return with_nodes(result, nodes, constants)


def _channels_kept(
    node: "onnx.NodeProto", convolution: "onnx.NodeProto", constants: "dict[str, onnx.TensorProto]"
) -> slice | None:
    """The output channels of a convolution that a slice keeps; None where it isn't along channels, or has groups."""
    if any(name not in constants for name in convolution.input[1:]) or options_of(convolution).get("group", 1) != 1:
        return None
    window = channel_window(node, constants[convolution.input[1]].dims[0], constants)
    return None if window is None else slice(*window)


def enlarge_by_convolution(
    node: "onnx.NodeProto", channels: int, constants: "dict[str, onnx.TensorProto]"
) -> "list[onnx.NodeProto] | None":
    """Resize to twice the height and width, bilinear, with centres at half pixels: of each pixel four, then a shuffle.

    Measured in WebAssembly (ONNX Runtime Web 1.30, one thread): less than half of the time that Resize takes.
    """
    from onnx import helper, numpy_helper

    options = options_of(node)
    scales = constants.get(node.input[2]) if len(node.input) == 3 else None
    if scales is None or numpy_helper.to_array(scales).tolist() != [1, 1, 2, 2]:
        return None
    centres = options.get("coordinate_transformation_mode", b"half_pixel")
    if options.get("mode") != b"linear" or centres not in (b"half_pixel", b"pytorch_half_pixel"):
        return None
    if options.get("antialias", 0) or options.get("exclude_outside", 0):
        return None
    before, after = np.array([0.25, 0.75, 0.0], np.float32), np.array([0.0, 0.75, 0.25], np.float32)
    four = np.stack([np.outer(row, column) for row in (before, after) for column in (before, after)])
    weights = constant(constants, f"bilinear_{channels}", np.tile(four[:, None], (channels, 1, 1, 1)))
    shuffle = constant(
        constants,
        f"shuffle_{4 * channels}",
        np.tile(np.eye(4, dtype=np.float32).reshape(4, 1, 2, 2), (channels, 1, 1, 1)),
    )
    border = constant(constants, "border_of_one", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    (target,) = node.output
    grown, parts = f"{target}_grown", f"{target}_parts"
    return [
        helper.make_node("Pad", [node.input[0], border], [grown], name=grown, mode="edge"),
        helper.make_node("Conv", [grown, weights], [parts], name=parts, group=channels),
        helper.make_node("ConvTranspose", [parts, shuffle], [target], name=node.name, strides=[2, 2], group=channels),
    ]
