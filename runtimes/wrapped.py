"""A runtime seen through something that looks at, counts or changes what goes in and out of its networks."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from deeplens.model.contract import Contract
from deeplens.runtimes.contract import Arrays, Runtime, Session
from deeplens.runtimes.fit import Fit

Run = Callable[[Mapping[str, np.ndarray]], Arrays]


class Around(Session):
    """A session that does as the one below does, `session`; what is to differ is overridden."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.entry, self.ran = session.entry, session.ran
        self.lanes, self.any_size = session.lanes, session.any_size

    @property
    def closed(self) -> bool:
        return self.session.closed

    @property
    def fit(self) -> Fit:
        return self.session.fit

    def describe(self) -> Contract:
        return self.session.describe()

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return self.session.run(inputs)

    def takes(self, size: tuple[int, int]) -> bool:
        return self.session.takes(size)

    def weights_sha256(self) -> str:
        return self.session.weights_sha256()

    def close(self) -> None:
        self.session.close()


class WrappedSession(Around):
    """A session with another way to run, another contract, or both."""

    def __init__(self, session: Session, call: Run, contract: Contract) -> None:
        super().__init__(session)
        self.lanes = 1
        self._call, self._contract = call, contract

    def describe(self) -> Contract:
        return self._contract

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return self._call(inputs)

    def takes(self, size: tuple[int, int]) -> bool:
        return self._contract.fixed_size in (None, size) and self.session.takes(size)


class WrappedRuntime(Runtime):
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
