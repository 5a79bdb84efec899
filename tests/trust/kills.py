"""Commands killed for good (SIGKILL) at any moment: `python -m tests.trust.kills`, or `make test-kills`.

Each command is started again and again in the same folder and killed after a random time, half of the times as soon as
it writes. After each kill all that has its final name must be whole; after the last one the command must end well and
leave nothing but finished files.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Victim:
    """A command that writes below a folder.

    Attributes:
        arguments: of Python.
        check: what is wrong with what a killed one left.
    """

    arguments: tuple[str, ...]
    check: Callable[[Path], list[str]]


def pictures_are_whole(out: Path) -> list[str]:
    from PIL import Image

    wrong = []
    for path in out.rglob("*.png"):
        if not path.name.startswith("."):
            try:
                with Image.open(path) as image:
                    image.load()
            except Exception as error:
                wrong.append(f"{path.name}: {error}")
    for log in out.rglob("refocus.jsonl"):
        for line in log.read_text().splitlines()[:-1]:
            entry = json.loads(line) if line.startswith("{") and line.endswith("}") else None
            if entry and "error" not in entry and Path(entry["output"]).stat().st_size != entry["bytes"]:
                wrong.append(f"{entry['output']} is logged as done and is not whole")
    return wrong


def artefacts_are_whole(out: Path) -> list[str]:
    from deeplens.console.errors import MismatchError, MissingError
    from deeplens.runtimes import manifest

    wrong = []
    for entry in manifest.read(out):
        try:
            manifest.verify(out, entry)
        except (MismatchError, MissingError) as error:
            if "deeplens export" not in str(error):
                wrong.append(str(error))
    return wrong


def folders_are_private(out: Path) -> list[str]:
    """At most one private folder is there: each new one sweeps away those of killed servers."""
    folders = list(out.iterdir())
    wrong = [f"{each.name} is open to others" for each in folders if each.stat().st_mode & 0o077]
    return wrong + ([f"{len(folders)} private folders are left"] if len(folders) > 1 else [])


def files_are_whole(out: Path) -> list[str]:
    import torch
    from safetensors.torch import load_file

    wrong = []
    for path in (each for each in out.rglob("*") if each.is_file() and not each.name.startswith(".")):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix in (".npz", ".npy"):
                loaded = np.load(path, allow_pickle=False)
                if path.suffix == ".npz":
                    [loaded[name] for name in loaded.files]
            elif path.suffix == ".safetensors":
                load_file(path)
            elif path.suffix in (".ckpt", ".pt"):
                torch.load(path, weights_only=True)
        except Exception as error:
            wrong.append(f"{path.name}: {type(error).__name__}: {error}")
    return wrong + (artefacts_are_whole(out) if (out / "manifest.json").exists() else [])


def victims(work: Path) -> dict[str, Victim]:
    """Name → command; `OUT` in an argument becomes the folder."""
    from PIL import Image

    from deeplens.parity_tests.collection import write
    from deeplens.parity_tests.test_collection import collected, produced
    from tests.support.small_graphs import add_graphs

    (work / "artifacts").mkdir()
    add_graphs(work / "artifacts")
    (work / "photos").mkdir()
    for index in range(6):
        pixels = np.random.default_rng(index).integers(0, 256, (90, 120, 3), np.uint8)
        Image.fromarray(pixels).save(work / "photos" / f"{index}.png")
    write(work / "home", collected(produced("reference"), produced("judge"), produced("half", off=1e-3)))
    artifacts, photos = str(work / "artifacts"), str(work / "photos")
    cli = ("-m", "deeplens")
    return {
        "folder": Victim(
            (*cli, "refocus", photos, "-o", "OUT", "--focus", "nearest", "--runtime", "onnx", "--artifacts", artifacts,
             "--threads", "1"),
            pictures_are_whole,
        ),
        "export": Victim((*cli, "export", "onnx", "--network", "lens_blur", "--out", "OUT"), artefacts_are_whole),
        "calibrate": Victim(
            (*cli, "calibrate", "--photos", str(ROOT / "samples"), "--out", str(work / "exported"), "--work", "OUT",
             "--scales-only"),
            files_are_whole,
        ),
        "fit": Victim(("-m", "tests.trust.small_fit", "OUT"), files_are_whole),
        "collect": Victim(
            (*cli, "parity", "--collect", "OUT/collected", "--inputs", str(work / "home"), "--runtime", "onnx",
             "--artifacts", artifacts),
            files_are_whole,
        ),
        "studio": Victim(("-m", "tests.trust.small_studio", artifacts, "OUT"), folders_are_private),
    }  # fmt: skip


def being_written(out: Path) -> bool:
    """Whether a file is on its way to its final name, or an upload of the studio lies in its private folder."""
    try:
        return any(out.rglob(".part-*")) or any(out.glob("deeplens-studio-*/*"))
    except FileNotFoundError:  # a folder that vanished while it was looked at
        return True


def run(victim: Victim, out: Path, *, kill_after: float | None, when_writing: bool = False) -> tuple[int, str]:
    """Exit status and the last of what it said; negative: it was killed."""
    out.mkdir(parents=True, exist_ok=True)
    arguments = [each.replace("OUT", str(out)) for each in victim.arguments]
    places = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    with tempfile.TemporaryFile("w+") as said:
        running = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=said, stderr=said, start_new_session=True
        )
        start, due = time.monotonic(), None
        while running.poll() is None:
            elapsed = time.monotonic() - start
            if due is None and kill_after is not None:
                if not when_writing:
                    due = kill_after
                elif being_written(out):
                    due = elapsed + 0.02 * random.random()
            if due is not None and elapsed >= due:
                os.killpg(running.pid, signal.SIGKILL)
                break
            time.sleep(0.002)
        status = running.wait()
        said.seek(0)
        return status, said.read()[-400:]


def ill_treated(name: str, victim: Victim, out: Path, *, kills: int) -> list[str]:
    start = time.monotonic()
    status, said = run(victim, out, kill_after=None)
    took = time.monotonic() - start
    if status:
        return [f"{name} ends with {status} even when it is left alone: {said}"]
    wrong, done = list[str](), 0
    while done < kills:
        if done % 5 == 0:
            shutil.rmtree(out)
        status, said = run(victim, out, kill_after=took * random.random(), when_writing=done % 2 == 1)
        if status == 0:  # it was faster
            shutil.rmtree(out)
            out.mkdir()
            done += done % 2  # nothing was seen being written: the next is killed by the clock
            continue
        if status != -signal.SIGKILL:
            wrong.append(f"{name} ended with {status} after a kill: {said}")
        done += 1
        wrong += [f"{name}, kill {done}: {each}" for each in victim.check(out)]
    status, said = run(victim, out, kill_after=None)
    if status:
        wrong.append(f"{name} ended with {status} after all kills: {said}")
    wrong += [f"{name}, at the end: {each}" for each in victim.check(out)]
    wrong += [f"{name} left {each.name}" for each in out.rglob(".part-*")]
    wrong += [f"{name} left {each.name}" for each in out.iterdir() if name == "studio"]
    print(f"{name:10} {done} kills, {len(wrong)} wrong", flush=True)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="of each command")
    parser.add_argument("--only", help="one of: folder, export, calibrate, fit, collect, studio")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory(prefix="deeplens-kills-") as folder:
        chosen = victims(Path(folder))
        wrong = [
            each
            for name, victim in chosen.items()
            if options.only in (None, name)
            for each in ill_treated(name, victim, Path(folder) / "out" / name, kills=options.kills)
        ]
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
