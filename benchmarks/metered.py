"""A runtime that counts what the harness asks of another: seconds inside the networks, and the sizes they ran at."""

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from time import perf_counter

import numpy as np

from model.contract import Contract
from runtimes.contract import Arrays, Closing, Runtime, Session
from runtimes.pyramid import Geometry

Runs = Counter[tuple[str, int, int]]
"""(network, low-resolution height, width) → how often it ran."""


class MeteredSession:
    """Runs another session and counts."""

    def __init__(self, session: Session, runtime: "MeteredRuntime") -> None:
        self._session, self._runtime = session, runtime

    def describe(self) -> Contract:
        return self._session.describe()

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        contract = self._session.describe()
        start = perf_counter()
        result = self._session.run(inputs)
        self._runtime.seconds += perf_counter() - start
        low = next(tensor for tensor in contract.inputs if tensor.scale == 1)
        height, width = inputs[low.name].shape[2:]
        self._runtime.runs[contract.network, height, width] += 1
        return result

    def close(self) -> None:
        self._session.close()


class MeteredRuntime(Closing):
    """Opens another runtime's sessions, each counted.

    Attributes:
        seconds: spent in networks since `reset`.
        runs: at which sizes they ran since `reset`.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.name, self.variant = runtime.name, runtime.variant
        self.seconds = 0.0
        self.runs: Runs = Counter()
        self._runtime = runtime

    def reset(self) -> None:
        """Begin to count anew."""
        self.seconds = 0.0
        self.runs = Counter()

    def open(self, network: str) -> MeteredSession:
        return MeteredSession(self._runtime.open(network), self)

    def close(self) -> None:
        self._runtime.close()


def whole(levels: Geometry) -> Runs:
    """The runs of the loop without tiles: each level once, at its padded size."""
    sizes = [("lens_blur", levels.padded(0)), *(("upsample", levels.padded(k)) for k in range(levels.steps))]
    return Counter((network, *size) for network, size in sizes)


def multiplications(variant: str, runs: Runs) -> int:
    """Multiplications of all runs, by `model.cost`. Needs PyTorch."""
    return sum(count * _cost(variant, *run) for run, count in runs.items())


@lru_cache(maxsize=256)
def _cost(variant: str, network: str, height: int, width: int) -> int:
    from model.cost import cost

    return int(cost(variant, network, height, width)["multiplications"])
