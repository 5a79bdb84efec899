"""All that is written, on disks that are too small: `python -m tests.trust.full_disk`, or `make test-full-disk`.

Each writer runs on small file systems in memory (tmpfs), which are filled until 0 %, 10 %, … of what it needs are left.
It must either say that it failed and leave what was there, or leave a whole file. Needs Linux, and root or user
namespaces (`unshare -rm`); where there are none it says so and ends with status 4.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

INSIDE = "DEEPLENS_TEST_FULL_DISK"
OLD = b"what was there before"
PAGE = 4096


def writers() -> dict[str, tuple[str, Callable[[Path], object]]]:
    """Name → file name, and what writes it."""
    import torch
    from lightning_fabric import Fabric
    from safetensors.torch import save

    from deeplens.console.files import replacing, staged
    from deeplens.console.report import write_json
    from deeplens.runtimes.photo import write_disparity, write_photo

    fabric = Fabric(accelerator="cpu")
    pixels = np.random.default_rng(1).integers(0, 256, (150, 200, 3), np.uint8)
    depth = np.random.default_rng(2).random((150, 200), np.float32)

    def stage(path: Path) -> None:
        with staged(path) as temporary:
            fabric.save(temporary, {"a": torch.arange(30_000)})

    def tensors(path: Path) -> None:
        with replacing(path) as file:
            file.write(save({"a": torch.arange(30_000)}))

    found: dict[str, tuple[str, Callable[[Path], object]]] = {
        suffix: (f"a.{suffix}", lambda path: write_photo(path, pixels)) for suffix in ("jpg", "png", "webp", "tif")
    }
    for suffix in ("npy", "pfm"):
        found[suffix] = (f"a.{suffix}", lambda path: write_disparity(path, depth))
    found["depth.png"] = ("depth.png", lambda path: write_disparity(path, depth))
    found["json"] = ("a.json", lambda path: write_json(path, {"numbers": list(range(9000))}))
    found["safetensors"] = ("a.safetensors", tensors)
    found["checkpoint"] = ("a.ckpt", stage)
    return found


@contextmanager
def small_disk(free: int) -> Iterator[Path]:
    """A file system with room for `free` bytes, in whole pages."""
    with tempfile.TemporaryDirectory(prefix="deeplens-disk-") as folder:
        place = Path(folder) / "disk"
        place.mkdir()
        size = max(PAGE, free // PAGE * PAGE)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size + PAGE}", "tmpfs", str(place)], check=True)
        try:
            (place / "filler").write_bytes(bytes(PAGE if free >= PAGE else 2 * PAGE))
            yield place
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)


def whole_or_refused(
    name: str, write: Callable[[Path], object], *, steps: int, old: bool
) -> tuple[int, int, list[str]]:
    """How often it was whole and refused, and what was wrong."""
    from deeplens.console.errors import DeepLensError

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        expected = (Path(folder) / name).read_bytes()
    whole, refused, wrong = 0, 0, list[str]()
    for step in range(steps + 1):
        with small_disk(len(expected) * step // steps + (2 * PAGE if step == steps else 0)) as disk:
            path = disk / name
            if old:
                (disk / "filler").unlink()
                path.write_bytes(OLD)
            try:
                write(path)
                said = ""
            except (DeepLensError, OSError, RuntimeError) as error:
                said = str(error) or type(error).__name__
            there = path.read_bytes() if path.exists() else None
            left = [each.name for each in disk.iterdir() if each.name not in (name, "filler")]
            if not said and there != expected:
                wrong.append(f"{name}, {step}/{steps}: done, with {len(there or b'')} of {len(expected)} bytes")
            elif said and there not in ((OLD,) if old else (None,)):
                wrong.append(f"{name}, {step}/{steps}: refused ({said}), but what was there is gone")
            elif left:
                wrong.append(f"{name}, {step}/{steps}: left {left}")
            elif said:
                refused += 1
            else:
                whole += 1
    return whole, refused, wrong


def folder_run(artifacts: Path, photos: Path) -> list[str]:
    """A folder of photos onto a disk that fills: nothing broken is logged as done, and with room all is done."""
    from PIL import Image

    command = [sys.executable, "-m", "deeplens", "refocus", str(photos), "--focus", "nearest", "--runtime", "onnx"]
    command += ["--artifacts", str(artifacts), "--threads", "1", "-o"]
    with small_disk(40 * PAGE) as disk:
        first = subprocess.run([*command, str(disk / "out")], capture_output=True, text=True, check=False)
        wrong = (
            [] if first.returncode in (3, 74) else [f"the folder ended with {first.returncode}: {first.stderr[-300:]}"]
        )
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        again = subprocess.run([*command, str(disk / "out")], capture_output=True, text=True, check=False)
        if again.returncode:
            wrong.append(f"with room the folder ended with {again.returncode}: {again.stderr[-300:]}")
        for path in photos.glob("*.png"):
            try:
                with Image.open(disk / "out" / path.name) as image:
                    image.load()
            except Exception as error:
                wrong.append(f"{path.name} was called done: {error}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="amounts of room for each writer")
    steps = parser.parse_args().steps
    if INSIDE not in os.environ:
        if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
            print(
                "this system lends no file systems of its own (unshare -rm): run it as root on Linux", file=sys.stderr
            )
            return 4
        command = ["unshare", "-rm", sys.executable, "-m", "tests.trust.full_disk", "--steps", str(steps)]
        return subprocess.run(command, env={**os.environ, INSIDE: "1"}, check=False).returncode
    wrong, total, refusals = list[str](), 0, 0
    for label, (name, write) in writers().items():
        for old in (False, True):
            whole, refused, found = whole_or_refused(name, write, steps=steps, old=old)
            print(f"{label:12} {'in place of another' if old else 'new':20} {whole:3} whole {refused:3} refused")
            total, refusals, wrong = total + whole + refused + len(found), refusals + refused, wrong + found
    with tempfile.TemporaryDirectory() as folder:
        from PIL import Image

        from tests.support.small_graphs import add_graphs

        (Path(folder) / "artifacts").mkdir()
        add_graphs(Path(folder) / "artifacts")
        (Path(folder) / "photos").mkdir()
        for index in range(8):
            noise = np.random.default_rng(index).integers(0, 256, (100, 120, 3), np.uint8)
            Image.fromarray(noise).save(Path(folder) / "photos" / f"{index}.png")
        wrong += folder_run(Path(folder) / "artifacts", Path(folder) / "photos")
    print("\n".join(wrong), end="\n" if wrong else "")
    print(f"{total} writes and a folder on full disks: {refusals} refused, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
