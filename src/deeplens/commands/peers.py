"""`deeplens peers`: what a user could pick instead, side by side. What is heavy is imported when it runs."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeplens.commands.peers_work import DEPTHS, PEERS, Setting, peer_named
from deeplens.console.errors import InputError, MissingError
from deeplens.console.files import check_outputs, replacing
from deeplens.console.machine import core_count
from deeplens.console.options import JsonTarget, Threads
from deeplens.console.package import pip_install
from deeplens.console.progress import progress_bar
from deeplens.console.report import console_for, table, write_json
from deeplens.runtimes.options import Artifacts, Trust

if TYPE_CHECKING:
    from deeplens.evaluation.sets import PictureSet
    from deeplens.scenes.planes import Scene

FORMAT = 1

SIZE = 1280
"""Side of the synthetic scenes unless told otherwise: the size of the set `large`."""

OPEN = 0.5
"""Smallest aperture of a scene: with hardly any blur all peers are close to the truth, and some skip their work."""

COLUMNS = (
    "peer", "p50, ms", "times as fast as the first", "spread", "runs", "peak memory, MB", "PSNR, dB, true depth",
    "at depth edges", "PSNR, dB, corrupted depth", "at depth edges", "library",
)  # fmt: skip


def peers(
    peer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=f"Peer to compare: {', '.join(PEERS)}; may be repeated.", show_default="all"),
    ] = None,
    on: Annotated[
        str, typer.Option("--set", metavar="SET", help="Data set: synthetic, lens, highlights or rgbd.")
    ] = "synthetic",
    size: Annotated[
        int | None,
        typer.Option(metavar="N", min=64, help="Side of the synthetic scenes in pixels.", show_default=f"{SIZE}"),
    ] = None,
    scenes: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many scenes to use, the first with much blur.")
    ] = 4,
    rounds: Annotated[
        int, typer.Option(metavar="N", min=1, help="How often each peer is timed; the scenes take turns.")
    ] = 20,
    at_most: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Time a peer no more after so many seconds of its own.")
    ] = 60.0,
    artifacts: Artifacts = None,
    _trust: Trust = None,
    threads: Threads = None,
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder that `make data` filled.")] = Path("data"),
    json: JsonTarget = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table to FILE as Markdown.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw quality over time to FILE as PNG.")] = None,
) -> None:
    """Compare with what else blurs a photo with depth: time, memory and distance from true pictures, in one run."""
    try:
        from deeplens.commands import peers_measure as measuring
    except ImportError as error:
        raise MissingError(
            f"the peers need a library that is not installed ({error}): {pip_install('train')}"
        ) from error
    from deeplens.benchmarks.watched import watched

    check_outputs((json, None), (markdown, (".md",)), (plot, (".png",)), inputs=())
    chosen = [peer_named(name) for name in dict.fromkeys(peer or PEERS)]
    with progress_bar("Making the scenes"):
        title, pictures = _scenes(on, size, scenes, data)
    threads = threads or core_count()
    with tempfile.TemporaryDirectory(prefix="deeplens-") as folder:
        setting = Setting(Path(folder), artifacts, threads)
        measuring.store(pictures, setting.folder)
        found, machine = watched(
            lambda progress, warmed: measuring.measure(
                chosen, pictures, setting, rounds=rounds, at_most=at_most, progress=progress, warmed=warmed
            ),
            threads=threads,
        )
    report: dict[str, Any] = {
        "format": FORMAT,
        "scenes": title,
        "size": list(pictures[0].picture.shape[:2]),
        "count": len(pictures),
        "valid": not machine.remarks,
        "remarks": machine.remarks,
        "results": measuring.results(found),
        "unblurred": measuring.mean_score([measuring.judged(each.picture, each) for each in pictures], "psnr"),
        "machine": machine.report,
    }
    console = console_for(json)
    console.print(table(heading(report), COLUMNS, cells(report)))
    for line in notes(report):
        console.print(line)
    machine.warn()
    if markdown is not None:
        with replacing(markdown) as file:
            file.write(as_markdown(report).encode())
    if plot is not None:
        draw(report, plot)
    write_json(json, report)


def _scenes(on: str, size: int | None, count: int, data: Path) -> "tuple[str, list[Scene]]":
    """What is seen, in words, and the scenes.

    Raises:
        InputError: an unknown set, or a size that it has not.
        MissingError: the set is not in `data`, or has no such scene.
    """
    from deeplens.evaluation.sets import SETS, open_set, synthetic
    from deeplens.runtimes.pyramid import geometry
    from deeplens.scenes.planes import TEST_SCENES, PhotoConfig
    from deeplens.scenes.sources import shipped

    if on not in SETS:
        raise InputError(f"unknown set '{on}': choose {', '.join(SETS)}")
    if size is not None and on != "synthetic":
        raise InputError(f"--size is for the set synthetic; the pictures of {on} have the size they have")
    found: PictureSet
    if on == "synthetic":
        side = size or SIZE
        steps = geometry(side, side).steps
        if side % (8 << steps):
            raise InputError(f"--size {side} is no multiple of {8 << steps}, as {steps} ×2 steps need it")
        config = PhotoConfig(size=side, steps=steps, cutout_only=True)
        found = synthetic(shipped("test", data), count=TEST_SCENES, config=config)
    else:
        found = open_set(on, data=data, count=count)
    scenes = []
    for _, scene in found.read(0, 1):
        scenes += [scene] if scene.aperture >= OPEN else []
        if len(scenes) == count:
            break
    if not scenes:
        raise MissingError(f"the set {on} in {data} has no picture with an aperture of {OPEN:g} or more")
    return found.title.split(":")[0], scenes


def heading(report: dict[str, Any]) -> str:
    """What the table shows, in one line."""
    (height, width), machine = report["size"], report["machine"]
    return (
        f"{report['scenes']}: {report['count']} of {width}×{height} px, {machine['threads']} of {machine['cores']} "
        f"cores of {machine['processor']}"
    )


def cells(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """The rows of the table, one a peer that ran."""
    return [
        (
            row["what"],
            f"{1e3 * row['p50']:.0f}",
            f"{row['ratio']['ratio']:.2f}",
            f"{row['ratio']['low']:.2f} … {row['ratio']['high']:.2f}",
            str(row["runs"]),
            f"{row['peak_bytes'] / 1e6:.0f}",
            *(_number(row["quality"][depth][metric]) for depth in DEPTHS for metric in ("psnr", "psnr_band")),
            row["library"],
        )
        for row in report["results"]
        if "missing" not in row
    ]  # fmt: skip


def notes(report: dict[str, Any]) -> list[str]:
    """What there is to know beside the table."""
    lines = ["valid" if report["valid"] else "INVALID: do not use these times", *report["remarks"]]
    lines += [f"{row['what']} was not run: {row['missing']}" for row in report["results"] if "missing" in row]
    return [*lines, f"The photo as it is, without any blur, has {_number(report['unblurred'])} dB."]


def as_markdown(report: dict[str, Any]) -> str:
    """The table and its notes, for a document."""
    lines = [f"### {heading(report)}", "", _line(COLUMNS), _line(["---", *["--:"] * (len(COLUMNS) - 2), "---"])]
    return "\n".join([*lines, *map(_line, cells(report)), "", *(f"- {line}" for line in notes(report)), ""])


def draw(report: dict[str, Any], path: Path) -> None:
    """Quality over time: a point a peer, a panel for each kind of depth; PNG.

    Raises:
        MissingError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError(f"a plot needs matplotlib ({error}): {pip_install('train')}") from error
    rows = [row for row in report["results"] if "missing" not in row]
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    markers = {"networks": "o", "classical": "s"}
    for axis, depth in zip(axes, DEPTHS, strict=True):
        for index, row in enumerate(rows):
            point = (1e3 * row["p50"], row["quality"][depth]["psnr"])
            fill = "full" if index < 10 else "none"  # there are ten colours
            axis.plot(*point, markers[row["kind"]], color=f"C{index % 10}", fillstyle=fill, label=row["name"])
        axis.axhline(report["unblurred"], color="0.6", linestyle="--", linewidth=0.8)
        axis.set(title=f"{depth} depth", xlabel="p50, ms", xscale="log")
        axis.margins(x=0.1, y=0.1)
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("PSNR against the true picture, dB")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    figure.suptitle(heading(report) + ("" if report["valid"] else " (the times are invalid)"), fontsize="small")
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=120)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
