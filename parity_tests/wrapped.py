"""A runtime seen through something that looks at, or changes, what goes in and out of its networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from deeplens.model.contract import Contract
from deeplens.runtimes.contract import Arrays, Closing, Runtime, Session

Run = Callable[[Mapping[str, np.ndarray]], Arrays]


@dataclass(frozen=True)
class WrappedSession:
    """A session with another way to run, another contract, or both. `session` is the one below."""

    session: Session
    call: Run
    contract: Contract

    def describe(self) -> Contract:
        return self.contract

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return self.call(inputs)

    def close(self) -> None:
        self.session.close()


class WrappedRuntime(Closing):
    """Opens the sessions of another runtime and passes each through `wrap`, which gets network and session."""

    def __init__(self, runtime: Runtime, wrap: Callable[[str, Session], Session]) -> None:
        self.name = runtime.name
        self.variant = runtime.variant
        self._runtime = runtime
        self._wrap = wrap

    def open(self, network: str) -> Session:
        return self._wrap(network, self._runtime.open(network))

    def close(self) -> None:
        self._runtime.close()


def with_fixed_size(runtime: Runtime, size: tuple[int, int]) -> Runtime:
    """The same runtime as if its graphs took one low-resolution (height, width) only.

    The harness then cuts and pads as it does for fixed-shape artefacts. Near a padded border that is another input, so
    a fixed-shape artefact has to be compared with this.
    """

    def wrap(_network: str, session: Session) -> Session:
        contract = session.describe()
        if contract.fixed_size is not None:
            return session
        return WrappedSession(session, session.run, replace(contract, fixed_size=size))

    return WrappedRuntime(runtime, wrap)


def recording(runtime: Runtime, seen: dict[str, Arrays]) -> Runtime:
    """The same runtime; what each network last got is put into `seen`."""

    def wrap(network: str, session: Session) -> Session:
        def run(inputs: Mapping[str, np.ndarray]) -> Arrays:
            seen[network] = dict(inputs)
            return session.run(inputs)

        return WrappedSession(session, run, session.describe())

    return WrappedRuntime(runtime, wrap)
