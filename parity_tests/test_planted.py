"""Twelve planted faults: each is caught by the table's own gates, and the right module named; without one, none is."""

import re
from dataclasses import replace

import numpy as np
import onnx
import pytest

from deeplens.export.coreml import export_module
from deeplens.export.coreml_recipe import Recipe
from deeplens.model.contract import CONTRACTS
from deeplens.parity_tests.cases import plausible_inputs
from deeplens.parity_tests.fault_bench import Bench, named
from deeplens.parity_tests.locate.graph import Cutter, judge_graph
from deeplens.parity_tests.locate.program import judge_program
from deeplens.parity_tests.locate.reference import Reference
from deeplens.parity_tests.planted import FAULTS, Fault
from deeplens.runtimes import manifest
from deeplens.runtimes.coreml.executor import Executor
from deeplens.runtimes.coreml.program import load

pytestmark = pytest.mark.slow

REWRITTEN = re.compile(r"_(at_\d_\d|(weight|total|product|sum|quotient)_\d+|rows|max|lowered|exp|of_channels)$")
"""Names of tensors between the operations that `export.onnx_rewrite` makes of one."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.name.replace(" ", "-"))
def test_is_caught_and_located(bench: Bench, fault: Fault) -> None:
    found = fault.plant(bench)
    assert found.caught is not None, found
    assert found.named == fault.expected, found
    if fault.expected == "":  # not in a layer: the operation tells, and the line of the network's code
        kind = {"wrong resize mode": "Resize", "clipped range": "clip"}[fault.name]
        assert f"differs is {kind} " in found.said
        assert "model/upsampler.py:" in found.said


def test_twelve_in_every_kind_of_artefact() -> None:
    assert len({fault.name for fault in FAULTS}) == 12
    assert {"ONNX graph", "MIL program", "PyTorch graph", "loop", "manifest"} <= {fault.planted for fault in FAULTS}


def test_a_sound_graph_departs_nowhere_and_most_operations_have_a_counterpart(bench: Bench) -> None:
    case = bench.case()
    model = onnx.load(manifest.verify(bench.folder / "onnx", bench.graph))
    reference = bench.reference(bench.module())
    found = named(bench.judged(bench.opener(bench.folder / "onnx"), case), judge_graph(model, case.inputs, reference))
    assert (found.caught, found.named) == (None, None), found
    # What the rewriting has put in the place of one operation of PyTorch is judged as a piece, by its result.
    own = [node for node in model.graph.node if not REWRITTEN.search(node.output[0])]
    assert len(Cutter(model, case.inputs, reference).names) >= 0.9 * len(own)
    assert len(own) >= 0.6 * len(model.graph.node)


def test_a_sound_program_departs_nowhere_and_observing_changes_nothing(bench: Bench) -> None:
    case = bench.case(fixed=True)
    function = load(manifest.verify(bench.folder / "coreml", bench.package))
    verdict = judge_program(function, case.inputs, bench.reference(bench.module(), fixed=True))
    assert verdict.departure is None, verdict
    assert verdict.judged >= 0.9 * len(function.operations)
    output = CONTRACTS["upsample"].outputs[0].name
    seen: list[str] = []
    watched = Executor(function).run(case.inputs, observe=lambda operation, _, __: seen.append(operation.name))[output]
    np.testing.assert_array_equal(watched, Executor(function).run(case.inputs)[output])
    assert len(seen) >= len(function.operations)


def test_a_program_with_many_batch_norms(bench: Bench) -> None:
    """In the captured graph a norm gives three values, in a program one: they are not counted alike."""
    size, out = (64, 96), bench.folder / "norms"
    inputs = plausible_inputs(CONTRACTS["upsample"], size, np.random.default_rng(0))
    reference = Reference.of(bench.module("paper"), CONTRACTS["upsample"], inputs, size=size)
    recipe = Recipe(precision="fp32", sizes=(size,))
    entry = export_module(bench.module("paper"), recipe, variant="paper", network="upsample", out=out, weights="sound")
    function = load(manifest.verify(out, entry))
    verdict = judge_program(function, inputs, reference)
    assert verdict.departure is None, verdict
    assert verdict.judged == sum(len(operation.outputs) for operation in Executor(function).operations)
    (name,) = (name for name, value in function.constants.items() if np.shape(value) == (64, 128, 3, 3))
    changed = {**function.constants, name: np.asarray(function.constants[name]) * np.float32(1.01)}
    found = judge_program(replace(function, constants=changed), inputs, reference).departure
    assert found is not None
    assert (found.module or "").startswith("up1"), found


def test_the_first_of_two_is_named(bench: Bench) -> None:
    """An error that an earlier one only carries on is not taken for the cause."""

    def change(model: onnx.ModelProto) -> None:
        for index, weight in enumerate(model.graph.initializer):
            if weight.name in ("stem.weight", "fuse.weight"):
                values = onnx.numpy_helper.to_array(weight) * np.float32(1.01)
                model.graph.initializer[index].CopyFrom(onnx.numpy_helper.from_array(values, weight.name))

    _, model = bench.altered_graph("two", change)
    verdict = judge_graph(model, bench.case().inputs, bench.reference(bench.module()))
    assert verdict.departure is not None
    assert verdict.departure.module == "stem"
    assert verdict.departure.source.startswith("model/upsampler.py:")
