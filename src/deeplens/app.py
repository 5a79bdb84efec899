"""The command `deeplens`: its commands are in the modules beside this one, what happens on an error is in `guard`."""

from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from deeplens.benchmarks.command import bench
from deeplens.benchmarks.scale import scale
from deeplens.calibration.command import calibrate
from deeplens.commands import depth
from deeplens.commands.golden import golden
from deeplens.commands.info import info, verify
from deeplens.commands.licences import licences
from deeplens.commands.lint import lint
from deeplens.commands.parity import parity
from deeplens.commands.peers import peers
from deeplens.commands.rack import rack
from deeplens.commands.refocus import refocus
from deeplens.commands.studio import studio
from deeplens.console.guard import USAGE, guarded
from deeplens.console.package import VERSION
from deeplens.evaluation.command import evaluate
from deeplens.export import coreml, coreml_device, onnx_graph, trt

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
export_app = typer.Typer(help="Export the PyTorch networks to the formats of the runtimes.")
export_app.command("onnx")(onnx_graph.command)
export_app.command("trt")(trt.command)
export_app.command("coreml")(coreml.command)
app.command()(refocus)
app.command()(rack)
app.command()(studio)
app.add_typer(export_app, name="export")
app.add_typer(depth.app, name="depth")
app.command()(parity)
app.command()(golden)
app.command()(evaluate)
app.command()(bench)
app.command()(peers)
app.command()(scale)
app.command()(calibrate)
app.command()(info)
app.command()(verify)
app.command()(licences)
app.command("device")(coreml_device.command)
app.command()(lint)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deeplens {VERSION}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Turn an ordinary photo into one with shallow depth of field."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)
        raise typer.Exit(USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        the exit status: see `console.guard`.
    """
    command = get_command(app)
    return guarded(lambda: command(arguments, prog_name="deeplens", standalone_mode=False))
