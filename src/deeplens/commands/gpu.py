"""Everything that needs a GPU, in one go: its tests, parity against the CPU, and the bench. `make gpu` runs it.

python -m deeplens.commands.gpu [-o DIR] [--minutes N] [--only TEXT]
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import Annotated, Any

import typer

from deeplens.commands.gpu_stages import ROOT, Stage, stages
from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.files import replacing
from deeplens.console.report import write_json
from deeplens.console.script import run_script
from deeplens.runtimes.spec import has_driver

DRIVERS = ("libcuda.so.1", "nvcuda.dll")

PROBE = ("-m", "deeplens.commands.gpu_probe")

PROBE_SECONDS = 90.0
"""To import PyTorch from a cold disk, and to start the GPU."""

Run = Callable[[Sequence[str], float], tuple[int, str]]
"""Runs a command for at most so many seconds; its exit status, `CUT_OFF` for none, and the end of what it said."""

CUT_OFF = -1

STATES = {0: "passed", CUT_OFF: "cut off", MissingError.exit_code: "missing"}
"""Exit status → state of a stage; any other has failed."""


def found_here(run: Run) -> dict[str, Any]:
    """What can run on the GPU of this machine, as `gpu_probe.probe` finds it. Installs nothing.

    Raises:
        MissingError: there is no GPU, or nothing that can use it; the message says what is needed.
    """
    if not any(map(has_driver, DRIVERS)):
        raise MissingError(
            "there is no NVIDIA driver here: this needs a machine with an NVIDIA GPU, its driver, and PyTorch built "
            "with CUDA; ONNX Runtime with CUDA (pip install onnxruntime-gpu) and TensorRT are measured too where they "
            "are installed"
        )
    status, said = run(PROBE, PROBE_SECONDS)
    told = [line for line in said.splitlines() if line.startswith("{")]
    if not told:
        last = (said.splitlines() or ["nothing was said"])[-1]
        raise MissingError(f"there is an NVIDIA driver, but it can't be used (status {status}: {last})")
    found: dict[str, Any] = json.loads(told[-1])
    if "torch" not in found["engines"]:
        raise MissingError(
            f"there is an NVIDIA driver, but PyTorch can't use a GPU here ({found['missing']['torch']}): install a "
            "build of PyTorch with CUDA that the driver supports"
        )
    return found


def run_all(todo: Sequence[Stage], *, seconds: float, run: Run, save: Callable[[Sequence[Stage]], None]) -> list[Stage]:
    """Run the stages in order until the time is over; what is done is saved before and after each."""
    done = list(todo)
    start = perf_counter()
    save(done)
    for index, stage in enumerate(todo):
        left = seconds - (perf_counter() - start)
        if left <= 1:
            break
        print(f"{stage.name} …", file=sys.stderr, flush=True)
        if stage.result is not None:
            stage.result.unlink(missing_ok=True)  # of a run before
        done[index] = replace(stage, state="running")
        save(done)
        begun = perf_counter()
        status, said = run(stage.command, min(left, stage.seconds))
        state = STATES.get(status, "failed")
        done[index] = replace(stage, state=state, took=perf_counter() - begun, said=said if status else "")
        save(done)
    return done


def run_command(command: Sequence[str], seconds: float) -> tuple[int, str]:
    """See `Run`. A command that takes longer is ended with all that it started."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
        status = process.returncode
    except subprocess.TimeoutExpired:
        _end(process)
        said, status = process.communicate()[0], CUT_OFF
    except BaseException:
        _end(process)
        raise
    return status, "\n".join(said.splitlines()[-8:])


def _end(process: "subprocess.Popen[str]") -> None:
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def report(done: Sequence[Stage], found: Mapping[str, Any]) -> dict[str, Any]:
    """The stages as plain data, with their results."""
    told = {name: found[name] for name in ("machine", "missing", "notes")}
    return {"format": 2, **told, "stages": [each.to_json() for each in done]}


def markdown(found: Mapping[str, Any]) -> str:
    """A table of the times, one of parity, one of the stages, and what went wrong."""
    machine = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    lines = [f"# On a GPU: {machine}", ""]
    lines += ["| size | candidate | what | p50, ms | on the GPU, ms | SM clock, MHz | valid |"]
    lines += ["| --- | --- | --- | ---: | ---: | ---: | --- |"]
    doubts: dict[str, None] = {}
    for result in (each["result"] for each in found["stages"] if each["name"].startswith("bench")):
        if not result:
            continue
        doubts |= dict.fromkeys(result.get("remarks", ()))
        clock = result["machine"]["state"]["after"].get("gpu", {}).get("sm_mhz", "not told")
        for row in result["results"]:
            for item, timing in row["items"].items():
                device = f"{1e3 * timing['device']['p50']:.2f}" if timing["device"] else "not told"
                cells = (
                    "×".join(map(str, result["size"])), row["name"], item, f"{1e3 * timing['p50']:.2f}", device,
                    str(clock), "yes" if result["valid"] else "no",
                )  # fmt: skip
                lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| parity | rows passed | failed | not run |", "| --- | ---: | ---: | ---: |"]
    for each in found["stages"]:
        rows = (each["result"] or {}).get("rows") if each["name"].startswith("parity") else None
        if rows:
            count = {state: sum(row["status"] == state for row in rows) for state in ("passed", "failed", "not run")}
            lines.append(f"| {each['name']} | {' | '.join(map(str, count.values()))} |")
    lines += ["", "| stage | state | seconds |", "| --- | --- | ---: |"]
    lines += [f"| {each['name']} | {each['state']} | {each['seconds']:.0f} |" for each in found["stages"]]
    notes = [*found["notes"], *(f"{name} was not measured: {why}" for name, why in found["missing"].items())]
    notes += [f"a bench is not valid: {each}" for each in doubts]
    lines += ["", *(f"- {each}" for each in notes)]
    for each in found["stages"]:
        if each["said"]:
            lines += ["", f"{each['name']}: {each['state']}", "", "```", each["said"], "```"]
    return "\n".join(lines) + "\n"


def command(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Output folder; created if it does not exist.")
    ] = Path("gpu"),
    minutes: Annotated[float, typer.Option(metavar="N", min=0.1, help="Minutes that all may take.")] = 7.5,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Run only stages with TEXT in their name; may be repeated."),
    ] = None,
) -> None:
    """Run the tests, parity and bench of a GPU; write gpu.json and gpu.md after each stage."""
    start = perf_counter()
    found = found_here(run_command)
    todo = stages(found["engines"], output.resolve(), only=only or ())
    if not todo:
        raise InputError(f"no stage has {' or '.join(only or ())} in its name")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't make the folder {output}: {error.strerror or error}") from error

    def save(done: Sequence[Stage]) -> None:
        told = report(done, found)
        write_json(output / "gpu.json", told)
        with replacing(output / "gpu.md") as file:
            file.write(markdown(told).encode())

    left = 60 * minutes - (perf_counter() - start)
    with _ended_by_hang_up():
        done = run_all(todo, seconds=left, run=run_command, save=save)
    states = [each.state for each in done]
    print(f"{output / 'gpu.md'}: {', '.join(f'{states.count(each)} {each}' for each in dict.fromkeys(states))}")
    if "failed" in states:
        raise MismatchError(f"{states.count('failed')} stages failed: see {output / 'gpu.md'}")


@contextmanager
def _ended_by_hang_up() -> Iterator[None]:
    """A terminal that is closed ends the command that runs, as other signals do; under `nohup` it ends nothing."""
    if not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) != signal.SIG_DFL:
        yield
        return

    def ended(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGHUP, ended)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


if __name__ == "__main__":
    run_script(command)
