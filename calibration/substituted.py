"""A runtime some of whose sessions are others: to listen to a network, or to try another graph of it."""

from collections.abc import Mapping

from deeplens.runtimes.contract import Runtime, Session


class Substituted(Runtime):
    """`runtime` with `sessions` (network → session) in place of its own. Closes neither."""

    def __init__(self, runtime: Runtime, sessions: Mapping[str, Session]) -> None:
        self.name, self.variant = runtime.name, runtime.variant
        self._runtime, self._sessions = runtime, sessions

    def open(self, network: str) -> Session:
        """See `runtimes.contract.Runtime.open`."""
        return self._sessions.get(network) or self._runtime.open(network)

    def close(self) -> None:
        """The sessions stay their owners' to close."""
