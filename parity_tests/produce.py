"""The first room: a runtime over the cases. Nothing is judged here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from model.errors import MismatchError, MissingError
from parity_tests.cases import Case, Graph, LoopCase, NetworkCase, Size
from parity_tests.wrapped import WrappedSession, with_fixed_size
from runtimes import open_runtime
from runtimes.contract import Arrays, Runtime, Session
from runtimes.harness import Harness, focal_disparity_at

if TYPE_CHECKING:
    from model.build import Weights

Opener = Callable[[Graph], Runtime]
"""Opens a runtime for graphs with free sizes or with a fixed shape."""

DEPTH_MAP = "depth map"
EIGHT_BIT = "8-bit picture"


@dataclass
class Outputs:
    """What one runtime gave.

    Attributes:
        arrays: name of the output (that of the case; for a loop followed by /depth map, /level k, /8-bit picture) →
            array of the dtype that the runtime gave.
        weights: name of the case → network → SHA-256 of its weights (`model.build.weights_sha256`).
        missing: name of a case that can't run here → what it needs.
        broken: name of a case that was refused → what the runtime said.
    """

    arrays: Arrays = field(default_factory=dict)
    weights: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


def produce(opener: Opener, cases: Sequence[Case]) -> Outputs:
    """Run each case; one that can't run doesn't stop the others."""
    outputs = Outputs()
    for graph in ("dynamic", "fixed"):
        chosen = [case for case in cases if case.graph == graph]
        if not chosen:
            continue
        try:
            runtime = opener(graph)
        except MissingError as error:
            outputs.missing |= {case.name: f"the runtime: {error}" for case in chosen}
            continue
        with runtime:
            for case in chosen:
                _run(case, runtime, outputs)
    return outputs


def _run(case: Case, runtime: Runtime, outputs: Outputs) -> None:
    try:
        sessions = {network: runtime.open(network) for network in case.networks}
        outputs.weights[case.name] = {network: weights_of(session) for network, session in sessions.items()}
        if isinstance(case, NetworkCase):
            session = sessions[case.network]
            outputs.arrays[case.name] = session.run(case.inputs)[session.describe().outputs[0].name]
        else:
            outputs.arrays |= _loop(case, runtime)
    except MissingError as error:
        outputs.missing[case.name] = f"what it runs: {error}"
    except MismatchError as error:
        outputs.broken[case.name] = str(error)


def _loop(case: LoopCase, runtime: Runtime) -> Arrays:
    arrays: Arrays = {}
    harness = Harness(runtime)
    disparity = arrays[f"{case.name}/{DEPTH_MAP}"] = harness.disparity(case.pixels)

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


def weights_of(session: Session) -> str:
    """SHA-256 of the weights behind a session: the manifest's, or that of the PyTorch module itself."""
    if isinstance(session, WrappedSession):
        return weights_of(session.session)
    from runtimes.pytorch import TorchSession

    if isinstance(session, TorchSession):
        from model.build import weights_sha256

        return weights_sha256(session.module)
    sha256: str = session.entry.weights_sha256  # type: ignore[attr-defined]  # every session of an artefact has it
    return sha256


def torch_opener(
    variant: str, *, weights: "Weights", fixed_size: Size, dtype: Literal["float32", "float64"] = "float32"
) -> Opener:
    """PyTorch, which has no fixed graphs, on the cuts and borders that a fixed graph gets."""

    def open_torch(graph: Graph) -> Runtime:
        from runtimes.pytorch import TorchRuntime

        runtime = TorchRuntime(variant=variant, weights=weights, dtype=dtype)
        return runtime if graph == "dynamic" else with_fixed_size(runtime, fixed_size)

    return open_torch


def artefact_opener(
    name: str, variant: str, *, artifacts: Path | None, fixed_size: Size, precision: str = "fp32"
) -> Opener:
    """A runtime that reads artefacts.

    ONNX Runtime and Core ML have files of a fixed shape, Core ML no others; of the rest the same file is run at that
    size. FP16 graphs run in ONNX Runtime with their rounding.
    """

    def open_artefacts(graph: Graph) -> Runtime:
        if name == "coreml":
            from runtimes.coreml.runtime import CoreMLRuntime

            if graph == "dynamic":
                raise MissingError("a graph with free sizes, which Core ML packages for the Neural Engine are not")
            return CoreMLRuntime(variant=variant, artifacts=artifacts, precision=precision, size=fixed_size)
        if name != "onnx":
            runtime = open_runtime(name, variant=variant, artifacts=artifacts, precision=precision)
            return runtime if graph == "dynamic" else with_fixed_size(runtime, fixed_size)
        from parity_tests.rounded import RoundedOnnxRuntime
        from runtimes.ort import OnnxRuntime

        kind = RoundedOnnxRuntime if precision == "fp16" else OnnxRuntime
        shapes: Literal["dynamic"] | Size = "dynamic" if graph == "dynamic" else fixed_size
        return kind(variant=variant, artifacts=artifacts, precision=precision, shapes=shapes)

    return open_artefacts
