"""`deeplens rack`: an animation in which the focus moves from one point of a photo to another."""

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from deeplens.console.errors import InputError
from deeplens.console.files import check_outputs
from deeplens.console.options import JsonTarget, Threads
from deeplens.console.parsing import parse_point
from deeplens.console.progress import Stopwatch, progress_bar
from deeplens.console.report import console_for, write_json
from deeplens.model.contract import NETWORKS, composed
from deeplens.runtimes import AUTO, accelerator, open_runtime, resolved
from deeplens.runtimes.accelerator import CPU, Accelerator
from deeplens.runtimes.options import (
    Artifacts,
    ChannelsLast,
    Compile,
    CpuNodes,
    CudaGraph,
    DepthNetwork,
    Device,
    Precision,
    Provider,
    Runtime,
    Trust,
    Variant,
    Weights,
    weights_from,
)

MOST_BYTES = 4 << 30
"""Of all pictures of an animation together, which are held until they are written."""


def rack(
    photo: Annotated[
        Path, typer.Argument(metavar="PHOTO", show_default=False, help="A photo that is sharp everywhere.")
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="OUT", show_default=False, help="File to write: .webp, .gif or .mp4."),
    ],
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="X,Y",
            show_default=False,
            help="Point that is sharp at first: X and Y from 0 to 1, from the top left of the photo.",
        ),
    ],
    end: Annotated[
        str, typer.Option("--to", metavar="X,Y", show_default=False, help="Point that is sharp at the end.")
    ],
    f_number: Annotated[
        float, typer.Option(metavar="N", help="Aperture as an f-number: 1.4 (most blur) or more.")
    ] = 1.4,
    focus_range: Annotated[
        float,
        typer.Option(
            metavar="RANGE",
            min=0,
            max=1,
            help="Range of disparity that stays sharp around the focal plane; 0 means one plane, as in a lens.",
        ),
    ] = 0.0,
    seconds: Annotated[
        float, typer.Option(metavar="S", min=0.1, max=60, help="Time from the first point to the second, in seconds.")
    ] = 2.0,
    rate: Annotated[float, typer.Option("--fps", metavar="N", min=1, max=60, help="Pictures a second.")] = 20.0,
    hold: Annotated[
        float, typer.Option(metavar="S", min=0, max=60, help="Time that the focus rests at each point, in seconds.")
    ] = 0.5,
    back: Annotated[
        bool, typer.Option("--back/--one-way", help="Also move back to the first point, so that it can be repeated.")
    ] = True,
    side: Annotated[
        int,
        typer.Option(
            metavar="PIXELS", min=1, help="Longest side of the animation, in pixels; a larger photo is made smaller."
        ),
    ] = 1024,
    lossless: Annotated[bool, typer.Option("--lossless", help="For .webp: keep each pixel as it is.")] = False,
    depth: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|embedded",
            help="Depth map to use instead of a predicted one (near = bright); embedded: the one in the photo.",
        ),
    ] = None,
    depth_kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="What --depth holds: disparity (near = large) or depth (a distance, far = large).",
            show_default="what the file says, else disparity",
        ),
    ] = None,
    depth_network: DepthNetwork = None,
    runtime: Runtime = AUTO,
    precision: Precision = None,
    provider: Provider = CPU,
    cpu_nodes: CpuNodes = None,
    device: Device = CPU,
    channels_last: ChannelsLast = None,
    compiled: Compile = False,
    cuda_graph: CudaGraph = False,
    variant: Variant = "edge",
    artifacts: Artifacts = None,
    _trust: Trust = None,
    weights: Weights = "shipped",
    tile: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Side of a tile in low-resolution pixels; smaller tiles need less memory, 0 turns tiles off.",
        ),
    ] = 256,
    threads: Threads = None,
    json: JsonTarget = None,
) -> None:
    """Write an animation in which the focus of a photo moves from one point to another, and back."""
    if depth_kind is not None and depth is None:
        raise typer.BadParameter("it describes the map of --depth: give --depth too", param_hint="--depth-kind")
    if depth is not None and depth_network is not None:
        raise typer.BadParameter("give only one of these options", param_hint=["--depth", "--depth-network"])

    from deeplens.runtimes import photo as photos
    from deeplens.runtimes.animation import SUFFIXES, Frame, check_writable, write_animation
    from deeplens.runtimes.depth_kind import checked_kind
    from deeplens.runtimes.focus import Focus
    from deeplens.runtimes.given_depth import EMBEDDED, given_disparity
    from deeplens.runtimes.harness import Harness, aperture_from_f_number
    from deeplens.runtimes.rack import focal_path, pictures

    points = [parse_point(each) for each in (start, end)]
    aperture = aperture_from_f_number(f_number)
    kind = checked_kind(depth_kind)
    if lossless and output.suffix.lower() in (".gif", ".mp4"):
        raise InputError(f"{output.suffix} can't keep each pixel as it is: leave out --lossless, or write .webp")
    chosen_weights = weights_from(weights)
    networks = composed(variant, depth_network)
    placed = Accelerator(provider, cpu_nodes, device, channels_last, compiled, cuda_graph)
    runtime, precision = resolved(
        runtime,
        variant=networks,
        artifacts=artifacts,
        weights=chosen_weights,
        precision=precision,
        accelerator=placed,
    )
    depth_file = None if depth is None or depth == EMBEDDED else Path(depth)
    check_outputs((output, SUFFIXES), (json, None), inputs=(photo, depth_file))
    watch = Stopwatch()
    with watch.part("read"):
        whole = photos.read_photo(photo)
        notes = list(whole.notes)
        disparity = None
        if depth is not None:
            source = EMBEDDED if depth_file is None else depth_file
            disparity = given_disparity(source, path=photo, pixels=whole.pixels, kind=kind, notes=notes)
        if whole.alpha is not None:
            notes.append(f"{output.name} loses its transparency: an animation is written without it")
        pixels = shrunk(photos.to_8_bit(whole.pixels), side)
        height, width = pixels.shape[:2]
        check_writable(output, width=width, height=height)
        count = (2 if back else 1) * seconds * rate
        if count * pixels.nbytes > MOST_BYTES:
            raise InputError(
                f"{count:.0f} pictures of {width}×{height} pixels are too many to be held: give fewer --seconds, a "
                "smaller --fps or a smaller --side"
            )
    with watch.part("open"):
        opened = open_runtime(
            runtime,
            variant=networks,
            artifacts=artifacts,
            weights=chosen_weights,
            threads=threads,
            precision=precision,
            accelerator=placed,
        )
    with opened, progress_bar("Moving the focus") as progress:
        harness = Harness(opened, tile=tile or None)
        needed = NETWORKS if disparity is None else ("lens_blur", "upsample")
        ran = {network: opened.open(network).ran for network in needed}
        notes += accelerator.notes(ran)
        with watch.part("depth"):
            if disparity is None:
                disparity = harness.disparity(pixels)
            ends = [Focus((point,)).of(disparity)[0] for point in points]
            path = focal_path(ends[0], ends[1], seconds=seconds, rate=rate, hold=hold, back=back)
        with watch.part("refocus"):
            made = pictures(
                harness.photo(pixels, disparity), path, aperture=aperture, focus_range=focus_range, progress=progress
            )
            frames = [Frame(each, step.seconds) for each, step in zip(made, path, strict=True)]
    with watch.part("write"):
        written = write_animation(output, frames, rate=rate, lossless=lossless)
    for note in notes:
        print("note:", note, file=sys.stderr)
    report = {
        "photo": str(photo),
        "output": str(output),
        "width": width,
        "height": height,
        "runtime": runtime,
        "precision": precision,
        "ran": accelerator.report(ran),
        "variant": variant,
        "depth": depth,
        "depth_network": depth_network,
        "f_number": f_number,
        "focus_range": focus_range,
        "focal_disparities": [each.disparity for each in path],
        "shown_seconds": [round(each.seconds, 4) for each in path],
        "pictures": written,
        "notes": notes,
        "seconds": {part: round(taken, 4) for part, taken in watch.seconds.items()},
    }
    console_for(json).print(
        f"{output}: {width}×{height}, {written} pictures, {sum(each.seconds for each in path):.1f} s, f/{f_number:g}, "
        f"sharp from disparity {ends[0]:.3f} to {ends[1]:.3f}, {runtime} {precision}{accelerator.place(ran)}, "
        f"{watch.total:.1f} s"
    )
    write_json(json, report)


def shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """H×W×3 of uint8, made smaller so that no side has more than `side` pixels; as it is where none has."""
    from PIL import Image

    height, width = pixels.shape[:2]
    if max(height, width) <= side:
        return pixels
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
