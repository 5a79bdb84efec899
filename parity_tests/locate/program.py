"""MIL programs: the executor gives every operation PyTorch's own intermediates, and shows what it made of them."""

from collections.abc import Mapping

import numpy as np

from deeplens.parity_tests.locate.found import Verdict
from deeplens.parity_tests.locate.judge import Judge
from deeplens.parity_tests.locate.reference import Reference
from deeplens.runtimes.coreml.executor import Executor, Mode
from deeplens.runtimes.coreml.program import Function, Operation, Value


def judge_program(
    function: Function, inputs: Mapping[str, np.ndarray], reference: Reference, *, mode: Mode = "float32"
) -> Verdict:
    """The first operation of a program that departs, each judged alone. Nothing is fused here: what is said of an
    operation holds for the program, not for what Apple's compiler joins.

    Args:
        inputs: as the function takes them.
        reference: on the same inputs, of the function's size; of precision "fp16" unless the mode is "float32".
    """
    executor = Executor(function, mode=mode)
    made = [(each.name, operation.kind) for operation in executor.operations for each in operation.outputs]
    # coremltools makes transpositions anew, and their names are by chance those of others.
    names = reference.matched([pair for pair in made if pair[1] != "transpose"])
    judge = Judge(reference, names, "fp32" if mode == "float32" else "fp16")

    def observe(operation: Operation, value: Value, array: np.ndarray) -> np.ndarray | None:
        judge.take(value.name, operation.kind, array)
        here = names.get(value.name)
        due = None if here is None else reference.values[here]
        # Of another shape it would break what follows; the judge has told it.
        return None if due is None or due.shape != array.shape else due.astype(np.float32)

    executor.run(inputs, observe=observe)
    return judge.verdict(len(made))
