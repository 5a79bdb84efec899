"""`deeplens parity`: every runtime against PyTorch, at each network, each level of the loop and the final picture."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplens.console.errors import InputError
from deeplens.console.files import check_outputs
from deeplens.console.options import JsonTarget
from deeplens.console.progress import Progress, progress_bar
from deeplens.console.report import console_for, write_json
from deeplens.export.whole_sizes import whole_sizes
from deeplens.model.contract import composed
from deeplens.parity_tests.candidates import COMPARED, PRECISIONS
from deeplens.runtimes.accelerator import DEVICES
from deeplens.runtimes.options import Artifacts, DepthNetwork, Trust, Weights, weights_from
from deeplens.runtimes.providers import NAMES as PROVIDERS

if TYPE_CHECKING:
    from deeplens.parity_tests.report import Report


def parity(
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VARIANT", help="Variant of the networks: edge or paper; may be repeated.", show_default="edge"
        ),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUNTIME", help=f"Runtime to compare: {', '.join(COMPARED)}; may be repeated.", show_default="all"
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PRECISION",
            help=f"Precision to compare: {', '.join(PRECISIONS)}; may be repeated.",
            show_default="all",
        ),
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROVIDER",
            help=f"Execution provider of ONNX Runtime to compare too: {', '.join(PROVIDERS)}; may be repeated.",
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DEVICE",
            help=f"Device of PyTorch to compare too, in all its precisions: {', '.join(DEVICES)}; may be repeated.",
        ),
    ] = None,
    artifacts: Artifacts = None,
    _trust: Trust = None,
    weights: Weights = "shipped",
    depth_network: DepthNetwork = None,
    photo: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Photo for real inputs and the whole loop; without it only random inputs are compared."
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(metavar="N", min=64, help="Make the photo smaller first: its long side in pixels.")
    ] = None,
    export: Annotated[
        bool, typer.Option("--export", help="First export the artefacts that are missing or out of date.")
    ] = False,
    compiles: Annotated[
        bool | None,
        typer.Option(
            help="Also check that TensorRT for RTX builds the graphs.", show_default="unless --runtime is given"
        ),
    ] = None,
    whole: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WxH",
            help="Also compare the graphs of the whole effect for photos of this size; may be repeated.",
        ),
    ] = None,
    with_depth: Annotated[
        bool, typer.Option("--with-depth", help="With --whole: also those that have the depth network in front.")
    ] = False,
    locate: Annotated[
        bool,
        typer.Option("--locate", help="Name the first operation that differs, even where no check fails."),
    ] = False,
    collect: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Only write the outputs of the runtimes to DIR; compare later with --compare."
        ),
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --collect: take the inputs from this earlier collection.")
    ] = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", help="Compare the collections in DIR instead of running anything; may be repeated."
        ),
    ] = None,
    json: JsonTarget = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the table to FILE as Markdown.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the result to FILE as JUnit XML.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the report to FILE as one HTML page.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the error at each level, to FILE as PNG.")
    ] = None,
) -> None:
    """Compare every runtime with PyTorch. Exit status 5 if a check fails, 4 if nothing could be compared."""
    from deeplens.parity_tests import run as running
    from deeplens.parity_tests.locate.all import locate_all
    from deeplens.parity_tests.request import Request

    check_outputs((json, None), *((each, None) for each in (markdown, junit, html, plot)), inputs=(photo,))
    if compare and (collect or runtime or photo):
        raise InputError("--compare can't be combined with --collect, --runtime or --photo: leave these out")
    if inputs is not None and collect is None:
        raise InputError("--inputs needs --collect: give --collect DIR too")
    sizes = whole_sizes(whole, with_depth=with_depth, memory=None, given={})
    if sizes and photo is None and not compare:
        raise InputError("--whole needs a photo: give --photo FILE")
    if sizes and depth_network is not None:
        raise InputError("--whole does not go with --depth-network: graphs of the whole effect hold the variant's own")
    request = Request(
        variants=[composed(each, depth_network) for each in variant or ["edge"]],
        runtimes=runtime or COMPARED,
        precisions=precision,
        providers=provider or (),
        devices=device or (),
        artifacts=artifacts,
        weights=weights_from(weights),
        photo=photo,
        size=size,
        whole=sizes,
        with_depth=with_depth,
        compiles=compiles if compiles is not None else runtime is None,
        report=lambda line: typer.echo(line, err=True),
    )
    if export:
        from deeplens.parity_tests.artefacts import make_missing

        with progress_bar("Exporting what is missing") as progress:
            make_missing(replace(request, report=told(request.report, progress)))
    if collect is not None:
        made = running.collect(request, collect, inputs=inputs)
        ran = sum(1 for each in made.produced if each.outputs.arrays)
        typer.echo(f"{collect}: {ran} of {len(made.produced)} runs gave results", err=json is not None)
        write_json(json, {"folder": str(collect), "producers": len(made.produced), "with_results": ran})
        return
    result = running.compare_collections(compare) if compare else running.run(request)
    if locate or (result.wrong and not compare):
        chosen = replace(request, variants=list(dict.fromkeys(row.variant for row in result.rows)))
        with progress_bar("Looking for the first operation that departs") as progress:
            result = locate_all(replace(chosen, report=told(request.report, progress)), result, everything=locate)
    _write(result, json, markdown, junit, html, plot)
    result.check()


def told(report: Callable[[str], None], progress: Progress) -> Callable[[str], None]:
    """Reports a line, and shows it beside the progress."""

    def both(line: str) -> None:
        report(line)
        progress.now(line)

    return both


def _write(result: "Report", json: Path | None, *files: Path | None) -> None:
    from deeplens.console.files import replacing
    from deeplens.parity_tests import junit, page, plot, tables

    console = console_for(json)
    console.print(tables.terminal(result))
    for each in result.located:
        console.print(f"{each.where}: {each.said}", soft_wrap=True, markup=False)
    console.print(result.summary(), soft_wrap=True, markup=False)
    write_json(json, result.to_json())
    makers = (
        lambda: tables.markdown(result).encode(),
        lambda: junit.junit(result),
        lambda: page.page(result).encode(),
        lambda: plot.png(result),
    )
    for path, make in zip(files, makers, strict=True):
        if path is None:
            continue
        data = make()
        if data is None:
            raise InputError(f"{path}: the loop was not compared, so there is no curve to draw: give --photo FILE")
        with replacing(path) as file:
            file.write(data)
