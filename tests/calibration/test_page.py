"""What a calibration's page says was decided, and its plots: floors as lines, labels apart, all points inside."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.text import Text

from deeplens.calibration import page, plots
from deeplens.calibration.calibrate import Found, Goal
from deeplens.calibration.pareto import Point
from deeplens.calibration.search import Costs, Search
from deeplens.export.layers import REST
from deeplens.export.precision_plan import Choice, Plan, Source
from deeplens.runtimes.manifest import DEFAULT_FOLDER

GOAL = Goal(floor=52, fp16_floor=60)

POINTS = [
    Point("all FP32", 120.0, 1.0, 14_800_000, 0.8),
    Point("all INT8", 47.2, 0.261, 3_990_000, 0.58),
    Point("all FP16", 70.8, 0.5, 7_420_000, 0.70),
    Point("the plan", 53.3, 0.263, 4_080_000, 0.52),
    Point("FP16 with exceptions", 70.8, 0.5, 7_420_000, 0.75),
    *(Point(f"{raised} layers raised", 47 + raised / 4, 0.26 + raised / 500, 4_000_000 + 9000 * raised, 0.6)
      for raised in (5, 10, 20, 40, 80)),
]  # fmt: skip


def found(precisions: Mapping[str, str], exceptions: tuple[str, ...] = ()) -> Found:
    """A search of one network whose layers got `precisions`."""
    own = {path: Choice(each) for path, each in precisions.items()}
    plan = Plan(
        "edge", Source("p" * 64, 3, {}, {"depth": "a"}), {"depth": "mse"}, 52.0, 53.3,
        {"depth": own | {REST: Choice("fp16")}}, {"depth": exceptions},
    )  # fmt: skip
    errors = {("depth", path, kind): [1e-6, 2e-6] for path in precisions for kind in ("int8", "fp16")}
    search = Search(("int8", "fp16", "fp32"), [])
    return Found(plan, Costs({}, {}), errors, {}, {}, search, search, {"FP16 with exceptions": ({}, 61.0)})


class TestDecision:
    def test_it_says_what_was_decided(self) -> None:
        made = found({"stem": "int8", "a": "int8", "b": "fp16", "c": "fp32"})
        assert page.decision(made, POINTS, GOAL) == (
            "Decided: of 4 layers, 2 in INT8, 1 in FP16 and 1 in FP32. The picture keeps 53.3 dB against FP32 on the "
            "worst of 2 photos that judged; the floor was 52 dB. The three graphs take 4.08 MB instead of 14.80 MB, "
            "and their multiplications cost 26 % of FP32's."
        )
        assert "no layer becomes INT8, since 52 dB" in page.decision(found({"stem": "fp16"}), POINTS, GOAL)

    def test_it_says_what_fp16_needs(self) -> None:
        assert "FP16 needs no exception" in page.half(found({"stem": "int8"}), GOAL)
        told = page.half(found({"stem": "int8"}, exceptions=("stem", "b")), GOAL)
        assert told == "FP16 keeps its floor of 60 dB if 2 layers stay FP32 (61.0 dB then): depth stem, depth b."

    def test_its_commands_are_commands(self) -> None:
        import typer

        from deeplens.app import app

        lines = [line for _, line in page.commands("edge", Path("p.json"), DEFAULT_FOLDER, int8=True)]
        assert lines[0] == "deeplens export onnx --precision int8 --plan p.json"
        lines += [line for _, line in page.commands("paper", Path("p.json"), Path("art"), int8=True)]
        lines += [line for _, line in page.commands("paper", Path("p.json"), Path("art"), int8=False)]
        assert lines[-1] == "deeplens export onnx --precision fp16 --variant paper --out art"
        for line in lines:
            _, group, name, *arguments = line.split()
            command = typer.main.get_command(app).commands[group].commands[name]  # type: ignore[attr-defined]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {each for each in arguments if each.startswith("--")} <= known


def boxes(figure: Figure, artists: list[Artist]) -> None:
    """All inside the figure, and no two on top of each other."""
    extents = [(each, Text.get_window_extent(each) if isinstance(each, Text) else each.get_window_extent())
               for each in artists]  # fmt: skip
    for each, box in extents:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, each
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, each
    for (one, first), (other, second) in combinations(extents, 2):
        assert not first.overlaps(second), (one, other)


@pytest.mark.parametrize("measure", list(plots.MEASURES))
def test_plans_beside_each_other(measure: str) -> None:
    crowded = [*POINTS, Point("near", 53.5, 0.264, 4_090_000, 0.521), Point("nearer", 53.4, 0.2635, 4_085_000, 0.5205)]
    figure = plots.pareto(crowded, measure, GOAL)
    figure.draw_without_rendering()
    (axis,) = figure.axes
    assert len(axis.texts) == 2 + len(plots.merged(crowded, plots.MEASURES[measure]))
    boxes(figure, [*axis.texts, axis.xaxis.label, axis.yaxis.label])
    ink = {tuple(line.get_ydata()) for line in axis.lines if line.get_linestyle() == "--"}  # type: ignore[arg-type]
    assert ink == {(52, 52), (60, 60)}
    assert {text.get_text() for text in axis.texts} >= {"floor: 52 dB", "floor of FP16: 60 dB", "the plan"}
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    for point in crowded:
        assert left < plots.MEASURES[measure](point) < right
        assert point.name == plots.FULL or low < point.decibels < high


def test_plans_at_one_place_share_a_label() -> None:
    assert plots.merged(POINTS, plots.MEASURES["arithmetic, FP32 = 1"])[0.5, 70.8] == "all FP16 = FP16 with exceptions"
    assert (0.7, 70.8) in plots.merged(POINTS, lambda point: point.seconds)


def test_layers_have_their_names_apart_and_the_floor_as_a_line() -> None:
    errors = {
        ("depth", f"encoder.stages.{layer}.conv", kind): [error]
        for layer in range(60)
        for kind, error in (("int8", 10 ** (-4 - layer / 10)), ("fp16", 0.0))
    }
    figure = plots.sensitivity("depth", errors, GOAL)
    figure.draw_without_rendering()
    (axis,) = figure.axes
    left, right = axis.get_xlim()
    shown = [label for at, label in zip(axis.get_xticks(), axis.get_xticklabels(), strict=True) if left <= at <= right]
    boxes(figure, [*axis.get_yticklabels(), *shown, axis.xaxis.label, *figure.legends])
    assert len(axis.get_yticklabels()) == 60
    (floor,) = [line for line in axis.lines if line.get_linestyle() == "--"]
    assert set(floor.get_xdata()) == {52}  # type: ignore[arg-type]
    low, high = sorted(axis.get_ylim())
    for line in axis.lines[:2]:
        for x, y in line.get_xydata().tolist():  # type: ignore[union-attr]
            assert left < x < right
            assert low < y < high
