"""`deeplens refocus`: a photo in, the same photo with a shallow depth of field out."""

import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer
from rich.console import Console

from deeplens.options import (
    Artifacts,
    DepthModelChannels,
    DepthModelFile,
    DepthModelMean,
    DepthModelOutput,
    DepthModelSize,
    DepthModelStd,
    FocusFile,
    JsonTarget,
    Precision,
    Ray,
    Runtime,
    Suffix,
    Threads,
    Variant,
    Weights,
    depth_model_from,
    weights_from,
)
from deeplens.report import STDOUT, console_for, write_json
from export.manifest import DEFAULT_PRECISION
from model.contract import NETWORKS
from model.errors import InputError

EMBEDDED = "embedded"
"""In place of a depth file's name: the depth that the photo itself holds. `./embedded` is a file of that name."""


def refocus(
    photo: Annotated[
        Path,
        typer.Argument(metavar="PHOTO|DIR", show_default=False, help="A photo that is sharp all over, or a folder."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="OUT", show_default=False, help="Where to write it; a folder for a folder."
        ),
    ],
    focus: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y",
            help="The point to be sharp: 0 to 1 from the top left of the photo as shown. Given more than once, "
            "all that lies between these points in depth is sharp. With DIR also: nearest (the nearest subject).",
        ),
    ] = None,
    focus_depth: Annotated[
        float | None,
        typer.Option(
            metavar="D",
            min=0,
            max=1,
            help="Instead of --focus: the disparity to be sharp, 0 (far) to 1 (near).",
        ),
    ] = None,
    focus_range: Annotated[
        float,
        typer.Option(
            metavar="R",
            min=0,
            max=1,
            help="How much of the depth is sharp, in disparity, half of it on each side; 0: one plane, as in a lens.",
        ),
    ] = 0.0,
    f_number: Annotated[float, typer.Option(metavar="N", help="1.4 (most blur) or more.")] = 2.8,
    depth: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|embedded",
            help="A depth map (disparity, near = bright) in place of the network's; embedded: the photo's own.",
        ),
    ] = None,
    depth_model: DepthModelFile = None,
    depth_model_size: DepthModelSize = None,
    depth_model_mean: DepthModelMean = None,
    depth_model_std: DepthModelStd = None,
    depth_model_channels: DepthModelChannels = None,
    depth_model_output: DepthModelOutput = None,
    runtime: Runtime = "torch",
    precision: Precision = None,
    variant: Variant = "edge",
    artifacts: Artifacts = None,
    weights: Weights = "shipped",
    tile: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Side of a tile: smaller takes less memory; 0: no tiles.",
        ),
    ] = 256,
    threads: Threads = None,
    save_depth: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the depth map too.")] = None,
    side_by_side: Annotated[Path | None, typer.Option(metavar="FILE", help="Write before and after too.")] = None,
    focus_file: FocusFile = None,
    suffix: Suffix = None,
    ray: Ray = None,
    json: JsonTarget = None,
) -> None:
    """Refocus PHOTO, or all photos of DIR, at a point or at a depth, as a lens at f/N would."""
    given = [bool(focus), focus_depth is not None, focus_file is not None]
    if sum(given) != 1:
        raise typer.BadParameter("give one of them", param_hint=["--focus", "--focus-depth", "--focus-file"])
    if depth is not None and depth_model is not None:
        raise typer.BadParameter("give one of the two", param_hint=["--depth", "--depth-model"])
    chosen = depth_model_from(
        depth_model,
        size=depth_model_size,
        mean=depth_model_mean,
        std=depth_model_std,
        channels=depth_model_channels,
        output=depth_model_output,
    )
    depth_file = None if depth is None or depth == EMBEDDED else Path(depth)

    from deeplens import folder
    from deeplens.folder import Look
    from runtimes.harness import aperture_from_f_number

    aperture = aperture_from_f_number(f_number)
    if photo.is_dir():
        if depth_file is not None or save_depth is not None or side_by_side is not None:
            raise InputError(f"{photo} is a folder: --depth FILE, --save-depth and --side-by-side are for one photo")
        look = Look(
            aperture=aperture,
            focus_range=focus_range,
            runtime=runtime,
            variant=variant,
            precision=precision or DEFAULT_PRECISION.get(runtime, "fp32"),
            artifacts=artifacts,
            weights=weights_from(weights),
            tile=tile or None,
            threads=threads,
            depth_model=chosen,
            embedded=depth == EMBEDDED,
        )
        folder.command(
            photo, output, look, focus=focus, focus_depth=focus_depth, focus_file=focus_file, suffix=suffix, ray=ray,
            json=json,
        )  # fmt: skip
        return
    if focus_file is not None or suffix is not None or ray is not None:
        raise InputError(f"--focus-file, --suffix and --ray are for a folder; {photo} is none")
    points = [parse_point(text) for text in focus or ()]

    from runtimes import open_runtime
    from runtimes import photo as photos
    from runtimes.disparity import SUFFIXES, focal_disparity_at, read_disparity, write_disparity
    from runtimes.harness import Harness

    check_outputs(
        (output, photos.WRITERS),
        (side_by_side, photos.WRITERS),
        (save_depth, SUFFIXES),
        (json, None),
        inputs=(photo, depth_file, depth_model),
    )
    watch = Stopwatch()
    with watch.part("read"):
        before = photos.read_photo(photo)
        disparity = None if depth_file is None else read_disparity(depth_file)
        if depth == EMBEDDED:
            from runtimes.portrait import embedded_disparity

            disparity = embedded_disparity(photo)
    with watch.part("open"):
        opened = open_runtime(
            runtime,
            variant=variant,
            artifacts=artifacts,
            weights=weights_from(weights),
            threads=threads,
            precision=precision or DEFAULT_PRECISION.get(runtime, "fp32"),
        )
    notes = list(before.notes)
    with opened, progress_bar("Refocusing") as progress:
        with watch.part("open"):
            harness = Harness(opened, tile=tile or None)
            for network in NETWORKS if disparity is None and chosen is None else ("lens_blur", "upsample"):
                opened.open(network)
        with watch.part("depth"):
            if chosen is not None:
                model = chosen.open(threads=threads)
                notes += model.notes
                disparity = model.disparity(before.pixels)
            elif disparity is None:
                disparity = harness.disparity(before.pixels)
            sharp = [focal_disparity_at(disparity, *point) for point in points]
            if focus_depth is not None:
                sharp = [focus_depth]
            focal = (min(sharp) + max(sharp)) / 2
            in_focus = min(1.0, max(sharp) - min(sharp) + focus_range)
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
        notes += photos.write_photo(output, before.with_pixels(pixels))
    for note in notes:
        print("note:", note, file=sys.stderr)

    height, width = pixels.shape[:2]
    report = {
        "photo": str(photo),
        "output": str(output),
        "width": width,
        "height": height,
        "runtime": runtime,
        "variant": variant,
        "depth": depth,
        "depth_model": None if depth_model is None else str(depth_model),
        "focal_disparity": focal,
        "focus_range": in_focus,
        "f_number": f_number,
        "aperture": aperture,
        "notes": notes,
        "seconds": {part: round(seconds, 4) for part, seconds in watch.seconds.items()},
    }
    console_for(json).print(
        f"{output}: {width}×{height}, f/{f_number:g}, sharp at disparity {focal:.3f}"
        f"{f' ± {in_focus / 2:.3f}' if in_focus else ''}, {watch.total:.1f} s"
    )
    write_json(json, report)


def parse_point(text: str) -> tuple[float, float]:
    """ "0.25,0.5" → (0.25, 0.5): x and y from the top left.

    Raises:
        InputError: not two numbers, or outside the picture.
    """
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"focus '{text}' is not X,Y: give two numbers from 0 to 1, such as 0.5,0.6") from None
    if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
        raise InputError(f"focus '{text}' lies outside the picture: X and Y go from 0 to 1, from the top left")
    return x, y


def check_outputs(*outputs: tuple[Path | None, Collection[str] | None], inputs: Collection[Path | None]) -> None:
    """Refuse before the work begins what could not be written after it.

    Args:
        outputs: files to write, each with the suffixes that it may have (None: any). A file that is None, or - for
            standard output, is passed over.
        inputs: files that are read.

    Raises:
        InputError: another suffix, a folder that is missing or can't be written to, a folder in place of a file, a file
            named twice, or one that is an input.
    """
    taken = {path.resolve() for path in inputs if path is not None}
    for path, suffixes in outputs:
        if path is None or path == STDOUT:
            continue
        if suffixes is not None and path.suffix.lower() not in suffixes:
            raise InputError(f"{path}: a file of this suffix can't be written here; use {', '.join(suffixes)}")
        if path.resolve() in taken:
            raise InputError(f"{path} would be overwritten: it is read, or named twice; write to another file")
        taken.add(path.resolve())
        try:
            folder = path.is_dir()
        except OSError as error:  # a name that no file can have
            raise InputError(f"{path} can't be written: {error.strerror}") from error
        if folder:
            raise InputError(f"{path} is a folder: name a file in it")
        if not path.parent.is_dir():
            raise InputError(f"the folder {path.parent} does not exist: make it first")
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"the folder {path.parent} can't be written to: choose another")


@dataclass
class Stopwatch:
    """Seconds that each part of the work took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time until the block ends to the part `name`."""
        start = perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[float], None]]:
    """A progress bar on standard error, while that is a terminal; takes the share done, 0 to 1."""
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=1.0)
        yield lambda share: progress.update(task, completed=share)
