"""Scores the method and its baselines on the fixed test split, scene by scene, in several processes.

All pictures come from the shipped path: an 8-bit photo goes into `runtimes.harness.Harness`, an 8-bit photo comes out,
and what stands beside it is quantised alike. The scenes' blur is the harness's own (`training.scenes.PhotoConfig`), so
that neither depth nor aperture are rescaled.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np

from evaluation.baselines import true_base, upsampled_photo
from evaluation.metrics import depth_edge_band, scores
from runtimes import open_runtime
from runtimes.contract import Arrays, Runtime, Session
from runtimes.harness import Harness
from runtimes.ort import OnnxSession
from runtimes.pyramid import geometry
from runtimes.pytorch import TorchSession
from training.scenes import PhotoConfig, Scene, test_scenes
from training.sources import Sources

NETWORKS = ("lens_blur", "upsample")
"""What runs here: depth is given."""

UNBLURRED = ("unblurred photo", "")
TRUE_BASE = ("true low-resolution blur, bilinear", "")
BILINEAR = "own low-resolution blur, bilinear"
DEPTHS = ("true", "corrupted")

Name = tuple[str, str]
"""What made a picture, and the depth it was given: one of `DEPTHS`, or "" where depth plays no part."""

SceneScores = dict[Name, dict[str, float | None]]
"""Name → metric → value: see `evaluation.metrics.scores`."""


@dataclass(frozen=True)
class Job:
    """What is evaluated. Hashable and light: it travels to other processes."""

    sources: Sources
    variant: str = "edge"
    runtime: str = "onnx"
    weights: Path | Literal["shipped", "initial"] = "shipped"
    artifacts: Path | None = None

    def open(self) -> Runtime:
        """The runtime, with one thread: processes share the cores, and the numbers do not depend on how many do."""
        return open_runtime(
            self.runtime, variant=self.variant, weights=self.weights, artifacts=self.artifacts, threads=1
        )

    def weights_sha256(self) -> dict[str, str]:
        """Network → what names its weights, as in `model.build.weights_sha256`."""
        with self.open() as runtime:
            sessions = {network: runtime.open(network) for network in NETWORKS}
            return {network: _weights_sha256(session) for network, session in sessions.items()}


def evaluate(
    job: Job,
    *,
    config: PhotoConfig,
    count: int,
    workers: int = 1,
    progress: Callable[[float], None] | None = None,
) -> list[SceneScores]:
    """Score the first `count` scenes of the test split.

    Args:
        workers: processes; 1: this one. The result is the same for any number.
        progress: called with the share done after each scene, up to 1.0.

    Returns:
        one entry a scene, in order.

    Raises:
        MissingError, MismatchError: from the runtime.
    """
    results: list[SceneScores] = []
    with _each_scene(job, config, count, workers) as each:
        for result in each:
            results.append(result)
            if progress is not None:
                progress(len(results) / count)
    return results


def pictures(harness: Harness, scene: Scene, *, variant: str) -> dict[Name, np.ndarray]:
    """What is compared with `scene.target`: name → H×W×3, uint8; the method goes by the name of its variant."""
    levels = geometry(*scene.picture.shape[:2])
    found = {UNBLURRED: scene.picture, TRUE_BASE: upsampled_photo(true_base(scene.target, levels), levels)}
    for depth, disparity in zip(DEPTHS, (scene.disparity, scene.corrupted), strict=True):
        base: list[np.ndarray] = []

        def observe(level: int, _network: str, arrays: Arrays, base: list[np.ndarray] = base) -> None:
            if level == 0:
                base.append(arrays["blurred"])

        method = harness.refocus(
            scene.picture, disparity, focal_disparity=scene.focal, aperture=scene.aperture, observe=observe
        )
        found[BILINEAR, depth] = upsampled_photo(base[0], levels)
        found[variant, depth] = method
    return found


def score_scene(harness: Harness, scene: Scene, *, variant: str, config: PhotoConfig) -> SceneScores:
    """All scores of one scene; the band around true depth edges is as wide as the largest radius of the blur."""
    band = depth_edge_band(scene.disparity, config.radius)
    return {
        name: scores(picture.astype(np.float32) / np.float32(255), scene.target, band=band)
        for name, picture in pictures(harness, scene, variant=variant).items()
    }


def _weights_sha256(session: Session) -> str:
    if isinstance(session, TorchSession):
        from model.build import weights_sha256

        return weights_sha256(session.module)
    assert isinstance(session, OnnxSession)
    return session.entry.weights_sha256


@contextmanager
def _each_scene(job: Job, config: PhotoConfig, count: int, workers: int) -> Iterator[Iterator[SceneScores]]:
    """The scores of all scenes in order, made here or by other processes, which end with the block."""
    with job.open() as runtime:
        for network in NETWORKS:
            runtime.open(network)  # what is missing shows here, not in another process
        if workers == 1:
            harness = Harness(runtime)
            scenes = test_scenes(job.sources, count=count, config=config)
            yield (score_scene(harness, scene, variant=job.variant, config=config) for scene in scenes)
            return
    pool = ProcessPoolExecutor(
        min(workers, count), mp_context=multiprocessing.get_context("spawn"), initializer=_ignore_interrupts
    )
    try:
        yield pool.map(partial(_score_index, job, config), range(count))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _score_index(job: Job, config: PhotoConfig, index: int) -> SceneScores:
    (scene,) = test_scenes(job.sources, start=index, count=1, config=config)
    return score_scene(_harness(job), scene, variant=job.variant, config=config)


@lru_cache(maxsize=1)
def _harness(job: Job) -> Harness:
    """Opened once in a process that serves one job, and closed when that ends."""
    return Harness(job.open())


def _ignore_interrupts() -> None:
    """Ctrl-C reaches every process of the terminal; the first one ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
