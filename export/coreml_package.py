"""One network → one Core ML package: traced, converted to an ML program, compressed, described, saved, read back.

What a package is to be stands in a `Recipe`. Needs coremltools and PyTorch, on any machine; Core ML is not asked.
"""

import io
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplens.console.errors import InputError, MismatchError
from deeplens.console.package import VERSION
from deeplens.export import coreml_precision
from deeplens.export.placement import UNITS
from deeplens.model.contract import ALIGNMENT, MIN_SIZE, Contract, Tensor
from deeplens.runtimes.coreml.program import import_coremltools
from deeplens.runtimes.manifest import Entry, TensorEntry
from deeplens.runtimes.spec import RUNTIMES

if TYPE_CHECKING:
    import torch

    from deeplens.export.precision_plan import Plan

TARGETS = ("iOS17", "iOS18")
SHAPES = ("fixed", "enumerated", "multifunction")
PRECISIONS = RUNTIMES["coreml"].precisions
COMPUTE_UNITS = tuple(UNITS.values())

IMAGES = {"depth": ("picture",), "lens_blur": ("picture",), "upsample": ()}
"""Network → inputs that can be images of 8 bits a channel: those that come from the photo and are small."""

MAIN = "main"
"""The only function of a package whose shapes are fixed or enumerated."""

MISFIT_PASSES = {"common::fuse_elementwise_to_batchnorm"}
"""coremltools' passes that are left out: this one takes a product that widens one channel to many for a batch norm of
that one channel, and the conversion fails."""

AUTHOR = "The contributors to DeepLens"
LICENCE = "Code: MIT. Weights: as their card in model/weights says."
PURPOSES = {
    "depth": "Disparity of a photo, from the whole photo at a fixed size.",
    "lens_blur": "Shallow depth of field at the base size, from a photo and its signed depth.",
    "upsample": "One step of the loop that brings a shallow depth-of-field picture to twice its size.",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a package is to be.

    Attributes:
        precision: "fp32"; "fp16": weights and arithmetic; "int8", "palette6", "palette4": weights of 8 bits a channel,
            or indices of 6 or 4 bits into a palette for each tensor, and FP16 arithmetic; "mixed": what `plan` says.
        target: the oldest system that it runs on.
        shapes: "fixed": one size; "enumerated": a function that takes each of the sizes; "multifunction": a function
            for each size, all with the same weights.
        sizes: low-resolution (height, width) in pixels, smallest first.
        images: whether inputs in `IMAGES` are images (RGB, 8 bits) rather than arrays.
        compute_units: where a runtime should let it run unless told otherwise.
        plan: of "mixed", and of no other.
    """

    precision: str = "fp16"
    target: str = "iOS17"
    shapes: str = "fixed"
    sizes: tuple[tuple[int, int], ...]
    images: bool = False
    compute_units: str = "ALL"
    plan: "Plan | None" = None

    def check(self, contract: Contract) -> None:
        """Raise InputError unless such a package of the network can be made."""
        choices = (
            ("precision", self.precision, PRECISIONS),
            ("target", self.target, TARGETS),
            ("shapes", self.shapes, SHAPES),
            ("compute units", self.compute_units, COMPUTE_UNITS),
        )
        for kind, value, known in choices:
            if value not in known:
                raise InputError(f"unknown {kind} '{value}': choose {', '.join(known)}")
        network = contract.network
        if self.plan is not None and self.precision != "mixed":
            raise InputError(f"a precision plan works with precision 'mixed' only, not '{self.precision}'")
        if self.images and not IMAGES[network]:
            raise InputError(f"{network} has no input that can be an image: leave out --image for it")
        if self.shapes != "fixed":
            if contract.fixed_size is not None:
                raise InputError(f"{network} has only one size: use fixed shapes")
            if self.target == "iOS17":  # enumerated shapes for more than one input came with iOS 18, too
                raise InputError(f"{self.shapes} shapes of {network} need --target iOS18")
            if len(set(self.sizes)) < 2:
                raise InputError(f"{self.shapes} shapes need two sizes or more: give a larger --photo")
        elif len(self.sizes) != 1:
            raise InputError(f"fixed shapes need exactly one size, not {len(self.sizes)}")
        for height, width in self.sizes:
            if contract.fixed_size not in (None, (height, width)):
                raise InputError(f"{network} has only one size, not {height}x{width}")
            aligned = contract.fixed_size is not None or not (height % ALIGNMENT or width % ALIGNMENT)
            if not aligned or min(height, width) < MIN_SIZE:
                raise InputError(f"shape {height}x{width}: expected multiples of {ALIGNMENT} from {MIN_SIZE} up")

    def file_name(self, variant: str, contract: Contract) -> str:
        """VARIANT_NETWORK[_HxW|_enumerated|_multifunction][_image]_PRECISION_TARGET.mlpackage."""
        parts = [variant, contract.network]
        if self.shapes != "fixed":
            parts.append(self.shapes)
        elif contract.fixed_size is None:
            parts.append("{}x{}".format(*self.sizes[0]))
        if self.images:
            parts.append("image")
        return "_".join([*parts, self.precision, self.target]) + ".mlpackage"

    @property
    def functions(self) -> dict[str, tuple[int, int] | None]:
        """Function → its low-resolution size; None where it takes all of `sizes`."""
        if self.shapes == "multifunction":
            return {f"size_{height}x{width}": (height, width) for height, width in self.sizes}
        return {MAIN: self.sizes[0] if self.shapes == "fixed" else None}

    @property
    def dtype(self) -> str:
        """NumPy's name of the type of inputs and outputs that are arrays."""
        return "float32" if self.precision == "fp32" else "float16"

    def tensors(self, contract: Contract) -> tuple[tuple[TensorEntry, ...], tuple[TensorEntry, ...]]:
        """Inputs and outputs for the manifest; sizes are "h" and "w" where the package takes several."""
        several = self.shapes != "fixed"
        images = IMAGES[contract.network] if self.images else ()

        def entry(tensor: Tensor) -> TensorEntry:
            free = tuple(side if tensor.scale == 1 else f"{tensor.scale}*{side}" for side in "hw")
            shape: tuple[int | str, ...] = (1, tensor.channels, *free) if several else tensor.shape(*self.sizes[0])
            return TensorEntry(tensor.name, shape, "uint8" if tensor.name in images else self.dtype)

        return tuple(map(entry, contract.inputs)), tuple(map(entry, contract.outputs))


def recipe_of(entry: Entry) -> Recipe:
    """The recipe of a package, from its line in the manifest.

    Raises:
        InputError: the line lacks something.
    """
    more = entry.more
    try:
        return Recipe(
            precision=entry.precision,
            target=more["target"],
            shapes=more["shapes"],
            sizes=tuple((height, width) for height, width in more["sizes"]),
            images=bool(more["images"]),
            compute_units=more["compute_units"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the manifest does not describe {entry.path} ({error!r}): export it again") from error


def save(
    module: "torch.nn.Module",
    contract: Contract,
    recipe: Recipe,
    path: Path,
    *,
    notes: Mapping[str, str],
    licence: str = LICENCE,
) -> None:
    """Make the package at `path`, a folder that ends in .mlpackage; what is there is replaced.

    Args:
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
    images = IMAGES[contract.network] if recipe.images else ()
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


def _converted(module: "torch.nn.Module", contract: Contract, recipe: Recipe, size: tuple[int, int] | None) -> Any:
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
    if recipe.plan is not None:
        module = coreml_precision.prepared(module, recipe.plan.layers[contract.network])
    example = tuple(torch.zeros(tensor.shape(*(size or recipe.sizes[0]))) for tensor in contract.inputs)
    program = torch.export.export(module, example, dynamic_shapes=dynamic if size is None else None)
    images = IMAGES[contract.network] if recipe.images else ()
    dtype = np.dtype(recipe.dtype).type

    def input_type(tensor: Tensor) -> Any:
        shapes = [tensor.shape(*each) for each in recipe.sizes]
        shape = ct.EnumeratedShapes(shapes, default=shapes[0]) if size is None else tensor.shape(*size)
        if tensor.name in images:
            return ct.ImageType(name=tensor.name, shape=shape, scale=1 / 255, color_layout=ct.colorlayout.RGB)
        return ct.TensorType(name=tensor.name, shape=shape, dtype=dtype)

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
        outputs=[ct.TensorType(name=tensor.name, dtype=dtype) for tensor in contract.outputs],
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
