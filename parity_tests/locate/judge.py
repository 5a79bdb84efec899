"""Is what an operation gave PyTorch's value?"""

from collections.abc import Mapping

import numpy as np

from deeplens.parity_tests.locate.found import Departure, Verdict
from deeplens.parity_tests.locate.reference import Origin, Reference


class Judge:
    """Takes what operations give, in order, and keeps the first that departs.

    Args:
        names: value in the artefact → value of the reference (`Reference.matched`).
        precision: "fp32" or "fp16".
    """

    def __init__(self, reference: Reference, names: Mapping[str, str], precision: str) -> None:
        self.reference = reference
        self.names = names
        self.departure: Departure | None = None
        self._precision = precision
        self._judged: set[str] = set()

    def departs(self, name: str, kind: str, value: np.ndarray, *, note: str = "") -> Departure | None:
        """The departure of one value; None where it is PyTorch's, or has no counterpart."""
        here = self.names.get(name)
        if here is None:
            return None
        self._judged.add(name)
        due = self.reference.values[here]
        if value.shape != due.shape:
            said = f"it gave {value.shape}, PyTorch {due.shape}"
            return self._departure(name, kind, here, float("inf"), 0.0, said)
        with np.errstate(invalid="ignore"):
            off = float(np.abs(value.astype(np.float64) - due).max(initial=0.0))
        allowed = self.reference.allowed(here, self._precision)
        if off <= allowed:
            return None
        return self._departure(name, kind, here, off, allowed, note)

    def take(self, name: str, kind: str, value: np.ndarray, *, note: str = "") -> None:
        """Judge a value, and keep it if it is the first that departs."""
        if self.departure is None:
            self.departure = self.departs(name, kind, value, note=note)

    def verdict(self, operations: int) -> Verdict:
        return Verdict(self.departure, len(self._judged), max(0, operations - len(self.names)))

    def _departure(self, name: str, kind: str, here: str, off: float, allowed: float, note: str) -> Departure:
        origin: Origin = self.reference.origins[here]
        return Departure(f"{kind} {name}", origin.module, origin.source, off, allowed, note)
