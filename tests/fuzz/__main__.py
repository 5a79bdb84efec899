"""Fuzzing for as long as one likes: `python -m tests.fuzz --cases 50000`, or `make fuzz`.

Each target runs in a process of its own, which writes down each case before it is read. So what crashes or hangs the
process is known too. Findings go to `--out`, a file each; put the ones that were mended into tests/fuzz/corpus/TARGET.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from tests.fuzz.targets import TARGETS

HANG = 20.0
"""Seconds of a processor without a word after which a process counts as hanging: other work does not count."""

WAIT = 600.0
"""Seconds on the clock after which it does, whatever it does: it may wait for something that never comes."""


@dataclass
class Count:
    """What happened to the cases of a target."""

    cases: int = 0
    refused: int = 0
    faults: int = 0
    crashes: int = 0
    hangs: int = 0
    memory: int = 0
    outside: int = 0

    @property
    def wrong(self) -> int:
        return self.faults + self.crashes + self.hangs + self.memory + self.outside


COLUMNS = tuple(vars(Count()))
WIDTHS = (15, 7, 8, 7, 8, 6, 7, 8)


def main(
    target: Annotated[list[str] | None, typer.Option(help="Name of a target; may be repeated.")] = None,
    cases: Annotated[int, typer.Option(min=1, help="Number of cases, over all targets.")] = 50_000,
    seed: Annotated[int, typer.Option(help="Seed of the cases.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the findings.")] = Path("fuzz"),
) -> None:
    """Give broken files to every reader; exit status 5 if one of them failed."""
    names = [name for name in target or TARGETS if not TARGETS[name].needs or find_spec(TARGETS[name].needs)]
    share = -(-cases // len(names))
    total = Count()
    print(" ".join(f"{each:>{width}}" for each, width in zip(("target", *COLUMNS), WIDTHS, strict=True)), flush=True)
    for name in names:
        found = run(name, cases=share, seed=seed, out=out)
        for key, value in vars(found).items():
            setattr(total, key, getattr(total, key) + value)
        _print(name, found)
    _print("all", total)
    raise typer.Exit(5 if total.wrong else 0)


def _print(name: str, count: Count) -> None:
    values = (name, *(getattr(count, each) for each in COLUMNS))
    print(" ".join(f"{each:>{width}}" for each, width in zip(values, WIDTHS, strict=True)), flush=True)


def run(name: str, *, cases: int, seed: int, out: Path) -> Count:
    """All cases of one target; a process that dies is followed by another."""
    count = Count()
    while count.cases < cases:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            done = _process(name, Path(folder), cases - count.cases, seed, out, count)
        seed += 1
        if done == 0:
            break
    return count


def _process(name: str, folder: Path, cases: int, seed: int, out: Path, count: Count) -> int:
    """One process; the number of cases that it did."""
    told = folder / "told.json"
    command = [sys.executable, "-m", "tests.fuzz.worker", name, str(folder), str(cases), str(seed), str(out.absolute())]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    current, since, last = folder / "case" / TARGETS[name].name, (time.monotonic(), 0.0), -1
    while process.poll() is None:
        time.sleep(0.2)
        now = sum(_told(told).values()) if told.exists() else -1
        if now != last:
            last, since = now, (time.monotonic(), _worked(process.pid))
        elif time.monotonic() - since[0] > WAIT or (last >= 0 and _worked(process.pid) - since[1] > HANG):
            process.send_signal(signal.SIGKILL)
            process.wait()
            _keep(current, out / name, "hang")
            count.hangs += 1
            break
    else:
        if process.returncode != 0:
            _keep(current, out / name, f"crash_{-process.returncode}")
            error = process.stderr.read().decode(errors="replace")[-600:] if process.stderr else ""
            print(f"{name}: the process ended with status {process.returncode}: {error}", file=sys.stderr)
            count.crashes += 1
    found = _told(told)
    for key, value in found.items():
        if key != "batches":
            setattr(count, key, getattr(count, key) + value)
    return max(0, found.get("cases", 0))


def _worked(pid: int) -> float:
    """Seconds of a processor that a process has had; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def _told(path: Path) -> dict[str, int]:
    try:
        found: dict[str, int] = json.loads(path.read_text())
        return found
    except (OSError, ValueError):
        return {}


def _keep(case: Path, folder: Path, kind: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if case.is_file():
        os.replace(case, folder / f"{kind}_{time.time_ns() % 10**9}")


if __name__ == "__main__":
    typer.run(main)
