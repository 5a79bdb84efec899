"""The first room: a runtime over the cases. Nothing is judged here."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from deeplens.console.errors import MismatchError, MissingError
from deeplens.model.whole_contract import WHOLE_NETWORKS
from deeplens.parity_tests.cases import Case, Graph, LoopCase, NetworkCase, Size
from deeplens.parity_tests.outputs import DEPTH_MAP, EIGHT_BIT, Outputs
from deeplens.parity_tests.whole import ByHarness
from deeplens.runtimes import open_runtime
from deeplens.runtimes.accelerator import DEFAULT, Accelerator
from deeplens.runtimes.contract import Arrays, Runtime
from deeplens.runtimes.harness import Harness, focal_disparity_at
from deeplens.runtimes.onnx_form import CPU
from deeplens.runtimes.whole import whole_runtime
from deeplens.runtimes.wrapped import with_fixed_size

if TYPE_CHECKING:
    from deeplens.model.shipped import Weights
    from deeplens.runtimes.coreml.executor import Mode

Opener = Callable[[Graph | Size], Runtime]
"""Opens a runtime for graphs with free sizes or with a fixed shape; or for those of the whole effect, for photos of a
height and width."""

TorchKind = Literal["float32", "float64", "float16"]


def produce(
    opener: Opener,
    cases: Sequence[Case],
    *,
    around: Callable[[Runtime], Harness] = Harness,
    progress: Callable[[float], None] = lambda _share: None,
) -> Outputs:
    """Run each case; one that can't run doesn't stop the others.

    Args:
        around: makes the harness of a loop.
        progress: called with the share of the cases that were run, up to 1.0.
    """
    done = 0
    outputs = Outputs()
    graphs: list[Graph | Size] = ["dynamic", "fixed", *dict.fromkeys(case.size for case in cases if _is_whole(case))]
    for graph in graphs:
        chosen = [case for case in cases if (case.size if _is_whole(case) else case.graph) == graph]
        if not chosen:
            continue
        try:
            runtime = opener(graph)
        except MissingError as error:
            outputs.missing |= {case.name: f"the runtime: {error}" for case in chosen}
            continue
        with runtime:
            for case in chosen:
                _run(case, runtime, outputs, around)
                done += 1
                progress(done / len(cases))
    return outputs


def _is_whole(case: Case) -> bool:
    return isinstance(case, NetworkCase) and case.network in WHOLE_NETWORKS


def _run(case: Case, runtime: Runtime, outputs: Outputs, around: Callable[[Runtime], Harness]) -> None:
    try:
        sessions = {network: runtime.open(network) for network in case.networks}
        outputs.weights[case.name] = {network: session.weights_sha256() for network, session in sessions.items()}
        for session in sessions.values():
            if session.entry is not None:
                outputs.artifacts[session.entry.path] = session.entry.sha256
        if isinstance(case, NetworkCase):
            session = sessions[case.network]
            outputs.arrays[case.name] = session.run(case.inputs)[session.describe().outputs[0].name]
        else:
            outputs.arrays |= _loop(case, around(runtime))
    except MissingError as error:
        outputs.missing[case.name] = f"what it runs: {error}"
    except MismatchError as error:
        outputs.broken[case.name] = str(error)


def _loop(case: LoopCase, harness: Harness) -> Arrays:
    arrays: Arrays = {}
    disparity = case.disparity(harness)
    if case.given is None:
        arrays[f"{case.name}/{DEPTH_MAP}"] = disparity

    def observe(level: int, network: str, level_arrays: Arrays) -> None:
        output = "blurred" if network == "lens_blur" else "blurred_high"
        arrays[f"{case.name}/level {level}"] = level_arrays[output]

    arrays[f"{case.name}/{EIGHT_BIT}"] = harness.refocus(
        case.pixels,
        disparity,
        focal_disparity=focal_disparity_at(disparity, *case.point),
        aperture=case.aperture,
        observe=observe,
    )
    return arrays


def torch_opener(
    variant: str,
    *,
    weights: "Weights",
    fixed_size: Size,
    dtype: TorchKind = "float32",
    precision: str = "fp32",
    accelerator: Accelerator = DEFAULT,
) -> Opener:
    """PyTorch, which has no fixed graphs, on the cuts, borders and frames that a fixed graph gets.

    Args:
        dtype: "float16": with every tensor rounded (`parity_tests.half`).
        precision, accelerator: as in `runtimes.pytorch.TorchRuntime`.
    """

    def open_torch(graph: Graph | Size) -> Runtime:
        from deeplens.runtimes.pytorch import TorchRuntime

        if dtype == "float16":
            from deeplens.parity_tests.half import in_half

            runtime = in_half(TorchRuntime(variant=variant, weights=weights, native=False))
        else:
            runtime = TorchRuntime(
                variant=variant,
                weights=weights,
                dtype=dtype,
                precision=precision,
                accelerator=accelerator,
                native=False,
            )
        if isinstance(graph, tuple):
            return ByHarness(runtime)
        return runtime if graph == "dynamic" else with_fixed_size(runtime, fixed_size)

    return open_torch


def artefact_opener(
    name: str,
    variant: str,
    *,
    artifacts: Path | None,
    fixed_size: Size,
    precision: str = "fp32",
    mode: "Mode | None" = None,
    form: str = CPU,
    provider: str | None = None,
) -> Opener:
    """A runtime that reads artefacts.

    ONNX Runtime, OpenVINO and Core ML have files of a fixed shape, Core ML no others; of the rest the same file is run
    at that size. FP16 graphs run in ONNX Runtime with their rounding.

    Args:
        mode: of Core ML's executor, as in `runtimes.coreml.runtime.CoreMLRuntime`.
        form: of the graphs that ONNX Runtime reads.
        provider: of ONNX Runtime, in the page too; None: the CPU's. Another rounds FP16 by itself.
    """

    def open_artefacts(graph: Graph | Size) -> Runtime:
        whole = isinstance(graph, tuple)
        shape: Size = graph if isinstance(graph, tuple) else fixed_size
        if name == "coreml":
            from deeplens.runtimes.coreml.runtime import CoreMLRuntime

            if graph == "dynamic":
                raise MissingError("a graph with free sizes, which Core ML packages for the Neural Engine are not")
            return CoreMLRuntime(variant=variant, artifacts=artifacts, precision=precision, size=shape, mode=mode)
        shapes: Literal["dynamic"] | Size = "dynamic" if graph == "dynamic" else shape
        if name == "onnx":
            from deeplens.parity_tests.rounded import RoundedOnnxRuntime
            from deeplens.runtimes.ort import OnnxRuntime

            if provider is not None:
                return OnnxRuntime(
                    variant=variant,
                    artifacts=artifacts,
                    precision=precision,
                    shapes=shapes,
                    accelerator=Accelerator(provider),
                )
            kind = RoundedOnnxRuntime if precision == "fp16" else OnnxRuntime
            return kind(variant=variant, artifacts=artifacts, precision=precision, shapes=shapes, form=form)
        if name == "openvino":
            from deeplens.runtimes.ov import OpenVinoRuntime

            return OpenVinoRuntime(variant=variant, artifacts=artifacts, precision=precision, shapes=shapes)
        if name == "onnx-reference":
            from deeplens.parity_tests.interop import ReferenceEvaluatorRuntime

            return ReferenceEvaluatorRuntime(variant=variant, artifacts=artifacts, precision=precision, shapes=shapes)
        if whole:
            return whole_runtime(name, size=shape, variant=variant, artifacts=artifacts, precision=precision)
        if name == "web":
            from deeplens.runtimes.web import WebRuntime

            return WebRuntime(variant=variant, backend=provider or "wasm")
        runtime = open_runtime(name, variant=variant, artifacts=artifacts, precision=precision)
        return runtime if graph == "dynamic" else with_fixed_size(runtime, fixed_size)

    return open_artefacts
