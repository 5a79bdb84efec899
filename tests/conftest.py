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
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from deeplens.app import main
from deeplens.console import progress
from deeplens.console.files import file_sha256
from deeplens.model.contract import ALIGNMENT, CONTRACTS, DEPTH_SIZE
from deeplens.runtimes import manifest

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
    """Artefacts of `edge` for ONNX Runtime that can be reckoned by hand, made without torch.

    depth: the mean of the three channels. lens_blur: picture · (1 − |signed_depth|), so that what is out of focus
    is darker in a known way. upsample: picture_high · (1 − |signed_depth|), the latter repeated.
    """
    folder = tmp_path_factory.mktemp("artifacts")
    node = helper.make_node
    twice = helper.make_tensor("twice", TensorProto.FLOAT, [4], [1.0, 1.0, 2.0, 2.0])
    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])
    channels = helper.make_tensor("channels", TensorProto.INT64, [1], [1])
    share = [node("Abs", ["signed_depth"], ["distance"]), node("Sub", ["one", "distance"], ["share"])]
    graphs = {
        "depth": ([node("ReduceMean", ["picture", "channels"], ["disparity"], keepdims=1)], [channels]),
        "lens_blur": ([*share, node("Mul", ["picture", "share"], ["blurred"])], [one]),
        "upsample": (
            [
                *share,
                node("Resize", ["share", "", "twice"], ["share_high"], mode="nearest"),
                node("Mul", ["picture_high", "share_high"], ["blurred_high"]),
            ],
            [one, twice],
        ),
    }
    for network, (nodes, constants) in graphs.items():
        _add_artifact(folder, network, nodes, constants)
    return folder


def _add_artifact(
    folder: Path, network: str, nodes: Sequence[onnx.NodeProto], constants: Sequence[onnx.TensorProto]
) -> None:
    contract = CONTRACTS[network]

    def shape(channels: int, scale: int) -> tuple[int | str, ...]:
        if contract.fixed_size is not None:
            return (1, channels, *contract.fixed_size)
        return (1, channels, f"{ALIGNMENT * scale}*h", f"{ALIGNMENT * scale}*w")

    sides = [
        [manifest.TensorEntry(each.name, shape(each.channels, each.scale), "float32") for each in side]
        for side in (contract.inputs, contract.outputs)
    ]
    inputs, outputs = (
        [helper.make_tensor_value_info(each.name, TensorProto.FLOAT, each.shape) for each in side] for side in sides
    )
    graph = helper.make_graph(list(nodes), network, inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    path = folder / "onnx" / f"edge_{network}.onnx"
    path.parent.mkdir(exist_ok=True)
    onnx.save(model, path)
    manifest.add(
        folder,
        manifest.Entry(
            network=network,
            variant="edge",
            runtime="onnx",
            precision="fp32",
            path=path.relative_to(folder).as_posix(),
            sha256=file_sha256(path),
            weights_sha256="0" * 64,
            inputs=tuple(sides[0]),
            outputs=tuple(sides[1]),
            tools={"onnx": onnx.__version__},
            opset=18,
            dynamic=contract.fixed_size is None,
            created="2026-01-01T00:00:00+00:00",
        ),
    )
