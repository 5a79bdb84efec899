"""Everything that needs a GPU, in one go: its tests, parity against the CPU, and the bench. `make gpu` runs it.

python -m deeplens.commands.gpu [-o DIR] [--minutes N]
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.files import replacing
from deeplens.console.machine import version
from deeplens.console.report import write_json
from deeplens.console.script import run_script
from deeplens.runtimes.spec import has_driver, has_library

DRIVERS = ("libcuda.so.1", "nvcuda.dll")

SIZES = {"2048×1536": "2048x1536", "12 MP": "4000x3000", "48 MP": "8000x6000"}

ROOT = Path(__file__).parents[3]
"""The checkout: the tests and the sample photo lie there, and not in a wheel."""

PHOTO = ROOT / "samples" / "drum.jpg"

Run = Callable[[Sequence[str], float], tuple[int, str]]
"""Runs a command for at most so many seconds; its exit status, `CUT_OFF` for none, and the end of what it said."""

CUT_OFF = -1


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: as the report calls it.
        command: without the Python interpreter.
        seconds: that it may take.
        result: JSON file that it writes; None: none.
        state: "passed", "failed", "cut off", or "not run" where no time was left.
        took: seconds.
        said: the last lines of a command that did not pass.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    result: Path | None = None
    state: str = "not run"
    took: float = 0.0
    said: str = ""

    def to_json(self) -> dict[str, Any]:
        """With the content of its result file."""
        content = None
        if self.result is not None and self.result.is_file():
            try:
                content = json.loads(self.result.read_text(encoding="utf-8"))
            except ValueError:
                content = None
        command = " ".join(("python", *self.command))
        told = {"name": self.name, "command": command, "state": self.state, "seconds": round(self.took, 1)}
        return {**told, "said": self.said, "result": content}


def engines() -> list[str]:
    """What can run on the GPU of this machine: "torch" and providers of ONNX Runtime. Installs nothing.

    Raises:
        MissingError: there is no GPU, or nothing that can use it; the message says what is needed.
    """
    if not any(map(has_driver, DRIVERS)):
        raise MissingError(
            "there is no NVIDIA driver here: this needs a machine with an NVIDIA GPU, its driver, and PyTorch built "
            "with CUDA; ONNX Runtime with CUDA (pip install onnxruntime-gpu) is measured too where it is installed"
        )
    found = []
    if has_library("torch"):
        import torch

        found += ["torch"] if torch.cuda.is_available() else []
    if has_library("onnxruntime"):
        import onnxruntime

        found += ["cuda"] if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else []
    if "torch" not in found:
        raise MissingError(
            f"there is an NVIDIA driver, but PyTorch ({version('torch') or 'not installed'}) can't use a GPU here: "
            "install a build of PyTorch with CUDA"
        )
    return found


def stages(found: Sequence[str], folder: Path) -> list[Stage]:
    """All that is to be run, what matters most first."""
    cli = ("-m", "deeplens")
    tests = ("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(ROOT / "tests/runtimes/test_gpu.py"))
    artefacts = folder / "artifacts"
    made = [Stage("tests on the GPU", tests, 90)]
    if "cuda" in found:
        made.append(Stage("export ONNX", (*cli, "export", "onnx", "--out", str(artefacts)), 60))
        whole = ("--whole", SIZES["2048×1536"], "--memory", "8192", "--out", str(artefacts))
        made.append(Stage("export the whole effect", (*cli, "export", "onnx", *whole), 60))

    def parity(name: str, *options: str) -> Stage:
        result = folder / f"parity_{name}.json"
        command = (*cli, "parity", *options, "--photo", str(PHOTO), "--size", "640", "--json", str(result))
        return Stage(f"parity {name}", command, 120, result)

    def bench(engine: str, label: str, size: str, *options: str) -> Stage:
        result = folder / f"bench_{engine}_{size}.json"
        items = ("refocus",) if size == SIZES["48 MP"] else ("refocus", "again", "depth")
        chosen = [part for item in items for part in ("--item", item)]
        loops = ("--loop", "device", "--loop", "host") if size == SIZES["2048×1536"] else ()
        effort = ("--runs", "10", "--seconds", "1", "--at-most", "6")
        command = (*cli, "bench", *effort, "--size", size, *chosen, *loops, *options, "--json", str(result))
        return Stage(f"bench {engine}, {label}", command, 75, result)

    torch = ("--runtime", "torch", "--device", "cuda")
    onnx = ("--runtime", "onnx", "--provider", "cuda", "--precision", "fp32", "--artifacts", str(artefacts))
    lower = ("--precision", "fp32", "--precision", "fp16")
    made.append(parity("torch_cuda", *torch))
    made += [bench("torch_cuda", label, size, *torch, *lower) for label, size in SIZES.items()]
    if "cuda" in found:
        made.append(parity("onnx_cuda", *onnx))
        made += [bench("onnx_cuda", label, size, *onnx) for label, size in SIZES.items()]
    return made


def run_all(todo: Sequence[Stage], *, seconds: float, run: Run, save: Callable[[Sequence[Stage]], None]) -> list[Stage]:
    """Run the stages in order until the time is over; what is done is saved after each."""
    done = list(todo)
    start = perf_counter()
    save(done)
    for index, stage in enumerate(todo):
        left = seconds - (perf_counter() - start)
        if left <= 1:
            break
        print(f"{stage.name} …", file=sys.stderr, flush=True)
        begun = perf_counter()
        status, said = run(stage.command, min(left, stage.seconds))
        state = "cut off" if status == CUT_OFF else "failed" if status else "passed"
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
    import signal

    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def report(done: Sequence[Stage], machine: Mapping[str, Any]) -> dict[str, Any]:
    """The stages as plain data, with their results."""
    return {"format": 1, "machine": dict(machine), "stages": [each.to_json() for each in done]}


def markdown(found: Mapping[str, Any]) -> str:
    """A table of the stages, and one of the times."""
    machine = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    lines = [f"# On a GPU: {machine}", "", "| stage | state | seconds |", "| --- | --- | ---: |"]
    lines += [f"| {each['name']} | {each['state']} | {each['seconds']:.0f} |" for each in found["stages"]]
    lines += ["", "| size | candidate | what | p50, ms | on the GPU, ms | SM clock, MHz | valid |"]
    lines += ["| --- | --- | --- | ---: | ---: | ---: | --- |"]
    for result in (each["result"] for each in found["stages"] if each["name"].startswith("bench")):
        if not result:
            continue
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
    return "\n".join(lines) + "\n"


def command(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Output folder; created if it does not exist.")
    ] = Path("gpu"),
    minutes: Annotated[float, typer.Option(metavar="N", min=0.1, help="Minutes that all may take.")] = 7.5,
) -> None:
    """Run the tests, parity and bench of a GPU; write gpu.json and gpu.md after each stage."""
    found = engines()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't make the folder {output}: {error.strerror or error}") from error
    machine = _machine()

    def save(done: Sequence[Stage]) -> None:
        told = report(done, machine)
        write_json(output / "gpu.json", told)
        with replacing(output / "gpu.md") as file:
            file.write(markdown(told).encode())

    done = run_all(stages(found, output.resolve()), seconds=60 * minutes, run=run_command, save=save)
    states = [each.state for each in done]
    print(f"{output / 'gpu.md'}: {', '.join(f'{states.count(each)} {each}' for each in dict.fromkeys(states))}")
    if "failed" in states:
        raise MismatchError(f"{states.count('failed')} stages failed: see {output / 'gpu.json'}")


def _machine() -> dict[str, Any]:
    import torch

    return {
        "GPU": torch.cuda.get_device_name(0),
        "CUDA": torch.version.cuda,
        **{name: version(name) for name in ("torch", "onnxruntime-gpu", "tensorrt") if version(name)},
    }


if __name__ == "__main__":
    run_script(command)
