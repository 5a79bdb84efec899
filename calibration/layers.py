"""The layers of an exported network, by the paths of the PyTorch modules that they came from.

A layer is a convolution with what activates it. Its path is read off the name of its weight, which the exporter keeps
(`context.0.conv1` for `context.0.conv1.weight`). Convolutions with constants of the method (discs, copies of
neighbours, sums) have no module of their own: they and all other operations together are the layer `REST`.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.contract import CONTRACTS
from runtimes.pyramid import geometry

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
        count = 1
        for size in self.shape:
            count *= size
        return count


def layers(model: "onnx.ModelProto", network: str) -> list[Layer]:
    """The layers of an FP32 graph as `export.onnx_graph` makes it, in the order in which they run; without `REST`."""
    weights = {each.name: tuple(each.dims) for each in model.graph.initializer}
    readers = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    runs = list(_runs(network))
    sizes = {size: _pixels(model, network, size) for size, _ in runs}
    found = []
    for node in model.graph.node:
        if node.op_type != "Conv" or not node.input[1].endswith(".weight"):
            continue
        after = readers[node.output[0]]
        active = after[0] if len(after) == 1 and after[0].op_type in ACTIVATIONS else None
        shape = weights[node.input[1]]
        count = shape[0] * shape[1] * shape[2] * shape[3]
        found.append(
            Layer(
                network,
                node.input[1].removesuffix(".weight"),
                node.input[0],
                node.input[1],
                node.output[0],
                node.output[0] if active is None else active.output[0],
                shape,
                round(sum(times * count * sizes[size][node.output[0]] for size, times in runs)),
            )
        )
    return found


def _runs(network: str) -> Iterator[tuple[tuple[int, int], int]]:
    """Low-resolution (height, width) at which a photo of `PHOTO_SIZE` makes the network run, and how often each."""
    fixed = CONTRACTS[network].fixed_size
    levels = geometry(*PHOTO_SIZE)
    if fixed is not None:
        yield fixed, 1
    elif network == "lens_blur":
        yield levels.padded(0), 1
    else:
        for level in range(levels.steps):
            yield levels.padded(level), 1


def _pixels(model: "onnx.ModelProto", network: str, size: tuple[int, int]) -> dict[str, int]:
    """Tensor → its pixels (height · width) when the low-resolution size is `size`."""
    import onnx

    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for value, tensor in zip(sized.graph.input, CONTRACTS[network].inputs, strict=True):
        for dimension, side in zip(value.type.tensor_type.shape.dim, tensor.shape(*size), strict=True):
            dimension.dim_value = side
    for value in sized.graph.output:
        value.type.tensor_type.ClearField("shape")
    del sized.graph.value_info[:]
    shapes = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    found = {}
    for value in (*shapes.value_info, *shapes.output):
        sides = [each.dim_value for each in value.type.tensor_type.shape.dim]
        if len(sides) == 4 and all(sides[2:]):
            found[value.name] = sides[2] * sides[3]
    return found
