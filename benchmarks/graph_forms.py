"""What a form of an ONNX graph gains, and each of its passes: the graphs with and without it, in turns.

    python -m deeplens.benchmarks.graph_forms [--form cpu] [--variant edge] [--network lens_blur] [--threads 1]

runs them in ONNX Runtime on the CPU, in one process. `export.onnx_forms` says what the passes are.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from deeplens.benchmarks.statistics import Ratio, paired_ratio
from deeplens.benchmarks.worker import random_inputs
from deeplens.console.errors import MismatchError
from deeplens.console.parsing import parse_size
from deeplens.console.report import console_for, table, write_json
from deeplens.console.script import run_script
from deeplens.export.chosen import check_choice, checked_shape, chosen_networks
from deeplens.export.onnx_forms import Pass, checked_form
from deeplens.export.onnx_graph import traced_module
from deeplens.model.contract import CONTRACTS, VARIANTS
from deeplens.runtimes.onnx_form import CPU
from deeplens.runtimes.options import Networks

if TYPE_CHECKING:
    import onnx

BARE = "as exported"
"""The graph that no pass was applied to."""
WHOLE = "the form"
"""The graph that all passes were applied to."""
MOST = 1e-4
"""The largest difference between two graphs of a network: they compute the same, and only sums are rounded."""


@dataclass(frozen=True)
class Row:
    """One graph.

    Attributes:
        network: as in `model.contract`.
        graph: `BARE`, `WHOLE`, or what was left out of the form.
        seconds: the median of its runs.
        gain: the form's seconds over this graph's, by the median over rounds. Below 1: the form is faster.
        difference: the largest one of the outputs from `BARE`'s.
    """

    network: str
    graph: str
    seconds: float
    gain: Ratio
    difference: float


def without(passes: tuple[Pass, ...]) -> Iterator[tuple[str, tuple[Pass, ...]]]:
    """What is left out, in words, and the passes that are left; of passes by rules, one rule after the other."""
    for place, each in enumerate(passes):
        before, after = passes[:place], passes[place + 1 :]
        if not isinstance(each, partial):
            yield f"without {each.__name__}", (*before, *after)
            continue
        rules = each.keywords.get("rules")
        if rules is None:
            yield f"without {each.func.__name__}", (*before, *after)
            continue
        for kind in rules:
            left = {key: value for key, value in rules.items() if key != kind}
            yield f"without the rule for {kind}", (*before, partial(each.func, rules=left), *after)


def measure(
    graph: "onnx.ModelProto", form: str, network: str, size: tuple[int, int], *, threads: int, rounds: int
) -> list[Row]:
    """Time one network's graphs in turns; what changes nothing in this network has no row.

    Args:
        graph: as exported, without a form.
        form: one of `export.onnx_forms.FORMS`.
        network: as in `model.contract`; says which inputs there are.
        size: low-resolution (height, width).
        threads: for an operation.
        rounds: runs of each graph; one more before them is not counted.

    Raises:
        InputError: there is no such form.
        MismatchError: two graphs differ by more than `MOST`.
    """
    import onnxruntime

    from deeplens.runtimes.ort_session import session_options

    passes = checked_form(form).passes
    graphs: dict[str, bytes] = {}
    for name, chosen in ((BARE, ()), (WHOLE, passes), *without(passes)):
        made = graph
        for each in chosen:
            made = each(made)
        written = made.SerializeToString()
        if name in (BARE, WHOLE) or written != graphs[WHOLE]:
            graphs[name] = written
    options = session_options(onnxruntime, threads=threads)
    sessions = {
        name: onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
        for name, written in graphs.items()
    }
    inputs = random_inputs(network, size)
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    wanted, differences = None, {}
    for _ in range(rounds + 1):
        for name, session in sessions.items():
            begin = time.perf_counter()
            (output,) = session.run(None, inputs)
            seconds[name].append(time.perf_counter() - begin)
            wanted = output if wanted is None else wanted
            differences[name] = float(np.abs(output - wanted).max())
    worst = max(differences, key=differences.__getitem__)
    if not differences[worst] <= MOST:
        raise MismatchError(f"{network}, {worst}: the outputs differ from '{BARE}' by {differences[worst]:.2g}")
    return [
        Row(
            network,
            name,
            float(np.median(times[1:])),
            paired_ratio(seconds[WHOLE][1:], times[1:]),
            differences[name],
        )
        for name, times in seconds.items()
    ]


def main(
    form: Annotated[str, typer.Option(metavar="FORM", help="Form of the graphs (docs/architecture.md).")] = CPU,
    variant: Annotated[str, typer.Option(metavar="VARIANT", help="Which networks: edge or paper.")] = "edge",
    networks: Networks = None,
    size: Annotated[
        str, typer.Option(metavar="WxH", help="Low-resolution size of lens blur and step; depth has one of its own.")
    ] = "256x192",
    threads: Annotated[int, typer.Option(min=1, help="Threads for an operation.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each graph.")] = 40,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON.")] = None,
) -> None:
    """Measure what a form of an ONNX graph gains, and each of its passes."""
    checked_form(form)
    check_choice("variant", variant, VARIANTS)
    console = console_for(json)
    chosen = chosen_networks([variant], networks, "shipped", report=console.print)[variant]
    width, height = parse_size(size)
    from deeplens.model import build

    rows: list[Row] = []
    for network in chosen:
        contract = CONTRACTS[network]
        fixed = contract.fixed_size
        shape = fixed or checked_shape(contract, (height, width))
        graph = traced_module(build.load(variant, network), contract, fixed)
        rows += measure(graph, form, network, shape, threads=threads, rounds=rounds)
    console.print(
        table(
            f"Form {form} of {variant} on {threads} thread{'s' * (threads > 1)}",
            ("network", "graph", "ms", "form / this", "from", "to", "differs by"),
            [
                (
                    each.network,
                    each.graph,
                    f"{each.seconds * 1e3:.1f}",
                    f"{each.gain.ratio:.2f}",
                    f"{each.gain.low:.2f}",
                    f"{each.gain.high:.2f}",
                    f"{each.difference:.1e}",
                )
                for each in rows
            ],
        )
    )
    write_json(json, {"graphs": [asdict(each) for each in rows]})


if __name__ == "__main__":
    run_script(main)
