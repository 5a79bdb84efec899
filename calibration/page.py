"""The page of a calibration: what was decided and how to use it, the plans beside each other, and what tensors hold."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from deeplens.calibration import plots
from deeplens.calibration.calibrate import Calibration, Found, Goal
from deeplens.calibration.pareto import Point
from deeplens.calibration.photos import ENOUGH
from deeplens.calibration.statistics import Statistics
from deeplens.console import page as frame
from deeplens.console.errors import MissingError
from deeplens.console.files import replacing
from deeplens.console.package import pip_install
from deeplens.console.page import Html, chip, tag
from deeplens.export.layers import REST
from deeplens.runtimes import manifest

TOP = 12
"""As many tensors are listed of each network."""

HELD = ("tensor", "operation", "level", "low", "high", "99.9 %", "over FP16", "subnormal", "channel spread")

PLAN = "the plan"
"""The name of what was decided, among the points."""


def write(
    path: Path,
    calibration: Calibration,
    statistics: Mapping[str, Statistics],
    found: Found,
    points: Sequence[Point],
    *,
    goal: Goal,
    plan: Path,
    artifacts: Path = manifest.DEFAULT_FOLDER,
) -> None:
    """Write the page, one HTML file with its pictures in it.

    Args:
        points: the plans beside each other.
        goal: what was searched for.
        plan: the file of the plan, for the commands that follow it.
        artifacts: the folder that these commands write to.

    Raises:
        MissingError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingError(
            f"the page of plots needs a library that is not installed ({error}): {pip_install('train')}"
        ) from error
    source = calibration.source
    weights = ", ".join(f"{network} {sha256[:12]}…" for network, sha256 in source.weights.items())
    parts = [
        tag("p", decision(found, points, goal), kind="lead"),
        *_how(calibration.variant, found, plan, artifacts),
        tag("p", half(found, goal)),
        tag("p", f"Measured on {_photos(source.count)} ({source.photos[:12]}…), with weights {weights}.", kind="soft"),
        tag("h2", "Plans"),
        *_plans(points, goal),
        tag("h2", "What one layer alone costs the final picture"),
        *_layers(calibration, found, goal),
        tag("h2", "How the scales were chosen"),
        _methods(found),
        tag("h2", "What the tensors hold"),
        *_tensors(statistics),
    ]
    text = frame.page(f"Calibration of {calibration.variant}", parts)
    with replacing(path) as file:
        file.write(text.encode())


def decision(found: Found, points: Sequence[Point], goal: Goal) -> str:
    """What was decided, in two sentences."""
    counts = _counts(found)
    total = sum(counts.values())
    photos = len(next(iter(found.errors.values())))
    judged = "the photo that judged" if photos == 1 else f"the worst of {photos} photos that judged"
    if not counts["int8"]:
        return (
            f"Decided: no layer becomes INT8, since {goal.floor:g} dB can't be kept with one that is. "
            "Give a lower --floor, or stay with FP16."
        )
    layers = [f"{counts[kind]} in {kind.upper()}" for kind in ("int8", "fp16", "fp32") if counts[kind]]
    said = f"Decided: of {total} layers, {_listed(layers)}. "
    said += f"The picture keeps {found.plan.reached:.1f} dB against FP32 on {judged}; the floor was {goal.floor:g} dB."
    by_name = {each.name: each for each in points}
    chosen, full = by_name.get(PLAN), by_name.get(plots.FULL)
    if chosen and full:
        said += (
            f" The three graphs take {chosen.size / 1e6:.2f} MB instead of {full.size / 1e6:.2f} MB, and their "
            f"multiplications cost {100 * chosen.arithmetic:.0f} % of FP32's."
        )
    return said


def half(found: Found, goal: Goal) -> str:
    """What was found about FP16."""
    _, reached = found.tried["FP16 with exceptions"]
    kept = [f"{network} {path}" for network, paths in found.plan.exceptions.items() for path in paths]
    if not kept:
        return (
            f"FP16 needs no exception: with all layers in FP16 the picture keeps {reached:.1f} dB; "
            f"its floor was {goal.fp16_floor:g} dB."
        )
    return (
        f"FP16 keeps its floor of {goal.fp16_floor:g} dB if {len(kept)} layers stay FP32 ({reached:.1f} dB then): "
        f"{', '.join(kept)}."
    )


def commands(variant: str, plan: Path, artifacts: Path, *, int8: bool) -> list[tuple[str, str]]:
    """What to type to use the plan: for what, the command line."""
    given = "" if variant == "edge" else f" --variant {variant}"
    given += "" if artifacts == manifest.DEFAULT_FOLDER else f" --out {artifacts}"
    if not int8:
        return [("ONNX Runtime, TensorRT", f"deeplens export onnx --precision fp16{given}")]
    return [
        ("ONNX Runtime on a CPU", f"deeplens export onnx --precision int8 --plan {plan}{given}"),
        ("TensorRT", f"deeplens export trt --precision mixed --plan {plan}{given}"),
        ("Core ML", f"deeplens export coreml --precision mixed --plan {plan}{given}"),
    ]


def _photos(count: int) -> str:
    said = f"{count} photo{'' if count == 1 else 's'}"
    return said if count >= ENOUGH else f"{said}, where a plan to rely on takes {ENOUGH} or more"


def _how(variant: str, found: Found, plan: Path, artifacts: Path) -> Iterator[Html]:
    int8 = bool(_counts(found)["int8"])
    lines = commands(variant, plan, artifacts, int8=int8)
    caption = f"Use the plan {plan}" if int8 else "Use FP16"
    rows = [(target, tag("code", line)) for target, line in lines]
    yield frame.table(caption, ("for", "command"), rows, long=("command",))


def _counts(found: Found) -> Counter[str]:
    """Precision → number of layers of the plan."""
    return Counter(each.precision for own in found.plan.layers.values() for path, each in own.items() if path != REST)


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _plans(points: Sequence[Point], goal: Goal) -> Iterator[Html]:
    yield tag(
        "p",
        "Higher is better, and farther to the left is cheaper. Dashed: the floors. Dotted: FP32. Grey: plans that the "
        "search tried on its way.",
    )
    pictures = []
    for measure in plots.MEASURES:
        alt = f"PSNR of each plan against the {measure}, with the floors as lines"
        draw = lambda measure=measure: plots.pareto(points, measure, goal)  # noqa: E731
        pictures.append(tag("figure", frame.drawn(draw, alt=alt)))
    yield tag("div", *pictures, kind="grid")
    columns = ("plan", "PSNR, dB", "above the floor", "arithmetic", "MB", "ms on the CPU")
    rows = []
    for each in points:
        full = each.name == plots.FULL
        floor = goal.fp16_floor if "FP16" in each.name else goal.floor
        rows.append(
            (
                tag("span", each.name, " ", chip("use this", "good")) if each.name == PLAN else each.name,
                "reference" if full else f"{each.decibels:.1f}",
                "" if full else "yes" if each.decibels >= floor else "no",
                f"{100 * each.arithmetic:.1f} %",
                f"{each.size / 1e6:.2f}",
                f"{1e3 * each.seconds:.0f}",
            )
        )
    yield frame.table("Every plan that was measured", columns, rows, numbers=columns[1:])


def _layers(calibration: Calibration, found: Found, goal: Goal) -> Iterator[Html]:
    yield tag(
        "p",
        "Each dot is the final picture with this one layer in lower precision and all else in FP32. A dot near the "
        "floor is a layer that the plan has to raise; (rest) is all that is no convolution.",
    )
    pictures = []
    for network in calibration.layers:
        alt = f"PSNR of the picture with one layer of {network} alone in INT8 or FP16, layer by layer"
        draw = lambda network=network: plots.sensitivity(network, found.errors, goal)  # noqa: E731
        pictures.append(tag("figure", frame.drawn(draw, alt=alt)))
    yield tag("div", *pictures, kind="grid")


def _methods(found: Found) -> Html:
    names = list(dict.fromkeys(name for own in found.methods.values() for name in own if not name.endswith("bias")))
    columns = ("network", "taken", *(f"{name}, dB" for name in names), "the best, biases corrected, dB")
    rows = []
    for network, own in found.methods.items():
        corrected = next((f"{each:.1f}" for name, each in own.items() if name.endswith("bias")), "")
        rows.append((network, max(own, key=lambda name: own[name]), *(f"{own[name]:.1f}" for name in names), corrected))
    return frame.table("PSNR with all layers of a network in INT8", columns, rows, numbers=columns[2:])


def _tensors(statistics: Mapping[str, Statistics]) -> Iterator[Html]:
    yield tag("p", "Left to right is the order of the graph. Below: the tensors with the largest values.")
    pictures, tables = [], []
    for network, each in statistics.items():
        for plot, said in ((plots.ranges, "Magnitudes"), (plots.histograms, "Share of the values by octave")):
            draw = lambda plot=plot, network=network, each=each: plot(network, each)  # noqa: E731
            pictures.append(tag("figure", frame.drawn(draw, alt=f"{said} of each tensor of {network}")))
        caption = f"The {TOP} tensors of {network} with the largest values, a row a level"
        table = frame.table(caption, HELD, _widest(each), numbers=HELD[3:])
        tables.append(frame.details(f"Largest values of {network}", table))
    yield tag("div", *pictures, kind="grid")
    yield from tables


def _widest(statistics: Statistics) -> list[tuple[str, ...]]:
    """As `HELD` says."""
    widest = sorted(statistics.tensors.values(), key=lambda held: -held.all_levels.largest)[:TOP]
    return [
        (
            held.tensor,
            held.operation,
            str(level),
            f"{each.low:.4g}",
            f"{each.high:.4g}",
            f"{each.percentile(99.9):.4g}",
            f"{100 * each.above / max(1, each.values):.2g} %",
            f"{100 * each.subnormal:.2g} %",
            f"{each.spread:.1f}",
        )
        for held in widest
        for level, each in sorted(held.levels.items())
    ]
