"""A user's ONNX file → an artefact: the same network behind our contract, at one size, with all in the graph.

What `runtimes.depth_model` does around a file becomes nodes: the order of channels, mean and std, the inversion of
depth, the shape of the map. So FP16 graphs and TensorRT engines can be made of it. Core ML takes no ONNX file.
"""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens.console.errors import DeepLensError, InputError, MismatchError, MissingError, one_line
from deeplens.console.package import pip_install
from deeplens.export.onnx_check import random_inputs, tensor_entries
from deeplens.export.onnx_forms import in_form
from deeplens.export.onnx_trace import simplified
from deeplens.runtimes import depth_store, manifest
from deeplens.runtimes.depth_convention import depth_convention
from deeplens.runtimes.depth_file import DepthFileSession, open_file
from deeplens.runtimes.depth_model import DepthModel
from deeplens.runtimes.manifest_entry import FIT
from deeplens.runtimes.onnx_form import CPU, artefacts_of
from deeplens.runtimes.publish import publish

if TYPE_CHECKING:
    import onnx

TOOLS = ("onnx", "onnxsim", "onnxruntime")

PREFIX = "file_"
"""Put before the names of the file's values."""

SMALLEST_OPSET = 13
"""Of the nodes that are added."""

NEAREST = 1e-6
"""Depth is at least this before it is inverted, as in `model.foreign`."""

TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float16): 5e-3}
"""Precision of the file → largest |artefact − file|, as a share of the output's spread."""


def is_file(name: str) -> bool:
    """Whether a network is an ONNX file; InputError, MissingError: as `runtimes.depth_store.find`."""
    return depth_store.find(name).card.kind == "onnx"


def export_file(name: str, *, out: Path, form: str = CPU) -> manifest.Entry:
    """Make the artefact and hold it against the file.

    Args:
        form: one of `export.onnx_forms.FORMS`; for the CPU the file's own operations stay as they are.

    Raises:
        InputError, MissingError, MismatchError: as `runtimes.depth_file.open_file`; MissingError also where `onnx` is
            not installed, MismatchError where the artefact is not what the file computes or the form refuses one of
            its operations. Nothing is left behind.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingError(f"ONNX export needs a library ({error}): {pip_install('export')}") from error
    found = depth_store.find(name)
    session = open_file(name)
    contract = session.describe()
    assert contract.fixed_size is not None
    source = onnx.load(found.weights)
    try:
        model = simplified(_joined(source, session.model, contract.fixed_size))
        model = model if form == CPU else in_form(model, form)
        onnx.checker.check_model(model, full_check=True)
    except DeepLensError:
        raise
    except Exception as error:  # onnx raises several kinds, and RuntimeError
        raise MismatchError(f"{name}: the graph can't be put behind our contract ({one_line(error)[:300]})") from error
    del model.metadata_props[:]
    tools = {tool: version(tool) for tool in TOOLS}
    sha256 = session.weights_sha256()
    said = {"network": "depth", "variant": name, "weights_sha256": sha256, "licence": found.card.licence, **tools}
    said |= {} if form == CPU else {"form": form}
    for key, value in (said | depth_convention(contract)).items():
        model.metadata_props.add(key=key, value=value)
    with publish(out, f"{artefacts_of(form)}/{name}_depth.onnx") as artefact:
        onnx.save(model, artefact.file)
        _compare(artefact.file, session, TOLERANCE[_precision_of(source)])
        fit = session.fit.to_json() | {"native": False}
        return artefact.describe(
            network="depth",
            variant=name,
            runtime=artefacts_of(form),
            precision="fp32",
            weights_sha256=sha256,
            inputs=tensor_entries(model.graph.input),
            outputs=tensor_entries(model.graph.output),
            tools=tools,
            opset=model.opset_import[0].version,
            dynamic=False,
            more={FIT: fit, "licence": found.card.licence},
        )


def _joined(source: "onnx.ModelProto", model: DepthModel, size: tuple[int, int]) -> "onnx.ModelProto":
    """The graph with our nodes before and behind it."""
    import onnx
    from onnx import TensorProto, compose, helper, numpy_helper, version_converter

    opset = next(each.version for each in source.opset_import if each.domain in ("", "ai.onnx"))
    made = onnx.ModelProto()
    made.CopyFrom(source if opset >= SMALLEST_OPSET else version_converter.convert_version(source, SMALLEST_OPSET))
    _widen(made)
    made = compose.add_prefix(made, PREFIX)  # its own names may be those that we give
    graph, told = made.graph, model.convention
    (old,) = [each for each in graph.input if each.name not in {one.name for one in graph.initializer}]
    kind = old.type.tensor_type.elem_type
    constants: dict[str, np.ndarray] = {}
    nodes: list[Any] = []

    def then(operation: str, name: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operation, list(inputs), [f"deeplens_{name}"], **attributes))
        return f"deeplens_{name}"

    def constant(name: str, value: Any, dtype: type = np.float32) -> str:
        constants[f"deeplens_{name}"] = np.asarray(value, dtype)
        return f"deeplens_{name}"

    value = "picture"
    if told.channels == "bgr":
        value = then("Gather", "swapped", value, constant("bgr", [2, 1, 0], np.int64), axis=1)
    if kind == TensorProto.UINT8:
        value = then("Mul", "bytes", value, constant("largest", 255.0))
        value = then("Cast", "uint8", then("Round", "rounded", value), to=TensorProto.UINT8)
    else:
        assert told.mean is not None
        assert told.std is not None
        mean, std = (np.asarray(each, np.float32).reshape(1, 3, 1, 1) for each in (told.mean, told.std))
        value = then("Div", "normal", then("Sub", "centred", value, constant("mean", mean)), constant("std", std))
    if model.channels_last:
        value = then("Transpose", "last", value, perm=[0, 2, 3, 1])
    before = [*nodes, helper.make_node("Identity", [value], [old.name])]
    nodes.clear()

    result = next(each for each in graph.output if each.name == f"{PREFIX}{model.output_name}")
    value = then("Cast", "map", result.name, to=TensorProto.FLOAT)
    channels_last = len(result.type.tensor_type.shape.dim) == 4 and _is_one(result, 3)
    if channels_last and not _is_one(result, 1):
        value = then("Transpose", "first", value, perm=[0, 3, 1, 2])
    shape = model.map_size(size)
    value = then("Reshape", "shaped", value, constant("shape", [1, 1, *shape], np.int64))
    if shape != size:
        sizes = constant("sizes", [1, 1, *size], np.int64)
        value = then("Resize", "resized", value, "", "", sizes, mode="linear",
                     coordinate_transformation_mode="half_pixel")  # fmt: skip
    if told.output == "depth":
        value = then("Reciprocal", "inverted", then("Max", "above", value, constant("nearest", NEAREST)))
    behind = [*nodes, helper.make_node("Identity", [value], ["disparity"])]

    own = list(graph.node)
    del graph.node[:]
    graph.node.extend([*before, *own, *behind])
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    del graph.value_info[:]
    kept = [each for each in graph.input if each.name != old.name]
    del graph.input[:]
    graph.input.extend([helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, *size]), *kept])
    del graph.output[:]
    graph.output.extend([helper.make_tensor_value_info("disparity", TensorProto.FLOAT, [1, 1, *size])])
    return made


def _is_one(value: "onnx.ValueInfoProto", axis: int) -> bool:
    return bool(value.type.tensor_type.shape.dim[axis].dim_value == 1)


def _widen(model: "onnx.ModelProto") -> None:
    """FP16 weights and constants become FP32, so that the artefact is one graph in FP32 like all others."""
    from onnx import TensorProto, numpy_helper

    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    (first, *_) = model.graph.input
    if first.type.tensor_type.elem_type == half:
        first.type.tensor_type.elem_type = single
    for value in model.graph.output:
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = single
    for index, weight in enumerate(model.graph.initializer):
        if weight.data_type == half:
            array = numpy_helper.to_array(weight).astype(np.float32)
            model.graph.initializer[index].CopyFrom(numpy_helper.from_array(array, weight.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and node.op_type == "Cast" and attribute.i == half:
                attribute.i = single
            if attribute.HasField("t") and attribute.t.data_type == half:
                array = numpy_helper.to_array(attribute.t).astype(np.float32)
                attribute.t.CopyFrom(numpy_helper.from_array(array, attribute.t.name))


def _precision_of(model: "onnx.ModelProto") -> np.dtype:
    """FP16 where a weight or the input is."""
    from onnx import TensorProto

    kinds = [each.data_type for each in model.graph.initializer]
    kinds += [each.type.tensor_type.elem_type for each in model.graph.input]
    return np.dtype(np.float16 if TensorProto.FLOAT16 in kinds else np.float32)


def _compare(path: Path, session: DepthFileSession, tolerance: float) -> None:
    import onnxruntime

    contract = session.describe()
    assert contract.fixed_size is not None
    feed = random_inputs(contract, contract.fixed_size, np.random.default_rng(0))
    try:
        (found,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["disparity"], feed)
        expected = session.run(feed)["disparity"]
    except InputError as error:
        raise MismatchError(f"{path.name}: {error}") from error
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise MismatchError(f"{path.name}: the graph behind our contract doesn't run ({one_line(error)})") from error
    share = float(np.abs(found - expected).max() / np.ptp(expected))
    if not share <= tolerance:
        raise MismatchError(f"graph and file differ by {share:.2g} of the spread (at most {tolerance:g})")
