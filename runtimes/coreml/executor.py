"""Runs a MIL program on any machine, with NumPy, rounding as a device might.

Apple does not document the order in which its hardware adds, nor how it evaluates exp or sqrt. So the three modes do
not predict a device's bits; they bound them: float32 says whether graph and weights are right, FP16 with float32 sums
is the least that FP16 storage costs, and pure FP16 the worst that a device may make of it.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import numpy as np

from deeplens.console.errors import InputError, MismatchError
from deeplens.runtimes.coreml.arithmetic import Rounding, half, kept
from deeplens.runtimes.coreml.operations import OPERATIONS
from deeplens.runtimes.coreml.program import Constant, Function, Operation, Value

Mode = Literal["float32", "fp16", "fp16_pure"]
"""What happens to values that the program declares FP16: "float32": kept as they are computed. "fp16": each operation
computes in float32 and its result is rounded. "fp16_pure": each partial sum is rounded too."""

FLOATS = ("fp16", "fp32")

Observe = Callable[[Operation, Value, np.ndarray], np.ndarray | None]
"""Gets what an operation gave, and may return another value for the operations that follow."""


class Executor:
    """One function of a program, ready to run.

    Args:
        function: its constants are decompressed here, once.
        mode: see `Mode`; values that the program declares float32 are never rounded.

    Raises:
        MismatchError: an operation that the executor doesn't know; the message names it.
        InputError: an unknown mode.
    """

    def __init__(self, function: Function, *, mode: Mode = "float32") -> None:
        if mode not in get_args(Mode):
            raise InputError(f"unknown mode '{mode}' of the executor: choose {', '.join(get_args(Mode))}")
        for operation in function.operations:
            if operation.kind not in OPERATIONS:
                raise MismatchError(
                    f"operation '{operation.kind}' ({operation.name}) is not known to the executor: run the package on "
                    "macOS, or add the operation to runtimes/coreml/operations"
                )
        self.function = function
        self.mode = mode
        self._constants = {name: _ready(value) for name, value in function.constants.items()}
        self._operations = []
        stored = dict(function.constants)
        for operation in function.operations:
            if operation.kind.startswith("constexpr_"):
                stored |= self._decompressed(operation, stored)
            else:
                self._operations.append(operation)
        self._uses = Counter(name for operation in self._operations for name in _names(operation))
        self._uses.update(function.outputs)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Those that are run, in order: without the ones that decompress constants."""
        return tuple(self._operations)

    def run(self, inputs: Mapping[str, np.ndarray], *, observe: Observe | None = None) -> dict[str, np.ndarray]:
        """Run the function once. Each value is let go after its last use.

        Args:
            inputs: name → array of the declared shape; floats are float32 whatever the program declares.
            observe: called with each output of each operation; what it returns takes the output's place, if anything.

        Returns:
            name → array; floats are float32, with the values of the declared type.

        Raises:
            InputError: inputs of other names or shapes.
            MismatchError: an operation gave another shape or type than the program declares.
        """
        values = self._inputs(inputs)
        uses = self._uses.copy()
        for operation in self._operations:
            arguments = {name: self._argument(value, values) for name, value in operation.inputs.items()}
            values |= self._computed(operation, arguments)
            if observe is not None:
                for value in operation.outputs:
                    other = observe(operation, value, values[value.name])
                    values[value.name] = values[value.name] if other is None else other
            del arguments
            uses.subtract(_names(operation))
            for name in _names(operation) + tuple(each.name for each in operation.outputs):
                if uses[name] == 0:
                    values.pop(name, None)
        return {name: np.array(self._argument(name, values)) for name in self.function.outputs}

    def _inputs(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        declared = {each.name: each for each in self.function.inputs}
        if set(inputs) != set(declared):
            raise InputError(
                f"got the inputs {', '.join(inputs) or 'none'}, but the program takes {', '.join(declared)}"
            )
        values = {}
        for name, value in declared.items():
            array = np.asarray(inputs[name])
            if not _fits(array.shape, value.shape):
                raise InputError(f"{name} is {array.shape}, the program takes {value.shape}")
            if value.dtype in FLOATS:
                array = array.astype(np.float32)  # a copy: rounding writes into it
            values[name] = half(array) if self._rounds(value) else array
        return values

    def _argument(self, name: str | tuple[str, ...], values: Mapping[str, Any]) -> Any:
        if isinstance(name, tuple):
            return tuple(self._argument(each, values) for each in name)
        return values[name] if name in values else self._constants[name]

    def _computed(self, operation: Operation, arguments: dict[str, Any]) -> dict[str, np.ndarray]:
        computation = OPERATIONS[operation.kind]
        if computation.rounding is Rounding.SUMS:
            pure = self.mode == "fp16_pure" and operation.outputs[0].dtype == "fp16"
            arguments = {**arguments, "partial": half if pure else kept}
        try:
            result = computation.compute(**arguments)
        except TypeError as error:
            raise MismatchError(f"{operation.kind} ({operation.name}) can't be run: {error}") from error
        results = result if isinstance(result, tuple) else (result,)
        found = {}
        for value, array in zip(operation.outputs, results, strict=True):
            _check(operation, value, array)
            rounds = computation.rounding is not Rounding.NONE and self._rounds(value)
            found[value.name] = half(array) if rounds else array
        return found

    def _decompressed(self, operation: Operation, stored: dict[str, Constant]) -> dict[str, Constant]:
        """The outputs as they would be stored; they join the constants that operations get."""
        arguments = {name: stored[value] for name, value in operation.inputs.items() if isinstance(value, str)}
        result = OPERATIONS[operation.kind].compute(**arguments)
        found: dict[str, Constant] = {}
        for value, array in zip(operation.outputs, result if isinstance(result, tuple) else (result,), strict=True):
            dense = array.astype(np.float16) if value.dtype == "fp16" else array
            found[value.name] = dense
            self._constants[value.name] = _ready(dense)
        return found

    def _rounds(self, value: Value) -> bool:
        return self.mode != "float32" and value.dtype == "fp16"


def _ready(constant: Constant) -> Any:
    """A constant as operations take it: floats are float32."""
    if isinstance(constant, np.ndarray | np.generic) and constant.dtype == np.float16:
        return constant.astype(np.float32)
    return constant


def _names(operation: Operation) -> tuple[str, ...]:
    names: list[str] = []
    for value in operation.inputs.values():
        names += [value] if isinstance(value, str) else value
    return tuple(names)


def _fits(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    return len(shape) == len(declared) and all(want in (None, have) for have, want in zip(shape, declared, strict=True))


def _check(operation: Operation, value: Value, array: np.ndarray) -> None:
    right = array.dtype == np.float32 if value.dtype in FLOATS else array.dtype.name == value.dtype
    if not right or not _fits(array.shape, value.shape):
        raise MismatchError(
            f"{operation.kind} ({operation.name}) gave {array.shape} {array.dtype}, the program declares "
            f"{value.shape} {value.dtype}"
        )
