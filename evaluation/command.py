"""`deeplens evaluate`: the table on the fixed test split. What is heavy is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from deeplens.options import Artifacts, JsonTarget, Runtime, Variant, Weights, weights_from
from deeplens.refocus import check_outputs, progress_bar
from deeplens.report import console_for, table, write_json
from model.errors import MissingError
from runtimes.ort import core_count


def evaluate(
    variant: Variant = "edge",
    runtime: Runtime = "torch",
    artifacts: Artifacts = None,
    weights: Weights = "shipped",
    scenes: Annotated[int, typer.Option(metavar="N", min=1, help="How many of the split's scenes.")] = 500,
    large: Annotated[
        int, typer.Option(metavar="N", min=0, help="How many of the first ones also at twice the size.")
    ] = 50,
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder that `make data` filled.")] = Path("data"),
    workers: Annotated[int | None, typer.Option(metavar="N", min=1, show_default="cores", help="Processes.")] = None,
    json: JsonTarget = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables as Markdown.")] = None,
    sheet: Annotated[Path | None, typer.Option(metavar="PNG", help="Write a few scenes as pictures.")] = None,
) -> None:
    """PSNR and SSIM on the synthetic test split, beside baselines, overall and around depth edges."""
    try:
        from evaluation.evaluate import Job
        from evaluation.evaluate import evaluate as scored
        from evaluation.sheet import contact_sheet
        from evaluation.summary import CONDITIONS, HEADERS, summarise
        from training.scenes import LARGE_TEST_CONFIG, TEST_CONFIG
        from training.sources import shipped
    except ImportError as error:
        raise MissingError(f"evaluation lacks a library ({error}): pip install 'deeplens[train]'") from error
    from runtimes.image_file import replacing
    from runtimes.photo import write_photo

    check_outputs((json, None), (markdown, (".md",)), (sheet, (".png",)), inputs=())
    sources = shipped("test", data)
    job = Job(sources, variant=variant, runtime=runtime, weights=weights_from(weights), artifacts=artifacts)

    console = console_for(json)
    summaries = []
    for config, count in ((TEST_CONFIG, scenes), (LARGE_TEST_CONFIG, min(large, scenes))):
        if not count:
            continue
        with progress_bar(f"{count} scenes of {config.size} px") as progress:
            results = scored(job, config=config, count=count, workers=workers or core_count(), progress=progress)
        summary = summarise(results, variant=variant, config=config, sources=sources)
        summaries.append(summary)
        console.print(table(summary.caption, HEADERS, [row.cells() for row in summary.means]))
        console.print()
        console.print(table("Scene by scene", HEADERS, [row.cells(signed=True) for row in summary.differences]))
        console.print()
    console.print(CONDITIONS)

    made_by = {"variant": variant, "runtime": runtime, "weights_sha256": job.weights_sha256()}
    if sheet is not None:
        write_photo(sheet, contact_sheet(job, config=TEST_CONFIG))
    if markdown is not None:
        with replacing(markdown) as file:
            file.write("\n".join([*(each.markdown() for each in summaries), f"{CONDITIONS}\n"]).encode())
    write_json(json, {**made_by, "conditions": CONDITIONS, "splits": [each.json() for each in summaries]})
