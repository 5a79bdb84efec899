"""Golden vectors in the files that NVIDIA's Polygraphy takes, so that its own tool runs and compares the graphs.

    python -m deeplens.parity_tests.polygraphy_files artifacts/golden/edge_upsample_64x64.json --out DIR
    polygraphy run artifacts/onnx/edge_upsample.onnx --onnxrt --load-inputs DIR/edge_upsample_64x64.inputs.json \
        --load-outputs DIR/edge_upsample_64x64.outputs.json --atol 1e-5 --rtol 0

With `--trt` in place of `--onnxrt` it does the same on a GPU. Needs Polygraphy (the extra `interop`).
"""

from pathlib import Path
from typing import Annotated

import typer

from deeplens.console.errors import MissingError
from deeplens.console.package import pip_install
from deeplens.console.script import run_script
from deeplens.export import golden


def write(vectors: Path, out: Path) -> tuple[Path, Path]:
    """Inputs and expected outputs of golden vectors as Polygraphy's files, in `out`, which is made when missing.

    Raises:
        MissingError: Polygraphy is not installed.
        as `export.golden.read`.
    """
    try:
        from polygraphy.comparator import IterationResult, RunResults
        from polygraphy.json import save_json
    except ImportError as error:
        raise MissingError(f"Polygraphy can't be imported ({error}): {pip_install('interop')}") from error
    found = golden.read(vectors)
    out.mkdir(parents=True, exist_ok=True)
    inputs, outputs = (out / f"{vectors.stem}.{side}.json" for side in ("inputs", "outputs"))
    save_json([found.inputs], str(inputs))
    results = RunResults()
    results["pytorch"] = [IterationResult(outputs=found.outputs, runner_name="pytorch")]
    results.save(str(outputs))
    return inputs, outputs


def command(
    vectors: Annotated[Path, typer.Argument(metavar="JSON", help="JSON file of golden vectors.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Output folder of the two files.")] = Path(
        "artifacts/polygraphy"
    ),
) -> None:
    """Write golden vectors for Polygraphy."""
    for path in write(vectors, out):
        typer.echo(str(path))


if __name__ == "__main__":
    run_script(command)
