"""The state that a machine is in while it is measured: clocks, governor, power mode, temperature, throttling.

What a system does not tell is absent, and listed as such: nothing is guessed. Linux tells in /sys and /proc, NVIDIA's
GPUs through their management library, a Jetson through nvpmodel and jetson_clocks, macOS through pmset.
"""

import re
import shutil
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deeplens.benchmarks.nvml import Nvml

KINDS = ("cpu_mhz", "governor", "power_mode", "celsius", "throttled", "gpu")
"""What is asked for."""

TIMEOUT = 5.0
"""Seconds that a command may take to tell."""


@dataclass(frozen=True)
class State:
    """What the machine told at one moment; empty where it does not tell.

    Attributes:
        cpu_mhz: the clock of each core.
        governor: the frequency governors in use.
        power_mode: lines of `nvpmodel -q`, `jetson_clocks --show` (which needs root) or `pmset -g therm`.
        celsius: thermal zone → temperature.
        throttled: counter → how often the processor has throttled since it was started.
        gpu: of NVIDIA GPUs: name, driver, clocks in MHz, temperature, power limit, reasons for lower clocks.
    """

    cpu_mhz: dict[str, float] = field(default_factory=dict)
    governor: tuple[str, ...] = ()
    power_mode: tuple[str, ...] = ()
    celsius: dict[str, float] = field(default_factory=dict)
    throttled: dict[str, int] = field(default_factory=dict)
    gpu: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What was told, and under "not_told" the names of what was not."""
        told = {name: value for name, value in asdict(self).items() if value}
        return {**told, "not_told": [name for name in KINDS if name not in told]}

    def changes_since(self, before: "State", *, drift: float) -> list[str]:
        """What has changed that makes times invalid: a mean clock by more than `drift`, throttling, a power mode."""
        found = []
        for name, one, two in (
            ("cores", _mean(before.cpu_mhz), _mean(self.cpu_mhz)),
            ("GPU", before.gpu.get("sm_mhz"), self.gpu.get("sm_mhz")),
        ):
            if one and two and abs(two / one - 1) > drift:
                found.append(f"the clock of the {name} went from {one:.0f} to {two:.0f} MHz")
        counts = sum(count - before.throttled.get(name, 0) for name, count in self.throttled.items())
        if counts > 0:
            found.append(f"the processor throttled {counts} times during the run")
        if self.gpu.get("throttle_reasons"):
            found.append(f"the GPU's clocks were held down: {', '.join(self.gpu['throttle_reasons'])}")
        if (before.governor, before.power_mode) != (self.governor, self.power_mode):
            found.append("the governor or the power mode was changed during the run")
        return found


def read_state(root: Path = Path("/")) -> State:
    """The state now. `root` is where /sys and /proc lie, for tests."""
    cpus = root / "sys/devices/system/cpu"
    return State(
        cpu_mhz=_clocks(cpus, root / "proc/cpuinfo"),
        governor=tuple(sorted({_text(path) for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_governor")})),
        power_mode=read_power_mode(),
        celsius=_temperatures(root / "sys/class/thermal"),
        throttled=_throttled(cpus),
        gpu=_gpu(),
    )


def _mean(clocks: dict[str, float]) -> float | None:
    return sum(clocks.values()) / len(clocks) if clocks else None


def _text(path: Path) -> str:
    """A file's first line; empty where it can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _clocks(cpus: Path, cpuinfo: Path) -> dict[str, float]:
    found = {
        path.parent.parent.name: float(text) / 1000
        for path in sorted(cpus.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
        if (text := _text(path)).isdecimal()
    }
    if not found:  # virtual machines tell here, if anywhere
        values = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", _text(cpuinfo), flags=re.MULTILINE)
        found = {f"cpu{index}": float(value) for index, value in enumerate(values)}
    return found


def _temperatures(zones: Path) -> dict[str, float]:
    return {
        f"{zone.name} {_text(zone / 'type')}".strip(): int(text) / 1000
        for zone in sorted(zones.glob("thermal_zone*"))
        if (text := _text(zone / "temp")).lstrip("-").isdecimal()
    }


def _throttled(cpus: Path) -> dict[str, int]:
    return {
        f"{path.parent.parent.name} {path.stem}": int(text)
        for path in sorted(cpus.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"))
        if (text := _text(path)).isdecimal()
    }


def read_power_mode() -> tuple[str, ...]:
    """Lines about the power mode, of those tools that are installed."""
    commands = (("nvpmodel", "-q"), ("jetson_clocks", "--show"), ("pmset", "-g", "therm"))
    lines: list[str] = []
    for command in commands:
        if shutil.which(command[0]) is None:
            continue
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, check=True
            )
        except (OSError, subprocess.SubprocessError):
            continue
        lines += [f"{command[0]}: {line.strip()}" for line in done.stdout.splitlines() if line.strip()]
    return tuple(lines)


def _gpu() -> dict[str, Any]:
    with Nvml.opened() as nvml:
        return {} if nvml is None else nvml.state()
