"""The page of plots: what tensors hold, what each layer costs the picture, and the plans beside each other."""

import html
import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens.calibration.calibrate import Calibration, Found
from deeplens.calibration.histogram import FP16_LARGEST, FP16_NORMAL
from deeplens.calibration.pareto import Point
from deeplens.calibration.quality import decibels
from deeplens.calibration.statistics import Statistics, magnitudes
from deeplens.console.errors import MissingError
from deeplens.console.files import replacing
from deeplens.console.package import pip_install

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOP = 12
"""As many tensors are listed of each network."""

HEAD = """<!doctype html><meta charset=utf-8><title>Calibration</title>
<style>body{font:14px sans-serif;max-width:1200px;margin:2em auto}img{max-width:100%}
td,th{padding:2px 10px;text-align:right}</style>
"""

COLOURS = {"int8": "#c0392b", "fp16": "#2471a3"}


def write(
    path: Path,
    calibration: Calibration,
    statistics: Mapping[str, Statistics],
    found: Found,
    plans: Sequence[Point],
) -> None:
    """Write the page, one HTML file with its pictures in it.

    Raises:
        MissingError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingError(
            f"the page of plots needs a library that is not installed ({error}): {pip_install('train')}"
        ) from error
    parts = [f"<h1>Calibration of {html.escape(calibration.variant)}</h1>"]
    source = calibration.source
    parts.append(
        f"<p>{source.count} photos ({source.photos[:12]}…), weights "
        + ", ".join(f"{network} {sha256[:12]}…" for network, sha256 in source.weights.items())
        + "</p>"
    )
    parts += [
        "<h2>Plans</h2>",
        _picture(pareto(plans)),
        _table(
            ("plan", "dB", "arithmetic", "MB", "ms on the CPU"),
            [
                (p.name, f"{p.decibels:.1f}", f"{p.arithmetic:.3f}", f"{p.size / 1e6:.2f}", f"{1e3 * p.seconds:.0f}")
                for p in plans
            ],
        ),
    ]
    parts += ["<h2>What one layer alone costs the final picture</h2>", _picture(sensitivities(calibration, found))]
    parts.append("<h2>What the tensors hold</h2>")
    for network, each in statistics.items():
        parts += [f"<h3>{network}</h3>", _picture(ranges(each)), _picture(histograms(each))]
        parts.append(
            _table(
                ("tensor", "operation", "level", "low", "high", "99.9 %", "over FP16", "subnormal", "channel spread"),
                _widest(each),
            )
        )
    text = HEAD + "\n".join(parts) + "\n"
    with replacing(path) as file:
        file.write(text.encode())


def pareto(plans: Sequence[Point]) -> "Figure":
    """PSNR against size, arithmetic and time of each plan."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    labels = ("three graphs, MB", "arithmetic, FP32 = 1", "1024 px photo on the CPU, ms")
    lossy = [point for point in plans if point.name != "all FP32"]
    full = next(point for point in plans if point.name == "all FP32")
    for axis, label, value in zip(axes, labels, (_megabytes, _arithmetic, _milliseconds), strict=True):
        for point in lossy:
            named = not point.name.endswith("raised")
            axis.plot(value(point), point.decibels, "o" if named else ".", color="#c0392b" if named else "#999999")
            if named:
                axis.annotate(
                    point.name, (value(point), point.decibels), xytext=(4, 4), textcoords="offset points", fontsize=8
                )
        axis.axvline(value(full), color="black", linewidth=0.8, linestyle=":")
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("PSNR of the picture against FP32, dB (dotted: FP32)")
    return figure


def _megabytes(point: Point) -> float:
    return point.size / 1e6


def _arithmetic(point: Point) -> float:
    return point.arithmetic


def _milliseconds(point: Point) -> float:
    return 1e3 * point.seconds


def sensitivities(calibration: Calibration, found: Found) -> "Figure":
    """PSNR of the picture with one layer in INT8, or FP16, by layer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 10), layout="constrained")
    axes = figure.subplots(len(calibration.layers), 1, squeeze=False)[:, 0]
    for axis, network in zip(axes, calibration.layers, strict=True):
        paths = list(dict.fromkeys(path for own, path, _ in found.errors if own == network))
        for precision, colour in COLOURS.items():
            there = [
                (place, found.errors[network, path, precision])
                for place, path in enumerate(paths)
                if (network, path, precision) in found.errors
            ]
            axis.plot(
                [place for place, _ in there], [decibels(each) for _, each in there], ".", color=colour, label=precision
            )
        axis.set_xticks(range(len(paths)), paths, rotation=90, fontsize=6)
        axis.set_ylabel(f"{network}, dB")
        axis.grid(alpha=0.3)
        axis.legend(loc="lower right")
    return figure


def ranges(statistics: Statistics) -> "Figure":
    """Magnitudes of each tensor, in the order of the graph, with FP16's range."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3), layout="constrained")
    axis = figure.subplots()
    for row, label in zip(magnitudes(statistics), ("largest", "99.99 %", "99 %", "50 %"), strict=True):
        axis.semilogy(np.where(row > 0, row, np.nan), ".", markersize=3, label=label)
    axis.axhspan(FP16_LARGEST, 1e7, color="#c0392b", alpha=0.2)
    axis.axhspan(1e-7, FP16_NORMAL, color="#2471a3", alpha=0.2)
    axis.set_ylim(1e-6, 1e6)
    axis.set_xlabel("tensor, in the order of the graph (red: beyond FP16, blue: subnormal there)")
    axis.legend(ncols=4)
    return figure


def histograms(statistics: Statistics) -> "Figure":
    """Share of the values of each tensor by octave of |x|, all levels together."""
    from matplotlib.figure import Figure

    columns = []
    for held in statistics.tensors.values():
        merged = held.all_levels
        octaves = merged.counts.reshape(-1, 128).sum(1)[127 - 24 : 127 + 17].astype(float)
        columns.append(octaves / max(1, merged.values))
    figure = Figure(figsize=(12, 3), layout="constrained")
    axis = figure.subplots()
    shares = np.array(columns).T
    image = axis.imshow(
        np.log10(np.maximum(shares, 1e-7)), aspect="auto", origin="lower", extent=(0, len(columns), -24, 17)
    )
    figure.colorbar(image, label="log10 of the share")
    axis.set_xlabel("tensor, in the order of the graph")
    axis.set_ylabel("log2 |x|")
    return figure


def _widest(statistics: Statistics) -> list[tuple[str, ...]]:
    """The tensors with the largest values, a row a level."""
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


def _picture(figure: "Figure") -> str:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110)
    return f'<img src="data:image/png;base64,{b64encode(data.getvalue()).decode()}">'


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{html.escape(each)}</th>" for each in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(each))}</td>" for each in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
