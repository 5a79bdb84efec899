"""What graphs of the whole effect take in ONNX Runtime, beside the count that the export goes by.

    python -m deeplens.benchmarks.whole_memory [--artifacts DIR]

runs each FP32 graph of the whole effect in a process of its own, and prints the growth of its largest resident size.
"""

import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from deeplens.benchmarks.worker import peak_bytes
from deeplens.console.errors import MissingError
from deeplens.console.report import console_for, table
from deeplens.console.script import run_script
from deeplens.export.whole_check import made_inputs
from deeplens.export.whole_memory import MIB, SHARES
from deeplens.runtimes import manifest
from deeplens.runtimes.whole import whole_runtime

RUNS = 3


def grown(artifacts: Path, network: str, variant: str, size: tuple[int, int]) -> int:
    """Bytes by which the resident size of this process grows while a graph runs; its inputs are there before.

    Call it in a process of its own: the largest size of a process never shrinks.
    """
    inputs = made_inputs(network, size)
    runtime = whole_runtime("onnx", size=size, variant=variant, artifacts=artifacts)
    with runtime:
        session = runtime.open(network)
        before = resident_bytes()
        for _ in range(RUNS):
            assert np.isfinite(session.run(inputs)["refocused"]).all()
        return peak_bytes() - before


def resident_bytes() -> int:
    """The resident size of this process now. Linux only.

    Raises:
        MissingError: another system.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError as error:
        raise MissingError(f"the memory of a process can be read on Linux only ({error})") from error
    found = re.search(r"^VmRSS:\s*(\d+) kB$", status, flags=re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def measure(artifacts: Path) -> list[tuple[str, int, float, float]]:
    """Path, MiB of the tensors by the count, MiB that the process grew by, and their ratio, for each graph.

    Raises:
        MissingError: the folder has no such graph.
    """
    entries = [
        each
        for each in manifest.read(artifacts)
        if each.runtime == "onnx" and each.precision == "fp32" and "peak_bytes" in each.more
    ]
    if not entries:
        raise MissingError(f"{artifacts} has no graph of the whole effect: run `deeplens export onnx --whole 1024x768`")
    rows = []
    for entry in entries:
        assert entry.size is not None
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            took = pool.submit(grown, artifacts, entry.network, entry.variant, entry.size).result() / MIB
        count = int(entry.more["peak_bytes"]) / MIB
        rows.append((entry.path, round(count), took, took / count))
    return rows


def main(
    artifacts: Annotated[
        Path, typer.Option("--artifacts", metavar="DIR", help="Folder of the artefacts (exported network files).")
    ] = manifest.DEFAULT_FOLDER,
) -> None:
    """Measure the memory of graphs of the whole effect in ONNX Runtime."""
    rows = [(path, count, f"{took:.0f}", f"{share:.2f}") for path, count, took, share in measure(artifacts)]
    console_for(None).print(table("Memory of one graph", ("graph", "counted, MiB", "taken, MiB", "share"), rows))
    print(f"the export goes by a share of {SHARES['onnx']:g}")


if __name__ == "__main__":
    run_script(main)
