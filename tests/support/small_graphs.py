"""Artefacts of `edge` for ONNX Runtime that can be reckoned by hand, made without PyTorch.

depth: the mean of the three channels. lens_blur: picture · (1 − |signed_depth|), so that what is out of focus is darker
in a known way. upsample: picture_high · (1 − |signed_depth|), the latter repeated.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deeplens.console.files import file_sha256
from deeplens.model.contract import ALIGNMENT, CONTRACTS, Tensor
from deeplens.model.whole_contract import contract_named
from deeplens.runtimes import manifest

if TYPE_CHECKING:
    import onnx


def add_graphs(
    folder: Path,
    *,
    networks: Sequence[str] = tuple(CONTRACTS),
    size: tuple[int, int] | None = None,
    precision: str = "fp32",
    off: float = 0.0,
) -> None:
    """Write the graphs to `folder`/onnx and their entries to its manifest.

    Args:
        size: low-resolution (height, width) of the graphs; None: free sizes, or the network's only one.
        precision: that the manifest names; the graphs are float32 all the same.
        off: added to every value of 1 − |signed_depth|, as an error.
    """
    from onnx import TensorProto, helper

    node = helper.make_node
    twice = helper.make_tensor("twice", TensorProto.FLOAT, [4], [1.0, 1.0, 2.0, 2.0])
    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0 + off])
    channels = helper.make_tensor("channels", TensorProto.INT64, [1], [1])
    share = [node("Abs", ["signed_depth"], ["distance"]), node("Sub", ["one", "distance"], ["share"])]
    graphs = {
        "depth": ([node("ReduceMean", ["picture", "channels"], ["disparity"], keepdims=1)], [channels]),
        "lens_blur": ([*share, node("Mul", ["picture", "share"], ["blurred"])], [one]),
        "upsample": (
            [
                *share,
                node("Resize", ["share", "", "twice"], ["share_high"], mode="nearest"),
                node("Mul", ["picture_high", "share_high"], ["blurred_high"]),
            ],
            [one, twice],
        ),
    }
    for network in networks:
        _add(folder, network, *graphs[network], CONTRACTS[network].fixed_size or size, precision)


def add_whole(folder: Path, size: tuple[int, int]) -> None:
    """A graph of the whole effect for photos of `size`: picture · (1 − aperture) + 0 · the rest."""
    from onnx import TensorProto, helper

    node = helper.make_node
    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    nodes = [
        node("Sub", ["one", "aperture"], ["share"]),
        node("Mul", ["picture", "share"], ["darker"]),
        node("ReduceMean", ["disparity", "axes"], ["mean"], keepdims=1),
        node("Mul", ["mean", "focal_disparity"], ["product"]),
        node("Mul", ["product", "zero"], ["nothing"]),
        node("Add", ["darker", "nothing"], ["refocused"]),
    ]
    _add(folder, "whole", nodes, [one, zero, axes], size, "fp32")


def _add(
    folder: Path,
    network: str,
    nodes: "Sequence[onnx.NodeProto]",
    constants: "Sequence[onnx.TensorProto]",
    size: tuple[int, int] | None,
    precision: str,
) -> None:
    import onnx
    from onnx import TensorProto, helper

    contract = contract_named(network)

    def shape(tensor: Tensor) -> tuple[int | str, ...]:
        if size is not None:
            return tensor.shape(*size)
        return (1, tensor.channels, f"{ALIGNMENT * tensor.scale}*h", f"{ALIGNMENT * tensor.scale}*w")

    sides = [
        [manifest.TensorEntry(each.name, shape(each), "float32") for each in side]
        for side in (contract.inputs, contract.outputs)
    ]
    inputs, outputs = (
        [helper.make_tensor_value_info(each.name, TensorProto.FLOAT, each.shape) for each in side] for side in sides
    )
    graph = helper.make_graph(list(nodes), network, inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    name = f"edge_{network}" if size in (None, contract.fixed_size) else f"edge_{network}_{size[0]}x{size[1]}"
    suffix = "" if precision == "fp32" else f"_{precision}"
    path = folder / "onnx" / f"{name}{suffix}.onnx"
    path.parent.mkdir(exist_ok=True)
    onnx.save(model, path)
    manifest.add(
        folder,
        manifest.Entry(
            network=network,
            variant="edge",
            runtime="onnx",
            precision=precision,
            path=path.relative_to(folder).as_posix(),
            sha256=file_sha256(path),
            weights_sha256="0" * 64,
            inputs=tuple(sides[0]),
            outputs=tuple(sides[1]),
            tools={"onnx": onnx.__version__},
            opset=18,
            dynamic=size is None,
            created="2026-01-01T00:00:00+00:00",
        ),
    )
