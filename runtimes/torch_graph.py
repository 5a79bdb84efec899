"""Work on PyTorch's device that is recorded once and then launched as one: a CUDA graph.

What is recorded must read its inputs from tensors that stay where they are, and must not ask for a value on the way.
"""

import warnings
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch
from torch import Tensor

from deeplens.console.errors import one_line

Work = Callable[[], Tensor]


class Record(Protocol):
    """Records work.

    Attributes:
        held_bytes: of the device's memory, for all that was recorded.
    """

    held_bytes: int

    def __call__(self, work: Work) -> Work:
        """What does the work again, with what its input tensors hold then, into the same output.

        Raises:
            RuntimeError: it can't be recorded.
        """


class Recorded:
    """Work that comes again: plain at first, then recorded, then launched.

    The first run of a kind stays plain: libraries choose and set up in it, and for a picture that is asked for once
    nothing is recorded. Where a recording fails, all runs are plain from then on, with a warning.

    Args:
        record: what records.
    """

    def __init__(self, record: Record) -> None:
        self._record: Record | None = record
        self._seen: set[Hashable] = set()
        self._made: dict[Hashable, Work] = {}

    @property
    def count(self) -> int:
        """How many kinds of work are recorded."""
        return len(self._made)

    @property
    def held_bytes(self) -> int:
        """Of the device's memory, for what is recorded."""
        return 0 if self._record is None else self._record.held_bytes

    def run(self, kind: Hashable, work: Work) -> Tensor:
        """Do the work.

        Args:
            kind: what it does the same for as another run: all that its Python code decides by.

        Returns:
            its output, which the next run overwrites.
        """
        if kind not in self._made and kind in self._seen and self._record is not None:
            try:
                self._made[kind] = self._record(work)
            except RuntimeError as error:
                self._record = None
                warnings.warn(
                    f"the loop runs without a CUDA graph: PyTorch can't record it ({one_line(error)[:200]})",
                    stacklevel=2,
                )
        self._seen.add(kind)
        return self._made.get(kind, work)()


class CudaGraphs:
    """Records CUDA graphs on a stream of its own.

    They share their memory, which PyTorch allows for graphs that are recorded on one stream and never launched at the
    same time, in whatever order: none takes another's output, and each output is copied before the next launch.
    """

    def __init__(self) -> None:
        self._pool: Any = None
        self._stream: Any = None
        self.held_bytes = 0

    def __call__(self, work: Work) -> Work:
        """See `Record`. RuntimeError: something in it can't be recorded, or memory is short."""
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        before, stream = torch.cuda.current_stream(), self._stream
        stream.wait_stream(before)
        graph = torch.cuda.CUDAGraph()
        # PyTorch leaves its own stream current if a recording fails; this one sets back what was before in any case.
        with torch.cuda.stream(stream):
            work()  # work space of cuBLAS and plans of cuDNN for this stream
            # Calls of other threads don't end this recording.
            torch.cuda.empty_cache()
            reserved = torch.cuda.memory_reserved()
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                output = work()
        before.wait_stream(stream)
        self._pool = graph.pool()
        self.held_bytes += torch.cuda.memory_reserved() - reserved

        def again() -> Tensor:
            graph.replay()
            return output

        return again
