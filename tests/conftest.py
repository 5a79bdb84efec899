"""What several test files share: the command line in this process and in its own, small photos, and small artefacts."""

import math
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplens.app import main
from deeplens.console import progress
from deeplens.model.contract import DEPTH_SIZE
from deeplens.runtimes import folders_of_user, trust
from tests.support.small_graphs import add_graphs

ROOT = Path(__file__).parent.parent

_BOOT = """
import sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None  # importing it raises ModuleNotFoundError
from deeplens.app import main
from deeplens.console import progress
progress.EVERY = float("inf")
status = main(sys.argv[1:])
sys.stderr.write("".join(f"loaded: {name}\\n" for name in ("torch", "onnxruntime", "onnx") if sys.modules.get(name)))
sys.exit(status)
"""


@dataclass(frozen=True)
class Outcome:
    """How a command ended. `loaded` are the heavy libraries that it imported, where it ran in a process of its own."""

    status: int
    out: str
    err: str
    loaded: frozenset[str] = frozenset()

    @property
    def error(self) -> str:
        """The one line on standard error; the command must have failed, with that line alone."""
        lines = self.err.splitlines()
        assert self.status != 0, "the command did not fail"
        assert len(lines) == 1, f"expected one line, got {lines}"
        assert lines[0].startswith("error: "), lines[0]
        return lines[0]


Command = Callable[..., Outcome]


@pytest.fixture
def deeplens(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command line in this process: deeplens("info", "--json", path). It tells no progress, however slow."""
    monkeypatch.setattr(progress, "EVERY", math.inf)

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        status = main([str(each) for each in arguments])
        out, err = capsys.readouterr()
        return Outcome(status, out, err)

    return run


@pytest.fixture
def deeplens_process(tmp_path: Path) -> Command:
    """Run the command line in a process of its own, in `tmp_path`; `without` are libraries that can't be imported."""

    def run(*arguments: object, without: Sequence[str] = ("none",)) -> Outcome:
        result = subprocess.run(
            [sys.executable, "-c", _BOOT, ",".join(without), *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        lines = result.stderr.splitlines(keepends=True)
        loaded = [line for line in lines if line.startswith("loaded: ")]
        err = "".join(line for line in lines if line not in loaded)
        return Outcome(result.returncode, result.stdout, err, frozenset(line.split()[1] for line in loaded))

    return run


@pytest.fixture(autouse=True)
def own_user_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder is one of this run: tests neither see what a person has there nor add to it."""
    path = tmp_path_factory.getbasetemp() / "user"
    monkeypatch.setattr(folders_of_user, "user_data", lambda: path)
    monkeypatch.delenv(trust.VARIABLE, raising=False)
    return path


@pytest.fixture
def pixels() -> np.ndarray:
    """A small landscape, 48×72×3, uint8: smooth ramps, so that JPEG keeps it well."""
    y, x = np.mgrid[0:48, 0:72]
    return np.stack((x * 3, y * 4, 200 - x - y), axis=-1).astype(np.uint8)


@pytest.fixture
def photo(tmp_path: Path, pixels: np.ndarray) -> Path:
    """The same as a PNG file."""
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def flat_depth(tmp_path: Path) -> Path:
    """A depth map that says the same everywhere, so that all is in focus."""
    path = tmp_path / "flat.npy"
    np.save(path, np.ones((DEPTH_SIZE, DEPTH_SIZE), np.float32))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder to write to; after the test nothing but finished files may be in it."""
    path = tmp_path / "outputs"
    path.mkdir()
    yield path
    assert [each for each in path.iterdir() if each.name.startswith(".")] == [], "a temporary file was left"


def png(width: int, height: int, *, bits: int, lines: bytes) -> bytes:
    """An RGB PNG by hand: Pillow writes none of 16 bits a channel, and none that lies about its size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artefacts of `edge` for ONNX Runtime that can be reckoned by hand: see `tests.support.small_graphs`."""
    folder = tmp_path_factory.mktemp("artifacts")
    add_graphs(folder)
    return folder
