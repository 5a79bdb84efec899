"""The layers of an exported network, by the paths of the PyTorch modules that they came from.

A layer is a convolution with what activates it. Its path is read off the name of its weight, which the exporter keeps
(`context.0.conv1` for `context.0.conv1.weight`). Convolutions with constants of the method (discs, copies of
neighbours, sums) have no module of their own: they and all other operations together are the layer `REST`.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deeplens.model.contract import CONTRACTS
from deeplens.runtimes.pyramid import geometry

if TYPE_CHECKING:
    import onnx

REST = "(rest)"
"""The layer of all operations that are no convolution of learned weights."""

ACTIVATIONS = ("Relu", "Clip", "LeakyRelu")

PHOTO_SIZE = (1536, 2048)
"""Height and width, in pixels, of the photo whose multiplications are counted."""


@dataclass(frozen=True)
class Layer:
    """One convolution of learned weights.

    Attributes:
        network: as in `model.contract`.
        path: of the PyTorch module, such as "stages.0.0.body.0".
        input, weight: the tensors that it takes.
        raw: what the convolution gives.
        output: the same, activated; equal to `raw` where nothing activates it.
        shape: of its weight, outputs × inputs a group × height × width.
        multiplications: in all runs that a photo of `PHOTO_SIZE` takes.
    """

    network: str
    path: str
    input: str
    weight: str
    raw: str
    output: str
    shape: tuple[int, ...]
    multiplications: int

    @property
    def weights(self) -> int:
        """How many numbers the weight holds."""
        return math.prod(self.shape)


def layers(model: "onnx.ModelProto", network: str) -> list[Layer]:
    """The layers of an FP32 graph as `export.onnx_graph` makes it, in the order in which they run; without `REST`."""
    shapes = [_shapes(model, network, size) for size in _sizes(network)]
    return [
        Layer(
            network,
            node.input[1].removesuffix(".weight"),
            node.input[0],
            node.input[1],
            node.output[0],
            output,
            shape,
            sum(_multiplications(node, each, shape) for each in shapes),
        )
        for node, output, shape in learned(model)
    ]


def whole_layers(model: "onnx.ModelProto") -> list[Layer]:
    """The layers of a graph of the whole effect: `network` is the part, `path` "part.path@use".

    The step's come once for each level, with the same weight; multiplications are not counted.
    """
    uses: Counter[str] = Counter()
    found = []
    for node, output, shape in learned(model):
        path = node.input[1].removesuffix(".weight")
        part = path.split(".")[0]
        found.append(
            Layer(part, f"{path}@{uses[path]}", node.input[0], node.input[1], node.output[0], output, shape, 0)
        )
        uses[path] += 1
    return found


def learned(model: "onnx.ModelProto") -> "Iterator[tuple[onnx.NodeProto, str, tuple[int, ...]]]":
    """Each convolution of learned weights, the tensor that it gives when activated, and the shape of its weight."""
    weights = {each.name: tuple(each.dims) for each in model.graph.initializer}
    readers = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    for node in model.graph.node:
        if _is_learned(node):
            after = readers[node.output[0]]
            active = after[0] if len(after) == 1 and after[0].op_type in ACTIVATIONS else node
            yield node, active.output[0], weights[node.input[1]]


def rest_operations(model: "onnx.ModelProto", network: str) -> int:
    """Of `REST`, for a photo of `PHOTO_SIZE`: multiplications of its convolutions, one for any other number made."""
    weights = {each.name: tuple(each.dims) for each in model.graph.initializer}
    count = 0
    for shapes in (_shapes(model, network, size) for size in _sizes(network)):
        for node in model.graph.node:
            if _is_learned(node) or node.output[0] not in shapes:
                continue
            made = shapes[node.output[0]]
            if node.op_type == "Conv" and node.input[1] in weights:
                count += _multiplications(node, shapes, weights[node.input[1]])
            else:
                count += math.prod(made)
    return count


def _is_learned(node: "onnx.NodeProto") -> bool:
    return node.op_type == "Conv" and node.input[1].endswith(".weight")


def _multiplications(node: "onnx.NodeProto", shapes: Mapping[str, tuple[int, ...]], weight: tuple[int, ...]) -> int:
    return math.prod(weight) * math.prod(shapes[node.output[0]][2:])


def _sizes(network: str) -> list[tuple[int, int]]:
    """Low-resolution (height, width) at each run of the network that a photo of `PHOTO_SIZE` takes."""
    fixed = CONTRACTS[network].fixed_size
    levels = geometry(*PHOTO_SIZE)
    if fixed is not None:
        return [fixed]
    return [levels.padded(level) for level in range(1 if network == "lens_blur" else levels.steps)]


def _shapes(model: "onnx.ModelProto", network: str, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Tensor → its shape when the low-resolution size is `size`, where it can be told."""
    import onnx

    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for value, tensor in zip(sized.graph.input, CONTRACTS[network].inputs, strict=True):
        for dimension, side in zip(value.type.tensor_type.shape.dim, tensor.shape(*size), strict=True):
            dimension.dim_value = side
    for value in sized.graph.output:
        value.type.tensor_type.ClearField("shape")
    del sized.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    found = {}
    for value in (*graph.value_info, *graph.output):
        sides = tuple(each.dim_value for each in value.type.tensor_type.shape.dim)
        if sides and all(sides):
            found[value.name] = sides
    return found
