"""Measures peers in turns on the same scenes: time, peak memory, and how close each comes to the true picture."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens.benchmarks.measure import PAUSE
from deeplens.benchmarks.statistics import Summary, paired_ratio
from deeplens.commands import peers_work
from deeplens.commands.peers_work import DEPTHS, Peer, Setting
from deeplens.console.errors import DeepLensError, MissingError
from deeplens.evaluation.metrics import depth_edge_band, scores
from deeplens.evaluation.sets import blur_radius
from deeplens.scenes.planes import Scene

Scores = dict[str, float | None]


@dataclass
class Measured:
    """All of one peer.

    Attributes:
        missing: why it could not run; None: it did.
        opened: seconds to open it.
        first: seconds of its first run.
        rounds: round → seconds.
        quality: kind of depth → the scores of each scene.
        peak: largest resident size of its process, in bytes.
    """

    peer: Peer
    missing: str | None = None
    opened: float = 0.0
    first: float = 0.0
    rounds: dict[int, float] = field(default_factory=dict)
    quality: dict[str, list[Scores]] = field(default_factory=dict)
    peak: int = 0

    def scored(self, depth: str, metric: str) -> float | None:
        """The mean over the scenes that have the metric."""
        return mean_score(self.quality[depth], metric)


def mean_score(found: Sequence[Scores], metric: str) -> float | None:
    """The mean over the scenes that have a metric; None: none has."""
    known = [each for one in found if (each := one[metric]) is not None]
    return fmean(known) if known else None


def store(scenes: Sequence[Scene], folder: Path) -> None:
    """Write what peers are given of each scene."""
    for index, scene in enumerate(scenes):
        np.savez(
            folder / f"{index}.npz",
            photo=scene.picture,
            true=scene.disparity,
            corrupted=scene.corrupted,
            focal=scene.focal,
            aperture=scene.aperture,
            radius=blur_radius(scene),
        )


def judged(picture: NDArray[np.uint8], scene: Scene) -> Scores:
    """PSNR and SSIM against the true picture, over all of it and around its depth edges."""
    band = depth_edge_band(scene.disparity, blur_radius(scene))
    return scores(picture.astype(np.float32) / np.float32(255), scene.target, band=band)


def measure(
    peers: Sequence[Peer],
    scenes: Sequence[Scene],
    setting: Setting,
    *,
    rounds: int,
    at_most: float,
    progress: Callable[[float], None],
    warmed: Callable[[], None],
) -> list[Measured]:
    """Run each peer on each scene for its quality, then in turns, a scene a round, for its time.

    Args:
        setting: `store` has filled its folder.
        rounds: of each peer.
        at_most: seconds after which a peer takes part in no further round; it has had one.
        progress: called with the share done, up to 1.0.
        warmed: called when all have run once.

    Raises:
        MissingError: no peer can run.
    """
    context = multiprocessing.get_context("spawn")
    found = [Measured(peer) for peer in peers]
    with ExitStack() as stack:
        pools = {each.peer.name: stack.enter_context(ProcessPoolExecutor(1, mp_context=context)) for each in found}

        def call(each: Measured, work: Callable[..., Any], *arguments: object) -> Any:
            return pools[each.peer.name].submit(work, each.peer, setting, *arguments).result()

        for place, each in enumerate(found):
            try:
                each.opened = call(each, peers_work.opened)
                for depth in DEPTHS:
                    each.quality[depth] = []
                    for index, scene in enumerate(scenes):
                        seconds, picture = call(each, peers_work.picture, index, depth)
                        each.first = each.first or seconds
                        each.quality[depth].append(judged(picture, scene))
            except DeepLensError as error:
                each.missing = str(error)
            progress(0.5 * (place + 1) / len(found))
        able = [each for each in found if each.missing is None]
        if not able:
            raise MissingError(f"no peer can run here: {found[0].missing}")
        warmed()
        for index in range(rounds):
            for each in able:
                if index == 0 or sum(each.rounds.values()) < at_most:
                    time.sleep(PAUSE)
                    each.rounds[index] = call(each, peers_work.seconds, index % len(scenes))
            progress(0.5 + 0.5 * (index + 1) / rounds)
        for each in able:
            each.peak = call(each, peers_work.memory)
    return found


def results(found: Sequence[Measured]) -> list[dict[str, Any]]:
    """One entry a peer, as plain data: seconds, bytes, dB; ratios to the first that could run, round by round."""
    base = next(each for each in found if each.missing is None)
    return [_result(each, base) for each in found]


def _result(each: Measured, base: Measured) -> dict[str, Any]:
    row: dict[str, Any] = {"name": each.peer.name, "what": each.peer.what, "kind": each.peer.kind}
    if each.missing is not None:
        return {**row, "missing": each.missing}
    common = [index for index in each.rounds if index in base.rounds]
    ratio = paired_ratio([base.rounds[index] for index in common], [each.rounds[index] for index in common])
    metrics = ("psnr", "ssim", "psnr_band", "ssim_band")
    return {
        **row,
        "library": each.peer.version,
        "opened": each.opened,
        "first": each.first,
        "seconds": list(each.rounds.values()),
        **Summary.of(list(each.rounds.values())).to_json(),
        "ratio": {"to": base.peer.name, **ratio.to_json()},
        "peak_bytes": each.peak,
        "quality": {depth: {name: each.scored(depth, name) for name in metrics} for depth in DEPTHS},
    }
