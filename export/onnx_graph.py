"""PyTorch → ONNX: each network alone, simplified, checked and compared with PyTorch before it takes its place.

    python export/onnx_graph.py [--variant V] [--network N] [--size WxH] [--form FORM] [--weights W] [--out DIR]

does the same as `deeplens export onnx`. A network gets a file with free height and width (multiples of
`model.contract.ALIGNMENT`, the high picture exactly twice) and one for each fixed shape. Depth has one size only.
`export.onnx_forms` says which forms of a graph there are.
"""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplens.console.errors import InputError, MissingError
from deeplens.console.package import pip_install
from deeplens.console.parsing import parse_size
from deeplens.console.progress import progress_bar
from deeplens.console.script import run_script
from deeplens.export.chosen import chosen_networks, chosen_variants
from deeplens.export.onnx_check import CHECK_SIZES, check_structure, compare, tensor_entries
from deeplens.export.onnx_forms import FORMS, checked_form, in_form
from deeplens.export.onnx_trace import OPSET, TOOLS, describe, simplified, traced
from deeplens.export.precision_plan import plans_for
from deeplens.export.whole_sizes import wanted, whole_sizes
from deeplens.model.contract import (
    ALIGNMENT,
    CONTRACTS,
    DEPTH_SIZE,
    MIN_SIZE,
    NETWORKS,
    VARIANTS,
    Contract,
    contract_of,
)
from deeplens.model.shipped import Weights, weights_file
from deeplens.runtimes import manifest
from deeplens.runtimes.depth_model import PREFIX
from deeplens.runtimes.onnx_form import CPU, artefacts_of
from deeplens.runtimes.options import (
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
    form: str = CPU,
    graph: "onnx.ModelProto | None" = None,
) -> manifest.Entry:
    """Export `module`, which keeps the contract of `network`, as `export` does.

    Args:
        graph: what `traced_module` gives for it at this shape, where that is there already; it stays as it is.
    """
    import onnx

    from deeplens.model.build import weights_sha256

    checked_form(form)
    contract = CONTRACTS[network]
    size = contract.fixed_size if shape is None else checked_shape(contract, shape)
    name = f"{variant}_{network}" + (f"_{shape[0]}x{shape[1]}" if shape else "") + ".onnx"
    tools = {tool: version(tool) for tool in TOOLS}
    with publish(out, f"{artefacts_of(form)}/{name}") as artefact:
        model = in_form(traced_module(module, network, shape) if graph is None else graph, form)
        sha256 = weights_sha256(module)
        about = {"network": network, "variant": variant, "weights_sha256": sha256, "harness": manifest.HARNESS, **tools}
        own = dict(DEPTH_CONVENTION) if network == "depth" else {}
        described = json.dumps(asdict(contract_of(variant, network)))
        own |= {} if form == CPU else {"form": form}
        describe(model, {**about, **own, "contract": described})
        check_structure(model, contract, size=size)
        onnx.save(model, artefact.file)
        onnx.checker.check_model(artefact.file, full_check=True)
        compare(artefact.file, module, contract, sizes=CHECK_SIZES if size is None else (size,))
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
        )
    return entry


def traced_module(module: "torch.nn.Module", network: str, shape: tuple[int, int] | None) -> "onnx.ModelProto":
    """The simplified graph of a module that keeps the contract of `network`, before it is written in a form."""
    contract = CONTRACTS[network]
    return simplified(traced(module, contract, contract.fixed_size if shape is None else shape))


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
            graph = traced_module(module, network, shape)
            for form in forms:
                entry = export_module(
                    module, variant=variant, network=network, out=out, shape=shape, form=form, graph=graph
                )
                entries.append(entry)
                size = "free sizes" if entry.size is None else f"{entry.size[0]}x{entry.size[1]}"
                hashes = f"sha256 {entry.sha256[:12]}…  weights {entry.weights_sha256[:12]}…"
                report(f"{out / entry.path}  {size}  {hashes}")
    return entries


DEPTH_CONVENTION = {
    f"{PREFIX}size": f"{DEPTH_SIZE}x{DEPTH_SIZE}",
    f"{PREFIX}mean": "0,0,0",
    f"{PREFIX}std": "1,1,1",
    f"{PREFIX}channels": "rgb",
    f"{PREFIX}output": "disparity",
}
"""What `--depth-model` reads in an artefact of ours, as in any other depth model: see `runtimes.depth_model`."""


def check_choice(kind: str, name: str, choices: Collection[str]) -> None:
    """Raise InputError unless `name` is one of `choices`."""
    if name not in choices:
        raise InputError(f"unknown {kind} '{name}': choose {', '.join(choices)}")


def checked_shape(contract: Contract, shape: tuple[int, int]) -> tuple[int, int]:
    """`shape`, low-resolution (height, width); InputError where the network doesn't take it."""
    if contract.fixed_size is not None and shape != contract.fixed_size:
        raise InputError(f"{contract.network} has only one size, {contract.fixed_size[0]}x{contract.fixed_size[1]}")
    if any(size < MIN_SIZE or size % ALIGNMENT for size in shape):
        raise InputError(f"shape {shape[0]}x{shape[1]}: expected multiples of {ALIGNMENT} from {MIN_SIZE} up")
    return shape


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
) -> None:
    """Export the networks to ONNX: with free sizes, and at fixed shapes beside them. Or the whole effect as one graph.

    int8 and mixed follow a precision plan (`deeplens calibrate`): int8 its INT8 layers with all else in FP32, mixed all
    of it.
    """
    forms = form or [CPU]
    for each in forms:
        checked_form(each)
        if each != CPU and (precision != "fp32" or whole):
            what = "--whole" if whole else f"--precision {precision}"
            raise InputError(f"{what} is written in the form {CPU} only: leave out --form {each}")
    check_choice("precision", precision, PRECISIONS)
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


if __name__ == "__main__":
    run_script(command)
