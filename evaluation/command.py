"""`deeplens evaluate`: the table on every set of pictures. What is heavy is imported when it runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from deeplens.console.errors import InputError, MissingError
from deeplens.console.files import check_outputs, file_sha256
from deeplens.console.machine import core_count
from deeplens.console.options import JsonTarget
from deeplens.console.package import pip_install
from deeplens.console.progress import progress_bar
from deeplens.console.report import console_for, table, write_json
from deeplens.model.contract import VARIANTS, composed
from deeplens.runtimes.options import (
    Artifacts,
    DepthModelAspect,
    DepthModelChannels,
    DepthModelFile,
    DepthModelMean,
    DepthModelMultiple,
    DepthModelOutput,
    DepthModelOutputName,
    DepthModelSize,
    DepthModelStd,
    DepthNetwork,
    Runtime,
    Trust,
    Weights,
    depth_model_from,
    weights_from,
)


def evaluate(
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VARIANT",
            help=f"Variant of the networks: {' or '.join(VARIANTS)}; may be repeated.",
            show_default="edge",
        ),
    ] = None,
    runtime: Runtime = "torch",
    artifacts: Artifacts = None,
    _trust: Trust = None,
    weights: Weights = "shipped",
    on: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SET",
            help="Data set: synthetic, large, lens, highlights, rgbd; may be repeated.",
            show_default="all but large",
        ),
    ] = None,
    depth: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="Kind of depth: true, corrupted, predicted, model, or relative (the true map without its scale); "
            "may be repeated.",
            show_default="all but relative",
        ),
    ] = None,
    depth_model: DepthModelFile = None,
    depth_model_size: DepthModelSize = None,
    depth_model_mean: DepthModelMean = None,
    depth_model_std: DepthModelStd = None,
    depth_model_channels: DepthModelChannels = None,
    depth_model_output: DepthModelOutput = None,
    depth_model_output_name: DepthModelOutputName = None,
    depth_model_aspect: DepthModelAspect = None,
    depth_model_multiple: DepthModelMultiple = None,
    depth_network: DepthNetwork = None,
    scenes: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many of the 500 synthetic test scenes to use.")
    ] = 100,
    baselines: Annotated[bool, typer.Option(help="Also score the classical methods.")] = True,
    direct: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Weights of the direct network (python -m deeplens.training.direct), to score it too."
        ),
    ] = None,
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder that `make data` filled.")] = Path("data"),
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, show_default="cores", help="Number of processes.")
    ] = None,
    json: JsonTarget = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables to FILE as Markdown.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Write pictures of scenes of the first set to PNG.")
    ] = None,
) -> None:
    """Score every method against true pictures: PSNR and SSIM, overall and at depth edges."""
    try:
        from deeplens.evaluation.evaluate import DEPTHS, Job
        from deeplens.evaluation.evaluate import evaluate as scored
        from deeplens.evaluation.sets import SETS, open_set
        from deeplens.evaluation.sheet import contact_sheet
        from deeplens.evaluation.summary import CONDITIONS, DEPTH_HEADERS, summarise
    except ImportError as error:
        raise MissingError(
            f"the evaluation needs a library that is not installed ({error}): {pip_install('train')}"
        ) from error
    from deeplens.console.files import replacing
    from deeplens.runtimes.photo import write_photo

    check_outputs((json, None), (markdown, (".md",)), (sheet, (".png",)), inputs=())
    for name in on or ():
        if name not in SETS:
            raise InputError(f"unknown set '{name}': choose {', '.join(SETS)}")
    for kind in depth or ():
        if kind not in DEPTHS:
            raise InputError(f"unknown kind of depth '{kind}': choose {', '.join(DEPTHS)}")
    chosen = depth_model_from(
        depth_model,
        size=depth_model_size,
        mean=depth_model_mean,
        std=depth_model_std,
        channels=depth_model_channels,
        output=depth_model_output,
        output_name=depth_model_output_name,
        aspect=depth_model_aspect,
        multiple=depth_model_multiple,
    )
    if "model" in (depth or ()) and chosen is None:
        raise InputError("depth of kind 'model' needs a depth model: give --depth-model FILE")
    kinds = [kind for kind in DEPTHS if (kind in depth if depth else kind != "relative")]
    variants = tuple(composed(each, depth_network) for each in dict.fromkeys(variant or ["edge"]))
    job = Job(
        variants,
        runtime=runtime,
        weights=weights_from(weights),
        artifacts=artifacts,
        depths=tuple(kind for kind in kinds if kind != "model" or chosen is not None),
        baselines=baselines,
        direct=direct,
        model=chosen,
    )
    made_by: dict[str, Any] = {"runtime": runtime, "weights_sha256": job.weights_sha256()}
    console = console_for(json)
    if chosen is not None:
        for note in chosen.open(threads=1).notes:
            console.print(f"note: {note}")
        made_by["depth_model"] = {"path": str(chosen.path), "sha256": file_sha256(chosen.path), **vars(chosen.told)}
    sets = []
    for name in on or [each for each in SETS if each != "large"]:
        try:
            with progress_bar(f"Opening the set {name}"):
                sets.append(open_set(name, data=data, count=scenes))
        except MissingError as error:
            if on or name == "synthetic":
                raise
            console.print(f"left out: {error}")

    summaries = []
    for pictures in sets:
        with progress_bar(f"{pictures.name}, {pictures.count} pictures") as progress:
            results = scored(job, pictures, workers=workers or core_count(), progress=progress)
        summary = summarise(results, pictures, variant=variants[0])
        summaries.append(summary)
        console.print(table(summary.title, summary.headers, [row.cells() for row in summary.rows]))
        if summary.depth:
            console.print(table("Depth", DEPTH_HEADERS, summary.depth_cells()))
        console.print()
    console.print(CONDITIONS)

    if sheet is not None:
        with progress_bar("Drawing the sheet"):
            write_photo(sheet, contact_sheet(job, sets[0], kind=job.depths[0]))
    if markdown is not None:
        with replacing(markdown) as file:
            file.write("\n".join([*(each.markdown() for each in summaries), f"{CONDITIONS}\n"]).encode())
    write_json(json, {**made_by, "conditions": CONDITIONS, "sets": [each.json() for each in summaries]})
