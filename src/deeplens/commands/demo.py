"""Refocuses one photo at several points and f-numbers, and lays the pictures out on one sheet.

python -m deeplens.commands.demo PHOTO --focus X,Y … --f-number N … -o FOLDER
"""

from pathlib import Path
from typing import Annotated

import typer

from deeplens.console.errors import InputError
from deeplens.console.options import Threads
from deeplens.console.parsing import parse_point
from deeplens.console.progress import Stopwatch, progress_bar
from deeplens.console.script import run_script
from deeplens.evaluation.contact_sheet import as_grey, marked, sheet
from deeplens.runtimes import open_runtime
from deeplens.runtimes.disparity import focal_disparity_at, write_disparity
from deeplens.runtimes.harness import Harness, aperture_from_f_number
from deeplens.runtimes.options import Artifacts, Runtime, Variant, Weights, weights_from
from deeplens.runtimes.photo import read_photo, side_by_side, write_photo


def demo(
    photo: Annotated[
        Path, typer.Argument(metavar="PHOTO", show_default=False, help="A photo that is sharp everywhere.")
    ],
    focus: Annotated[
        list[str], typer.Option(metavar="X,Y", show_default=False, help="Point to focus on; may be repeated.")
    ],
    f_number: Annotated[list[float], typer.Option(metavar="N", show_default=False, help="F-number; may be repeated.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Output folder; created if it does not exist.")
    ] = Path("demo"),
    runtime: Runtime = "onnx",
    variant: Variant = "edge",
    artifacts: Artifacts = None,
    weights: Weights = "shipped",
    threads: Threads = None,
) -> None:
    """Refocus PHOTO at each point and f-number: the depth map, the pictures, before and after, and all on one sheet."""
    points = [parse_point(each) for each in focus]
    apertures = {number: aperture_from_f_number(number) for number in f_number}
    before = read_photo(photo)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't make the folder {output}: {error.strerror or error}") from error

    watch = Stopwatch()
    with open_runtime(
        runtime, variant=variant, artifacts=artifacts, weights=weights_from(weights), threads=threads
    ) as opened:
        harness = Harness(opened)
        with watch.part("depth"):
            disparity = harness.disparity(before.pixels)
        write_disparity(output / "depth.png", disparity)
        rows = [[("the photo", marked(before.pixels, points)), ("its depth, near is bright", as_grey(disparity))]]
        for index, point in enumerate(points, start=1):
            rows.append([])
            for number, aperture in apertures.items():
                with watch.part("refocus"), progress_bar(f"focus {index}, f/{number:g}") as progress:
                    pixels = harness.refocus(
                        before.pixels,
                        disparity,
                        focal_disparity=focal_disparity_at(disparity, *point),
                        aperture=aperture,
                        progress=progress,
                    )
                name = f"focus{index}_f{number:g}"
                write_photo(output / f"{name}.jpg", before.with_pixels(pixels))
                write_photo(output / f"{name}_before_after.jpg", side_by_side(before.pixels, pixels))
                rows[-1].append((f"focus {index}, f/{number:g}", pixels))
    write_photo(output / "sheet.jpg", sheet(rows))
    count = len(points) * len(apertures)
    print(
        f"{count} pictures, their depth map and sheet.jpg are in {output}/: {variant} on {runtime}, depth "
        f"{watch.seconds['depth']:.1f} s, a picture {watch.seconds['refocus'] / count:.1f} s with its networks' loading"
    )


if __name__ == "__main__":
    run_script(demo)
