"""PyTorch → ONNX: each network alone, simplified, checked and compared with PyTorch before it takes its place.

    python export/onnx_graph.py [--variant V] [--network N] [--size WxH] [--form FORM] [--weights W] [--out DIR]

does the same as `deeplens export onnx`. A network gets a file with free height and width (multiples of
`model.contract.ALIGNMENT`, the high picture exactly twice) and one for each fixed shape. Depth has one size only.
`export.onnx_forms` says which forms of a graph there are.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplens.console.errors import MissingError
from deeplens.console.package import pip_install
from deeplens.console.parsing import parse_size
from deeplens.console.progress import progress_bar
from deeplens.console.script import run_script
from deeplens.export.chosen import check_alone, check_choice, checked_shape, chosen_networks, chosen_variants
from deeplens.export.foreign_depth import MARGIN, foreign
from deeplens.export.onnx_check import CHECK_SIZES, check_structure, compare, tensor_entries
from deeplens.export.onnx_forms import FORMS, check_written, checked_form, in_form
from deeplens.export.onnx_trace import OPSET, TOOLS, describe, simplified, traced
from deeplens.export.precision_plan import plans_for
from deeplens.export.whole_sizes import wanted, whole_sizes
from deeplens.model.contract import CONTRACTS, NETWORKS, VARIANTS, Contract, contract_of
from deeplens.model.shipped import Weights, weights_file
from deeplens.runtimes import manifest
from deeplens.runtimes.depth_convention import depth_convention
from deeplens.runtimes.onnx_form import CPU, artefacts_of
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
from deeplens.runtimes.spec import RUNTIMES

if TYPE_CHECKING:
    import onnx
    import torch

    from deeplens.export.foreign_depth import Foreign

FIXED_SHAPES = ((256, 256),)
"""Low-resolution sizes that get a file of their own unless told otherwise: the harness's tiles."""

PRECISIONS = RUNTIMES["onnx"].precisions


def export(
    variant: str,
    network: str,
    *,
    out: Path,
    weights: Weights = "shipped",
    shape: tuple[int, int] | None = None,
    form: str = CPU,
) -> manifest.Entry:
    """Export one network.

    Args:
        variant, network: as in `model.contract`.
        out: the root of the artefacts; the file goes to `out`/onnx, or `out`/onnx-FORM, its entry to
            `out`/manifest.json.
        weights: as in `model.build.load`.
        shape: low-resolution (height, width) of a fixed-shape file; None: free sizes, or the network's only one.
        form: one of `export.onnx_forms.FORMS`.

    Raises:
        InputError: an unknown name, a shape that the network doesn't take, a manifest that is not one.
        MissingError: a library or the weights are not there.
        MismatchError: the graph is not what PyTorch computes. Nothing is left behind.
    """
    check_choice("variant", variant, VARIANTS)
    check_choice("network", network, NETWORKS)
    _import_libraries()
    from deeplens.model import build

    module = build.load(variant, network, weights)
    return export_module(module, variant=variant, network=network, out=out, shape=shape, form=form)


def export_module(
    module: "torch.nn.Module",
    *,
    variant: str,
    network: str,
    out: Path,
    shape: tuple[int, int] | None = None,
    other: "Foreign | None" = None,
    form: str = CPU,
    graph: "onnx.ModelProto | None" = None,
) -> manifest.Entry:
    """Export `module`, which keeps the contract of `network`, as `export` does.

    Args:
        other: of a depth network of others: `module` is its own, and what is traced is its fixed form.
        graph: what `traced_module` gives for it at this shape, where that is there already; it stays as it is.
    """
    import onnx

    from deeplens.model.build import weights_sha256

    checked_form(form)
    contract = CONTRACTS[network] if other is None else other.contract
    size = contract.fixed_size if shape is None else checked_shape(contract, shape)
    name = f"{variant}_{network}" + (f"_{shape[0]}x{shape[1]}" if shape else "") + ".onnx"
    tools = {tool: version(tool) for tool in TOOLS}
    with publish(out, f"{artefacts_of(form)}/{name}") as artefact:
        if graph is None:
            graph = traced_module(module if other is None else other.fixed, contract, size)
        model = in_form(graph, form)
        sha256 = weights_sha256(module)
        about = {"network": network, "variant": variant, "weights_sha256": sha256, "harness": manifest.HARNESS, **tools}
        described = contract_of(variant, network) if other is None else contract
        about |= {} if other is None else {"licence": other.card.licence}
        own = depth_convention(described) if network == "depth" else {}
        own |= {} if form == CPU else {"form": form}
        describe(model, {**about, **own, "contract": json.dumps(asdict(described))})
        check_structure(model, contract, size=size)
        onnx.save(model, artefact.file)
        onnx.checker.check_model(artefact.file, full_check=True)
        sizes = CHECK_SIZES if size is None else (size,)
        compare(artefact.file, module, contract, sizes=sizes, margin=None if other is None else MARGIN)
        entry = artefact.describe(
            network=network,
            variant=variant,
            runtime=artefacts_of(form),
            precision="fp32",
            weights_sha256=sha256,
            inputs=tensor_entries(model.graph.input),
            outputs=tensor_entries(model.graph.output),
            tools=tools,
            opset=OPSET,
            dynamic=size is None,
            more={} if other is None else other.more,
        )
    return entry


def export_named(name: str, *, out: Path, form: str = CPU) -> manifest.Entry:
    """Export a depth network of others, which `deeplens depth add` added, at its one size, in a form.

    Raises:
        as `export`, `export.foreign_depth.foreign` and `export.depth_graph.export_file`.
    """
    from deeplens.export.depth_graph import export_file, is_file

    if is_file(name):
        return export_file(name, out=out, form=form)
    _import_libraries()
    other = foreign(name)
    return export_module(other.module, variant=name, network="depth", out=out, other=other, form=form)


def traced_module(module: "torch.nn.Module", contract: Contract, size: tuple[int, int] | None) -> "onnx.ModelProto":
    """The simplified graph of a module that keeps a contract, before it is written in a form; size: None: free."""
    return simplified(traced(module, contract, size))


def export_all(
    *,
    variants: Sequence[str],
    networks: Sequence[str],
    out: Path,
    weights: Weights,
    shapes: Sequence[tuple[int, int]] = FIXED_SHAPES,
    forms: Sequence[str] = (CPU,),
    report: Callable[[str], None],
) -> list[manifest.Entry]:
    """Export each network of each variant: with free sizes, and at each fixed shape.

    Args:
        shapes: low-resolution (height, width) of the fixed-shape files; not for networks that have one size.
        forms: of `export.onnx_forms.FORMS`; each file is written in each of them.
        report: gets a line for each file.

    Raises:
        as `export`.
    """
    for variant in variants:
        check_choice("variant", variant, VARIANTS)
    for network in networks:
        check_choice("network", network, NETWORKS)
    for form in forms:
        checked_form(form)
    jobs: list[tuple[str, str, tuple[int, int] | None]] = []
    for variant in variants:
        for network in networks:
            contract = CONTRACTS[network]
            fixed = () if contract.fixed_size else shapes
            jobs += [(variant, network, shape) for shape in (None, *(checked_shape(contract, each) for each in fixed))]
    _import_libraries()
    for variant, network, _ in jobs:
        weights_file(variant, network, weights)  # all must be there before the first is exported
    from deeplens.model import build

    entries = []
    with progress_bar("Exporting to ONNX") as progress:
        for variant, network, shape in progress.each(jobs, lambda job: f"{job[0]} {job[1]}"):
            module = build.load(variant, network, weights)
            graph = traced_module(module, CONTRACTS[network], shape or CONTRACTS[network].fixed_size)
            for form in forms:
                entry = export_module(
                    module, variant=variant, network=network, out=out, shape=shape, form=form, graph=graph
                )
                entries.append(entry)
                size = "free sizes" if entry.size is None else f"{entry.size[0]}x{entry.size[1]}"
                hashes = f"sha256 {entry.sha256[:12]}…  weights {entry.weights_sha256[:12]}…"
                report(f"{out / entry.path}  {size}  {hashes}")
    return entries


def _import_libraries() -> None:
    """All that an export needs; MissingError names the extra."""
    try:
        import onnx
        import onnxruntime
        import onnxscript
        import onnxsim
        import torch
    except ImportError as error:
        raise MissingError(
            f"ONNX export needs a library that is not installed ({error}): {pip_install('export')}"
        ) from error
    del onnx, onnxruntime, onnxscript, onnxsim, torch


def command(
    variant: Variants = None,
    network: Networks = None,
    out: OutFolder = manifest.DEFAULT_FOLDER,
    weights: ExportedWeights = "shipped",
    size: FixedSizes = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="PRECISION", help=f"Precision: {', '.join(PRECISIONS)}. FP32 graphs are always written too."
        ),
    ] = "fp32",
    plan: PlanFile = None,
    form: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORM",
            help=f"Form of the graphs, for the runtime that will read them: {', '.join(FORMS)}; may be repeated.",
            show_default=CPU,
        ),
    ] = None,
    whole: WholeSizes = None,
    with_depth: WithDepth = False,
    memory: TargetMemory = None,
    depth_network: ExportedDepthNetwork = None,
) -> None:
    """Export the networks to ONNX: with free sizes, and at fixed shapes beside them. Or the whole effect as one graph.

    int8 and mixed follow a precision plan (`deeplens calibrate`): int8 its INT8 layers with all else in FP32, mixed all
    of it.
    """
    forms = form or [CPU]
    check_choice("precision", precision, PRECISIONS)
    check_written(forms, precision=precision, whole=bool(whole))
    if depth_network is not None:
        check_alone(
            {"--variant": variant, "--network": network, "--size": size, "--whole": whole, "--with-depth": with_depth}
        )
        _export_named(depth_network, out, precision, plan, forms)
        return
    for kind, names, choices in (("variant", variant, VARIANTS), ("network", network, NETWORKS)):
        for name in names or ():
            check_choice(kind, name, choices)
    variants = chosen_variants(variant, precision, plan)
    sizes = whole_sizes(whole, with_depth=with_depth, memory=memory, given={"--network": network, "--size": size})
    plans = plans_for(variants, precision, plan)
    trained = weights_from(weights)
    if sizes:
        _import_libraries()
        from deeplens.export import whole_onnx

        graphs = wanted(variants, sizes, with_depth=with_depth, weights=trained, memory=memory)
        for made in whole_onnx.export_all(graphs, out=out, precisions=(precision,), plans=plans):
            typer.echo(f"{out / made.path}  {made.precision}  {whole_onnx.summary(out, made)}")
        return
    chosen = chosen_networks(variants, network, trained, report=lambda line: typer.echo(line, err=True))
    entries = [
        entry
        for each, networks in chosen.items()
        for entry in export_all(
            variants=[each],
            networks=networks,
            out=out,
            weights=trained,
            shapes=[parse_size(one)[::-1] for one in size] if size else FIXED_SHAPES,
            forms=forms,
            report=typer.echo,
        )
    ]
    if precision == "fp32":
        return
    from deeplens.export import fp16, planned
    from deeplens.model import build

    with progress_bar(f"Exporting in {precision.upper()}") as progress:
        for entry in progress.each(entries, lambda entry: Path(entry.path).stem):
            module = build.load(entry.variant, entry.network, weights_from(weights))
            if precision == "fp16":
                made = fp16.export(entry, out=out, module=module)
            else:
                made = planned.export(entry, plans[entry.variant], out=out, kind=precision, module=module)
            typer.echo(f"{out / made.path}  {precision}  sha256 {made.sha256[:12]}…")


def _export_named(name: str, out: Path, precision: str, plan: Path | None, forms: Sequence[str]) -> None:
    from deeplens.export import depth_precision

    depth_precision.check(name, precision, plan)
    for form in forms:
        with progress_bar(f"Exporting {name}"):
            entry = export_named(name, out=out, form=form)
        typer.echo(f"{out / entry.path}  fp32  sha256 {entry.sha256[:12]}…  weights {entry.weights_sha256[:12]}…")
    if precision != "fp32":
        with progress_bar(f"Exporting {name} in {precision.upper()}"):
            made = depth_precision.export(entry, precision, plan, out=out)
        typer.echo(f"{out / made.path}  {precision}  sha256 {made.sha256[:12]}…")


if __name__ == "__main__":
    run_script(command)
