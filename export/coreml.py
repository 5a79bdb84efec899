"""PyTorch → Core ML: each network alone, as ML programs for iOS 17 and iOS 18, with golden vectors beside them.

    python export/coreml.py [--variant V] [--network N] [--precision P] [--target T] [--shapes S] [--out DIR] …

does the same as `deeplens export coreml`. Runs on any machine with the `coreml` extra; Core ML itself needs macOS.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeplens.console.errors import InputError, MissingError
from deeplens.console.options import JsonTarget
from deeplens.console.package import pip_install
from deeplens.console.parsing import parse_size
from deeplens.console.progress import progress_bar
from deeplens.console.script import run_script
from deeplens.export import coreml_report
from deeplens.export import golden as golden_vectors
from deeplens.export.chosen import check_alone, check_choice, chosen_networks, chosen_variants
from deeplens.export.coreml_check import compare
from deeplens.export.coreml_jobs import PHOTO_SIZE, recipes
from deeplens.export.coreml_package import LICENCE, save
from deeplens.export.coreml_recipe import IMAGES, PRECISIONS, SHAPES, TARGETS, Recipe
from deeplens.export.foreign_depth import MARGIN, Foreign, foreign
from deeplens.export.onnx_check import own_rounding
from deeplens.export.onnx_graph import FIXED_SHAPES
from deeplens.export.placement import UNITS
from deeplens.export.precision_plan import plans_for
from deeplens.export.whole_sizes import whole_sizes
from deeplens.model.contract import NETWORKS, VARIANTS, contract_of
from deeplens.model.shipped import Weights, weights_file
from deeplens.runtimes import manifest
from deeplens.runtimes.coreml.program import import_coremltools
from deeplens.runtimes.options import (
    ExportedDepthNetwork,
    ExportedWeights,
    FixedSizes,
    Networks,
    OutFolder,
    PlanFile,
    TargetMemory,
    Variants,
    WholeSizes,
    WithDepth,
    weights_from,
)
from deeplens.runtimes.publish import publish

if TYPE_CHECKING:
    import torch


TOOLS = ("torch", "coremltools", "numpy")


@dataclass(frozen=True)
class Job:
    """One package to be made."""

    variant: str
    network: str
    weights: "Weights"
    recipe: Recipe


def export(variant: str, network: str, recipe: Recipe, *, out: Path, weights: "Weights" = "shipped") -> manifest.Entry:
    """Export one network.

    Args:
        variant, network: as in `model.contract`.
        recipe: what the package is to be.
        out: the root of the artefacts; the package goes to `out`/coreml, golden vectors to `out`/coreml/golden, the
            entry to `out`/manifest.json.
        weights: as in `model.build.load`.

    Raises:
        InputError: an unknown name, a package that can't be, a manifest that is not one.
        MissingError: a library or the weights are not there.
        MismatchError: the network can't be converted, or the package is not what PyTorch computes. Nothing is left
            behind but golden vectors.
    """
    check_choice("variant", variant, VARIANTS)
    check_choice("network", network, NETWORKS)
    _import_libraries()
    from deeplens.model import build

    module = build.load(variant, network, weights)
    named = weights if isinstance(weights, str) else weights.name
    return export_module(module, recipe, variant=variant, network=network, out=out, weights=named)


def export_named(
    name: str, *, precisions: Sequence[str] = ("fp16",), targets: Sequence[str] = ("iOS17",), out: Path, **more: Any
) -> list[manifest.Entry]:
    """Export a depth network of others, which `deeplens depth add` added, at its one size.

    It is loaded and traced once for all packages.

    Args:
        more: other attributes of `export.coreml_recipe.Recipe`.

    Raises:
        as `export` and `export.foreign_depth.foreign`.
    """
    _import_libraries()
    other = foreign(name)
    recipes = [
        Recipe(precision=precision, target=target, sizes=(other.size,), **more)
        for precision in precisions
        for target in targets
    ]
    return [
        export_module(other.module, recipe, variant=name, network="depth", out=out, weights=name, other=other)
        for recipe in recipes
    ]


def export_module(
    module: "torch.nn.Module",
    recipe: Recipe,
    *,
    variant: str,
    network: str,
    out: Path,
    weights: str,
    other: Foreign | None = None,
) -> manifest.Entry:
    """Export `module`, which keeps the contract of `network`, as `export` does.

    Args:
        weights: where they come from, for the manifest.
        other: of a depth network of others: `module` is its own, and what is traced is its fixed form.
    """
    from deeplens.model.build import weights_sha256

    contract = contract_of(variant, network) if other is None else other.contract
    recipe.check(contract)
    sha256 = weights_sha256(module)
    if recipe.plan is not None:
        recipe.plan.source.check_weights({network: sha256}, what=f"the precision plan of {recipe.plan.variant}")
    tools = {tool: version(tool) for tool in TOOLS}
    notes = {"variant": variant, "network": network, "precision": recipe.precision, "shapes": recipe.shapes}
    notes |= {"compute_units": recipe.compute_units, "weights": weights, "weights_sha256": sha256}
    notes |= {"harness": manifest.HARNESS}
    inputs, outputs = recipe.tensors(contract)
    with publish(out, f"coreml/{recipe.file_name(variant, contract)}") as artefact:
        described = {f"deeplens.{key}": value for key, value in (notes | tools).items()}
        licence = LICENCE if other is None else f"Weights: {other.card.licence}"
        save(
            module if other is None else other.fixed, contract, recipe, artefact.file, notes=described, licence=licence
        )
        golden = golden_vectors.write(
            out / "coreml" / "golden", module, contract, variant=variant, size=recipe.sizes[0], sha256=sha256
        )
        vectors = golden_vectors.read(golden)
        allowed = 0.0 if other is None else MARGIN * own_rounding(module, vectors.inputs)
        decibels = compare(artefact.file, contract, recipe, vectors, allowed=allowed)
        entry = artefact.describe(
            network=network,
            variant=variant,
            runtime="coreml",
            precision=recipe.precision,
            weights_sha256=sha256,
            inputs=inputs,
            outputs=outputs,
            tools=tools,
            opset=None,
            dynamic=False,
            more={
                "target": recipe.target,
                "shapes": recipe.shapes,
                "sizes": [list(size) for size in recipe.sizes],
                "images": list(IMAGES[network]) if recipe.images else [],
                "compute_units": recipe.compute_units,
                "weights": weights,
                "golden": golden.relative_to(out).as_posix(),
                **({} if recipe.plan is None else {"plan": recipe.plan.digest(network)}),
                "agreement_db": None if math.isinf(decibels) else round(decibels, 1),
                **({} if other is None else other.more),
            },
        )
    return entry


def export_all(jobs: Sequence[Job], *, out: Path, report: Callable[[str], None]) -> list[manifest.Entry]:
    """Export each package; all weights must be there before the first is made.

    Args:
        report: gets a line for each package.

    Raises:
        as `export`; InputError also when there is nothing to export.
    """
    if not jobs:
        raise InputError("nothing to export: enumerated and multifunction shapes need --target iOS18 and several sizes")
    _import_libraries()
    for job in jobs:
        weights_file(job.variant, job.network, job.weights)
    entries = []
    with progress_bar("Exporting to Core ML") as progress:
        for job in progress.each(jobs, lambda job: f"{job.variant} {job.network}, {job.recipe.shapes}"):
            entry = export(job.variant, job.network, job.recipe, out=out, weights=job.weights)
            entries.append(entry)
            report(f"{out / entry.path}  sha256 {entry.sha256[:12]}…  weights {entry.weights_sha256[:12]}…")
    return entries


def _import_libraries() -> None:
    """All that an export needs; MissingError names the extra. PyTorch first: the others look for it."""
    try:
        for library in ("torch", "sklearn"):
            import_module(library)
    except ImportError as error:
        raise MissingError(f"Core ML export needs another library ({error}): {pip_install('coreml')}") from error
    import_coremltools()


def command(
    variant: Variants = None,
    network: Networks = None,
    out: OutFolder = manifest.DEFAULT_FOLDER,
    weights: ExportedWeights = "shipped",
    precision: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PRECISION", help=f"Precision: {', '.join(PRECISIONS)}; may be repeated.", show_default="fp16"
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SYSTEM",
            help=f"Oldest system to run on: {', '.join(TARGETS)}; may be repeated.",
            show_default="both",
        ),
    ] = None,
    shapes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHAPES", help=f"How sizes are stored: {', '.join(SHAPES)}; may be repeated.", show_default="all"
        ),
    ] = None,
    size: FixedSizes = None,
    photo: Annotated[
        str,
        typer.Option(metavar="WxH", help="Photo size whose levels the enumerated and multifunction packages serve."),
    ] = PHOTO_SIZE,
    image: Annotated[
        bool,
        typer.Option(
            "--image",
            help="Depth and lens blur take the photo as an 8-bit image instead of an array; with --whole the result is "
            "an image too.",
        ),
    ] = False,
    plan: PlanFile = None,
    compute_units: Annotated[
        str, typer.Option(metavar="UNITS", help=f"Compute units that runtimes should use: {', '.join(UNITS)}.")
    ] = "all",
    whole: WholeSizes = None,
    with_depth: WithDepth = False,
    memory: TargetMemory = None,
    depth_network: ExportedDepthNetwork = None,
    json: JsonTarget = None,
) -> None:
    """Export the networks to Core ML, or the whole effect; print size and operations of each package."""

    for kind, given, known in (
        ("variant", variant, VARIANTS),
        ("network", network, NETWORKS),
        ("shapes", shapes, SHAPES),
        ("target", target, TARGETS),
        ("precision", precision, PRECISIONS),
    ):
        for each in given or ():
            check_choice(kind, each, known)
    check_choice("compute units", compute_units, tuple(UNITS))
    if depth_network is not None:
        check_alone(
            {"--variant": variant, "--network": network, "--size": size, "--plan": plan, "--shapes": shapes,
             "--whole": whole, "--with-depth": with_depth}
        )  # fmt: skip
        with progress_bar(f"Exporting {depth_network} to Core ML"):
            made = export_named(
                depth_network,
                precisions=precision or ("fp16",),
                targets=target or TARGETS,
                out=out,
                images=image,
                compute_units=UNITS[compute_units],
            )
        coreml_report.show(made, out=out, json=json)
        return
    width, height = parse_size(photo)
    sizes = whole_sizes(
        whole, with_depth=with_depth, memory=memory, given={"--network": network, "--size": size, "--shapes": shapes}
    )
    planned = "mixed" if "mixed" in (precision or ()) else ""
    variants = chosen_variants(variant, planned, plan)
    plans = plans_for(variants, planned, plan)
    source = weights_from(weights)
    if sizes:
        _import_libraries()
        from deeplens.export import whole_coreml

        asked_for = whole_coreml.recipes(
            sizes, target or TARGETS, precision or ("fp16",), image=image, compute_units=UNITS[compute_units]
        )
        whole_jobs = whole_coreml.wanted(variants, with_depth=with_depth, weights=source, memory=memory)
        coreml_report.show(whole_coreml.export_all(whole_jobs, tuple(asked_for), out=out), out=out, json=json)
        return
    chosen = chosen_networks(variants, network, source, report=lambda line: typer.echo(line, err=True))
    jobs: list[Job] = []
    for each, networks in chosen.items():
        for name in networks:
            asked = recipes(
                name,
                shapes=shapes or SHAPES,
                fixed=[parse_size(one)[::-1] for one in size] if size else FIXED_SHAPES,
                photo_size=(height, width),
                targets=target or TARGETS,
                precisions=precision or ("fp16",),
                image=image,
                compute_units=UNITS[compute_units],
                plan=plans.get(each),
            )
            jobs += [Job(each, name, source, recipe) for recipe in asked]
    entries = export_all(jobs, out=out, report=lambda line: typer.echo(line, err=json is not None))
    coreml_report.show(entries, out=out, json=json)


if __name__ == "__main__":
    run_script(command)
