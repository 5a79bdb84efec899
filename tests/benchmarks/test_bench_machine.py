"""The machine's speed and state, and the energy it used, with made-up clocks and devices."""

from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from deeplens.benchmarks import energy, machine, nvml, state
from deeplens.benchmarks.machine import Speed, bandwidth, clock, remarks, sgemm
from deeplens.benchmarks.state import State


class Clock:
    """A clock that goes on by a second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


SPEED = Speed({"numpy": 100.0, "torch": 90.0}, {"copy": 10.0, "add": 8.0}, 1500.0)


def speed(*, gflops: float = 100.0, clock: float = 1500.0) -> Speed:
    return Speed({"numpy": gflops}, SPEED.bandwidth, clock)


class TestMachine:
    def test_rates_by_a_made_up_clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "perf_counter", Clock())
        # Two operations a multiplication; copy moves two arrays, add three.
        monkeypatch.setattr(machine, "core_count", lambda: 2)
        rate = pytest.approx(2e-3)
        torch = find_spec("torch") is not None
        assert sgemm(threads=2, size=100, repeats=2) == {"numpy": rate} | ({"torch": rate} if torch else {})
        alone = {"torch": rate} if torch else {"numpy": rate}
        assert sgemm(threads=1, size=100, repeats=2) == alone, "NumPy would take both cores, but is all that there is"
        assert bandwidth(threads=2, size=1000, repeats=1) == {"copy": 2e-6, "add": 3e-6}
        assert clock(1) == 256 * 16384 / 1e6

    def test_they_measure(self) -> None:
        assert min(sgemm(threads=1, size=64, repeats=1).values()) > 0
        assert min(bandwidth(threads=1, size=1 << 16, repeats=1).values()) > 0

    def test_what_makes_times_doubtful(self) -> None:
        quiet = (State(), State())
        assert remarks(load=0.2, before=SPEED, after=speed(gflops=98.0, clock=1450.0), states=quiet) == []
        assert remarks(load=None, before=SPEED, after=SPEED, states=quiet) == []
        (busy,) = remarks(load=1.5, before=SPEED, after=SPEED, states=quiet)
        assert "1.50" in busy
        (drift,) = remarks(load=0.0, before=SPEED, after=speed(gflops=80.0), states=quiet)
        assert "-20 %" in drift
        (slower,) = remarks(load=0.0, before=SPEED, after=speed(clock=1400.0), states=quiet)
        assert "clock" in slower
        (told,) = remarks(
            load=0.0, before=SPEED, after=SPEED, states=(State(cpu_mhz={"0": 3000.0}), State(cpu_mhz={"0": 2800.0}))
        )
        assert "3000 to 2800 MHz" in told


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class TestState:
    def test_what_linux_tells(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(state, "read_power_mode", lambda: ("nvpmodel: NV Power Mode: MAXN",))
        cpu = tmp_path / "sys/devices/system/cpu"
        for index in (0, 1):
            write(cpu / f"cpu{index}/cpufreq/scaling_cur_freq", f"{1500 + index}000\n")
            write(cpu / f"cpu{index}/cpufreq/scaling_governor", "schedutil\n")
        write(cpu / "cpu0/thermal_throttle/core_throttle_count", "3\n")
        write(tmp_path / "sys/class/thermal/thermal_zone0/type", "CPU-therm\n")
        write(tmp_path / "sys/class/thermal/thermal_zone0/temp", "48500\n")
        found = state.read_state(tmp_path)
        assert found.cpu_mhz == {"cpu0": 1500.0, "cpu1": 1501.0}
        assert (found.governor, found.celsius) == (("schedutil",), {"thermal_zone0 CPU-therm": 48.5})
        assert found.throttled == {"cpu0 core_throttle_count": 3}
        assert found.to_json()["not_told"] == ["gpu"]

    def test_a_machine_that_tells_nothing_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda _: None)
        assert state.read_state(tmp_path).to_json() == {"not_told": list(state.KINDS)}
        write(tmp_path / "proc/cpuinfo", "cpu MHz\t\t: 2599.1\ncpu MHz\t\t: 2600.0\n")
        assert state.read_state(tmp_path).cpu_mhz == {"cpu0": 2599.1, "cpu1": 2600.0}

    def test_a_command_that_fails_tells_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda name: "/x" if name == "nvpmodel" else None)
        assert state.read_state(tmp_path).power_mode == ()

    @pytest.mark.parametrize(
        ("after", "message"),
        [
            (State(throttled={"cpu0": 5}), "throttled 2 times"),
            (State(gpu={"sm_mhz": 900}), "GPU went from 1000 to 900 MHz"),
            (State(gpu={"sm_mhz": 1000, "throttle_reasons": ["power cap"]}), "power cap"),
            (State(governor=("powersave",)), "power mode"),
        ],
    )
    def test_what_invalidates(self, after: State, message: str) -> None:
        before = State(throttled={"cpu0": 3}, gpu={"sm_mhz": 1000})
        (found,) = after.changes_since(before, drift=0.05)
        assert message in found
        assert before.changes_since(before, drift=0.05) == []


class FakeNvml:
    """The C functions that `Nvml` calls: writes through the pointers, as the library does."""

    def __init__(self, millijoules: int | None = 5000) -> None:
        self.millijoules = millijoules

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, _index: int, _handle: Any) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetName(self, _device: Any, buffer: Any, _size: Any) -> int:  # noqa: N802
        buffer.value = b"Fake GPU"
        return 0

    def nvmlSystemGetDriverVersion(self, buffer: Any, _size: Any) -> int:  # noqa: N802
        buffer.value = b"580.1"
        return 0

    def __getattr__(self, name: str) -> Callable[..., int]:
        values = {
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0x44,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetClockInfo": 1980,
            "nvmlDeviceGetTemperature": 41,
            "nvmlDeviceGetTotalEnergyConsumption": self.millijoules,
        }

        def call(*arguments: Any) -> int:
            if values[name] is None:
                return 3  # not supported
            arguments[-1]._obj.value = values[name]
            return 0

        return call


def test_nvml_by_its_own_calls() -> None:
    found = nvml.Nvml(FakeNvml())
    assert found.state() == {
        "name": "Fake GPU", "driver": "580.1", "sm_mhz": 1980, "memory_mhz": 1980, "celsius": 41,
        "power_limit_w": 700.0,
        "throttle_reasons": ["power cap", "hardware thermal slowdown"],
    }  # fmt: skip
    assert found.joules() == 5.0
    assert nvml.Nvml(FakeNvml(None)).joules() is None


class TestEnergy:
    def test_rapl_counts_packages_and_wraps(self, tmp_path: Path) -> None:
        zone = tmp_path / "sys/class/powercap/intel-rapl:0"
        write(zone / "name", "package-0\n")
        write(zone / "max_energy_range_uj", "10000000\n")
        write(zone / "energy_uj", "9000000\n")
        write(tmp_path / "sys/class/powercap/intel-rapl:0:0/energy_uj", "1\n")  # a part of the package
        with ExitStack() as stack:
            meter = energy.meter(stack, tmp_path)
            assert meter.told
            with meter:
                write(zone / "energy_uj", "2000000\n")
            with meter:
                write(zone / "energy_uj", "2500000\n")
            assert meter.joules == {"package-0 (RAPL)": pytest.approx(3.0 + 0.5)}

    def test_a_jetson_s_sensor_is_power_over_time(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(energy, "INTERVAL", 0.0)
        monkeypatch.setattr("time.perf_counter", Clock())  # a second between two readings
        sensor = tmp_path / "sys/class/hwmon/hwmon1"
        for name, text in (
            ("name", "ina3221"),
            ("in1_label", "VDD_IN"),
            ("in1_input", "5000"),
            ("curr1_input", "2000"),
        ):
            write(sensor / name, text)
        with ExitStack() as stack:
            meter = energy.meter(stack, tmp_path)
            monkeypatch.setattr(meter.stopping, "wait", lambda _seconds: True)  # one interval
            with meter:
                pass
            assert meter.joules == {"VDD_IN (INA)": pytest.approx(10.0)}

    def test_where_nothing_tells(self, tmp_path: Path) -> None:
        with ExitStack() as stack:
            meter = energy.meter(stack, tmp_path)
            with meter:
                pass
            assert not meter.told
