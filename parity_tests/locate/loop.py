"""The way around the networks: at which level of the loop, and on which side of a network, a difference arises."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deeplens.model.contract import CONTRACTS
from deeplens.parity_tests.cases import LoopCase
from deeplens.runtimes.contract import Arrays, Runtime
from deeplens.runtimes.harness import Harness, focal_disparity_at

CLOSE = 1e-4
"""Largest difference of two equal things along the loop in FP32: errors of all levels before are in them."""

Around = Callable[[Runtime], Harness]


@dataclass(frozen=True)
class Stage:
    """One network's turn in the loop: its whole inputs, and what was handed on as its output."""

    name: str
    network: str
    inputs: Arrays
    output: np.ndarray


def stages(runtime: Runtime, case: LoopCase, around: Around = Harness) -> list[Stage]:
    """Depth map, lens blur and each step of a photo's way; tiles are whole levels."""
    harness = around(runtime)
    disparity = case.disparity(harness)
    found = [Stage("depth map", "depth", {}, disparity)] if case.given is None else []

    def observe(level: int, network: str, arrays: Arrays) -> None:
        output = CONTRACTS[network].outputs[0].name
        inputs = {name: np.array(array) for name, array in arrays.items() if name != output}
        found.append(Stage(f"level {level}", network, inputs, np.array(arrays[output])))

    focal = focal_disparity_at(disparity, *case.point)
    harness.refocus(case.pixels, disparity, focal_disparity=focal, aperture=case.aperture, observe=observe)
    return found


def judge_loop(
    candidate: Runtime, reference: Runtime, case: LoopCase, *, around: Around = Harness, close: float = CLOSE
) -> tuple[str | None, str]:
    """Where a loop departs first.

    Args:
        around: the candidate's harness; the reference has the project's.

    Returns:
        "harness: WHAT, STAGE", or the network to look into, or None; and a sentence for people.
    """
    for ours, due in zip(stages(candidate, case, around), stages(reference, case), strict=True):
        for name, array in due.inputs.items():
            off = _off(ours.inputs[name], array)
            if not off <= close:
                said = f"at {due.name} the harness gives {ours.network} another {name} (off by {off:.2g})"
                return f"harness: {name}, {due.name}", said
        off = _off(ours.output, due.output)
        if off <= close:
            continue
        if ours.inputs:
            again = _again(candidate, ours)
            if again is not None and _off(again, due.output) <= close:
                said = f"at {due.name} {ours.network} itself agrees, but the harness hands on something else"
                return f"harness: output, {due.name}", f"{said} (off by {off:.2g})"
        return ours.network, f"at {due.name} the output of {ours.network} differs (off by {off:.2g}) on equal inputs"
    return None, "no level differs"


def _again(runtime: Runtime, stage: Stage) -> np.ndarray | None:
    """A network once more on what the stage gave it; None where its only size is another, and windows were run."""
    session = runtime.open(stage.network)
    contract = session.describe()
    low = next(stage.inputs[tensor.name] for tensor in contract.inputs if tensor.scale == 1)
    if contract.fixed_size not in (None, low.shape[2:]):
        return None
    return session.run(stage.inputs)[contract.outputs[0].name]


def _off(found: np.ndarray, due: np.ndarray) -> float:
    if found.shape != due.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        return float(np.abs(found.astype(np.float64) - due).max())
