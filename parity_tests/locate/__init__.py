"""Which operation of an artefact is the first whose output departs from PyTorch's, and to which module it belongs.

Each operation is judged alone: it gets PyTorch's own intermediate values as inputs (`reference`), so that what is named
is the operation that is wrong, not the one where an error from before has grown large. Names lead from an artefact to
PyTorch: both exporters name what an operation gives after the node of the captured graph that it came from, and each
node knows its module and its line of source.

`graph` judges ONNX graphs, `program` MIL programs, `capture` graphs of PyTorch, `loop` all that is around the networks.
"""

from deeplens.parity_tests.locate.found import Departure, Verdict
from deeplens.parity_tests.locate.reference import Reference

__all__ = ["Departure", "Reference", "Verdict"]
