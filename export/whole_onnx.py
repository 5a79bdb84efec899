"""The whole effect → ONNX: one file for each size of photo, in FP32, and in FP16 or INT8 beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens.console.errors import InputError, MismatchError, one_line
from deeplens.console.progress import progress_bar
from deeplens.export import fp16, planned, whole_int8
from deeplens.export.fp16_check import rounded, session
from deeplens.export.golden import agreement
from deeplens.export.onnx_check import check_structure, tensor_entries
from deeplens.export.onnx_forms import in_form
from deeplens.export.onnx_trace import OPSET, TOOLS, deduplicated, describe, simplified, traced
from deeplens.export.precision_plan import Plan
from deeplens.export.whole_capture import Captured, captured, file_name, reference, told
from deeplens.export.whole_check import check, made_inputs
from deeplens.export.whole_sizes import Wanted, memory_of
from deeplens.runtimes import manifest
from deeplens.runtimes.artefact import load as load_artefact
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.publish import publish, published

if TYPE_CHECKING:
    import onnx


PRECISIONS = ("fp32", "fp16", "int8")


def export(
    wanted: Wanted, *, out: Path, precisions: Sequence[str] = ("fp32",), plan: Plan | None = None
) -> list[manifest.Entry]:
    """Export one graph: always in FP32, from which the others are made.

    Args:
        out: the root of the artefacts; files go to `out`/onnx.
        precisions: of `PRECISIONS`.
        plan: what INT8 follows.

    Returns:
        the entries, FP32 first.

    Raises:
        InputError: a size that is too small or too large, an unknown precision.
        MissingError: a library or the weights are not there.
        MismatchError: the graph is not what the harness computes with PyTorch. Nothing is left behind.
    """
    for each in precisions:
        if each not in PRECISIONS:
            raise InputError(f"a graph of the whole effect is made in {', '.join(PRECISIONS)}, not in {each}")
    if "int8" in precisions and plan is None:
        raise InputError("precision 'int8' needs a precision plan: give one with --plan")
    made = captured(wanted, half=wanted.half)
    inputs = made_inputs(wanted.network, wanted.size)
    expected = reference(wanted, inputs)
    entries = [_single(wanted, made, inputs, expected, out=out)]
    for precision in precisions:
        if precision == "fp16":
            entries.append(_half(wanted, made, entries[0], inputs, expected, out=out))
        elif precision == "int8":
            assert plan is not None
            entries.append(_planned(wanted, made, entries[0], plan, inputs, expected, out=out))
    return entries


def _single(wanted: Wanted, made: Captured, inputs: Arrays, expected: np.ndarray, *, out: Path) -> manifest.Entry:
    import onnx

    tools = {tool: version(tool) for tool in TOOLS}
    with publish(out, f"onnx/{file_name(wanted)}.onnx") as artefact:
        model = deduplicated(in_form(simplified(traced(made.program, made.contract, wanted.size))))
        describe(
            model,
            {
                "network": wanted.network,
                "variant": wanted.variant,
                "weights_sha256": made.sha256,
                **{f"{part}_weights_sha256": sha256 for part, sha256 in made.hashes.items()},
                **tools,
                "contract": json.dumps(asdict(made.contract)),
            },
        )
        check_structure(model, made.contract, size=wanted.size)
        onnx.save(model, artefact.file)
        onnx.checker.check_model(artefact.file, full_check=True)
        decibels = check(_run(artefact.file), wanted.network, inputs, expected, precision="fp32")
        return artefact.describe(
            network=wanted.network,
            variant=wanted.variant,
            runtime="onnx",
            precision="fp32",
            weights_sha256=made.sha256,
            inputs=tensor_entries(model.graph.input),
            outputs=tensor_entries(model.graph.output),
            tools=tools,
            opset=OPSET,
            dynamic=False,
            more={"parts": dict(made.hashes), **memory_of(made.peaks["fp32"], "onnx"), "agreement_db": told(decibels)},
        )


def _half(
    wanted: Wanted, made: Captured, entry: manifest.Entry, inputs: Arrays, expected: np.ndarray, *, out: Path
) -> manifest.Entry:
    import onnx

    path = Path(entry.path).with_name(f"{file_name(wanted)}_fp16.onnx")
    there = published(out, path, made_from=entry.sha256)
    if there is not None:
        return there
    with publish(out, path) as artefact:
        model = fp16.convert(onnx.load_from_string(load_artefact(out, entry)))
        model.metadata_props.add(key="precision", value="fp16")
        decibels = check(_run(rounded(model)), wanted.network, inputs, expected, precision="fp16")
        onnx.save(model, artefact.file)
        needs = memory_of(made.peaks["fp16"], "onnx")
        return _made_from(artefact, entry, model, "fp16", agreement_db=told(decibels), **needs)


def _planned(
    wanted: Wanted,
    made: Captured,
    entry: manifest.Entry,
    plan: Plan,
    inputs: Arrays,
    expected: np.ndarray,
    *,
    out: Path,
) -> manifest.Entry:
    import onnx

    plan.source.check_weights(made.hashes, what=f"the precision plan of {plan.variant}")
    digests = {part: plan.digest(part) for part in made.hashes}
    path = Path(entry.path).with_name(f"{file_name(wanted)}_int8.onnx")
    there = published(out, path, made_from=entry.sha256, plan=digests)
    if there is not None:
        return there
    with publish(out, path) as artefact:
        model = whole_int8.in_int8(onnx.load_from_string(load_artefact(out, entry)), plan)
        model.metadata_props.add(key="precision", value="int8")
        twin = agreement(_run(model)(inputs), whole_int8.with_rounding(made.module, plan, inputs))
        if not 10 ** (-twin / 20) <= planned.TOLERANCE:
            raise MismatchError(
                f"{wanted.network}: the INT8 graph agrees with PyTorch with the plan's rounding to only {twin:.1f} dB"
            )
        decibels = check(_run(model), wanted.network, inputs, expected, precision="int8")
        onnx.save(model, artefact.file)
        return _made_from(artefact, entry, model, "int8", agreement_db=told(decibels), plan=digests)


def _made_from(
    artefact: Any, entry: manifest.Entry, model: "onnx.ModelProto", precision: str, **more: Any
) -> manifest.Entry:
    made: manifest.Entry = artefact.describe(
        entry,
        precision=precision,
        inputs=tensor_entries(model.graph.input),
        outputs=tensor_entries(model.graph.output),
        more={**entry.more, "made_from": entry.sha256, **more},
    )
    return made


def _run(graph: "Path | onnx.ModelProto") -> Any:
    """A function that runs a graph in ONNX Runtime: inputs → its output."""
    import onnx

    def run(inputs: Arrays) -> np.ndarray:
        try:
            opened = session(onnx.load(graph) if isinstance(graph, Path) else graph)
            (result,) = opened.run(None, inputs)
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            raise MismatchError(f"the exported graph doesn't run ({one_line(error)})") from error
        found: np.ndarray = result
        return found

    return run


def export_all(
    wanted: Sequence[Wanted], *, out: Path, precisions: Sequence[str], plans: Mapping[str, Plan]
) -> list[manifest.Entry]:
    """Export each graph; see `export`."""
    entries = []
    with progress_bar("Exporting the whole effect to ONNX") as progress:
        for each in progress.each(wanted, lambda one: f"{one.network} {one.size[1]}x{one.size[0]}"):
            entries += export(each, out=out, precisions=precisions, plan=plans.get(each.variant))
    return entries


def summary(out: Path, entry: manifest.Entry) -> str:
    """Size of the file, memory, agreement and hash, for a line of a report."""
    more, decibels = entry.more, entry.more["agreement_db"]
    size = folder_size(out / entry.path) / 1e6
    agreed = "exactly" if decibels is None else f"to {decibels} dB"
    return f"{size:.2f} MB, takes {more['memory_mib']} MiB, agrees {agreed}, sha256 {entry.sha256[:12]}…"


def folder_size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)
