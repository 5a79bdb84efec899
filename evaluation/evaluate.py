"""Scores the networks and all baselines on a set of pictures, in several processes.

All pictures come from the shipped path: an 8-bit photo goes into `runtimes.harness.Harness`, an 8-bit photo comes out,
and what stands beside it is quantised alike. The blur of every set is the harness's own, a fraction of the picture, so
that neither depth nor aperture are rescaled.

Each method is given several kinds of depth: `true`; `corrupted`, its foregrounds grown or shrunk by a few pixels;
`predicted` by the depth network from the photo, with the focal plane at the disparity that it predicts where the true
one is in focus, as a click would choose it; and, if one is named, by a `model` of the user's in the same way. The kind
`relative` is the true map stretched to [0, 1], as every map without a scale is: what a depth network without any error
would give.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deeplens.evaluation.baselines import BLURS, UPSAMPLERS, Blur, true_base, upsampled_photo
from deeplens.evaluation.depth_error import depth_mae
from deeplens.evaluation.metrics import depth_edge_band, scores
from deeplens.evaluation.sets import PictureSet, blur_radius
from deeplens.model.shipped import Weights
from deeplens.runtimes import open_runtime
from deeplens.runtimes.contract import Arrays, Runtime
from deeplens.runtimes.depth_model import DepthModel
from deeplens.runtimes.disparity import normalise_disparity
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.options import DepthModelChoice
from deeplens.runtimes.pyramid import geometry
from deeplens.scenes.planes import Scene
from deeplens.scenes.stream import refocused

UNBLURRED = ("unblurred photo", "")
TRUE_BASE = ("true low-resolution blur, bilinear", "")
DIRECT = "direct regression"
DEPTHS = ("true", "corrupted", "predicted", "model", "relative")

CLICK = 0.01
"""Disparities within this of the nearest one to the focal plane count as what a user would click on."""

Name = tuple[str, str]
"""What made a picture, and the depth it was given: one of `DEPTHS`, or "" where depth plays no part."""

Given = dict[str, tuple[NDArray[np.float32], float]]
"""Kind of depth → disparity (H×W in [0, 1]) and focal plane."""

Depth = Harness | DepthModel
"""What has `disparity`: photo → map."""

SceneScores = dict[Name, dict[str, float | None]]
"""Name → metric → value: see `evaluation.metrics.scores`."""


@dataclass(frozen=True)
class Job:
    """What is evaluated. Hashable and light: it travels to other processes.

    Attributes:
        variants: whose networks run; the first one's low-resolution blur is also upsampled in other ways.
        depths: some of `DEPTHS`; "predicted" takes the first variant's depth network, "model" `model`.
        baselines: whether the classical methods run, too.
        direct: weights of `training.direct`; None: not compared with.
        model: a user's depth model.
    """

    variants: tuple[str, ...] = ("edge",)
    runtime: str = "torch"
    weights: Weights = "shipped"
    artifacts: Path | None = None
    depths: tuple[str, ...] = DEPTHS[:3]
    baselines: bool = True
    direct: Path | None = None
    model: DepthModelChoice | None = None

    def open(self, variant: str) -> Runtime:
        """The runtime, with one thread: processes share the cores, and the numbers do not depend on how many do."""
        return open_runtime(self.runtime, variant=variant, weights=self.weights, artifacts=self.artifacts, threads=1)

    def networks(self) -> Iterator[tuple[str, str]]:
        """Variant and network of all that runs."""
        for variant in self.variants:
            yield from ((variant, network) for network in ("lens_blur", "upsample"))
        if "predicted" in self.depths:
            yield self.variants[0], "depth"

    def weights_sha256(self) -> dict[str, dict[str, str]]:
        """Variant → network → what names its weights, as in `model.build.weights_sha256`.

        Raises:
            MissingError, MismatchError: from the runtime: what is missing shows here, before the work.
        """
        found: dict[str, dict[str, str]] = {}
        for variant, network in self.networks():
            with self.open(variant) as runtime:
                found.setdefault(variant, {})[network] = runtime.open(network).weights_sha256()
        return found


def own_base(variant: str, upsampler: str) -> str:
    """The name of the low-resolution blur of `variant`, upsampled by something else."""
    return f"{variant}'s low-resolution blur, {upsampler}"


class _Enough(Exception):  # noqa: N818  # no error
    """What an observer ends a loop with."""


class Contest:
    """Makes all pictures of a scene that are compared. Opens a job's networks once.

    Raises:
        MissingError, MismatchError: from the runtimes.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._harnesses = {variant: Harness(job.open(variant)) for variant in job.variants}
        self._model = job.model.open(threads=1) if job.model is not None else None
        self._blurs: dict[str, Blur] = dict(BLURS) if job.baselines else {}
        if job.direct is not None:
            from deeplens.evaluation.baselines.direct import direct_blur

            self._blurs[DIRECT] = direct_blur(job.direct)

    def given(self, scene: Scene) -> Given:
        """Kind of depth → disparity (H×W in [0, 1]) and focal plane."""
        depths = {"true": (scene.disparity, scene.focal), "corrupted": (scene.corrupted, scene.focal)}
        sources: dict[str, Depth | None] = {
            "predicted": self._harnesses[self.job.variants[0]],
            "model": self._model,
        }
        estimates = {}
        if "relative" in self.job.depths:
            estimates["relative"] = normalise_disparity(scene.disparity)
        for kind, source in sources.items():
            if kind in self.job.depths:
                assert source is not None
                height, width = scene.picture.shape[:2]
                found = Image.fromarray(source.disparity(scene.picture))
                resized = found.resize((width, height), Image.Resampling.BILINEAR)
                estimates[kind] = np.clip(np.asarray(resized), 0.0, 1.0)
        for kind, estimate in estimates.items():
            depths[kind] = (estimate, refocused(scene.disparity, estimate, focal=scene.focal, within=CLICK))
        return {kind: depths[kind] for kind in self.job.depths}

    def pictures(self, scene: Scene, given: Given | None = None) -> dict[Name, NDArray[np.uint8]]:
        """What is compared with `scene.target`: name → H×W×3, uint8.

        Args:
            given: what `given` says of the scene, if that is known.
        """
        levels = geometry(*scene.picture.shape[:2])
        bases = {TRUE_BASE: true_base(scene.target, levels)}
        found: dict[Name, NDArray[np.uint8]] = {UNBLURRED: scene.picture}
        for kind, (disparity, focal) in (given or self.given(scene)).items():
            for name, blur in self._blurs.items():
                found[name, kind] = blur(
                    scene.picture, disparity, focal=focal, aperture=scene.aperture, radius=blur_radius(scene)
                )
            base = self.base(scene, disparity, focal=focal)
            methods = {
                variant: harness.refocus(scene.picture, disparity, focal_disparity=focal, aperture=scene.aperture)
                for variant, harness in self._harnesses.items()
            }
            for name in UPSAMPLERS if self.job.baselines else ("bilinear",):
                found[own_base(self.job.variants[0], name), kind] = upsampled_photo(
                    base, levels, photo=scene.picture, upsample=UPSAMPLERS[name]
                )
            found |= {(variant, kind): picture for variant, picture in methods.items()}
        found[TRUE_BASE] = upsampled_photo(bases[TRUE_BASE], levels, photo=scene.picture)
        return found

    def base(self, scene: Scene, disparity: NDArray[np.float32], *, focal: float) -> np.ndarray:
        """The first variant's lens blur at the base, whatever level its loop would begin at; no step is run."""
        seen: list[np.ndarray] = []

        def observe(_level: int, _network: str, arrays: Arrays) -> None:
            seen.append(arrays["blurred"])
            raise _Enough

        with suppress(_Enough):
            self._harnesses[self.job.variants[0]].refocus(
                scene.picture, disparity, focal_disparity=focal, aperture=scene.aperture, observe=observe
            )
        return seen[0]

    def score(self, scene: Scene) -> SceneScores:
        """All scores of one scene, and the depth maps' own errors under the name ("depth", kind).

        The band around true depth edges is as wide as the largest radius of the blur.
        """
        band, given = depth_edge_band(scene.disparity, blur_radius(scene)), self.given(scene)
        found: SceneScores = {
            name: scores(picture.astype(np.float32) / np.float32(255), scene.target, band=band)
            for name, picture in self.pictures(scene, given).items()
        }
        for kind, (disparity, _) in given.items():
            if kind != "true":
                found["depth", kind] = {
                    "mae": depth_mae(disparity, scene.disparity),
                    "mae_quantile": depth_mae(disparity, scene.disparity, knots="quantile"),
                }
        return found


def evaluate(
    job: Job,
    pictures: PictureSet,
    *,
    workers: int = 1,
    progress: Callable[[float], None] | None = None,
) -> dict[str, SceneScores]:
    """Score a whole set.

    Args:
        workers: processes; 1: this one. The result is the same for any number.
        progress: called with the share done, up to 1.0.

    Returns:
        name of the scene → its scores, in the set's order.

    Raises:
        MissingError, MismatchError: from the runtimes.
    """
    parts = min(pictures.count, 1 if workers == 1 else PARTS * workers)
    found: dict[int, list[tuple[str, SceneScores]]] = {}
    if workers == 1:
        contest, found[0] = Contest(job), []
        for name, scene in pictures.part(0, 1):
            found[0].append((name, contest.score(scene)))
            _report(progress, len(found[0]) / pictures.count)
    else:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(workers, parts), mp_context=context, initializer=_ignore_interrupts)
        try:
            waiting = {pool.submit(_score_part, job, pictures, index, parts): index for index in range(parts)}
            for done in as_completed(waiting):
                found[waiting[done]] = done.result()
                _report(progress, sum(len(part) for part in found.values()) / pictures.count)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    ordered = [found[index % parts][index // parts] for index in range(pictures.count)]
    return dict(ordered)


PARTS = 8
"""Parts of a set that each process works through, one after another: progress shows after each."""


def _score_part(job: Job, pictures: PictureSet, index: int, parts: int) -> list[tuple[str, SceneScores]]:
    contest = _contest(job)
    return [(name, contest.score(scene)) for name, scene in pictures.part(index, parts)]


@lru_cache(maxsize=1)
def _contest(job: Job) -> Contest:
    """Opened once in a process that serves one job; closed when that ends."""
    return Contest(job)


def _report(progress: Callable[[float], None] | None, share: float) -> None:
    if progress is not None:
        progress(share)


def _ignore_interrupts() -> None:
    """Ctrl-C reaches every process of the terminal; the first one ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
