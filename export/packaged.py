"""The artefacts that a wheel carries: the ONNX graphs of `edge` in FP32, of free sizes, with their manifest.

    python -m deeplens.export.packaged

makes them anew beside the package, in `runtimes.folders.PACKAGED_FOLDER`; `make dist` then builds the wheel.
"""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from deeplens.console.files import locked_name
from deeplens.console.script import run_script
from deeplens.export import onnx_graph
from deeplens.model.contract import NETWORKS
from deeplens.runtimes.folders import PACKAGED_FOLDER

VARIANT = "edge"


def make(folder: Path = PACKAGED_FOLDER) -> int:
    """Export the graphs into `folder`, in place of what is there; returns their size in bytes.

    They are made under another name and moved into place when all are there.

    Raises:
        MissingError: PyTorch, the exporter or the weights are not there.
        MismatchError: a graph does not compute what PyTorch does.
    """
    staged = locked_name(folder)
    shutil.rmtree(staged, ignore_errors=True)
    try:
        for network in NETWORKS:
            onnx_graph.export(VARIANT, network, out=staged)
        (staged / ".manifest.lock").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return sum(path.stat().st_size for path in folder.rglob("*.onnx"))


def main(
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder that the graphs are written to.")
    ] = PACKAGED_FOLDER,
) -> None:
    """Export the ONNX graphs that a wheel carries."""
    typer.echo(f"{make(folder) / 1e6:.1f} MB of ONNX graphs of {VARIANT} in FP32 are in {folder}")


if __name__ == "__main__":
    run_script(main)
