"""`deeplens bench`: times of a refocus, or its peak memory. What is heavy is imported when it runs."""

import re
import sys
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deeplens import inventory
from deeplens.options import Artifacts, JsonTarget, Precision, Threads
from deeplens.refocus import check_outputs, progress_bar
from deeplens.report import console_for, table, write_json
from export.manifest import DEFAULT_PRECISION
from model.errors import InputError
from runtimes.ort import core_count

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.refocus import Candidate

SPEED_SIZE, MEMORY_SIZE = "2048x1536", "8000x6000"

SPEED_COLUMNS = (
    "variant", "runtime", "weights", "runs", "median, s", "min … max", "times faster", "in networks, s",
    "multiplications", "halo", "share of sgemm",
)  # fmt: skip


def bench(
    size: Annotated[
        str | None, typer.Option(metavar="WxH", show_default=f"{SPEED_SIZE}, with --memory {MEMORY_SIZE}")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(metavar="V", show_default="paper, edge", help="May be repeated.")
    ] = None,
    runtime: Annotated[
        list[str] | None, typer.Option(metavar="R", show_default="torch, onnx", help="May be repeated.")
    ] = None,
    precision: Precision = None,
    artifacts: Artifacts = None,
    threads: Threads = None,
    warm_up: Annotated[int, typer.Option(metavar="N", min=1, help="Rounds that are not counted.")] = 1,
    runs: Annotated[int, typer.Option(metavar="N", min=1, help="At least so many runs of each.")] = 3,
    seconds: Annotated[float, typer.Option(metavar="S", min=0, help="At least so many seconds of each.")] = 3.0,
    memory: Annotated[
        bool, typer.Option("--memory", help="Peak memory instead, of edge on onnx unless told otherwise.")
    ] = False,
    json: JsonTarget = None,
) -> None:
    """Seconds of a refocus with cached depth, in turns, beside the machine's sgemm rate."""
    from benchmarks.refocus import Candidate

    check_outputs((json, None), inputs=())
    width, height = parse_size(size or (MEMORY_SIZE if memory else SPEED_SIZE))
    variants = variant or (["edge"] if memory else ["paper", "edge"])
    names = runtime or (["onnx"] if memory else ["torch", "onnx"])
    candidates = [
        Candidate(
            one,
            name,
            weights=weights_of(one),
            artifacts=artifacts,
            threads=threads or core_count(),
            precision="fp32" if name == "torch" else precision or DEFAULT_PRECISION.get(name, "fp32"),
        )
        for one, name in product(variants, names)
    ]
    console = console_for(json)
    if memory:
        report = _memory(candidates, width, height, console)
    else:
        report = _speed(candidates, width, height, console, warm_up=warm_up, runs=runs, seconds=seconds)
    write_json(json, {"width": width, "height": height, **report})


def _speed(
    candidates: "list[Candidate]", width: int, height: int, console: "Console", **options: Any
) -> dict[str, Any]:
    """Measure times and print them."""
    from benchmarks import machine
    from benchmarks.refocus import measure, results

    threads = candidates[0].threads
    load = machine.load_average()
    before = machine.sgemm(threads=threads)
    with progress_bar("Measuring") as progress:
        timings = measure(candidates, width=width, height=height, progress=progress, **options)
    after = machine.sgemm(threads=threads)
    remarks = machine.remarks(load=load, before=before, after=after)
    loads = (load, machine.load_average())
    gflops = (before.best + after.best) / 2
    rows = results(timings, width=width, height=height, gflops=gflops)

    title = f"Refocus of {width}×{height}, depth cached, {threads} thread{'s' if threads > 1 else ''}"
    console.print(table(title, SPEED_COLUMNS, map(_cells, rows)))
    console.print(
        f"times faster: than {candidates[0].name}, median over rounds; multiplications: of the whole levels, and what "
        f"the tiles' halo adds; sgemm: {gflops:.1f} GFLOP/s in this run"
    )
    for remark in remarks:
        print("warning:", remark, file=sys.stderr)
    return {
        "baseline": candidates[0].name,
        "results": rows,
        "sgemm_gflops": gflops,
        "machine": machine.report(threads=threads, loads=loads, before=before, after=after),
        "warnings": remarks,
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    """As `SPEED_COLUMNS` says."""
    counted = ("–",) * 3
    if row["share"] is not None:
        halo = row["halo"] / row["multiplications"]
        counted = (f"{row['multiplications'] / 1e9:.1f} G", f"+{100 * halo:.0f} %", f"{100 * row['share']:.0f} %")
    return (
        row["variant"],
        row["runtime"],
        row["weights"],
        str(row["runs"]),
        f"{row['median']:.2f}",
        f"{row['min']:.2f} … {row['max']:.2f}",
        f"{row['ratio']:.2f}",
        f"{row['in_networks']:.2f}",
        *counted,
    )


def _memory(candidates: "list[Candidate]", width: int, height: int, console: "Console") -> dict[str, Any]:
    """Measure peak memory and print it."""
    from benchmarks import machine
    from benchmarks.memory import measure

    load = machine.load_average()
    rows = []
    for index, candidate in enumerate(candidates):
        with progress_bar(f"Refocusing with {candidate.name}, {index + 1} of {len(candidates)}"):
            rows.append(measure(candidate, width=width, height=height))
    cells = [
        (row["variant"], row["runtime"], f"{row['peak_bytes'] / 1e9:.2f}", f"{row['seconds']:.1f}",
         ", ".join(f"{part} {seconds:.1f}" for part, seconds in row["parts"].items()))
        for row in rows
    ]  # fmt: skip
    threads = candidates[0].threads
    title = f"Refocus of {width}×{height}, file to file, depth given, {threads} thread{'s' if threads > 1 else ''}"
    console.print(table(title, ("variant", "runtime", "peak memory, GB", "seconds", "parts"), cells))
    described = {**machine.describe(threads=threads), "load_average": {"before": load}}
    return {"results": rows, "machine": described}


def parse_size(text: str) -> tuple[int, int]:
    """ "2048x1536" → (2048, 1536): width and height.

    Raises:
        InputError: not two whole numbers from 1 up.
    """
    match = re.fullmatch(r"([1-9]\d*)[x×]([1-9]\d*)", text)
    if match is None:
        raise InputError(f"size '{text}' is not WxH: give two whole numbers, such as {SPEED_SIZE}")
    return int(match[1]), int(match[2])


def weights_of(variant: str) -> Literal["shipped", "initial"]:
    """Shipped weights where both networks have them, else initial ones: the speed is the same."""
    files = [inventory.WEIGHTS / f"{variant}_{network}.safetensors" for network in ("lens_blur", "upsample")]
    return "shipped" if all(path.is_file() for path in files) else "initial"
