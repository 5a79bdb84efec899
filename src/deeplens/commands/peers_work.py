"""The peers of `deeplens peers`, and what runs in the process of each of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deeplens.benchmarks.candidate import Candidate
from deeplens.benchmarks.worker import peak_bytes
from deeplens.console.errors import InputError
from deeplens.console.machine import version

DEPTHS = ("true", "corrupted")
"""Depth maps that a peer is given: the true one, and one whose foregrounds are grown or shrunk by a few pixels."""

Kind = Literal["classical", "networks"]


@dataclass(frozen=True)
class Peer:
    """A way to blur a photo with depth that a user could pick.

    Attributes:
        name: what `--peer` calls it.
        what: the same in words.
        library: the distribution that does the work; its version is reported.
        candidate: of networks in the harness; None: a classical renderer at the photo's full resolution.
    """

    name: str
    what: str
    library: str
    candidate: Candidate | None = None

    @property
    def kind(self) -> Kind:
        """Whether networks compute the picture."""
        return "classical" if self.candidate is None else "networks"

    @property
    def version(self) -> str:
        """Library and version."""
        return f"{self.library} {version(self.library) or 'not installed'}"


def _edge(name: str, what: str, library: str, runtime: str, precision: str = "fp32", variant: str = "edge") -> Peer:
    return Peer(name, what, library, Candidate(variant, runtime, precision=precision))


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        _edge("onnx", "`edge`, ONNX Runtime, FP32", "onnxruntime", "onnx"),
        _edge("onnx-int8", "`edge`, ONNX Runtime, INT8", "onnxruntime", "onnx", "int8"),
        _edge("openvino", "`edge`, OpenVINO, FP32", "openvino", "openvino"),
        _edge("openvino-bf16", "`edge`, OpenVINO, BF16", "openvino", "openvino", "bf16"),
        _edge("openvino-int8", "`edge`, OpenVINO, INT8", "openvino", "openvino", "int8"),
        _edge("openvino-mixed", "`edge`, OpenVINO, INT8 and BF16", "openvino", "openvino", "mixed"),
        _edge("torch", "`edge`, PyTorch", "torch", "torch"),
        _edge("torch-compiled", "`edge`, PyTorch, compiled", "torch", "torch-compiled"),
        _edge("paper", "`paper`, PyTorch", "torch", "torch", variant="paper"),
        Peer("opencv", "layers, OpenCV", "opencv-python-headless"),
        Peer("layered", "layers, SciPy", "scipy"),
        Peer("scatter", "scatter (BokehMe's classical renderer), SciPy", "scipy"),
    )
}
"""Name → peer, in the order of the table. The first that can run is what the others are compared with."""


@dataclass(frozen=True)
class Setting:
    """What all peers get. Light: it travels to their processes.

    Attributes:
        folder: holds the scenes, 0.npz and so on.
        artifacts: as in `runtimes.open_runtime`.
        threads: cores to use.
    """

    folder: Path
    artifacts: Path | None
    threads: int


def peer_named(name: str) -> Peer:
    """The peer of this name. InputError where there is none."""
    if name not in PEERS:
        raise InputError(f"unknown peer '{name}': choose {', '.join(PEERS)}")
    return PEERS[name]


Blurred = Callable[[NDArray[np.uint8], NDArray[np.float32], float, float, float], NDArray[np.uint8]]
"""Photo, disparity, focal disparity, aperture, pixels of radius → picture."""


class Worker:
    """A peer, opened, and the scenes.

    Attributes:
        opened: seconds from the import of the library to the opened networks.
    """

    def __init__(self, peer: Peer, setting: Setting) -> None:
        self._setting = setting
        start = time.perf_counter()
        self._blur = _classical(peer.name, setting.threads) if peer.candidate is None else _networks(peer, setting)
        self.opened = time.perf_counter() - start

    def picture(self, index: int, disparity: str) -> tuple[float, NDArray[np.uint8]]:
        """Seconds and picture of a scene; `disparity` names the map that is given, "true" or "corrupted"."""
        scene = self._scene(index)
        given = scene["photo"], scene[disparity], *(float(scene[name]) for name in ("focal", "aperture", "radius"))
        start = time.perf_counter()
        picture = self._blur(*given)
        return time.perf_counter() - start, picture

    @lru_cache(maxsize=4)  # noqa: B019  # the process ends with its worker
    def _scene(self, index: int) -> dict[str, Any]:
        with np.load(self._setting.folder / f"{index}.npz") as stored:
            return dict(stored)


def _classical(name: str, threads: int) -> Blurred:
    from deeplens.evaluation.baselines import BLURS

    blur = BLURS.get(name)
    if blur is None:
        from deeplens.evaluation.baselines import opencv

        opencv.use_threads(threads)
        blur = opencv.blur

    def run(
        photo: NDArray[np.uint8], disparity: NDArray[np.float32], focal: float, aperture: float, radius: float
    ) -> NDArray[np.uint8]:
        return blur(photo, disparity, focal=focal, aperture=aperture, radius=radius)

    return run


def _networks(peer: Peer, setting: Setting) -> Blurred:
    from deeplens.runtimes.harness import Harness

    assert peer.candidate is not None
    candidate = replace(peer.candidate, artifacts=setting.artifacts, threads=setting.threads)
    runtime = candidate.open()
    for network in ("lens_blur", "upsample"):
        runtime.open(network)
    harness = Harness(runtime, tile=candidate.tile)

    def run(
        photo: NDArray[np.uint8], disparity: NDArray[np.float32], focal: float, aperture: float, radius: float
    ) -> NDArray[np.uint8]:
        del radius  # the harness's own blur is the same fraction of the picture
        return harness.refocus(photo, disparity, focal_disparity=focal, aperture=aperture)

    return run


# What the parent process calls; a process serves one peer.


@lru_cache(maxsize=1)
def _worker(peer: Peer, setting: Setting) -> Worker:
    return Worker(peer, setting)


def opened(peer: Peer, setting: Setting) -> float:
    """Open a peer: see `Worker.opened`."""
    return _worker(peer, setting).opened


def picture(peer: Peer, setting: Setting, index: int, disparity: str) -> tuple[float, NDArray[np.uint8]]:
    """See `Worker.picture`."""
    return _worker(peer, setting).picture(index, disparity)


def seconds(peer: Peer, setting: Setting, index: int) -> float:
    """Seconds of one more run on a scene."""
    return _worker(peer, setting).picture(index, "true")[0]


def memory(_peer: Peer, _setting: Setting) -> int:
    """See `benchmarks.worker.peak_bytes`."""
    return peak_bytes()
