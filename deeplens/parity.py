"""`deeplens parity`: every runtime against PyTorch, at each network, each level of the loop and the final picture."""

from pathlib import Path
from typing import Annotated

import typer

from deeplens.options import Artifacts, JsonTarget, Weights, weights_from
from deeplens.refocus import check_outputs
from deeplens.report import console_for, write_json
from runtimes import RUNTIMES


def parity(
    variant: Annotated[
        list[str] | None, typer.Option(metavar="V", help="edge or paper; may be repeated. [default: edge]")
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(metavar="R", help=f"Of {', '.join(RUNTIMES[1:])}; may be repeated. [default: all of them]"),
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(metavar="P", help="fp32 or fp16; may be repeated. [default: fp32]")
    ] = None,
    artifacts: Artifacts = None,
    weights: Weights = "shipped",
    photo: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For real inputs and the loop; without it they are not run.")
    ] = None,
    json: JsonTarget = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table as Markdown too.")] = None,
) -> None:
    """Compare each runtime with PyTorch float32, float64 the judge. Status 5 if a check fails, 4 if none is run."""
    from parity_tests import report as parity_report
    from runtimes.image_file import replacing

    check_outputs((json, None), (markdown, None), inputs=(photo,))
    console = console_for(json)
    result = parity_report.run(
        variants=variant or ["edge"],
        runtimes=parity_report.COMPARED if runtime is None else runtime,
        precisions=precision or ["fp32"],
        artifacts=artifacts,
        weights=weights_from(weights),
        photo=photo,
        report=lambda line: typer.echo(line, err=True),
    )
    console.print(result.table())
    console.print(result.summary())
    write_json(json, result.to_json())
    if markdown is not None:
        with replacing(markdown) as file:
            file.write(result.markdown().encode())
    result.check()
