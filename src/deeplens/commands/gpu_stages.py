"""The stages of `make gpu`: which commands are run on a machine with a GPU, in which order, for how long."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplens.runtimes.spec import has_library

SIZES = {"2048×1536": "2048x1536", "12 MP": "4000x3000", "48 MP": "8000x6000"}

ROOT = Path(__file__).parents[3]
"""The checkout: the tests and the sample photo lie there, and not in a wheel."""

PHOTO = ROOT / "samples" / "drum.jpg"


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: as the report calls it.
        command: without the Python interpreter.
        seconds: that it may take.
        result: JSON file that it writes; None: none.
        state: "passed", "failed", "missing" where something is not installed, "cut off", "running", or "not run" where
            no time was left.
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
        if self.state not in ("not run", "running") and self.result is not None and self.result.is_file():
            try:
                content = json.loads(self.result.read_text(encoding="utf-8"))
            except ValueError:
                content = None
        command = " ".join(("python", *self.command))
        told = {"name": self.name, "command": command, "state": self.state, "seconds": round(self.took, 1)}
        return {**told, "said": self.said, "result": content}


CLI = ("-m", "deeplens")
EFFORT = ("--runs", "10", "--seconds", "1", "--at-most", "6")


def stages(engines: Sequence[str], folder: Path, *, only: Sequence[str] = ()) -> list[Stage]:
    """All that is to be run, what tells most first.

    A bench has few candidates, so that one that is cut off takes little with it.

    Args:
        engines: as `gpu_probe.probe` finds them; "torch" is among them.
        folder: of the results, absolute.
        only: texts of which one must be in the name of a stage; none: all stages.
    """
    made = _torch(folder)
    if "cuda" in engines:
        made += _onnxruntime(folder)
    made += _compiled(folder)
    if "tensorrt" in engines:
        made += _tensorrt(folder)
    return [each for each in made if not only or any(text.lower() in each.name.lower() for text in only)]


def _torch(folder: Path) -> list[Stage]:
    """The tests are left out where their runner is missing, which the report says."""
    tests = ("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(ROOT / "tests/runtimes/test_gpu.py"))
    both = ("--loop", "device", "--loop", "host")
    small, middle, large = SIZES
    tested = [Stage("tests on the GPU", tests, 75)] if has_library("pytest") else []
    return [
        _bench(folder, "torch fp16", small, 75, *_on_torch("fp16"), *both, *_items("refocus", "again", "depth")),
        _parity(folder, "torch", "--runtime", "torch", "--device", "cuda"),
        _bench(folder, "torch fp16 graph", small, 45, *_on_torch("fp16"), "--cuda-graph", *_items("again")),
        *tested,
        _bench(folder, "torch fp32 bf16", small, 60, *_on_torch("fp32", "bf16"), *_items("refocus", "again", "depth")),
        _bench(folder, "torch fp16", middle, 45, *_on_torch("fp16"), *_items("refocus", "again")),
        _bench(folder, "torch fp16", large, 60, *_on_torch("fp16"), *_items("refocus", "again")),
    ]


def _compiled(folder: Path) -> list[Stage]:
    """PyTorch's other modes."""
    small = next(iter(SIZES))
    modes = {
        "channels first": ("--channels-first",),
        "compiled": ("--compile",),
        "compiled graph": ("--compile", "--cuda-graph"),
    }
    return [
        _bench(folder, f"torch fp16 {name}", small, 120, *_on_torch("fp16"), *options, *_items("again"))
        for name, options in modes.items()
    ]


def _onnxruntime(folder: Path) -> list[Stage]:
    artefacts = str(folder / "artifacts")
    cuda = ("--runtime", "onnx", "--provider", "cuda", "--precision", "fp32", "--artifacts", artefacts)
    whole = ("--whole", SIZES["2048×1536"], "--memory", "8192", "--out", artefacts)
    small = next(iter(SIZES))
    return [
        Stage("export ONNX", (*CLI, "export", "onnx", "--out", artefacts), 60),
        Stage("export ONNX, whole", (*CLI, "export", "onnx", *whole), 60),
        _bench(
            folder, "onnx cuda", small, 75, *cuda, "--loop", "device", "--loop", "host", *_items("refocus", "again")
        ),
        _parity(folder, "onnx cuda", *cuda),
    ]


def _tensorrt(folder: Path) -> list[Stage]:
    artefacts = str(folder / "artifacts")
    build = (*CLI, "export", "trt", "--target", "desktop", "--precision", "fp16", "--out", artefacts)
    trt = ("--runtime", "trt", "--precision", "fp16", "--artifacts", artefacts)
    small = next(iter(SIZES))
    return [
        Stage("build TensorRT engines", (*build, "--photo", SIZES[small]), 150),
        Stage("build TensorRT engines, whole", (*build, "--whole", SIZES[small]), 150),
        _bench(
            folder, "trt fp16", small, 60, *trt, "--loop", "device", "--loop", "host",
            *_items("refocus", "again", "depth"),
        ),
        _parity(folder, "trt", *trt),
    ]  # fmt: skip


def _on_torch(*precisions: str) -> tuple[str, ...]:
    chosen = [part for each in precisions for part in ("--precision", each)]
    return ("--runtime", "torch", "--device", "cuda", *chosen)


def _items(*names: str) -> tuple[str, ...]:
    return tuple(part for name in names for part in ("--item", name))


def _parity(folder: Path, name: str, *options: str) -> Stage:
    result = folder / f"parity_{name.replace(' ', '_')}.json"
    command = (*CLI, "parity", *options, "--photo", str(PHOTO), "--size", "640", "--json", str(result))
    return Stage(f"parity {name}", command, 100, result)


def _bench(folder: Path, name: str, label: str, seconds: float, *options: str) -> Stage:
    result = folder / f"bench_{name.replace(' ', '_')}_{SIZES[label]}.json"
    command = (*CLI, "bench", *EFFORT, "--size", SIZES[label], *options, "--json", str(result))
    return Stage(f"bench {name}, {label}", command, seconds, result)
