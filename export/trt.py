"""ONNX → TensorRT engines: FP16 graphs with explicit types, static profiles for a photo's levels, one dynamic fallback.

    python export/trt.py [--target T] [--precision P] [--photo WxH] [--dry-run] …

does the same as `deeplens export trt`. Without a GPU it builds ahead of time, with TensorRT for RTX, for the compute
capabilities that are asked for; with arguments left out for all three networks of `edge`.
"""

import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from deeplens.console.errors import InputError, MissingError
from deeplens.console.package import pip_install
from deeplens.console.parsing import parse_size
from deeplens.console.progress import progress_bar
from deeplens.console.script import run_script
from deeplens.export.chosen import check_alone, check_choice, checked_shape, chosen_networks, chosen_variants
from deeplens.export.precision_plan import Plan, plans_for
from deeplens.export.trt_engine import FOLDER, Place, export, place
from deeplens.export.trt_graph import graph
from deeplens.export.trt_jobs import TARGETS, Job, jobs
from deeplens.export.whole_sizes import whole_sizes
from deeplens.model.contract import CONTRACTS, NETWORKS, VARIANTS
from deeplens.model.whole_contract import PIXEL_CONTRACTS, WHOLE, WHOLE_WITH_DEPTH
from deeplens.runtimes import depth_store, manifest
from deeplens.runtimes.cuda import JETSON_RELEASE, Cuda
from deeplens.runtimes.options import (
    ExportedDepthNetwork,
    ExportedWeights,
    Networks,
    OutFolder,
    PlanFile,
    TargetMemory,
    Variants,
    WholeSizes,
    WithDepth,
    weights_from,
)
from deeplens.runtimes.spec import has_library
from deeplens.runtimes.trt_api import TensorRt

if TYPE_CHECKING:
    from deeplens.model.shipped import Weights

DEFAULT_PHOTO = "2048x1536"


def default_target() -> str:
    """The target of this machine: `rtx`, which needs no GPU, where classic TensorRT can't build."""
    try:
        TensorRt("tensorrt")
        _, capability = Cuda().gpu
    except MissingError:
        return "rtx"
    if JETSON_RELEASE.exists():
        return "jetson-orin" if capability == "8.7" else "jetson-thor"
    return "desktop"


def export_all(
    wanted: Sequence[Job],
    where: Place,
    *,
    out: Path,
    weights: "Weights",
    command: str,
    timing_cache: Path | None = None,
    fp16_io: bool = False,
    plans: Mapping[str, Plan] = MappingProxyType({}),
    rebuild: bool = False,
    force: bool = False,
    report: Callable[[str], None],
) -> list[manifest.Entry]:
    """Build all engines of a list; the first that fails stops it.

    Args:
        weights: as in `model.build.load`.
        plans: variant → what int8 and mixed follow.
        report: gets a line for each engine.
    """
    sources: dict[tuple[str, str], manifest.Entry] = {}
    entries = []
    with progress_bar("Building engines") as progress:
        for job in progress.each(wanted):
            pair = (job.variant, job.network)
            if pair not in sources:
                sources[pair] = graph(
                    *pair, job.precision, out=out, weights=weights, fp16_io=fp16_io, plan=plans.get(job.variant)
                )
            entry, new = export(
                job,
                where,
                sources[pair],
                out=out,
                command=command,
                timing_cache=timing_cache,
                rebuild=rebuild,
                force=force,
            )
            entries.append(entry)
            took = f"built in {entry.more['seconds']:.1f} s" if new else "already there, with the same key"
            report(f"{out / entry.path}  {entry.more['bytes'] / 1e6:.1f} MB  {took}  sha256 {entry.sha256[:12]}…")
    return entries


def command(
    context: typer.Context,
    variant: Variants = None,
    network: Networks = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET",
            help=f"Machine that runs the engines: {', '.join(TARGETS)}.",
            show_default="this; rtx without a GPU",
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="PRECISION", help="Precision: fp32, fp16, int8 or mixed; the last two follow a precision plan."
        ),
    ] = "fp16",
    plan: PlanFile = None,
    photo: Annotated[
        list[str] | None,
        typer.Option(metavar="WxH", help="Photo size that the engines are made for.", show_default=f"{DEFAULT_PHOTO}"),
    ] = None,
    tile: Annotated[
        int, typer.Option(metavar="N", min=0, help="Side of a tile, as in `deeplens refocus`; 0 turns tiles off.")
    ] = 256,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="WxH", help="Also make the engines for this low-resolution size; may be repeated."),
    ] = None,
    dynamic: Annotated[bool, typer.Option(help="Also serve all other sizes, by one slower profile.")] = True,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X.Y", help="For target rtx: GPU generation to build for, as compute capability; may be repeated."
        ),
    ] = None,
    workspace: Annotated[int | None, typer.Option(metavar="MIB", min=1, help="Largest memory for one layer.")] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File of layer timings, which speeds up later builds."),
    ] = None,
    version_compatible: Annotated[
        bool,
        typer.Option("--version-compatible", help="Make engines that run on later minor versions too."),
    ] = False,
    refit: Annotated[bool, typer.Option("--refit", help="Make engines whose weights can be replaced.")] = False,
    dla_core: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Deep learning accelerator to use; only a Jetson AGX Orin has them."),
    ] = None,
    fp16_io: Annotated[bool, typer.Option("--fp16-io", help="Use FP16 for inputs and outputs too.")] = False,
    weights: ExportedWeights = "shipped",
    out: OutFolder = manifest.DEFAULT_FOLDER,
    whole: WholeSizes = None,
    with_depth: WithDepth = False,
    memory: TargetMemory = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Rebuild engines that already exist.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Build with a TensorRT version that is known to be wrong for the network.")
    ] = False,
    depth_network: ExportedDepthNetwork = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be built.")] = False,
) -> None:
    """Build TensorRT engines, of the networks or of the whole effect.

    Without a GPU: build engines for RTX GPUs ahead of time.
    """
    for kind, names, choices in (("variant", variant, VARIANTS), ("network", network, NETWORKS)):
        for name in names or ():
            check_choice(kind, name, choices)
    chosen = target or default_target()
    given = weights_from(weights)
    sizes = whole_sizes(
        whole,
        with_depth=with_depth,
        memory=memory,
        given={"--network": network, "--size": size, "--photo": photo, "--fp16-io": fp16_io},
    )
    exported: Mapping[str, Sequence[str]]
    variants: Sequence[str]
    if depth_network is not None:
        check_alone(
            {"--variant": variant, "--network": network, "--size": size, "--plan": plan, "--photo": photo,
             "--whole": whole, "--with-depth": with_depth}
        )  # fmt: skip
        depth_store.find(depth_network)
        if precision not in ("fp32", "fp16"):
            raise InputError(f"a depth network of others is built in fp32 or fp16, not in {precision}")
        variants, exported = (depth_network,), {depth_network: ("depth",)}
    else:
        variants = chosen_variants(variant, precision, plan)
        exported = (
            dict.fromkeys(variants, (WHOLE_WITH_DEPTH,) if with_depth else (WHOLE, *_ends()))
            if sizes
            else chosen_networks(variants, network, given, report=lambda line: typer.echo(line, err=True))
        )
    wanted = jobs(
        variants=variants,
        networks=exported[variants[0]] if sizes or depth_network is not None else network or NETWORKS,
        whole=sizes,
        target=chosen,
        precision=precision,
        photos=[parse_size(each)[::-1] for each in photo or [DEFAULT_PHOTO]],
        tile=tile or None,
        shapes=[checked_shape(CONTRACTS["upsample"], parse_size(each)[::-1]) for each in size or ()],
        dynamic=dynamic,
        compute_capabilities=compute_capability or (),
        workspace=workspace,
        version_compatible=version_compatible,
        refit=refit,
        dla_core=dla_core,
    )
    wanted = [job for job in wanted if job.network in exported[job.variant]]
    line = _again(context, chosen)
    plans = plans_for(variants, precision, plan)
    if dry_run:
        for job in wanted:
            typer.echo(str(job))
        typer.echo(f"{len(wanted)} engines, into {out / FOLDER}; built on {TARGETS[chosen].machine}; nothing was built")
        return
    where = place(chosen, command=line)
    if target is None and chosen == "rtx":
        typer.echo("there is no GPU with TensorRT here, so engines for RTX GPUs are built ahead of time")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        if sizes:
            from deeplens.export import whole_trt

            entries = whole_trt.export_all(
                wanted,
                where,
                out=out,
                command=line,
                weights=given,
                memory=memory,
                timing_cache=timing_cache,
                plans=plans,
                rebuild=rebuild,
                report=typer.echo,
            )
        else:
            entries = export_all(
                wanted,
                where,
                out=out,
                weights=given,
                command=line,
                timing_cache=timing_cache,
                fp16_io=fp16_io,
                plans=plans,
                rebuild=rebuild,
                force=force,
                report=typer.echo,
            )
    for warning in caught:
        typer.echo(f"warning: {warning.message}", err=True)
    total = sum(int(entry.more["bytes"]) for entry in entries)
    typer.echo(f"{len(entries)} engines, {total / 1e6:.0f} MB, {where.api.library} {where.api.version}")


def _ends() -> tuple[str, ...]:
    """What is built beside the whole effect, so that a photo's bytes go in and come out; none without `onnx`."""
    if has_library("onnx"):
        return tuple(PIXEL_CONTRACTS)
    typer.echo(
        f"the package onnx is missing, so photos will go to the GPU as float32: {pip_install('export')}", err=True
    )
    return ()


def _again(context: typer.Context, target: str) -> str:
    """The command that was given, for messages and the manifest, with its target named."""
    parts = ["deeplens", "export", "trt", "--target", target]
    for parameter in context.command.params:
        value = context.params[str(parameter.name)]
        if parameter.name in ("target", "dry_run", "rebuild") or value in (None, [], (), parameter.default):
            continue
        if isinstance(value, bool):
            parts.append((parameter.opts if value else parameter.secondary_opts)[-1])
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            parts += [parameter.opts[-1], shlex.quote(str(each))]
    return " ".join(parts)


if __name__ == "__main__":
    run_script(command)
