"""`deeplens calibrate`: what photos do to activations, INT8 scales, and the precision plan of a variant."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeplens.console.options import JsonTarget
from deeplens.console.progress import progress_bar
from deeplens.console.report import console_for, table, write_json
from deeplens.runtimes import manifest
from deeplens.runtimes.options import DepthNetwork, Variant, Weights, weights_from

if TYPE_CHECKING:
    from deeplens.calibration.photos import Photo

SIZE = 1024


def calibrate(
    variant: Variant = "edge",
    photos: Annotated[
        Path | None,
        typer.Option(
            "--photos", metavar="DIR", show_default="the calibration split", help="Folder of photos to calibrate on."
        ),
    ] = None,
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder that `make data` filled.")] = Path("data"),
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the FP32 artefacts; missing ones are exported first.")
    ] = (manifest.DEFAULT_FOLDER),
    work: Annotated[
        Path | None,
        typer.Option(metavar="DIR", show_default="OUT/calibration", help="Folder for the measurements."),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default="WORK/VARIANT_plan.json", help="File to write the plan to."),
    ] = None,
    floor: Annotated[float, typer.Option(metavar="DB", help="Lowest PSNR in dB that the plan may give.")] = 50.0,
    fp16_floor: Annotated[float, typer.Option(metavar="DB", help="Lowest PSNR in dB that FP16 may give.")] = 60.0,
    judges: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of large photos that a plan is judged on.")
    ] = 3,
    size: Annotated[
        int, typer.Option(metavar="PIXELS", min=64, help="Long side in pixels of the photos that a plan is judged on.")
    ] = SIZE,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="Replace scales of other photos or weights.")
    ] = False,
    scales_only: Annotated[
        bool, typer.Option("--scales-only", help="Stop after the scales; search for no plan.")
    ] = False,
    weights: Weights = "shipped",
    depth_network: DepthNetwork = None,
    json: JsonTarget = None,
) -> None:
    """Choose INT8 scales and a precision for each layer, from what photos do to the networks.

    Intermediate results are kept: an interrupted run continues where it stopped.
    """
    from deeplens.calibration import calibrate as steps
    from deeplens.calibration import inputs
    from deeplens.calibration import photos as photo_sets

    work = work or out / "calibration"
    start = perf_counter()

    def report(line: str) -> None:
        typer.echo(f"{perf_counter() - start:6.1f} s  {line}", err=True)

    with _warnings_told():
        chosen = photo_sets.shipped(data) if photos is None else photo_sets.from_folder(photos)
    report(f"{len(chosen)} photos")
    if depth_network is not None:
        target = plan or work / f"{depth_network}_plan.json"
        _depth_network(depth_network, chosen, out, target, json)
        return
    with progress_bar("Opening the FP32 graphs"):
        opened = steps.opened(
            variant,
            chosen,
            artifacts=out,
            folder=work,
            weights=weights_from(weights),
            settings=inputs.Settings(),
        )
    with opened.runtime:
        found = opened.scales(report, anew=recalibrate)
        report(f"scales of {sum(map(len, found.layers.values()))} layers in {opened.file('scales.json')}")
        answer: dict[str, Any] = {"variant": variant, "source": asdict(opened.source)}
        if scales_only:
            opened.statistics(report)
            write_json(json, answer)
            return
        from deeplens.calibration import page, pareto

        goal = steps.Goal(floor=floor, fp16_floor=fp16_floor, judges=judges, longest=size)
        search = steps.searched(opened, found, goal, report)
        target = plan or opened.file("plan.json")
        search.plan.write(target)
        report(f"the plan is in {target}")
        compared = pareto.points(opened, search)
        held = opened.statistics(report)
        with progress_bar("Drawing the page"):
            page.write(
                opened.file("page.html"), opened, held, search, compared,
                goal=goal, plan=target, artifacts=out,
            )  # fmt: skip
        report(f"the page is {opened.file('page.html')}")
    answer |= {"methods": search.methods, "exceptions": search.plan.exceptions, **pareto.report(compared)}
    rows = [
        (p.name, p.decibels, f"{p.arithmetic:.3f}", f"{p.size / 1e6:.2f}", round(1e3 * p.seconds)) for p in compared
    ]
    console_for(json).print(
        table(f"plans of {variant}", ("plan", "PSNR dB", "arithmetic", "MB", "ms on the CPU, 1024 px"), rows)
    )
    write_json(json, answer)


def _depth_network(name: str, chosen: "Sequence[Photo]", out: Path, plan: Path, json: Path | None) -> None:
    """What stays in FP32 in FP16, and what INT8 costs, of a depth network of others."""
    from deeplens.calibration.depth_network import measure
    from deeplens.export.depth_plan import INT8_FLOOR

    plan.parent.mkdir(parents=True, exist_ok=True)
    with progress_bar(f"Running the photos through {name}") as progress:
        found = measure(name, chosen, artifacts=out, progress=progress)
    found.plan.write(plan)
    console = console_for(json)
    rows = [
        (each.tensor[:60], each.operation, f"{each.largest:.4g}", f"{100 * each.subnormal:.1f} %",
         "FP32" if each.tensor in found.plan.kept else "FP16")
        for each in found.ranges[:12]
    ]  # fmt: skip
    columns = ("tensor", "operation", "largest", "subnormal", "kept in")
    console.print(table(f"Largest activations of {name}, {len(chosen)} photos", columns, rows))
    plain = "overflows" if found.plain_db is None else f"{found.plain_db:.1f} dB"
    console.print(
        f"FP16 with nothing kept: {plain}; "
        f"with {len(found.plan.kept)} tensors in FP32: {found.plan.agreement_db:.1f} dB"
    )
    good = next((each for each in found.plan.int8 if each.good), None)
    tried = [
        (", ".join(each.operations), "not finite" if each.agreement_db is None else f"{each.agreement_db:.1f} dB",
         "in the plan" if each is good else "")
        for each in found.plan.int8
    ]  # fmt: skip
    console.print(
        table(f"{name} in INT8, judged on photos that its scales are not for", ("on integers", "", ""), tried)
    )
    if good is None:
        console.print(f"no INT8: each photo needs {INT8_FLOOR:g} dB; FP16 is the precision for this network")
    command = f"deeplens export onnx --depth-network {name} --precision {'fp16' if good is None else 'int8'}"
    console.print(f"the plan is in {plan}: {command} --plan {plan}", soft_wrap=True, markup=False)
    write_json(json, {**asdict(found.plan), "plain_db": found.plain_db, "plan": str(plan)})


@contextmanager
def _warnings_told() -> Iterator[None]:
    """Print warnings as lines on standard error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        typer.echo(f"warning: {warning.message}", err=True)
