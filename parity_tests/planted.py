"""The twelve faults: what is done to an artefact, and the module that has to be named."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens.console.files import file_sha256
from deeplens.parity_tests.fault_bench import FIXED, STEP, Bench, Found, executed, first_failure, named
from deeplens.parity_tests.locate.capture import judge_module
from deeplens.parity_tests.locate.graph import judge_graph
from deeplens.parity_tests.locate.program import judge_program
from deeplens.parity_tests.produce import TorchKind, produce, torch_opener
from deeplens.runtimes import manifest
from deeplens.runtimes.artefact import load as load_artefact
from deeplens.runtimes.contract import Arrays, Runtime, Session
from deeplens.runtimes.coreml.executor import Executor
from deeplens.runtimes.coreml.program import Constant, Function, load
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.wrapped import WrappedRuntime, WrappedSession

if TYPE_CHECKING:
    import onnx

LEVEL = "level 1"


@dataclass(frozen=True)
class Fault:
    """One way to be wrong.

    Attributes:
        planted: in what.
        expected: what locating has to name.
        plant: does it, and asks the checks.
    """

    name: str
    planted: str
    expected: str
    plant: Callable[[Bench], Found]


def _graph(bench: Bench, name: str, change: "Callable[[onnx.ModelProto], None]") -> Found:
    folder, model = bench.altered_graph(name, change)
    case = bench.case()
    caught = bench.judged(bench.opener(folder), case)
    return named(caught, judge_graph(model, case.inputs, bench.reference(bench.module())))


def _made_by(model: "onnx.ModelProto", kind: str, index: int = 0) -> "onnx.NodeProto":
    return [node for node in model.graph.node if node.op_type == kind][index]


def _conv(model: "onnx.ModelProto", weight: str) -> "onnx.NodeProto":
    return next(node for node in model.graph.node if node.op_type == "Conv" and weight in node.input)


def resize_mode(bench: Bench) -> Found:
    """The grid of the bilinear resize is that of aligned corners."""

    def change(model: "onnx.ModelProto") -> None:
        for attribute in _made_by(model, "Resize").attribute:
            if attribute.name == "coordinate_transformation_mode":
                attribute.s = b"align_corners"

    return _graph(bench, "resize_mode", change)


def padding(bench: Bench) -> Found:
    """A convolution's border lies one pixel off: one less above and left, one more below and right."""

    def change(model: "onnx.ModelProto") -> None:
        for attribute in _conv(model, "context.weight").attribute:
            if attribute.name == "pads":
                top, left, bottom, right = attribute.ints
                attribute.ints[:] = [top - 1, left - 1, bottom + 1, right + 1]

    return _graph(bench, "padding", change)


def stale_weights(bench: Bench) -> Found:
    """One layer's weights are a percent off, and the manifest claims the present ones."""
    import onnx

    def change(model: "onnx.ModelProto") -> None:
        for index, weight in enumerate(model.graph.initializer):
            if weight.name == "fuse.weight":
                values = onnx.numpy_helper.to_array(weight) * np.float32(1.01)
                model.graph.initializer[index].CopyFrom(onnx.numpy_helper.from_array(values, weight.name))

    return _graph(bench, "stale_weights", change)


def half_overflow(bench: Bench) -> Found:
    """A layer whose values leave FP16's range, though the next one brings them back: in FP32 nothing is wrong."""
    import onnx
    import torch
    from safetensors.torch import save_file

    from deeplens.export.fp16 import convert
    from deeplens.export.fp16_check import rounded
    from deeplens.export.onnx_graph import export_module

    module = bench.module()
    with torch.no_grad():
        factor = 6e4 / float(module.context.weight.abs().max())  # type: ignore[union-attr, operator]
        for tensor in module.context.parameters():  # type: ignore[union-attr]
            tensor.mul_(factor)
        module.narrow.weight.div_(factor)  # type: ignore[union-attr, operator]
    weights = bench.folder / "overflow_weights"
    weights.mkdir()
    save_file(module.state_dict(), weights / "edge_upsample.safetensors")
    folder = bench.folder / "overflow"
    entry = export_module(module, variant="edge", network="upsample", out=folder)
    half = convert(onnx.load_from_string(load_artefact(folder, entry)))
    path = folder / "onnx" / "edge_upsample_fp16.onnx"
    onnx.save(half, path)
    name = path.relative_to(folder).as_posix()
    manifest.add(folder, replace(entry, precision="fp16", path=name, sha256=file_sha256(path)))
    case = bench.case()
    kinds: tuple[TorchKind, ...] = ("float32", "float64")
    reference, judge = (
        produce(torch_opener("edge", weights=weights, fixed_size=FIXED, dtype=kind), [case]) for kind in kinds
    )
    outputs = produce(bench.opener(folder, "fp16"), [case])
    caught = first_failure("edge", case, outputs, reference, judge, "fp16")
    values = bench.reference(module, precision="fp16", kept=False)
    return named(caught, judge_graph(rounded(half), case.inputs, values, precision="fp16"))


def norm_epsilon(bench: Bench) -> Found:
    """Batch norm's ε, which no state dict holds: PyTorch's default in one place of the network where another is due."""
    import onnx

    from deeplens.export.onnx_graph import export_module

    module = bench.module("paper")
    module.down1[1].eps = 1e-2  # type: ignore[index, union-attr]
    folder = bench.folder / "epsilon"
    entry = export_module(module, variant="paper", network="upsample", out=folder)
    case = bench.case()
    caught = bench.judged(bench.opener(folder, variant="paper"), case, variant="paper")
    model = onnx.load_from_string(load_artefact(folder, entry))
    return named(caught, judge_graph(model, case.inputs, bench.reference(bench.module("paper"), "paper")))


def old_artefact(bench: Bench) -> Found:
    """The weights went on, the artefact did not, and says so."""
    import torch

    from deeplens.export.onnx_graph import export_module

    module = bench.module()
    with torch.no_grad():
        next(module.parameters()).mul_(1.001)
    folder = bench.folder / "old"
    export_module(module, variant="edge", network="upsample", out=folder)
    caught = bench.judged(bench.opener(folder), bench.case(), claim=False)
    is_stale = caught is not None and caught.startswith("stale")
    return Found(caught, "upsample artefact" if is_stale else None, "the manifest names other weights than PyTorch's")


def _program(bench: Bench, change: Callable[[Function], Function]) -> Found:
    function = change(load(manifest.verify(bench.folder / "coreml", bench.package)))
    case = bench.case(fixed=True)
    caught = executed(bench, Executor(function).run, case)
    return named(caught, judge_program(function, case.inputs, bench.reference(bench.module(), fixed=True)))


def _with(function: Function, changes: Mapping[str, Constant]) -> Function:
    assert set(changes) <= set(function.constants)
    return replace(function, constants={**function.constants, **changes})


def _weight(function: Function, module: str) -> tuple[str, np.ndarray]:
    """The convolution's weights of a module, by the name that the converter gave them."""
    wanted = module.replace(".", "_")
    for operation in function.operations:
        name = operation.inputs.get("weight")
        if (
            operation.kind == "conv"
            and isinstance(name, str)
            and name.removeprefix("p_").startswith(f"{wanted}_weight")
        ):
            return name, np.asarray(function.constants[name])
    raise AssertionError(f"no weights of {module}")


def swapped_channels(bench: Bench) -> Found:
    """A layer takes blue for red."""

    def change(function: Function) -> Function:
        name, values = _weight(function, "stem_high")
        return _with(function, {name: np.ascontiguousarray(values[:, ::-1])})

    return _program(bench, change)


def truncated_constant(bench: Bench) -> Found:
    """A layer's weights lost the lower half of their bits."""

    def change(function: Function) -> Function:
        name, values = _weight(function, "down")
        return _with(function, {name: (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)})

    return _program(bench, change)


def clipped_range(bench: Bench) -> Found:
    """A clip ends at 0.8 rather than at 1."""

    def change(function: Function) -> Function:
        operation = [each for each in function.operations if each.kind == "clip"][-1]
        name = operation.inputs["beta"]
        assert isinstance(name, str)
        return _with(function, {name: np.float32(0.8)})

    return _program(bench, change)


def transposed_weight(bench: Bench) -> Found:
    """Inputs and outputs of a layer's weights are exchanged, in PyTorch's own graph."""
    import torch

    module = bench.module()
    with torch.no_grad():
        weight = module.context.weight  # type: ignore[union-attr]
        weight.copy_(weight.transpose(0, 1).clone())  # type: ignore[operator]
    case = bench.case()

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            output = module(*(torch.from_numpy(inputs[each.name]) for each in STEP.inputs))
        return {STEP.outputs[0].name: output.numpy()}

    caught = executed(bench, run, case)
    return named(caught, judge_module(module, STEP, case.inputs, bench.reference(bench.module()), size=None))


def _skipping(runtime: Runtime) -> Harness:
    """A harness that doubles pixels instead of running a step."""

    def wrap(network: str, session: Session) -> Session:
        if network != "upsample":
            return session

        def doubled(inputs: Mapping[str, np.ndarray]) -> Arrays:
            return {STEP.outputs[0].name: inputs["blurred"].repeat(2, axis=2).repeat(2, axis=3)}

        return WrappedSession(session, doubled, session.describe())

    return Harness(WrappedRuntime(runtime, wrap))


class _HalfOpenHarness(Harness):
    """Takes the aperture for half of what it is."""

    def refocus(self, pixels: np.ndarray, disparity: np.ndarray, *, aperture: float, **options: Any) -> np.ndarray:
        return super().refocus(pixels, disparity, aperture=aperture / 2, **options)


def level_skipped(bench: Bench) -> Found:
    """A step of the loop is replaced by doubled pixels."""
    return bench.loop(_skipping)


def aperture_scale(bench: Bench) -> Found:
    """The signed depth is half of what it should be."""
    return bench.loop(_HalfOpenHarness)


FAULTS = (
    Fault("wrong resize mode", "ONNX graph", "", resize_mode),
    Fault("swapped channels", "MIL program", "stem_high", swapped_channels),
    Fault("off-by-one padding", "ONNX graph", "context", padding),
    Fault("stale weights", "ONNX graph", "fuse", stale_weights),
    Fault("truncated constant", "MIL program", "down", truncated_constant),
    Fault("FP16 overflow", "FP16 ONNX graph", "context", half_overflow),
    Fault("transposed weight", "PyTorch graph", "context", transposed_weight),
    Fault("wrong BN ε", "ONNX graph of paper", "down1.1", norm_epsilon),
    Fault("clipped range", "MIL program", "", clipped_range),
    Fault("level skipped", "loop", f"harness: output, {LEVEL}", level_skipped),
    Fault("wrong aperture scale", "loop", "harness: signed_depth, level 0", aperture_scale),
    Fault("old artefact with new weights", "manifest", "upsample artefact", old_artefact),
)
