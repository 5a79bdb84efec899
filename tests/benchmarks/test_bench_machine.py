"""The machine's speed and state, and the energy it used, with made-up clocks and devices."""

import inspect
import re
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from deeplens.benchmarks import energy, machine, nvml, state
from deeplens.benchmarks.machine import Speed, bandwidth, clock, remarks, sgemm
from deeplens.benchmarks.state import State
from deeplens.commands import gpu_probe


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


class NvmlError(Exception):
    """What stands for pynvml.NVMLError."""


class FakePynvml:
    """Stands for the module pynvml: a GPU that tells everything, or all but its energy."""

    NVMLError = NvmlError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU, NVML_COMPUTEMODE_EXCLUSIVE_PROCESS = 1, 2, 0, 3
    nvmlClocksThrottleReasonSwPowerCap = 0x4  # noqa: N815
    nvmlClocksThrottleReasonHwSlowdown = 0x8  # noqa: N815
    nvmlClocksThrottleReasonSwThermalSlowdown = 0x20  # noqa: N815
    nvmlClocksThrottleReasonHwThermalSlowdown = 0x40  # noqa: N815
    nvmlClocksThrottleReasonHwPowerBrakeSlowdown = 0x80  # noqa: N815

    def __init__(self, *, energy: bool = True, gpus: int = 1) -> None:
        self.energy, self.gpus, self.open = energy, gpus, 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        if index >= self.gpus:
            raise NvmlError("not found")
        return f"GPU {index}"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if "unknown" in uuid:
            raise NvmlError("not found")
        return uuid

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, migDevice: str) -> str:  # noqa: N802
        return f"whole of {migDevice}"

    def nvmlDeviceGetName(self, handle: str) -> str:  # noqa: N802
        return f"Fake {handle}"

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.1"

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:  # noqa: ARG002, N802
        return 0x44

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:  # noqa: ARG002, N802
        return 700_000

    def nvmlDeviceGetClockInfo(self, handle: str, type: int) -> int:  # noqa: ARG002, N802
        return {1: 1980, 2: 2619}[type]

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:  # noqa: ARG002, N802
        return {0: 41}[sensor]

    def nvmlDeviceGetMigMode(self, device: str) -> list[int]:  # noqa: N802
        return [int("MIG" in device)] * 2

    def nvmlDeviceGetComputeMode(self, handle: str) -> int:  # noqa: N802
        return 3 if handle == "GPU 1" else 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: ARG002, N802
        if not self.energy:
            raise NvmlError("not supported")
        return 5000


class TestNvml:
    @pytest.mark.parametrize(
        ("visible", "name"),
        [
            ("", "GPU 0"), ("1", "GPU 1"), ("1,0", "GPU 1"), ("7", "GPU 0"), ("GPU-ab", "GPU-ab"),
            ("MIG-ab", "whole of MIG-ab"), ("GPU-unknown", "GPU 0"),
        ],
    )  # fmt: skip
    def test_it_is_the_gpu_that_cuda_s_programs_see(
        self, monkeypatch: pytest.MonkeyPatch, visible: str, name: str
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert nvml.Nvml(FakePynvml(gpus=2)).state()["name"] == f"Fake {name}"

    @pytest.mark.parametrize(
        ("visible", "part"), [("0", None), ("1", "serves one process"), ("MIG-ab", "is shared by MIG")]
    )
    def test_the_gpu_script_notes_what_holds_for_that_gpu(
        self, monkeypatch: pytest.MonkeyPatch, visible: str, part: str | None
    ) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", FakePynvml(gpus=2))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        notes = [each for each in gpu_probe.notes() if each.startswith("the GPU ")]
        assert [part in each for each in notes if part] == [True] * (part is not None)
        assert len(notes) == (part is not None)

    def test_what_it_tells(self) -> None:
        found = nvml.Nvml(FakePynvml())
        assert found.state() == {
            "name": "Fake GPU 0", "driver": "580.1", "sm_mhz": 1980, "memory_mhz": 2619, "celsius": 41,
            "power_limit_w": 700.0,
            "throttle_reasons": ["power cap", "hardware thermal slowdown"],
        }  # fmt: skip
        assert found.joules() == 5.0
        assert nvml.Nvml(FakePynvml(energy=False)).joules() is None

    def test_it_is_closed_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for library, there in ((FakePynvml(), True), (FakePynvml(gpus=0), False)):
            monkeypatch.setitem(sys.modules, "pynvml", library)
            with nvml.Nvml.opened() as found:
                assert (found is not None) == there
                assert library.open == int(there)
            assert library.open == 0

    def test_a_missing_module_is_named_where_there_is_a_gpu(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        driver = tmp_path / "version"
        write(driver, "NVRM version")
        monkeypatch.setitem(sys.modules, "pynvml", None)
        with nvml.Nvml.opened() as found:
            assert found is None
        assert nvml.missing(tmp_path / "none") is None
        assert re.search(r"pynvml is missing: pip install 'deeplens-edge\[tensorrt\]'", nvml.missing(driver) or "")
        monkeypatch.setitem(sys.modules, "pynvml", FakePynvml())
        assert nvml.missing(driver) is None

    def test_the_stand_in_is_like_nvidia_s_module(self) -> None:
        """Names, numbers and arguments of what stands for pynvml are those of the real one."""
        real = pytest.importorskip("pynvml")
        names = [name for name in dir(FakePynvml) if name.lower().startswith("nvml")]
        assert len(names) > 15
        assert issubclass(real.NVMLError, Exception)
        for name in names:
            own, theirs = getattr(FakePynvml, name), getattr(real, name)
            if isinstance(own, int):
                assert own == theirs, name
            elif name != "NVMLError":
                taken = list(inspect.signature(own).parameters)[1:]
                assert taken == list(inspect.signature(theirs).parameters)[: len(taken)], name


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
