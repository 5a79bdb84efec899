"""`deeplens bench`: times of the networks, the levels and the whole refocus. What is heavy is imported when it runs."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeplens.console.errors import InputError
from deeplens.console.files import check_outputs
from deeplens.console.machine import core_count
from deeplens.console.options import JsonTarget, Threads
from deeplens.console.parsing import parse_size
from deeplens.console.progress import progress_bar
from deeplens.console.report import console_for, table, write_json
from deeplens.model.contract import composed
from deeplens.runtimes.accelerator import CPU, Accelerator
from deeplens.runtimes.options import (
    Artifacts,
    ChannelsLast,
    Compile,
    CpuNodes,
    CudaGraph,
    DepthNetwork,
    Device,
    LoopPlaces,
    Trust,
)
from deeplens.runtimes.providers import NAMES as PROVIDERS
from deeplens.runtimes.spec import RUNTIMES

if TYPE_CHECKING:
    from rich.console import Console

    from deeplens.benchmarks.candidate import Candidate
    from deeplens.benchmarks.measure import Effort

SPEED_SIZE, MEMORY_SIZE = "2048x1536", "8000x6000"

NOWHERE: Mapping[str, list[Accelerator]] = MappingProxyType({})

Repeated = list[str] | None
Size = Annotated[
    Repeated,
    typer.Option(
        metavar="WxH",
        show_default=f"{SPEED_SIZE}, with --memory {MEMORY_SIZE}",
        help="Size of the photo; may be repeated with --memory.",
    ),
]
Variants = Annotated[
    Repeated,
    typer.Option("--variant", metavar="VARIANT", show_default="edge", help="Variant of the networks; may be repeated."),
]
Runtimes = Annotated[
    Repeated,
    typer.Option(
        "--runtime",
        metavar="RUNTIME",
        show_default="onnx",
        help=f"Runtime to measure: {', '.join(RUNTIMES)}. Also torch-compiled, and without tiles torch-whole and "
        "torch-compiled-whole. May be repeated: the others are compared with the first.",
    ),
]
PRECISION_HELP = "Precision of the artefacts, and of PyTorch; may be repeated."
PROVIDERS_HELP = f"Execution provider of ONNX Runtime: {', '.join(PROVIDERS)}; may be repeated."
Providers = Annotated[Repeated, typer.Option("--provider", metavar="NAME", show_default=CPU, help=PROVIDERS_HELP)]
Precisions = Annotated[
    Repeated,
    typer.Option("--precision", metavar="PRECISION", show_default="fp32, fp16 on trt and coreml", help=PRECISION_HELP),
]
Chosen = Annotated[
    Repeated,
    typer.Option(
        "--candidate",
        metavar="V,R[,P]",
        help="Variant, runtime and precision to measure; replaces --variant and --runtime; may be repeated.",
    ),
]
Items = Annotated[
    Repeated,
    typer.Option(
        "--item",
        metavar="ITEM",
        show_default="all but whole",
        help="What to measure: refocus, again (only the focus changed), preview (the base of that), depth, lens_blur, "
        "upsample, whole (a refocus by one graph of the whole effect, exported for the size); may be repeated.",
    ),
]
Aperture = Annotated[
    float,
    typer.Option(
        metavar="APERTURE",
        min=0.01,
        max=1,
        help="Aperture from 0 to 1 (fully open) for the refocuses. At a small aperture no tile is skipped.",
    ),
]
WarmUp = Annotated[float, typer.Option(metavar="SECONDS", min=0, help="Seconds of warm-up before measuring.")]
Runs = Annotated[int, typer.Option(metavar="N", min=1, help="Smallest number of runs of each.")]
Seconds = Annotated[float, typer.Option(metavar="SECONDS", min=0, help="Smallest number of seconds for each.")]
AtMost = Annotated[
    float, typer.Option(metavar="SECONDS", min=0, help="Stop earlier if the runs take more seconds than this.")
]
Quick = Annotated[bool, typer.Option("--quick", help="Quick look: 5 runs and half a second of each.")]
Memory = Annotated[
    bool, typer.Option("--memory", help="Measure peak memory instead, from file to file, each in its own process.")
]
Profile = Annotated[
    bool, typer.Option("--profile", help="Measure instead where ONNX Runtime spends its time, by operation.")
]
Markdown = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables to FILE as Markdown.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the distributions to FILE as PNG.")]
Compare = Annotated[
    tuple[Path, Path] | None,
    typer.Option(metavar="BEFORE AFTER", help="Measure nothing; compare two JSON results."),
]


def bench(
    size: Size = None,
    variant: Variants = None,
    runtime: Runtimes = None,
    precision: Precisions = None,
    candidate: Chosen = None,
    provider: Providers = None,
    cpu_nodes: CpuNodes = None,
    device: Device = CPU,
    channels_last: ChannelsLast = None,
    compiled: Compile = False,
    cuda_graph: CudaGraph = False,
    loop: LoopPlaces = None,
    artifacts: Artifacts = None,
    _trust: Trust = None,
    depth_network: DepthNetwork = None,
    threads: Threads = None,
    item: Items = None,
    aperture: Aperture = 1.0,
    warm_up: WarmUp = 0.2,
    runs: Runs = 100,
    seconds: Seconds = 3.0,
    at_most: AtMost = 120.0,
    quick: Quick = False,
    memory: Memory = False,
    profile: Profile = False,
    json: JsonTarget = None,
    markdown: Markdown = None,
    plot: Plot = None,
    compare: Compare = None,
) -> None:
    """Time the networks, the levels and whole refocuses, and show the machine's limits and state."""
    from deeplens.benchmarks.candidate import candidate_parts
    from deeplens.benchmarks.measure import QUICK, Effort
    from deeplens.benchmarks.worker import ITEMS, USUAL

    check_outputs((json, None), (markdown, None), (plot, (".png",)), inputs=compare or ())
    console = console_for(json)
    if compare is not None:
        _compare(*compare, console)
        return
    sizes = [parse_size(each) for each in size or (MEMORY_SIZE if memory else SPEED_SIZE,)]
    if len(sizes) > 1 and not memory:
        raise InputError("several sizes work with --memory only: run the command once for each size")
    for each in item or ():
        if each not in ITEMS:
            raise InputError(f"unknown item '{each}': choose {', '.join(ITEMS)}")
    chosen = [candidate_parts(each) for each in candidate or ()] or list(
        product(variant or ["edge"], runtime or ["onnx"], [None])
    )
    chosen = [(composed(own, depth_network), name, each) for own, name, each in chosen]
    places = {
        "onnx": [Accelerator(each, cpu_nodes) for each in provider or [CPU]],
        "torch": [Accelerator(CPU, None, device, channels_last, compiled, cuda_graph)],
    }
    candidates = [
        replace(each, loop=place)
        for each in candidates_of(chosen, precision, artifacts, threads or core_count(), aperture, places)
        for place in loop or ["auto"]
    ]
    if memory:
        report = _memory(candidates, sizes, console)
    elif profile:
        report = _profile(candidates, sizes[0], console)
    else:
        effort = QUICK if quick else Effort(warm_up=warm_up, runs=runs, seconds=seconds, at_most=at_most)
        report = _speed(candidates, item or list(USUAL), sizes[0], effort, console)
        report["quick"] = quick
        _write(report, markdown, plot)
    write_json(json, report)


def candidates_of(
    chosen: list[tuple[str, str, str | None]],
    precisions: list[str] | None,
    artifacts: Path | None,
    threads: int,
    aperture: float = 1.0,
    places: Mapping[str, list[Accelerator]] = NOWHERE,
) -> "list[Candidate]":
    """What is measured: each (variant, runtime, precision), a precision of None standing for each of `precisions`.

    Args:
        places: runtime → the providers or devices on which it is measured, one after the other.
    """
    from deeplens.benchmarks.candidate import Candidate, weights_of

    found = []
    for variant, runtime, own in chosen:
        engine = "torch" if runtime.startswith("torch") else runtime
        only = [own] if own else None
        usual = [RUNTIMES[engine].default_precision if engine in RUNTIMES else "fp32"]
        asked = only or precisions or usual
        if engine == "torch":
            asked = [each for each in asked if each in RUNTIMES[engine].precisions] or usual
        for precision, place in product(asked, places.get(engine, [Accelerator()])):
            settings = (weights_of(variant), artifacts, threads, precision, aperture, place)
            found.append(Candidate(variant, runtime, *settings))
    return found


def _speed(
    candidates: "list[Candidate]", items: list[str], size: tuple[int, int], effort: "Effort", console: "Console"
) -> dict[str, Any]:
    """Measure times and print them."""
    from deeplens.benchmarks import measure
    from deeplens.benchmarks import report as reports
    from deeplens.benchmarks.roofline import roofline
    from deeplens.benchmarks.watched import watched

    width, height = size
    found, machine = watched(
        lambda progress, warmed: measure.measure(
            candidates, items, width=width, height=height, effort=effort, progress=progress, warmed=warmed
        ),
        threads=candidates[0].threads,
    )
    rows = measure.results(found, effort)
    report: dict[str, Any] = {
        "format": reports.FORMAT,
        "size": list(size),
        "aperture": candidates[0].aperture,
        "valid": not machine.remarks,
        "remarks": machine.remarks,
        "results": rows,
        "ratios": measure.ratios(found),
        "roofline": roofline(rows, gflops=machine.gflops, gbytes=machine.gbytes),
        "machine": machine.report,
    }
    for each in reports.console_tables(report):
        console.print(each)
        console.print()
    console.print(reports.summary(report))
    machine.warn()
    return report


def _write(report: dict[str, Any], markdown: Path | None, plot: Path | None) -> None:
    from deeplens.benchmarks import report as reports
    from deeplens.console.files import replacing

    if markdown is not None:
        with replacing(markdown) as file:
            file.write(reports.markdown(report).encode())
    if plot is not None:
        reports.plot(report, plot)


def _compare(before: Path, after: Path, console: "Console") -> None:
    from deeplens.benchmarks import report as reports

    rows, doubts = reports.compare(reports.read(before), reports.read(after))
    console.print(table(f"{before} → {after}", reports.COMPARED, rows))
    for doubt in doubts:
        console.print(doubt)


def _memory(candidates: "list[Candidate]", sizes: list[tuple[int, int]], console: "Console") -> dict[str, Any]:
    """Measure peak memory and print it; with several sizes also the exponent of time over pixels."""
    from deeplens.benchmarks import machine
    from deeplens.benchmarks.memory import exponent, measure

    load = machine.load_average()
    rows = []
    for candidate, (width, height) in product(candidates, sizes):
        with progress_bar(f"Refocusing {width}×{height} with {candidate.name}"):
            rows.append(measure(candidate, width=width, height=height))
    cells = [
        (row["variant"], row["runtime"], f"{row['width']}×{row['height']}", f"{row['peak_bytes'] / 1e9:.2f}",
         f"{row['seconds']:.1f}", ", ".join(f"{part} {seconds:.2f}" for part, seconds in row["parts"].items()))
        for row in rows
    ]  # fmt: skip
    threads = candidates[0].threads
    title = f"Refocus, file to file, depth given, {threads} thread{'s' if threads > 1 else ''}"
    console.print(table(title, ("variant", "runtime", "size", "peak memory, GB", "seconds", "parts"), cells))
    exponents = {}
    for candidate in candidates if len(sizes) > 1 else ():
        own = [row for row in rows if (row["variant"], row["runtime"]) == (candidate.variant, candidate.runtime)]
        exponents[candidate.name] = exponent(own)
        console.print(f"{candidate.name}: the refocus takes time ∝ pixels^{exponents[candidate.name]:.3f}")
    described = {**machine.describe(threads=threads), "load_average": {"before": load}}
    return {"results": rows, "exponents": exponents, "machine": described}


def _profile(candidates: "list[Candidate]", size: tuple[int, int], console: "Console") -> dict[str, Any]:
    """Time by operation of the ONNX artefacts."""
    from deeplens.benchmarks import machine, profile

    with progress_bar("Timing operations") as progress:
        rate = max(machine.sgemm(threads=1).values())
        chosen = progress.each(candidates, lambda candidate: candidate.name)
        rows = [row for candidate in chosen for row in profile.measure(candidate, *size, gflops=rate)]
    for row in rows:
        title = (
            f"{row['candidate']} {row['network']} {row['height']}×{row['width']}, one thread: "
            f"{1e3 * row['seconds']:.2f} ms; "
            f"convolutions at {row['conv_gflops']:.0f} GFLOP/s, {100 * row['conv_share']:.0f} % of sgemm"
        )
        cells = [
            (each["kind"], str(each["nodes"]), f"{1e3 * each['seconds']:.2f}", f"{100 * each['share']:.1f} %")
            for each in row["kinds"]
        ]
        console.print(table(title, ("operation", "nodes", "ms", "share"), cells))
        console.print()
    return {"sgemm_gflops": rate, "results": rows, "machine": machine.describe(threads=1)}
