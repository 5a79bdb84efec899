"""Energy of what runs between two moments, where the device tells: counters of RAPL and NVML, a Jetson's sensors.

It is that of the whole package, GPU or board, idle power included: nothing else may run meanwhile.
"""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from deeplens.benchmarks.nvml import Nvml

INTERVAL = 0.01
"""Seconds between two readings of a sensor that tells power, not energy."""

NOT_TOLD = "the device does not tell: no RAPL counter that can be read, no NVML, no INA sensor"


class Meter:
    """Adds up the energy of every block it is entered for. A context manager that can be entered again.

    Args:
        sources: name → reads joules since any fixed moment, or, in `sensors`, watts now.

    Attributes:
        joules: name → energy in all blocks so far.
    """

    def __init__(
        self, counters: dict[str, Callable[[], float]], sensors: dict[str, Callable[[], float]] | None = None
    ) -> None:
        self._counters, self._sensors = counters, sensors or {}
        self.joules: dict[str, float] = dict.fromkeys((*self._counters, *self._sensors), 0.0)
        self._start: dict[str, float] = {}
        self.stopping = threading.Event()
        self._sampler: threading.Thread | None = None

    @property
    def told(self) -> bool:
        """Whether there is anything that tells."""
        return bool(self.joules)

    def __enter__(self) -> "Meter":
        self._start = {name: read() for name, read in self._counters.items()}
        if self._sensors:
            self.stopping.clear()
            self._sampler = threading.Thread(target=self._sample, daemon=True)
            self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._sampler is not None:
            self.stopping.set()
            self._sampler.join()
            self._sampler = None
        for name, read in self._counters.items():
            self.joules[name] += max(0.0, read() - self._start[name])

    def _sample(self) -> None:
        last = time.perf_counter()
        watts = {name: read() for name, read in self._sensors.items()}
        while True:
            stopped = self.stopping.wait(INTERVAL)
            now = time.perf_counter()
            for name, read in self._sensors.items():
                power = read()
                self.joules[name] += (now - last) * (watts[name] + power) / 2
                watts[name] = power
            last = now
            if stopped:
                return


def meter(stack: ExitStack, root: Path = Path("/")) -> Meter:
    """All that this machine tells; `stack` closes it. `root` is where /sys lies, for tests."""
    counters = dict(_rapl(root / "sys/class/powercap"))
    nvml = stack.enter_context(Nvml.opened())
    if nvml is not None and nvml.joules() is not None:
        counters["GPU (NVML)"] = lambda: nvml.joules() or 0.0
    return Meter(counters, dict(_ina(root / "sys/class/hwmon")))


def _rapl(folder: Path) -> list[tuple[str, Callable[[], float]]]:
    """The packages' counters, in joules, continued where they wrap; reading them may need root."""
    found: list[tuple[str, Callable[[], float]]] = []
    for zone in sorted(folder.glob("intel-rapl:[0-9]*")):
        if zone.name.count(":") != 1:
            continue  # a part of a package
        try:
            name = (zone / "name").read_text().strip()
            most = int((zone / "max_energy_range_uj").read_text())
            int((zone / "energy_uj").read_text())
        except (OSError, ValueError):
            continue
        found.append((f"{name} (RAPL)", _Wrapping(zone / "energy_uj", most)))
    return found


class _Wrapping:
    """Reads a counter of microjoules that starts at 0 again after `most`."""

    def __init__(self, path: Path, most: int) -> None:
        self._path, self._most = path, most
        self._last, self._rounds = 0, 0

    def __call__(self) -> float:
        now = int(self._path.read_text())
        self._rounds += now < self._last
        self._last = now
        return (now + self._rounds * self._most) / 1e6


def _ina(folder: Path) -> list[tuple[str, Callable[[], float]]]:
    """The rails of a Jetson's INA3221 sensors: millivolts times milliamperes."""
    found = []
    for sensor in sorted(folder.glob("hwmon*")):
        try:
            if (sensor / "name").read_text().strip() != "ina3221":
                continue
        except OSError:
            continue
        for label in sorted(sensor.glob("in[0-9]_label")):
            index = label.name[2]
            volts, amperes = sensor / f"in{index}_input", sensor / f"curr{index}_input"
            if volts.is_file() and amperes.is_file():
                found.append((f"{label.read_text().strip()} (INA)", _power(volts, amperes)))
    return found


def _power(volts: Path, amperes: Path) -> Callable[[], float]:
    return lambda: int(volts.read_text()) * int(amperes.read_text()) / 1e6
