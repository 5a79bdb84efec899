"""What locating found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Departure:
    """An operation whose output departs.

    Attributes:
        operation: kind and name in the artefact.
        module: path of the PyTorch module, "" of the network itself; None where no counterpart is known.
        source: file and line of the network's code; "" where unknown.
        off: max |operation − PyTorch float32| on PyTorch's own inputs.
        allowed: what it might have been.
        note: what there is to know beside.
    """

    operation: str
    module: str | None
    source: str
    off: float
    allowed: float
    note: str = ""

    def __str__(self) -> str:
        module = "of unknown origin" if self.module is None else f"module {self.module or '(the network itself)'}"
        where = f"{module}, {self.source}" if self.source else module
        said = f"{self.operation} ({where}) is off by {self.off:.2g}, allowed {self.allowed:.2g}"
        return f"{said}; {self.note}" if self.note else said


@dataclass(frozen=True)
class Verdict:
    """Of one network in one artefact.

    Attributes:
        departure: the first; None where every operation agrees.
        judged: operations that were compared.
        unnamed: operations without a counterpart in PyTorch's graph; they were judged with what follows them.
    """

    departure: Departure | None
    judged: int
    unnamed: int

    def __str__(self) -> str:
        counts = f"{self.judged} operations judged alone, {self.unnamed} without a counterpart with what follows"
        if self.departure is None:
            return f"no operation differs ({counts})"
        return f"the first operation that differs is {self.departure} ({counts})"
