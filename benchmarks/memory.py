"""Peak memory and time of `deeplens refocus` in a process of its own, from a JPEG file to a JPEG file, depth given."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from deeplens.benchmarks.candidate import Candidate
from deeplens.benchmarks.worker import ramp, synthetic_photo
from deeplens.console.errors import DeepLensError
from deeplens.runtimes.disparity import write_disparity
from deeplens.runtimes.harness import N_MIN
from deeplens.runtimes.photo import write_photo

MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in one unit of `ru_maxrss`."""


def exponent(rows: Sequence[dict[str, Any]]) -> float:
    """p of seconds ∝ pixels^p, by least squares of the logarithms, over `measure`'s answers for several sizes."""
    pixels = np.log([row["width"] * row["height"] for row in rows])
    return float(np.polyfit(pixels, np.log([row["parts"]["refocus"] for row in rows]), 1)[0])


def measure(candidate: Candidate, *, width: int, height: int) -> dict[str, Any]:
    """Refocus a synthetic photo and say what it took.

    Returns:
        variant, runtime, width, height, threads; peak_bytes, the largest resident size (`ru_maxrss`; Linux counts what
        this process held when it started the other, so it is an upper bound); seconds from start to end of the process,
        and parts, the seconds that the command itself reports.

    Raises:
        DeepLensError: the command failed; message and exit status are its own.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        photo, depth, errors, answer = (folder / each for each in ("photo.jpg", "depth.npy", "errors", "answer.json"))
        write_photo(photo, synthetic_photo(width, height))
        write_disparity(depth, ramp())
        command: list[str | Path] = [
            sys.executable, "-m", "deeplens", "refocus", photo, "-o", folder / "out.jpg", "--depth", depth,
            "--focus-depth", "0.5", "--f-number", str(N_MIN / candidate.aperture),
            "--variant", candidate.variant, "--runtime", candidate.runtime, "--weights", str(candidate.weights),
            "--threads", str(candidate.threads), "--precision", candidate.precision, "--json", answer,
        ]  # fmt: skip
        if candidate.artifacts is not None:
            command += ["--artifacts", candidate.artifacts]
        with errors.open("wb") as stderr:
            start = perf_counter()
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                process.wait()
                raise
            seconds = perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            lines = errors.read_text(errors="replace").splitlines() or [f"it ended with status {process.returncode}"]
            error = DeepLensError(f"{candidate.name} could not refocus: {lines[-1].removeprefix('error: ')}")
            error.exit_code = max(1, process.returncode)
            raise error
        return {
            "variant": candidate.variant,
            "runtime": candidate.runtime,
            "width": width,
            "height": height,
            "threads": candidate.threads,
            "peak_bytes": usage.ru_maxrss * MAXRSS_UNIT,
            "seconds": seconds,
            "parts": json.loads(answer.read_text())["seconds"],
        }
