"""Where faults are planted: sound artefacts of the step, made once, and the checks that have to catch what is done to
them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deeplens.console.files import file_sha256
from deeplens.model.contract import CONTRACTS, NETWORKS
from deeplens.parity_tests.cases import Case, LoopCase, NetworkCase, plausible_inputs
from deeplens.parity_tests.compare import compare
from deeplens.parity_tests.locate import Reference, Verdict
from deeplens.parity_tests.locate.loop import Around, judge_loop
from deeplens.parity_tests.outputs import Outputs
from deeplens.parity_tests.produce import Opener, artefact_opener, produce, torch_opener
from deeplens.runtimes import manifest
from deeplens.runtimes.artefact import load as load_artefact
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.manifest import Entry

if TYPE_CHECKING:
    import onnx
    import torch

    from deeplens.model.shipped import Weights

SIZE = (48, 72)
"""Low-resolution size at which graphs of free sizes run."""

FIXED = (64, 64)
"""Of the packages."""

STEP = CONTRACTS["upsample"]


@dataclass(frozen=True)
class Found:
    """What the checks make of a fault.

    Attributes:
        caught: status and row of the first check that fails; None where all pass.
        named: what locating names: the path of a module, "harness: …", or the network of an artefact.
        said: the same, for people.
    """

    caught: str | None
    named: str | None
    said: str


class Bench:
    """Sound artefacts under one set of weights.

    Args:
        folder: an empty one.
        weights: as in `model.build.load`; None: lively ones.
    """

    def __init__(self, folder: Path, weights: "Weights | None" = None) -> None:
        self.folder = folder
        self.weights: Weights = self._lively() if weights is None else weights
        self._references: dict[tuple[str, tuple[int, int] | None, str], Reference] = {}
        self._sides: dict[str, tuple[Outputs, Outputs]] = {}

    def _lively(self) -> Path:
        from safetensors.torch import save_file

        from deeplens.parity_tests.lively import lively

        folder = self.folder / "weights"
        folder.mkdir(parents=True)
        for variant, networks in (("edge", NETWORKS), ("paper", ("upsample",))):
            for network in networks:
                save_file(lively(variant, network).state_dict(), folder / f"{variant}_{network}.safetensors")
        return folder

    def module(self, variant: str = "edge") -> "torch.nn.Module":
        """The step in PyTorch, to be altered."""
        from deeplens.model import build

        return build.load(variant, "upsample", self.weights)

    @cached_property
    def graph(self) -> Entry:
        """The step's ONNX graph of free sizes."""
        from deeplens.export.onnx_graph import export_module

        return export_module(self.module(), variant="edge", network="upsample", out=self.folder / "onnx")

    @cached_property
    def package(self) -> Entry:
        """The step's FP32 package of one size."""
        from deeplens.export.coreml import export_module
        from deeplens.export.coreml_recipe import Recipe

        recipe = Recipe(precision="fp32", sizes=(FIXED,))
        out = self.folder / "coreml"
        return export_module(self.module(), recipe, variant="edge", network="upsample", out=out, weights="faults")

    def case(self, fixed: bool = False) -> NetworkCase:
        """Random inputs of the step."""
        size = FIXED if fixed else SIZE
        inputs = plausible_inputs(STEP, size, np.random.default_rng(0))
        return NetworkCase("upsample", "random", "fixed" if fixed else "dynamic", size, inputs)

    def reference(
        self,
        module: "torch.nn.Module",
        variant: str = "edge",
        *,
        fixed: bool = False,
        precision: str = "fp32",
        kept: bool = True,
    ) -> Reference:
        """Of a sound module; made once unless `kept` is False."""
        size = FIXED if fixed else None
        key = (variant, size, precision)
        if kept and key in self._references:
            return self._references[key]
        made = Reference.of(module, STEP, self.case(fixed).inputs, size=size, precision=precision)
        if kept:
            self._references[key] = made
        return made

    def judged(
        self, opener: Opener, case: Case, *, variant: str = "edge", precision: str = "fp32", claim: bool = True
    ) -> str | None:
        """What of the checks' rows fails first, by the gates of the table.

        Args:
            claim: the artefact says that it comes from the reference's weights.
        """
        outputs = produce(opener, [case])
        key = f"{variant} {case.name}"
        if key not in self._sides:
            reference, judge = (
                produce(torch_opener(variant, weights=self.weights, fixed_size=FIXED, dtype=dtype), [case])
                for dtype in ("float32", "float64")
            )
            self._sides[key] = reference, judge
        reference, judge = self._sides[key]
        return first_failure(variant, case, outputs, reference, judge, precision, claim=claim)

    def altered_graph(self, name: str, change: "Callable[[onnx.ModelProto], None]") -> "tuple[Path, onnx.ModelProto]":
        """A folder with a copy of the step's graph that is changed, and what it holds now."""
        import onnx

        model = onnx.load_from_string(load_artefact(self.folder / "onnx", self.graph))
        change(model)
        out = self.folder / name
        path = out / self.graph.path
        path.parent.mkdir(parents=True)
        onnx.save(model, path)
        manifest.add(out, replace(self.graph, sha256=file_sha256(path)))
        return out, model

    def opener(self, folder: Path, precision: str = "fp32", variant: str = "edge") -> Opener:
        """ONNX Runtime on the artefacts in a folder."""
        return artefact_opener("onnx", variant, artifacts=folder, fixed_size=FIXED, precision=precision)

    def loop(self, around: Around) -> Found:
        """PyTorch in another harness, on a small photo of one step."""
        rows, columns = np.mgrid[0:72, 0:330]
        pixels = np.stack((rows * 3 % 256, columns % 256, (rows + columns) % 251), axis=2).astype(np.uint8)
        case = LoopCase(pixels, "dynamic", (0.5, 0.5), 1.0)
        opener = torch_opener("edge", weights=self.weights, fixed_size=FIXED)
        reference = produce(opener, [case])
        outputs = produce(opener, [case], around=around)
        caught = first_failure("edge", case, outputs, reference, reference, "fp32")
        with opener("dynamic") as ours, opener("dynamic") as due:
            named, said = judge_loop(ours, due, case, around=around)
        return Found(caught, named, said)


def first_failure(
    variant: str,
    case: Case,
    outputs: Outputs,
    reference: Outputs,
    judge: Outputs,
    precision: str,
    *,
    claim: bool = True,
) -> str | None:
    """Status, row and reason of the first row that is not passed."""
    if claim and case.name in outputs.weights:
        outputs.weights[case.name] = reference.weights[case.name]
    rows = compare(variant, "faulty", [case], candidate=outputs, reference=reference, judge=judge, precision=precision)
    for row in rows:
        if row.status in ("failed", "stale"):
            off = f", off by {row.measured.max_abs:.2g}, allowed {row.gate.absolute:.2g}" if row.measured else ""
            return f"{row.status}: {row.what}{off}"
    return None


def named(caught: str | None, verdict: Verdict) -> Found:
    """Of a verdict on a network."""
    departure = verdict.departure
    return Found(caught, None if departure is None else departure.module, str(verdict))


def executed(bench: Bench, run: Callable[[Arrays], Arrays], case: NetworkCase) -> str | None:
    """What fails of a program's own output."""
    outputs = Outputs({case.name: run(case.inputs)[STEP.outputs[0].name]})
    due = produce(torch_opener("edge", weights=bench.weights, fixed_size=FIXED), [case])
    judge = produce(torch_opener("edge", weights=bench.weights, fixed_size=FIXED, dtype="float64"), [case])
    outputs.weights[case.name] = due.weights[case.name]
    return first_failure("edge", case, outputs, due, judge, "fp32")
