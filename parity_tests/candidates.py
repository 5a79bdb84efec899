"""What is compared with PyTorch: every runtime in every precision, and in every way of computing that it has."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from deeplens.console.errors import InputError
from deeplens.export.onnx_forms import FORMS
from deeplens.model.whole_contract import WHOLE_NETWORKS
from deeplens.parity_tests.cases import Case, LoopCase, NetworkCase, Size
from deeplens.parity_tests.produce import Opener, artefact_opener, torch_opener
from deeplens.runtimes import RUNTIMES
from deeplens.runtimes.accelerator import Accelerator
from deeplens.runtimes.contract import Runtime
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.onnx_form import CPU, artefacts_of, form_of
from deeplens.runtimes.providers import PROVIDERS, checked

if TYPE_CHECKING:
    from deeplens.model.shipped import Weights
    from deeplens.runtimes.coreml.executor import Mode

REFERENCE = "torch"

OWN_FORM = {name: form for name, spec in RUNTIMES.items() if (form := form_of(spec.stored_as)) not in (None, CPU)}
"""Runtime → the form of the ONNX graphs that it reads, where that is its own."""

WEBGPU = "webgpu"
"""ONNX Runtime's provider that the page has too."""

FORM_ROWS = {artefacts_of(form): form for form in FORMS if form not in (CPU, *OWN_FORM.values())}
"""Runtimes of the table that stand for a form of the ONNX graphs (`export.onnx_forms`), run by ONNX Runtime on the CPU:
what is wrong there is wrong in the graph, wherever it runs."""

COMPARED = (
    REFERENCE,
    *(name for name in RUNTIMES if name != REFERENCE),
    "onnx-reference",
    *FORM_ROWS,
)
"""Runtimes of the table. "torch" is the graph that torch.export takes, from which all artefacts are made;
"onnx-reference" (the evaluator of the ONNX project) runs the ONNX artefacts a second time."""

ON_GRAPHS = ("onnx", "openvino", "trt", "onnx-reference", *FORM_ROWS)
"""Runtimes of the table that need ONNX graphs."""

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "mixed")
"""Of what is computed; BF16 is PyTorch's and OpenVINO's, mixed (INT8 and BF16) OpenVINO's alone."""

ARTEFACTS = ("fp32", "fp16", "int8")
"""Precisions of artefacts that are compared."""

SMALL_LOOP = 330
"""Long side in pixels of the largest photo for what takes seconds a tile."""

SMALL_NETWORK = 96 * 160
"""Low-resolution pixels of the largest network for ONNX's own evaluator, which is written to be read."""


@dataclass(frozen=True)
class Candidate:
    """One way to compute the networks.

    Attributes:
        runtime: one of `COMPARED`.
        precision: of the artefacts.
        mode: of Core ML's executor; None for all else, and on a Mac.
        place: ONNX Runtime's provider, in the page too, or PyTorch's device; None: the CPU's provider, and the graph of
            torch.export.
    """

    runtime: str
    precision: str
    mode: "Mode | None" = None
    place: str | None = None

    @property
    def label(self) -> str:
        """As the table names it."""
        if self.place is not None:
            return f"{self.runtime} on {self.place} {self.precision}"
        if self.runtime == REFERENCE:
            return "torch.export"
        if self.mode is not None:
            ways = {"float32": "float32", "fp16": "FP16 in float32", "fp16_pure": "pure FP16"}
            return f"coreml {self.precision}, executor in {ways[self.mode]}"
        return f"{self.runtime} {self.precision}"

    @property
    def graphs(self) -> str:
        """The runtime whose ONNX graphs it runs, as the manifest names it."""
        return artefacts_of(self.form)

    @property
    def stored(self) -> str:
        """The precision of the artefacts that it reads."""
        known = self.runtime in RUNTIMES
        return RUNTIMES[self.runtime].stored_precision(self.precision) if known else self.precision

    @property
    def form(self) -> str:
        """Of the ONNX graphs that it runs: a provider takes its own."""
        if self.runtime == "onnx" and self.place in PROVIDERS:
            return PROVIDERS[self.place].form
        return {**OWN_FORM, **FORM_ROWS}.get(self.runtime, CPU)

    @property
    def runs_whole(self) -> bool:
        """Whether it runs graphs of the whole effect, which have the form for the CPU only."""
        return self.form in (CPU, *OWN_FORM.values())

    @property
    def rounding(self) -> str:
        """By which of `parity_tests.compare.GATES` it is judged."""
        if self.runtime == "coreml" and self.precision == "fp16":
            return "fp16" if self.mode == "fp16" else "fp16 sums"
        if self.runtime == "openvino" and self.precision == "bf16":
            return "bf16 products"
        return "fp16 sums" if self.place is not None and self.precision == "fp16" else self.precision

    def chosen(self, cases: Sequence[Case]) -> list[Case]:
        """The cases that it runs: Core ML has fixed shapes only, and what is slow gets small ones."""
        if self.runtime == "coreml":
            cases = [case for case in cases if case.graph == "fixed"]
        if self.runtime == "web":  # it has files of free sizes only, and its own loop
            cases = [case for case in cases if case.graph == "dynamic" or case.networks == ("depth",)]
            return cases if self.place is None else [case for case in cases if _is_small(case)]
        if not self.runs_whole:
            cases = [case for case in cases if isinstance(case, LoopCase) or case.network not in WHOLE_NETWORKS]
        if self.mode == "fp16_pure":
            return [case for case in cases if not _is_loop(case) or max(case.size) <= SMALL_LOOP]
        if self.runtime == "onnx-reference":
            small = (case for case in cases if isinstance(case, NetworkCase) and case.input == "random")
            return [case for case in small if case.network == "depth" or case.size[0] * case.size[1] <= SMALL_NETWORK]
        return list(cases)

    def around(self, runtime: Runtime) -> Harness:
        """The harness of a loop: the page has its own."""
        if self.runtime == "web":
            from deeplens.runtimes.web import WebHarness, WebRuntime

            assert isinstance(runtime, WebRuntime)
            return WebHarness(runtime)
        return Harness(runtime)

    def opener(self, variant: str, *, artifacts: Path | None, weights: "Weights", fixed_size: Size) -> Opener:
        """See `parity_tests.produce`."""
        if self.runtime == REFERENCE and self.place is not None:
            accelerator = Accelerator(device=self.place)
            return torch_opener(
                variant, weights=weights, fixed_size=fixed_size, precision=self.precision, accelerator=accelerator
            )
        if self.runtime == REFERENCE:
            from deeplens.parity_tests.captured import captured_opener

            return captured_opener(variant, weights=weights, fixed_size=fixed_size)
        return artefact_opener(
            "onnx" if self.runtime in FORM_ROWS else self.runtime,
            variant,
            artifacts=artifacts,
            fixed_size=fixed_size,
            precision=self.precision,
            mode=self.mode,
            form=self.form,
            provider=self.place,
        )


def _is_small(case: Case) -> bool:
    """Whether it is for what takes ten seconds and more a network: a graphics processor that is only imitated."""
    if isinstance(case, LoopCase):
        return max(case.size) <= SMALL_LOOP
    return case.network == "depth" or case.size[0] * case.size[1] <= SMALL_NETWORK


def _is_loop(case: Case) -> bool:
    """Whether it has all levels: the loop, and a graph of the whole effect."""
    return isinstance(case, LoopCase) or case.network in WHOLE_NETWORKS


def candidates(
    runtimes: Sequence[str],
    precisions: Sequence[str] | None,
    *,
    providers: Sequence[str] = (),
    devices: Sequence[str] = (),
) -> list[Candidate]:
    """All that these allow, in the order of the table.

    Args:
        precisions: None: all that a runtime has.
        providers: ONNX Runtime's, compared beside the CPU's where `runtimes` has it.
        devices: PyTorch's, compared too; the CPU in FP16 and BF16 only, since in FP32 it is the reference.

    Raises:
        InputError: an unknown runtime or precision.
    """
    for name in runtimes:
        if name not in COMPARED:
            raise InputError(f"unknown runtime '{name}': choose {' or '.join(COMPARED)}")
    for name in precisions or ():
        if name not in PRECISIONS:
            raise InputError(f"unknown precision '{name}' for parity: choose {' or '.join(PRECISIONS)}")
    for name in providers:
        checked(name)
    for name in devices:
        Accelerator(device=name).check_for(REFERENCE)
    found = []
    for runtime in runtimes:
        only = {REFERENCE: ("fp32",), "onnx-reference": ("fp32",), "coreml": ("fp32", "fp16")}
        only["openvino"] = RUNTIMES["openvino"].precisions
        only["web"] = ("fp32",)
        only |= dict.fromkeys(FORM_ROWS, ("fp32",))
        for precision in only.get(runtime, ARTEFACTS):
            if precisions is None or precision in precisions:
                found += [Candidate(runtime, precision, mode) for mode in _modes(runtime, precision)]
        places = {
            "onnx": [each for each in providers if each != CPU],
            "web": [each for each in providers if each == WEBGPU],
            REFERENCE: devices,
        }.get(runtime, ())
        of_places = ARTEFACTS if runtime == "onnx" else RUNTIMES[runtime].precisions if places else ()
        for place, precision in product(places, of_places):
            each = Candidate(runtime, precision, place=place)
            exists = precision == "fp32" or each.form == CPU  # other forms are written in FP32 only
            if exists and (precisions is None or precision in precisions) and (place, precision) != (CPU, "fp32"):
                found.append(each)
    return found


def _modes(runtime: str, precision: str) -> "tuple[Mode | None, ...]":
    if runtime != "coreml" or sys.platform == "darwin":
        return (None,)
    return ("float32",) if precision == "fp32" else ("fp16", "fp16_pure")
