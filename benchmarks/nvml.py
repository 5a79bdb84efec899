"""NVIDIA's management library: clocks, temperature, throttle reasons and energy of the GPU that is used.

NVIDIA's own module `pynvml` (package nvidia-ml-py, in the extras `tensorrt` and `rtx`) calls it; the library comes with
the driver. Jetsons before Thor have none.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from deeplens.console.package import pip_install

DRIVER = Path("/proc/driver/nvidia/version")
"""There where NVIDIA's driver is loaded."""

REASONS = {
    "nvmlClocksThrottleReasonSwPowerCap": "power cap",
    "nvmlClocksThrottleReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksThrottleReasonSwThermalSlowdown": "software thermal slowdown",
    "nvmlClocksThrottleReasonHwThermalSlowdown": "hardware thermal slowdown",
    "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": "hardware power brake",
}
"""Bits of nvmlDeviceGetCurrentClocksThrottleReasons that mean: slower than it could be."""


class Nvml:
    """The first GPU that CUDA's programs see; of a part of one by MIG the whole GPU, which has the clocks.

    Args:
        library: the module `pynvml`, or what stands for it.

    Raises:
        pynvml.NVMLError: there is no driver or no GPU.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        library.nvmlInit()
        try:
            self._device = device_of(library, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        except library.NVMLError:
            library.nvmlShutdown()
            raise

    @staticmethod
    @contextmanager
    def opened() -> "Iterator[Nvml | None]":
        """The GPU, or None where there is no driver, no GPU or no `pynvml` (see `missing`)."""
        library = _pynvml()
        nvml = None
        if library is not None:
            try:
                nvml = Nvml(library)
            except library.NVMLError:
                nvml = None
        try:
            yield nvml
        finally:
            if nvml is not None:
                nvml.close()

    def close(self) -> None:
        self._library.nvmlShutdown()

    def state(self) -> dict[str, Any]:
        """What it tells: name, driver, sm_mhz, memory_mhz, celsius, power_limit_w, throttle_reasons."""
        library = self._library
        reasons = self._told("nvmlDeviceGetCurrentClocksThrottleReasons", self._device)
        limit = self._told("nvmlDeviceGetEnforcedPowerLimit", self._device)
        told = {
            "name": self._told("nvmlDeviceGetName", self._device),
            "driver": self._told("nvmlSystemGetDriverVersion"),
            "sm_mhz": self._told("nvmlDeviceGetClockInfo", self._device, library.NVML_CLOCK_SM),
            "memory_mhz": self._told("nvmlDeviceGetClockInfo", self._device, library.NVML_CLOCK_MEM),
            "celsius": self._told("nvmlDeviceGetTemperature", self._device, library.NVML_TEMPERATURE_GPU),
            "power_limit_w": None if limit is None else limit / 1000,
            "throttle_reasons": [name for bit, name in REASONS.items() if (reasons or 0) & getattr(library, bit)],
        }
        return {name: value for name, value in told.items() if value is not None}

    def joules(self) -> float | None:
        """Energy since the driver was loaded; None where the GPU does not count it (before Volta)."""
        millijoules = self._told("nvmlDeviceGetTotalEnergyConsumption", self._device)
        return None if millijoules is None else millijoules / 1000

    def _told(self, name: str, *arguments: Any) -> Any:
        """What a function of the library gives; None where this GPU does not tell."""
        call: Callable[..., Any] = getattr(self._library, name)
        try:
            return call(*arguments)
        except self._library.NVMLError:
            return None  # not supported, or not permitted


def device_of(library: Any, visible: str) -> Any:
    """The handle of the first of the devices that CUDA_VISIBLE_DEVICES names, by number or by UUID; else of the first.

    The library does not look at the variable itself.
    """
    first = visible.split(",")[0].strip()
    try:
        if first.startswith("MIG-"):
            return library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(library.nvmlDeviceGetHandleByUUID(first))
        if first.startswith("GPU-"):
            return library.nvmlDeviceGetHandleByUUID(first)
        if first.isdecimal():
            return library.nvmlDeviceGetHandleByIndex(int(first))
    except library.NVMLError:
        pass  # a number that counts otherwise, or a UUID that is cut short
    return library.nvmlDeviceGetHandleByIndex(0)


def missing(driver: Path = DRIVER) -> str | None:
    """What to install where there is an NVIDIA GPU whose clocks and energy can't be read; None where all is well."""
    if _pynvml() is not None or not driver.exists():
        return None
    return f"the GPU's clocks, temperature and energy are not read, since pynvml is missing: {pip_install('tensorrt')}"


def _pynvml() -> ModuleType | None:
    try:
        import pynvml
    except ImportError:
        return None
    module: ModuleType = pynvml
    return module
