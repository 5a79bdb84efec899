"""`deeplens refocus`: a photo in, the same photo with a shallow depth of field out."""

import sys
from pathlib import Path
from typing import Annotated

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
    DepthModelAspect,
    DepthModelChannels,
    DepthModelFile,
    DepthModelMean,
    DepthModelMultiple,
    DepthModelOutput,
    DepthModelOutputName,
    DepthModelSize,
    DepthModelStd,
    DepthNetwork,
    Device,
    LoopPlace,
    Precision,
    Provider,
    Runtime,
    Trust,
    Variant,
    Weights,
    depth_model_from,
    weights_from,
)

FocusFile = Annotated[
    Path | None,
    typer.Option(
        "--focus-file",
        metavar="FILE",
        help="For a folder: CSV file with the columns photo,x,y; several lines for a photo give several points.",
    ),
]
Suffix = Annotated[
    str | None,
    typer.Option(
        "--suffix", metavar=".EXT", show_default="the photo's", help="For a folder: file type of the written pictures."
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="For a folder: run on the Ray cluster at ADDRESS; local starts one on this machine.",
    ),
]


def refocus(
    photo: Annotated[
        Path,
        typer.Argument(
            metavar="PHOTO|DIR",
            show_default=False,
            help="A photo that is sharp everywhere, or a folder of such photos.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            show_default=False,
            help="File to write; for a folder of photos, the output folder.",
        ),
    ],
    focus: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y",
            help="Point to focus on: X and Y from 0 to 1, from the top left of the photo. If given more than once, "
            "everything between these points in depth is sharp. For a folder also: nearest (the nearest subject).",
        ),
    ] = None,
    focus_depth: Annotated[
        float | None,
        typer.Option(
            metavar="DISPARITY",
            min=0,
            max=1,
            help="Disparity to focus on, from 0 (far) to 1 (near). Replaces --focus.",
        ),
    ] = None,
    focus_range: Annotated[
        float,
        typer.Option(
            metavar="RANGE",
            min=0,
            max=1,
            help="Range of disparity that stays sharp around the focal plane; 0 means one plane, as in a lens.",
        ),
    ] = 0.0,
    f_number: Annotated[
        float, typer.Option(metavar="N", help="Aperture as an f-number: 1.4 (most blur) or more.")
    ] = 2.8,
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
    depth_model: DepthModelFile = None,
    depth_model_size: DepthModelSize = None,
    depth_model_mean: DepthModelMean = None,
    depth_model_std: DepthModelStd = None,
    depth_model_channels: DepthModelChannels = None,
    depth_model_output: DepthModelOutput = None,
    depth_model_output_name: DepthModelOutputName = None,
    depth_model_aspect: DepthModelAspect = None,
    depth_model_multiple: DepthModelMultiple = None,
    depth_network: DepthNetwork = None,
    runtime: Runtime = AUTO,
    precision: Precision = None,
    provider: Provider = CPU,
    cpu_nodes: CpuNodes = None,
    device: Device = CPU,
    channels_last: ChannelsLast = None,
    compiled: Compile = False,
    cuda_graph: CudaGraph = False,
    loop: LoopPlace = "auto",
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
    save_depth: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the depth map to FILE.")] = None,
    side_by_side: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a picture of before and after to FILE.")
    ] = None,
    focus_file: FocusFile = None,
    suffix: Suffix = None,
    ray: Ray = None,
    max_megapixels: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            min=0,
            envvar="DEEPLENS_MAX_MEGAPIXELS",
            help="Largest photo or depth map that is read, in millions of pixels.",
            show_default="200, and less in a very short file",
        ),
    ] = None,
    json: JsonTarget = None,
) -> None:
    """Refocus a photo, or every photo in a folder: blur what a real lens would blur."""
    given = [bool(focus), focus_depth is not None, focus_file is not None]
    if sum(given) != 1:
        raise typer.BadParameter(
            "give exactly one of these options", param_hint=["--focus", "--focus-depth", "--focus-file"]
        )
    if sum(each is not None for each in (depth, depth_model, depth_network)) > 1:
        raise typer.BadParameter(
            "give only one of these options", param_hint=["--depth", "--depth-model", "--depth-network"]
        )
    if depth_kind is not None and depth is None:
        raise typer.BadParameter("it describes the map of --depth: give --depth too", param_hint="--depth-kind")
    chosen = depth_model_from(
        depth_model,
        size=depth_model_size,
        mean=depth_model_mean,
        std=depth_model_std,
        channels=depth_model_channels,
        output=depth_model_output,
        output_name=depth_model_output_name,
        aspect=depth_model_aspect,
        multiple=depth_model_multiple,
    )

    from deeplens.commands import folder
    from deeplens.commands.folder_stages import Look
    from deeplens.runtimes.depth_kind import checked_kind
    from deeplens.runtimes.given_depth import EMBEDDED, given_disparity
    from deeplens.runtimes.harness import aperture_from_f_number

    depth_file = None if depth is None or depth == EMBEDDED else Path(depth)
    kind = checked_kind(depth_kind)
    aperture = aperture_from_f_number(f_number)
    chosen_weights = weights_from(weights)
    networks = composed(variant, depth_network)
    placed = Accelerator(provider, cpu_nodes, device, channels_last, compiled, cuda_graph)
    runtime, precision = resolved(
        runtime, variant=networks, artifacts=artifacts, weights=chosen_weights, precision=precision, accelerator=placed
    )
    max_pixels = None if max_megapixels is None else round(max_megapixels * 1e6)
    if photo.is_dir():
        if depth_file is not None or save_depth is not None or side_by_side is not None:
            raise InputError(
                f"{photo} is a folder, but --depth FILE, --save-depth and --side-by-side work for a single photo only"
            )
        look = Look(
            aperture=aperture,
            focus_range=focus_range,
            runtime=runtime,
            variant=networks,
            precision=precision,
            artifacts=artifacts,
            weights=chosen_weights,
            tile=tile or None,
            threads=threads,
            depth_model=chosen,
            embedded=depth == EMBEDDED,
            depth_kind=kind,
            max_pixels=max_pixels,
            accelerator=placed,
            loop=loop,
        )
        folder.command(
            photo, output, look, focus=focus, focus_depth=focus_depth, focus_file=focus_file, suffix=suffix, ray=ray,
            json=json,
        )  # fmt: skip
        return
    if focus_file is not None or suffix is not None or ray is not None:
        raise InputError(f"--focus-file, --suffix and --ray work for a folder only, and {photo} is a file")
    points = tuple(parse_point(text) for text in focus or ())

    from deeplens.runtimes import photo as photos
    from deeplens.runtimes.disparity import SUFFIXES, write_disparity
    from deeplens.runtimes.focus import Focus
    from deeplens.runtimes.harness import Harness

    check_outputs(
        (output, photos.WRITERS),
        (side_by_side, photos.WRITERS),
        (save_depth, SUFFIXES),
        (json, None),
        inputs=(photo, depth_file, depth_model),
    )
    watch = Stopwatch()
    with watch.part("read"):
        before = photos.read_photo(photo, max_pixels=max_pixels)
        notes = [*before.notes, *photos.writing_notes(output, before)]
        disparity = None
        if depth is not None:
            disparity = given_disparity(
                EMBEDDED if depth_file is None else depth_file,
                path=photo,
                pixels=before.pixels,
                kind=kind,
                max_pixels=max_pixels,
                notes=notes,
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
    with opened, progress_bar("Refocusing") as progress:
        with watch.part("open"):
            harness = Harness(opened, tile=tile or None, loop=loop)
            needed = NETWORKS if disparity is None and chosen is None else ("lens_blur", "upsample")
            ran = {network: opened.open(network).ran for network in needed}
            notes += accelerator.notes(ran)
        with watch.part("depth"):
            if chosen is not None:
                model = chosen.open(threads=threads)
                notes += model.notes
                disparity = model.disparity(before.pixels, notes=notes)
            elif disparity is None:
                disparity = harness.disparity(before.pixels)
            focal, in_focus = Focus(points, focus_depth).of(disparity, focus_range=focus_range)
        with watch.part("refocus"):
            pixels = harness.refocus(
                before.pixels,
                disparity,
                focal_disparity=focal,
                aperture=aperture,
                focus_range=in_focus,
                progress=progress,
            )
    with watch.part("write"):
        if save_depth is not None:
            write_disparity(save_depth, disparity)
        if side_by_side is not None:
            photos.write_photo(side_by_side, photos.side_by_side(before.pixels, pixels))
        photos.write_photo(output, before.with_pixels(pixels))
    for note in notes:
        print("note:", note, file=sys.stderr)

    height, width = pixels.shape[:2]
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
        "depth_model": None if depth_model is None else str(depth_model),
        "depth_network": depth_network,
        "focal_disparity": focal,
        "focus_range": in_focus,
        "f_number": f_number,
        "aperture": aperture,
        "notes": notes,
        "seconds": {part: round(seconds, 4) for part, seconds in watch.seconds.items()},
    }
    engine = f"{runtime} {precision}{accelerator.place(ran)}"
    console_for(json).print(
        f"{output}: {width}×{height}, f/{f_number:g}, sharp at disparity {focal:.3f}"
        f"{f' ± {in_focus / 2:.3f}' if in_focus else ''}, {engine}, {watch.total:.1f} s"
    )
    write_json(json, report)
