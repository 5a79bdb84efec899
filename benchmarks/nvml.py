"""NVIDIA's management library through ctypes: clocks, temperature, throttle reasons and energy of the first GPU.

The library comes with the driver; where there is none, `Nvml.opened` gives None. Jetsons have no such library.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LIBRARY = "libnvidia-ml.so.1"

REASONS = {
    0x4: "power cap", 0x8: "hardware slowdown", 0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown", 0x80: "hardware power brake",
}  # fmt: skip
"""Bits of nvmlDeviceGetCurrentClocksThrottleReasons that mean: slower than it could be."""

SM_CLOCK, MEMORY_CLOCK, CORE_SENSOR = 1, 2, 0


class Nvml:
    """The first GPU. `library` is the loaded C library, or one that stands for it."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._check(library.nvmlInit_v2())
        self._device = ctypes.c_void_p()
        self._check(library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(self._device)))

    @staticmethod
    @contextmanager
    def opened() -> "Iterator[Nvml | None]":
        """The GPU, or None where there is no driver or no GPU."""
        try:
            nvml = Nvml(ctypes.CDLL(LIBRARY))
        except OSError:
            yield None
            return
        try:
            yield nvml
        finally:
            nvml.close()

    def close(self) -> None:
        self._library.nvmlShutdown()

    def state(self) -> dict[str, Any]:
        """What it tells: name, driver, sm_mhz, memory_mhz, celsius, power_limit_w, throttle_reasons."""
        reasons = self._number("nvmlDeviceGetCurrentClocksThrottleReasons", ctypes.c_ulonglong)
        limit = self._number("nvmlDeviceGetEnforcedPowerLimit", ctypes.c_uint)
        told = {
            "name": self._string("nvmlDeviceGetName", self._device),
            "driver": self._string("nvmlSystemGetDriverVersion"),
            "sm_mhz": self._number("nvmlDeviceGetClockInfo", ctypes.c_uint, SM_CLOCK),
            "memory_mhz": self._number("nvmlDeviceGetClockInfo", ctypes.c_uint, MEMORY_CLOCK),
            "celsius": self._number("nvmlDeviceGetTemperature", ctypes.c_uint, CORE_SENSOR),
            "power_limit_w": None if limit is None else limit / 1000,
            "throttle_reasons": [name for bit, name in REASONS.items() if (reasons or 0) & bit],
        }
        return {name: value for name, value in told.items() if value is not None}

    def joules(self) -> float | None:
        """Energy since the driver was loaded; None where the GPU does not count it (before Volta)."""
        millijoules = self._number("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)
        return None if millijoules is None else millijoules / 1000

    def _number(self, name: str, kind: Any, *arguments: int) -> int | None:
        value = kind()
        status = getattr(self._library, name)(self._device, *arguments, ctypes.byref(value))
        return None if status else int(value.value)

    def _string(self, name: str, *arguments: Any) -> str | None:
        buffer = ctypes.create_string_buffer(96)
        status = getattr(self._library, name)(*arguments, buffer, ctypes.c_uint(len(buffer)))
        return None if status else buffer.value.decode(errors="replace")

    def _check(self, status: int) -> None:
        if status:
            raise OSError(f"NVML: status {status}")
