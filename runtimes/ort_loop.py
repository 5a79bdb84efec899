"""A graph of the whole effect in ONNX Runtime with its inputs kept on the device, by I/O binding."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from deeplens.console.errors import MismatchError, one_line
from deeplens.model.whole_contract import PIXELS, REFOCUSED, TOTAL
from deeplens.runtimes.whole_loop import check_finite


class OnnxResident:
    """See `runtimes.whole_loop.Resident`.

    Args:
        ort: the library.
        session: of a graph that `runtimes.whole_pixels.in_pixels` changed.
        memory: ONNX Runtime's name of the kind of device whose memory the provider computes in: "cpu", "cuda", "dml".
    """

    device_seconds: float | None = None

    def __init__(self, ort: ModuleType, session: Any, memory: str) -> None:
        self._ort, self._session, self._memory = ort, session, memory

    def keep(self, pixels: np.ndarray, disparity: np.ndarray) -> dict[str, Any]:
        arrays = {PIXELS: pixels, "disparity": disparity}
        return {name: self._placed(array) for name, array in arrays.items()}

    def run(self, kept: dict[str, Any], numbers: Mapping[str, np.ndarray]) -> np.ndarray:
        binding = self._session.io_binding()
        for name, value in kept.items():
            binding.bind_ortvalue_input(name, value)
        for name, number in numbers.items():
            binding.bind_ortvalue_input(name, self._placed(number))
        for name in (REFOCUSED, TOTAL):
            binding.bind_output(name, self._memory)
        try:
            self._session.run_with_iobinding(binding)
            result, total = (each.numpy() for each in binding.get_outputs())
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            raise MismatchError(
                f"ONNX Runtime fails while it runs the graph of the whole effect ({one_line(error)}): export it again, "
                "or use --loop host if memory is short"
            ) from error
        check_finite(float(total.sum()))
        found: np.ndarray = result
        return found

    def _placed(self, array: np.ndarray) -> Any:
        return self._ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self._memory, 0)
