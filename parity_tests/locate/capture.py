"""Graphs of PyTorch: a network against another with the same graph, such as one with other weights or altered code."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from deeplens.model.contract import Contract
from deeplens.parity_tests.cases import Size
from deeplens.parity_tests.locate.found import Verdict
from deeplens.parity_tests.locate.judge import Judge
from deeplens.parity_tests.locate.reference import Reference, interpret, traced

if TYPE_CHECKING:
    import torch


def judge_module(
    module: "torch.nn.Module",
    contract: Contract,
    inputs: Mapping[str, np.ndarray],
    reference: Reference,
    *,
    size: Size | None,
) -> Verdict:
    """The first operation of `module` that departs, each judged alone on the reference's intermediates.

    Args:
        size: as the reference's.
    """
    import torch

    graph, origins, order, _ = traced(module, contract, size)
    names = {name: name for name in order if name in reference.values}
    judge = Judge(reference, names, "fp32")

    def take(name: str, value: "torch.Tensor") -> "torch.Tensor | None":
        judge.take(name, origins[name].kind, value.numpy())
        return torch.from_numpy(reference.values[name]) if name in names else None

    interpret(graph, inputs, contract, take)
    return judge.verdict(len(names))
