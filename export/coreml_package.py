"""One network → one Core ML package: traced, converted to an ML program, compressed, described, saved, read back.

What a package is to be stands in a `Recipe`. Needs coremltools and PyTorch, on any machine; Core ML is not asked.
"""

import io
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplens.console.errors import InputError, MismatchError
from deeplens.console.package import VERSION
from deeplens.export import coreml_precision
from deeplens.export.coreml_recipe import MAIN, Recipe, Size
from deeplens.model.contract import ALIGNMENT, MIN_SIZE, Contract, Tensor
from deeplens.model.whole_contract import WHOLE, WHOLE_CONTRACTS, WHOLE_WITH_DEPTH
from deeplens.runtimes.coreml.program import import_coremltools

if TYPE_CHECKING:
    import torch

MISFIT_PASSES = {"common::fuse_elementwise_to_batchnorm"}
"""coremltools' passes that are left out: this one takes a product that widens one channel to many for a batch norm of
that one channel, and the conversion fails."""

AUTHOR = "The contributors to DeepLens"
LICENCE = "Code: MIT. Weights: as their card in model/weights says."
PURPOSES = {
    "depth": "Disparity of a photo, from the whole photo at a fixed size.",
    "lens_blur": "Shallow depth of field at the base size, from a photo and its signed depth.",
    "upsample": "One step of the loop that brings a shallow depth-of-field picture to twice its size.",
    WHOLE: "A photo with its disparity map, focal disparity and aperture to the photo with shallow depth of field.",
    WHOLE_WITH_DEPTH: "A photo, a focus point and an aperture to the photo with shallow depth of field.",
}


def save(
    module: "torch.nn.Module | Mapping[Size, torch.export.ExportedProgram]",
    contract: Contract,
    recipe: Recipe,
    path: Path,
    *,
    notes: Mapping[str, str],
    licence: str = LICENCE,
) -> None:
    """Make the package at `path`, a folder that ends in .mlpackage; what is there is replaced.

    Args:
        module: the network; or the program for each of the recipe's sizes, of a graph that is made for one.
        notes: kept in the package's metadata, beside author, version and the meaning of inputs and outputs.
        licence: kept there too.

    Raises:
        MissingError: coremltools is not installed.
        MismatchError: coremltools can't convert the network, or what it saved is not what `contract` and `recipe` say.
    """
    ct = import_coremltools()
    try:
        with _quiet() as said, tempfile.TemporaryDirectory() as folder:
            if recipe.shapes == "multifunction":
                descriptor = ct.utils.MultiFunctionDescriptor()
                for name, size in recipe.functions.items():
                    part = Path(folder) / f"{name}.mlpackage"
                    assert size is not None
                    _converted(module, contract, recipe, size).save(str(part))
                    descriptor.add_function(str(part), MAIN, name)
                descriptor.default_function_name = next(iter(recipe.functions))
                merged = Path(folder) / "merged.mlpackage"
                ct.utils.save_multifunction(descriptor, str(merged))
                model = ct.models.MLModel(str(merged), skip_model_load=True)
            else:
                model = _converted(module, contract, recipe, recipe.functions[MAIN])
            model.author, model.license, model.version = AUTHOR, licence, VERSION
            model.short_description = PURPOSES[contract.network]
            model.user_defined_metadata.update({**notes, "contract": json.dumps(asdict(contract))})
            model.save(str(path))
            (path / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)  # of use to ExecuTorch only
    except (ValueError, RuntimeError, NotImplementedError) as error:
        reason = " ".join(f"{said.getvalue()[-300:]} {error}".split())
        raise MismatchError(f"{contract.network}: coremltools {ct.__version__} can't convert it ({reason})") from error
    check_saved(path, contract, recipe)


def check_saved(path: Path, contract: Contract, recipe: Recipe) -> None:
    """Read the package back: its functions, names, shapes and types must be those of `contract` and `recipe`.

    Raises:
        MismatchError: one of these is not so.
    """
    ct = import_coremltools()
    spec = ct.utils.load_spec(str(path))
    description = spec.description
    described = {each.name: each for each in description.functions} or {MAIN: description}
    if spec.WhichOneof("Type") != "mlProgram" or set(described) != set(recipe.functions):
        raise MismatchError(f"{path.name} has functions {', '.join(described)}, expected {', '.join(recipe.functions)}")
    images = recipe.image_names(contract)
    for name, size in recipe.functions.items():
        sizes = recipe.sizes if size is None else (size,)
        for found, tensors in ((described[name].input, contract.inputs), (described[name].output, contract.outputs)):
            expected = [
                (tensor.name, "image" if tensor.name in images else recipe.dtype, _shapes(tensor, sizes))
                for tensor in tensors
            ]
            got = [_described(feature) for feature in found]
            if tensors is contract.outputs and size is None:  # Core ML leaves these to the inputs' sizes
                expected = [(name, kind, []) for name, kind, _ in expected]
                got = [(name, kind, []) for name, kind, _ in got]
            if got != expected:
                raise MismatchError(f"{path.name}, function {name}: has {got}, expected {expected}")


def _shapes(tensor: Tensor, sizes: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
    return sorted(tensor.shape(*size) for size in sizes)


def _described(feature: Any) -> tuple[str, str, list[tuple[int, ...]]]:
    """Name, type and shapes of an input or output as the package describes them."""
    from coremltools.proto import FeatureTypes_pb2

    if feature.type.WhichOneof("Type") == "imageType":
        image = feature.type.imageType
        listed = [(each.height, each.width) for each in image.enumeratedSizes.sizes]
        return feature.name, "image", sorted((1, 3, *size) for size in listed or [(image.height, image.width)])
    array = feature.type.multiArrayType
    dtype = FeatureTypes_pb2.ArrayFeatureType.ArrayDataType.Name(array.dataType).lower()
    shapes = [tuple(each.shape) for each in array.enumeratedShapes.shapes] or [tuple(array.shape)]
    return feature.name, dtype, sorted(shapes)


def _converted(
    module: "torch.nn.Module | Mapping[Size, torch.export.ExportedProgram]",
    contract: Contract,
    recipe: Recipe,
    size: Size | None,
) -> Any:
    """The ML program in memory; for all of `recipe.sizes` where `size` is None."""
    import coremltools as ct
    import numpy as np
    import torch
    from torch.export import Dim

    smallest = MIN_SIZE // ALIGNMENT
    free = {axis: Dim(name, min=smallest) for axis, name in ((2, "h"), (3, "w"))}
    dynamic = {
        each.name: {axis: ALIGNMENT * each.scale * side for axis, side in free.items()} for each in contract.inputs
    }
    if isinstance(module, Mapping):
        program = module[size or recipe.sizes[0]]
    else:
        if recipe.plan is not None:
            module = coreml_precision.prepared(module, recipe.plan.layers[contract.network])
        example = tuple(torch.zeros(tensor.shape(*(size or recipe.sizes[0]))) for tensor in contract.inputs)
        program = torch.export.export(module, example, dynamic_shapes=dynamic if size is None else None)
    images = recipe.image_names(contract)
    dtype = np.dtype(recipe.dtype).type

    def input_type(tensor: Tensor) -> Any:
        shapes = [tensor.shape(*each) for each in recipe.sizes]
        shape = ct.EnumeratedShapes(shapes, default=shapes[0]) if size is None else tensor.shape(*size)
        if tensor.name in images:
            # A scale of Core ML's own is applied in FP32, off the Neural Engine: a whole graph scales by itself.
            scale = 1.0 if contract.network in WHOLE_CONTRACTS else 1 / 255
            return ct.ImageType(name=tensor.name, shape=shape, scale=scale, color_layout=ct.colorlayout.RGB)
        return ct.TensorType(name=tensor.name, shape=shape, dtype=dtype)

    def output_type(tensor: Tensor) -> Any:
        if tensor.name in images:
            return ct.ImageType(name=tensor.name, color_layout=ct.colorlayout.RGB)
        return ct.TensorType(name=tensor.name, dtype=dtype)

    pipeline = ct.PassPipeline.DEFAULT
    pipeline.remove_passes(MISFIT_PASSES)
    if recipe.precision == "mixed" and recipe.plan is None:
        raise InputError("precision 'mixed' needs a precision plan: give one with --plan")
    rules = None if recipe.plan is None else coreml_precision.Precisions(recipe.plan.layers[contract.network])
    if rules is not None:
        compute_precision = ct.transform.FP16ComputePrecision(op_selector=rules.is_fp16)
    else:
        compute_precision = ct.precision.FLOAT32 if recipe.precision == "fp32" else ct.precision.FLOAT16
    model = ct.convert(
        program.run_decompositions({}),
        inputs=[input_type(tensor) for tensor in contract.inputs],
        outputs=[output_type(tensor) for tensor in contract.outputs],
        convert_to="mlprogram",
        minimum_deployment_target=getattr(ct.target, recipe.target),
        compute_precision=compute_precision,
        compute_units=getattr(ct.ComputeUnit, recipe.compute_units),
        pass_pipeline=pipeline,
        skip_model_load=True,
    )
    model = _compressed(model, recipe.precision) if rules is None else rules.compressed(model)
    for tensors, texts in ((contract.inputs, model.input_description), (contract.outputs, model.output_description)):
        for tensor in tensors:
            texts[tensor.name] = _meaning(tensor, image=tensor.name in images)
    return model


def _compressed(model: Any, precision: str) -> Any:
    """Weights of 2048 values and more in fewer bits: the rest, and constants such as discs, stay as they are."""
    from coremltools.optimize import coreml as optimize

    if precision == "int8":
        return optimize.linear_quantize_weights(
            model, optimize.OptimizationConfig(optimize.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8"))
        )
    if precision.startswith("palette"):
        bits = int(precision.removeprefix("palette"))
        return optimize.palettize_weights(
            model, optimize.OptimizationConfig(optimize.OpPalettizerConfig(mode="kmeans", nbits=bits))
        )
    return model


def _meaning(tensor: Tensor, *, image: bool) -> str:
    """What an input or output holds, with its layout, unit and range."""
    if image:
        return f"{tensor.meaning}; RGB image, 8 bits a channel, gamma-encoded (sRGB)"
    low, high = ("unbounded" if bound is None else f"{bound:g}" for bound in (tensor.low, tensor.high))
    return f"{tensor.meaning}; 1 x {tensor.channels} x height x width, from {low} to {high}"


@contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Keep back what coremltools says on every run: progress bars, and that it was tested with an older PyTorch."""
    said = io.StringIO()
    with warnings.catch_warnings(), redirect_stderr(said):
        for kind in (FutureWarning, DeprecationWarning):
            warnings.simplefilter("ignore", kind)
        yield said
