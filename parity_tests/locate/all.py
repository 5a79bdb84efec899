"""Locating for a whole report: for each network of each runtime that failed, and for the loop; or for all of them."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deeplens.console.errors import DeepLensError, MismatchError
from deeplens.model.contract import CONTRACTS, NETWORKS, VARIANTS, part_of
from deeplens.parity_tests.candidates import FORM_ROWS, REFERENCE, Candidate
from deeplens.parity_tests.cases import LoopCase, made_depth, plausible_inputs, whole_photos
from deeplens.parity_tests.compare import stale
from deeplens.parity_tests.locate.found import Verdict
from deeplens.parity_tests.locate.loop import CLOSE, judge_loop
from deeplens.parity_tests.locate.reference import Reference
from deeplens.parity_tests.outputs import DEPTH_MAP, EIGHT_BIT
from deeplens.parity_tests.produce import torch_opener
from deeplens.parity_tests.report import Located, Report
from deeplens.runtimes import folders, manifest
from deeplens.runtimes.artefact import load as load_artefact

if TYPE_CHECKING:
    from deeplens.parity_tests.compare import Row
    from deeplens.parity_tests.request import Request
    from deeplens.runtimes.manifest import Entry

OPEN = (REFERENCE, "onnx", "coreml")
"""Runtimes whose operations can be run one by one; the others take the graph of "onnx"."""


def locate_all(request: "Request", report: Report, *, everything: bool) -> Report:
    """The report with what locating found.

    Args:
        everything: also where nothing failed.
    """
    found: list[Located] = []
    references: dict[tuple[str, str, tuple[int, int] | None, str], Reference] = {}
    for variant in request.variants:
        for candidate in request.candidates():
            rows = [row for row in report.rows if (row.variant, row.runtime) == (variant, candidate.label)]
            networks = [
                name for name in NETWORKS if (everything and any(row.measured for row in rows)) or _failed(rows, name)
            ]
            for network in networks:
                request.report(f"{variant} {network}: locating in {candidate.label}")
                where = f"{variant} {network}, {candidate.label}"
                if candidate.runtime not in OPEN:
                    found.append(Located(where, None, None, "can't be looked into: see what is said of the same graph"))
                    continue
                try:
                    verdict = _verdict(request, report, variant, candidate, network, references)
                except DeepLensError as error:
                    found.append(Located(where, None, None, f"can't be looked into: {error}"))
                    continue
                departure = verdict.departure
                said = str(verdict)
                if departure is None and _failed(rows, network):
                    said += f": {_besides(rows, candidate, network)}"
                operation, module = (departure.operation, departure.module) if departure else (None, None)
                found.append(Located(where, operation, module, said))
            loops = [row for row in rows if row.input == "loop"]
            wrong = [row for row in loops if row.status == "failed"]
            if everything and not wrong and candidate.mode != "fp16_pure":  # that one takes minutes more
                wrong = [row for row in loops if row.measured is not None]
            if wrong:
                found.append(_loop(request, variant, candidate, rows, min(wrong, key=lambda row: row.size)))
    return replace(report, located=tuple(found))


def _loop(request: "Request", variant: str, candidate: Candidate, rows: "list[Row]", chosen: "Row") -> Located:
    """Where the smallest loop that failed departs first: in the harness, or in which network."""
    where = f"{variant} loop {chosen.graph} {chosen.size[0]}×{chosen.size[1]}, {candidate.label}"
    pixels = request.pixels()
    if pixels is None:
        return Located(where, None, None, "can't be followed: needs the photo, run here with --photo FILE")
    request.report(f"{variant} loop: locating in {candidate.label}")
    own = [row for row in rows if row.input == "loop" and (row.graph, row.size) == (chosen.graph, chosen.size)]
    given = None if any(row.what == DEPTH_MAP for row in own) else made_depth()
    coverage = request.coverage_for(variant)
    fixed_size = coverage.fixed_size
    cases = whole_photos(coverage, pixels, given=given)
    case = next(each for each in cases if (each.graph, each.size) == (chosen.graph, chosen.size))
    assert isinstance(case, LoopCase)
    limits = [row.gate.absolute for row in own if row.measured is not None and row.what != EIGHT_BIT]
    close = max([CLOSE, *(each for each in limits if math.isfinite(each))])
    ours = candidate.opener(variant, artifacts=request.artifacts, weights=request.weights, fixed_size=fixed_size)
    due = torch_opener(variant, weights=request.weights, fixed_size=fixed_size)
    try:
        with ours(case.graph) as runtime, due(case.graph) as reference:
            named, said = judge_loop(runtime, reference, case, close=close)
    except DeepLensError as error:
        return Located(where, None, None, f"can't be followed: {error}")
    return Located(where, named, None, said)


def _besides(rows: "list[Row]", candidate: Candidate, network: str) -> str:
    """What is left where a row failed and no operation departs. Of ONNX graphs the one with free sizes was judged."""
    wrong = {row.graph for row in rows if row.status == "failed" and _failed([row], network)}
    if wrong == {"fixed"} and candidate.runtime in ("onnx", *FORM_ROWS) and CONTRACTS[network].fixed_size is None:
        return "this is the graph with free sizes, and only that of the fixed shape fails: export it again"
    return "it is what surrounds the graph, or rounding that only the loop makes large"


def _fitting(report: Report, entry: "Entry", due: dict[str, str]) -> "Entry":
    """The same; MismatchError if it is not what the rows were made with, or of other weights than `due`: PyTorch's."""
    ran = report.artifacts.get(entry.path, entry.sha256)
    if ran != entry.sha256:
        raise MismatchError(f"{entry.path} here is {entry.sha256[:12]}…, the rows come from {ran[:12]}…")
    other = stale({entry.network: entry.weights_sha256}, due)
    if other is not None:
        raise MismatchError(other)
    return entry


def _failed(rows: "list[Row]", network: str) -> bool:
    """Whether a row of the network failed, alone or at its place in the loop."""
    stage = {"depth": (DEPTH_MAP,), "lens_blur": ("level 0", "all levels")}.get(network)
    wrong = [row.what for row in rows if row.status == "failed"]
    if network in wrong or (stage is not None and set(stage) & set(wrong)):
        return True
    return network == "upsample" and any(what.startswith("level ") and what != "level 0" for what in wrong)


def _verdict(
    request: "Request",
    report: Report,
    variant: str,
    candidate: Candidate,
    network: str,
    references: dict[tuple[str, str, tuple[int, int] | None, str], Reference],
) -> Verdict:
    from deeplens.export.foreign_depth import foreign, network_module
    from deeplens.model import build

    coverage = request.coverage_for(variant)
    contract = coverage.contracts[network]
    coreml = candidate.runtime == "coreml"
    folder = folders.opened_folder(
        "coreml" if coreml else candidate.graphs,
        variant=variant,
        precision=candidate.stored,
        artifacts=request.artifacts,
    )
    traced = contract.fixed_size or (coverage.fixed_size if coreml else None)
    size = traced or coverage.dynamic_sizes[0]
    inputs = plausible_inputs(contract, size, np.random.default_rng(coverage.seed))
    precision = "fp32" if candidate.stored == "fp32" else "fp16"
    key = (variant, network, traced, precision)
    module = network_module(variant, network, request.weights)
    due = {network: build.weights_sha256(module)}
    if key not in references:  # it leaves the module in float64
        own = part_of(variant, network)
        # Names in an artefact are those of what its exporter traced.
        exported = module if own in VARIANTS else foreign(own).fixed
        references[key] = Reference.of(exported, contract, inputs, size=traced, precision=precision)
    reference = references[key]
    if candidate.runtime == REFERENCE:
        from deeplens.parity_tests.locate.capture import judge_module

        return judge_module(network_module(variant, network, request.weights), contract, inputs, reference, size=traced)
    if coreml:
        from deeplens.parity_tests.locate.program import judge_program
        from deeplens.runtimes.coreml.program import load

        entry = manifest.find(
            folder,
            network=network,
            variant=part_of(variant, network),
            runtime="coreml",
            precision=candidate.precision,
            shape=None if contract.fixed_size else coverage.fixed_size,
            more={"shapes": "fixed", "images": []},
        )
        mode = candidate.mode or ("float32" if precision == "fp32" else "fp16")
        package = manifest.verify(folder, _fitting(report, entry, due))
        return judge_program(load(package), inputs, reference, mode=mode)
    import onnx

    from deeplens.export.fp16_check import rounded
    from deeplens.parity_tests.locate.graph import judge_graph

    own = part_of(variant, network)
    entry = manifest.find(folder, network=network, variant=own, runtime=candidate.graphs, precision=candidate.stored)
    model = onnx.load_from_string(load_artefact(folder, _fitting(report, entry, due)))
    if candidate.stored == "fp16":
        model = rounded(model)
    return judge_graph(model, inputs, reference, precision=candidate.stored)
