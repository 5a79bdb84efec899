"""The executor on small programs written by hand: rounding by mode, what is refused, what is let go."""

import weakref
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from deeplens.console.errors import InputError, MismatchError
from deeplens.runtimes.coreml.arithmetic import Computation, Rounding
from deeplens.runtimes.coreml.executor import Executor
from deeplens.runtimes.coreml.operations import OPERATIONS
from deeplens.runtimes.coreml.program import Constant, Function, Operation, Value

X = np.array([[1.0, 2.0, 4.0]], np.float32)


def step(kind: str, output: str, inputs: Mapping[str, str | tuple[str, ...]], **declared: Any) -> Operation:
    value = Value(output, declared.get("dtype", "fp16"), declared.get("shape", (1, 3)))
    return Operation(kind, f"{kind}_of_{output}", inputs, (value,))


def program(*operations: Operation, dtype: str = "fp16", **constants: Constant) -> Function:
    """x → the output of the last operation."""
    last = operations[-1].outputs[0].name
    return Function("main", (Value("x", dtype, (1, 3)),), constants, operations, (last,))


TENTH = np.float16(0.1)
CHAIN = (step("mul", "a", {"x": "x", "y": "tenth"}), step("mul", "b", {"x": "a", "y": "tenth"}))


def test_float32_rounds_nothing_and_fp16_after_each_operation() -> None:
    chain = program(*CHAIN, tenth=TENTH)
    tenth = np.float32(TENTH)
    np.testing.assert_array_equal(Executor(chain).run({"x": X})["b"], X * tenth * tenth)
    expected = (X.astype(np.float16) * TENTH) * TENTH
    for mode in ("fp16", "fp16_pure"):
        np.testing.assert_array_equal(Executor(chain, mode=mode).run({"x": X})["b"], expected)
    assert np.any(expected != X * tenth * tenth)


def test_values_declared_float32_are_never_rounded() -> None:
    full = (step("mul", "b", {"x": "x", "y": "third"}, dtype="fp32"),)
    third = np.float32(1 / 3)
    chain = program(*full, dtype="fp32", third=third)
    for mode in ("float32", "fp16", "fp16_pure"):
        np.testing.assert_array_equal(Executor(chain, mode=mode).run({"x": X})["b"], X * third)


def test_pure_fp16_rounds_partial_sums_too() -> None:
    summed = program(
        step("reduce_sum", "b", {"x": "x", "axes": "axes", "keep_dims": "keep"}, shape=(1, 1)),
        axes=np.array([1], np.int32),
        keep=np.True_,
    )
    x = np.array([[2048, 1, 1]], np.float32)
    found = {mode: float(Executor(summed, mode=mode).run({"x": x})["b"][0, 0]) for mode in ("fp16", "fp16_pure")}
    assert found == {"fp16": 2050.0, "fp16_pure": 2048.0}


def test_inputs_are_rounded_and_stay_the_callers() -> None:
    x = X + np.float32(1e-4)
    before = x.copy()
    copied = program(step("identity", "b", {"x": "x"}))
    found = Executor(copied, mode="fp16").run({"x": x})["b"]
    np.testing.assert_array_equal(found, x.astype(np.float16))
    found[:] = 0
    np.testing.assert_array_equal(Executor(copied).run({"x": x})["b"], before)
    np.testing.assert_array_equal(x, before)


def test_an_unknown_operation_is_named() -> None:
    with pytest.raises(MismatchError, match=r"operation 'cumsum' \(cumsum_of_b\) is not known to the executor"):
        Executor(program(step("cumsum", "b", {"x": "x"})))


def test_an_unknown_parameter_is_named() -> None:
    odd = program(step("relu", "b", {"x": "x", "slope": "tenth"}), tenth=TENTH)
    with pytest.raises(MismatchError, match=r"relu \(relu_of_b\) can't be run: .*'slope'"):
        Executor(odd).run({"x": X})


def test_results_must_be_what_the_program_declares() -> None:
    for wrong in ({"shape": (1, 4)}, {"shape": (3,)}, {"dtype": "int32"}):
        with pytest.raises(MismatchError, match=r"relu \(relu_of_b\) gave \(1, 3\) float32, the program declares"):
            Executor(program(step("relu", "b", {"x": "x"}, **wrong))).run({"x": X})
    Executor(program(step("relu", "b", {"x": "x"}, shape=(1, None)))).run({"x": X})


def test_inputs_must_be_what_the_program_takes() -> None:
    executor = Executor(program(step("relu", "b", {"x": "x"})))
    with pytest.raises(InputError, match="got the inputs y, but the program takes x"):
        executor.run({"y": X})
    with pytest.raises(InputError, match=r"x is \(3, 1\), the program takes \(1, 3\)"):
        executor.run({"x": X.T})
    with pytest.raises(InputError, match="unknown mode 'bf16' of the executor: choose float32, fp16, fp16_pure"):
        Executor(executor.function, mode="bf16")  # type: ignore[arg-type]


def test_compressed_constants_are_decompressed_once_and_in_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table whose entries are themselves quantised: the output of one is stored as FP16 before the next reads it."""
    chain = program(
        step("constexpr_blockwise_shift_scale", "lut", {"data": "q", "scale": "s"}, shape=(1, 1, 4, 1)),
        step("constexpr_lut_to_dense", "w", {"indices": "i", "lut": "lut"}),
        step("mul", "b", {"x": "x", "y": "w"}),
        q=np.arange(4, dtype=np.int8).reshape(1, 1, 4, 1),
        s=np.full((1, 1, 1, 1), 0.1, np.float16),
        i=np.array([[1, 3, 0]], np.uint8),
    )
    calls = []
    computation = OPERATIONS["constexpr_lut_to_dense"]

    def counted(**arguments: np.ndarray) -> np.ndarray:
        calls.append(arguments)
        result: np.ndarray = computation.compute(**arguments)
        return result

    monkeypatch.setitem(OPERATIONS, "constexpr_lut_to_dense", replace(computation, compute=counted))
    executor = Executor(chain)
    weights = np.float32(np.float16(np.float32(TENTH) * np.array([1, 3, 0], np.float32)))
    for _ in range(2):
        np.testing.assert_array_equal(executor.run({"x": X})["b"], X * weights)
    assert len(calls) == 1
    assert calls[0]["lut"].dtype == np.float16


def test_two_outputs() -> None:
    parts = (Value("left", "fp16", (1, 1)), Value("right", "fp16", (1, 2)))
    cut = Operation("split", "cut", {"x": "x", "axis": "axis", "split_sizes": "sizes"}, parts)
    function = Function(
        "main",
        (Value("x", "fp16", (1, 3)),),
        {"axis": np.int32(1), "sizes": np.array([1, 2], np.int32)},
        (cut,),
        ("right", "left"),
    )
    found = Executor(function).run({"x": X})
    assert list(found) == ["right", "left"]
    np.testing.assert_array_equal(found["right"], [[2, 4]])


def test_values_are_let_go_after_their_last_use(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def watched(x: np.ndarray) -> np.ndarray:
        nonlocal most
        result = x + np.float32(1)
        alive.append(weakref.ref(result))
        most = max(most, sum(each() is not None for each in alive))
        return result

    monkeypatch.setitem(OPERATIONS, "relu", Computation(watched, Rounding.NONE))
    names = ["x", *(f"v{k}" for k in range(20))]
    chain = program(*(step("relu", after, {"x": before}) for before, after in pairwise(names)))
    found = Executor(chain).run({"x": X})["v19"]
    np.testing.assert_array_equal(found, X + 20)
    assert most == 2  # what an operation reads, and what it gives
