"""Makes the artefacts that a comparison needs and the folder lacks, or has from other weights."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deeplens.console.errors import DeepLensError, MissingError
from deeplens.model.contract import CONTRACTS, NETWORKS, VARIANTS, part_of
from deeplens.model.whole_contract import parts_of
from deeplens.parity_tests.candidates import ARTEFACTS, ON_GRAPHS
from deeplens.runtimes import manifest
from deeplens.runtimes.manifest import Entry
from deeplens.runtimes.onnx_form import CPU, artefacts_of

if TYPE_CHECKING:
    from deeplens.parity_tests.cases import Size
    from deeplens.parity_tests.request import Request


def make_missing(request: "Request") -> None:
    """Export what the rows of a request run, in the order of the table; what is there and fits is kept.

    ONNX graphs with free sizes and of the coverage's fixed shape, in every form asked for; Core ML packages of that
    shape; both in all precisions asked for. What a network can't be made into in a precision below FP32 is left out,
    with a word, and its rows are not run: INT8 follows the variant's precision plan, which may be of other weights; in
    FP16 weights or values may overflow. A form that refuses a depth network of others is left out in the same way.
    Engines of TensorRT belong to a GPU and are left to their own command.

    Raises:
        as the exports in FP32; InputError for an unknown name.
    """
    folder = request.artifacts or manifest.DEFAULT_FOLDER
    chosen = request.candidates()
    forms: dict[str, set[str]] = {CPU: set()}
    for each in chosen:
        if each.runtime in ON_GRAPHS:
            forms.setdefault(each.form, set()).add(each.stored)
    if request.compiles:
        forms[CPU] |= set(request.precisions or ARTEFACTS) & set(ARTEFACTS)
    whole = {each.stored for each in chosen if each.runtime in ON_GRAPHS and each.runs_whole} | forms[CPU]
    coreml = {each.precision for each in chosen if each.runtime == "coreml"}
    for variant in request.variants:
        for network in NETWORKS:
            sha256 = _weights_sha256(request, variant, network)
            if sha256 is None:
                continue
            coverage = request.coverage_for(variant)
            size = coverage.contracts[network].fixed_size or coverage.fixed_size
            name = part_of(variant, network)
            for shape in (None,) if CONTRACTS[network].fixed_size else (None, size):
                for form, precisions in sorted(forms.items()):
                    _graphs(request, folder, name, network, shape, sha256, form, precisions)
            for precision in sorted(coreml):
                _package(request, folder, name, network, size, precision, sha256)
        for network in request.whole_networks():
            for size in request.whole:
                _whole(request, folder, variant, network, size, whole, coreml)


def _weights_sha256(request: "Request", variant: str, network: str) -> str | None:
    from deeplens.export.foreign_depth import network_module
    from deeplens.model import build

    try:
        return build.weights_sha256(network_module(variant, network, request.weights))
    except MissingError:
        return None  # the rows say so


def _graphs(
    request: "Request",
    folder: Path,
    variant: str,
    network: str,
    shape: "Size | None",
    sha256: str,
    form: str,
    precisions: Collection[str],
) -> None:
    from deeplens.export import fp16, onnx_graph, planned
    from deeplens.export.foreign_depth import network_module
    from deeplens.export.precision_plan import for_variant

    runtime = artefacts_of(form)
    where = _size(shape) if form == CPU else f"{_size(shape)} in the form {form}"

    def find(precision: str) -> Entry:
        return manifest.find(
            folder, network=network, variant=variant, runtime=runtime, precision=precision, shape=shape
        )

    if precisions and not _fits(folder, partial(find, "fp32"), sha256):
        request.report(f"{variant} {network}: ONNX {where}")
        if variant in VARIANTS:
            onnx_graph.export(variant, network, out=folder, weights=request.weights, shape=shape, form=form)
        else:
            try:
                onnx_graph.export_named(variant, out=folder, form=form)
            except DeepLensError as error:
                if form == CPU:
                    raise
                # A form refuses operations that our networks don't have.
                request.report(f"{variant} {network}: no graph in the form {form} ({error})")
                return
    for precision in sorted(set(precisions) - {"fp32"}):
        if _fits(folder, partial(find, precision), sha256):
            continue
        if variant not in VARIANTS and precision not in ("fp32", "fp16"):
            said = f"deeplens export onnx --depth-network {variant} --precision {precision} --plan FILE"
            request.report(f"{variant} {network}: no {precision} graph is made here, since it follows a plan: {said}")
            continue
        request.report(f"{variant} {network}: ONNX {where} in {precision}")
        module = network_module(variant, network, request.weights)
        try:
            if precision == "fp16":
                fp16.export(find("fp32"), out=folder, module=module)
            else:
                planned.export(find("fp32"), for_variant(variant), out=folder, kind=precision, module=module)
        except DeepLensError as error:
            request.report(f"{variant} {network}: no {precision} graph ({error})")


def _package(
    request: "Request", folder: Path, variant: str, network: str, size: "Size", precision: str, sha256: str
) -> None:
    def find() -> Entry:
        return manifest.find(
            folder,
            network=network,
            variant=variant,
            runtime="coreml",
            precision=precision,
            shape=None if CONTRACTS[network].fixed_size else size,
            more={"shapes": "fixed", "images": []},
        )

    if _fits(folder, find, sha256):
        return
    try:
        from deeplens.export import coreml
        from deeplens.export.coreml_recipe import Recipe

        request.report(f"{variant} {network}: Core ML {_size(size)} in {precision}")
        if variant in VARIANTS:
            recipe = Recipe(precision=precision, sizes=(size,))
            coreml.export(variant, network, recipe, out=folder, weights=request.weights)
        else:
            coreml.export_named(variant, precisions=[precision], out=folder)
    except DeepLensError as error:
        if precision == "fp32" and not isinstance(error, MissingError):
            raise
        request.report(f"{variant} {network}: no Core ML package ({error})")


def _whole(
    request: "Request",
    folder: Path,
    variant: str,
    network: str,
    size: "Size",
    onnx: Collection[str],
    coreml: Collection[str],
) -> None:
    """The graphs of the whole effect for one size of photo; those that are there and fit are kept."""
    from deeplens.export.precision_plan import for_variant
    from deeplens.export.whole_sizes import Wanted, parts_sha256

    hashes = {part: _weights_sha256(request, variant, part) for part in parts_of(network)}
    known = {part: sha256 for part, sha256 in hashes.items() if sha256 is not None}
    if len(known) < len(hashes):
        return  # the rows say so

    def missing(runtime: str, precision: str, more: Mapping[str, object]) -> bool:
        find = partial(manifest.find, folder, network=network, variant=variant, runtime=runtime, shape=size)
        return not _fits(folder, partial(find, precision=precision, more=more), parts_sha256(known))

    wanted = [each for each in ("fp32", "fp16", "int8") if each in onnx and missing("onnx", each, {})]
    where = f"{variant} {network} {size[1]}x{size[0]}"
    try:
        if wanted:
            from deeplens.export import whole_onnx

            request.report(f"{where}: ONNX in {', '.join(wanted)}")
            job = Wanted(variant=variant, network=network, size=size, weights=request.weights)
            plan = for_variant(variant) if "int8" in wanted else None
            whole_onnx.export(job, out=folder, precisions=wanted, plan=plan)
        fixed = {"shapes": "fixed", "images": []}
        wanted = [each for each in sorted(coreml) if missing("coreml", each, fixed)]
        if wanted:
            from deeplens.export import whole_coreml

            request.report(f"{where}: Core ML in {', '.join(wanted)}")
            recipes = whole_coreml.recipes([size], ("iOS17",), wanted, image=False, compute_units="ALL")
            whole_coreml.export_all(
                [whole_coreml.Programs(variant, network, request.weights, None)], tuple(recipes), out=folder
            )
    except DeepLensError as error:
        request.report(f"{where}: not all was exported ({error})")


def _fits(folder: Path, find: Callable[[], Entry], sha256: str) -> bool:
    try:
        entry = find()
        manifest.verify(folder, entry)
    except MissingError:
        return False
    return entry.weights_sha256 == sha256


def _size(size: "Size | None") -> str:
    return "of free sizes" if size is None else f"{size[0]}x{size[1]}"
