"""Locating for a whole report: for each network of each runtime that failed, or for all of them."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from export import manifest
from model.contract import CONTRACTS, NETWORKS
from model.errors import DeepLensError
from parity_tests.candidates import REFERENCE, Candidate
from parity_tests.cases import plausible_inputs
from parity_tests.locate.found import Verdict
from parity_tests.locate.reference import Reference
from parity_tests.outputs import DEPTH_MAP
from parity_tests.report import Located, Report

if TYPE_CHECKING:
    from parity_tests.compare import Row
    from parity_tests.run import Request

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
                    verdict = _verdict(request, variant, candidate, network, references)
                except DeepLensError as error:
                    found.append(Located(where, None, None, f"can't be looked into: {error}"))
                    continue
                departure = verdict.departure
                said = str(verdict)
                if departure is None and _failed(rows, network):
                    said += ": it is what surrounds the graph, or rounding that only the loop makes large"
                operation, module = (departure.operation, departure.module) if departure else (None, None)
                found.append(Located(where, operation, module, said))
    return replace(report, located=tuple(found))


def _failed(rows: "list[Row]", network: str) -> bool:
    """Whether a row of the network failed, alone or at its place in the loop."""
    stage = {"depth": (DEPTH_MAP,), "lens_blur": ("level 0", "all levels")}.get(network)
    wrong = [row.what for row in rows if row.status == "failed"]
    if network in wrong or (stage is not None and set(stage) & set(wrong)):
        return True
    return network == "upsample" and any(what.startswith("level ") and what != "level 0" for what in wrong)


def _verdict(
    request: "Request",
    variant: str,
    candidate: Candidate,
    network: str,
    references: dict[tuple[str, str, tuple[int, int] | None, str], Reference],
) -> Verdict:
    from model import build

    contract = CONTRACTS[network]
    plan = request.plan_for(variant)
    folder = request.artifacts or manifest.DEFAULT_FOLDER
    coreml = candidate.runtime == "coreml"
    traced = contract.fixed_size or (plan.fixed_size if coreml else None)
    size = traced or plan.dynamic_sizes[0]
    inputs = plausible_inputs(contract, size, np.random.default_rng(plan.seed))
    precision = "fp32" if candidate.precision == "fp32" else "fp16"
    key = (variant, network, traced, precision)
    if key not in references:
        module = build.load(variant, network, request.weights)
        references[key] = Reference.of(module, contract, inputs, size=traced, precision=precision)
    reference = references[key]
    if candidate.runtime == REFERENCE:
        from parity_tests.locate.capture import judge_module

        module = build.load(variant, network, request.weights)
        return judge_module(module, contract, inputs, reference, size=traced)
    if coreml:
        from parity_tests.locate.program import judge_program
        from runtimes.coreml.program import load

        entry = manifest.find(
            folder,
            network=network,
            variant=variant,
            runtime="coreml",
            precision=candidate.precision,
            shape=None if contract.fixed_size else plan.fixed_size,
            more={"shapes": "fixed", "images": []},
        )
        mode = candidate.mode or ("float32" if precision == "fp32" else "fp16")
        return judge_program(load(manifest.verify(folder, entry)), inputs, reference, mode=mode)
    import onnx

    from export.fp16_check import rounded
    from parity_tests.locate.graph import judge_graph

    entry = manifest.find(folder, network=network, variant=variant, runtime="onnx", precision=candidate.precision)
    model = onnx.load(manifest.verify(folder, entry))
    verdict = judge_graph(
        rounded(model) if candidate.precision == "fp16" else model, inputs, reference, precision=candidate.precision
    )
    return verdict
